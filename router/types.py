"""The words that every room speaks: frozen structs and small tables, no behaviour beyond small derived facts. Knows
neither HTTP, vLLM, sockets nor files."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any, Final, Literal, Protocol

import msgspec

Kind = Literal[
    "chat", "completions", "responses", "messages", "count_tokens", "tokenize", "detokenize", "admin", "stored",
    "embeddings", "embed", "pooling", "score", "rerank", "classify", "chat_batch", "generative_scoring", "input_tokens",
    "render_chat", "render_completions", "render_messages", "render_responses", "generate_tokens", "tokenizer_info",
    "transcriptions", "translations",
]  # fmt: skip


class MemberRoute(msgspec.Struct, frozen=True, kw_only=True):
    """A route that one member's own server answers whole. The member is the one asked for by name, or the only one that
    can; its kind is a `Capability` of that name."""

    paths: tuple[str, ...]  #: the first is vLLM's own, the others mean the same
    about: str  #: for `/docs`
    generates: bool = False  #: a model that generates text has it, else a pooling model or one that hears
    body: Literal["json", "form", "none"] = "json"  #: `none`: a GET, the model in its query
    streams: bool = False  #: may be asked for a stream
    decided: bool = False  #: by the rule, as chats are
    switch: str = ""  #: vLLM's argument that turns it on


def _rendered(path: str) -> MemberRoute:
    about = "vLLM's: the token ids of such a prompt"
    return MemberRoute(paths=(f"{path}/render",), about=about, generates=True, switch="enable_scale_out")


#: By kind. What vLLM's server answers beside chats, completions and their tokens.
MEMBER_ROUTES: Final[Mapping[Kind, MemberRoute]] = {
    "embeddings": MemberRoute(paths=("/v1/embeddings",), about="OpenAI's embeddings"),
    "embed": MemberRoute(paths=("/v2/embed",), about="Cohere's embeddings"),
    "pooling": MemberRoute(paths=("/pooling",), about="vLLM's: what a pooling model makes of its input"),
    "score": MemberRoute(paths=("/score", "/v1/score"), about="vLLM's: how alike pairs of texts are"),
    "rerank": MemberRoute(
        paths=("/rerank", "/v1/rerank", "/v2/rerank"), about="Jina's and Cohere's: documents by their relevance"
    ),
    "classify": MemberRoute(paths=("/classify",), about="vLLM's: the class of each input"),
    "chat_batch": MemberRoute(
        paths=("/v1/chat/completions/batch",),
        about="vLLM's: several conversations, one choice each",
        generates=True,
        decided=True,
    ),
    "generative_scoring": MemberRoute(
        paths=("/generative_scoring",), about="vLLM's: how likely tokens are to follow", generates=True
    ),
    "input_tokens": MemberRoute(
        paths=("/v1/responses/input_tokens",), about="the tokens of a Responses request", generates=True
    ),
    "render_chat": _rendered("/v1/chat/completions"),
    "render_completions": _rendered("/v1/completions"),
    "render_messages": _rendered("/v1/messages"),
    "render_responses": _rendered("/v1/responses"),
    "generate_tokens": MemberRoute(
        paths=("/inference/v1/generate",),
        about="vLLM's: token ids to token ids",
        generates=True,
        streams=True,
        switch="enable_scale_out",
    ),
    "tokenizer_info": MemberRoute(
        paths=("/tokenizer_info",),
        about="vLLM's: a tokenizer's settings",
        body="none",
        switch="enable_tokenizer_info_endpoint",
    ),
    "transcriptions": MemberRoute(
        paths=("/v1/audio/transcriptions",), about="OpenAI's: speech to text", body="form", streams=True
    ),
    "translations": MemberRoute(
        paths=("/v1/audio/translations",), about="OpenAI's: speech to English text", body="form", streams=True
    ),
}


def body_of(kind: Kind) -> Literal["json", "form", "none"]:
    """What a request of `kind` consists of."""
    route = MEMBER_ROUTES.get(kind)
    return "json" if route is None else route.body


#: What OpenAI-compatible servers, vLLM's among them, call each kind of inference; `admin` is asked by operators only,
#: `stored` is about an answer that a member keeps.
API_PATHS: Final[Mapping[Kind, str]] = {
    "chat": "/v1/chat/completions",
    "completions": "/v1/completions",
    "responses": "/v1/responses",
    "messages": "/v1/messages",
    "count_tokens": "/v1/messages/count_tokens",
    "tokenize": "/tokenize",
    "detokenize": "/detokenize",
    **{kind: route.paths[0] for kind, route in MEMBER_ROUTES.items()},
}

STORED_PATH: Final = "/v1/responses/"  #: of a stored answer; an id stands between, and `/cancel` behind it

#: What a member must be able to do to serve a request. A member lists what it has, a query what it needs.
Capability = Literal[
    "chat", "completions", "tools", "structured", "logprobs", "vision", "audio", "responses", "messages",
    "embeddings", "embed", "pooling", "score", "rerank", "classify", "chat_batch", "generative_scoring", "input_tokens",
    "render_chat", "render_completions", "render_messages", "render_responses", "generate_tokens", "tokenizer_info",
    "transcriptions", "translations",
]  # fmt: skip

#: A member that has none of these generates no text: it is neither scored nor chosen by quality.
GENERATING: Final[frozenset[str]] = frozenset({"chat", "completions", "responses", "messages"})

#: What a message's part asks of a model, by the part's type; other types ask nothing.
PART_NEEDS: Final[Mapping[str, Capability]] = {
    "image_url": "vision",
    "image": "vision",
    "input_image": "vision",
    "image_embeds": "vision",
    "video_url": "vision",
    "input_audio": "audio",
    "audio_url": "audio",
}


class Adapter(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """A LoRA adapter that an engine has: a model name of its own."""

    name: str
    path: str  #: a folder, or a hub id
    fused: bool = False  #: vLLM's `is_3d_lora_weight`


class Turn(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """One message of a conversation, as text. `role` is as the client sent it."""

    role: str
    text: str


#: A text of the conversation and how much it counts.
Segment = tuple[str, float]


#: When models may be chosen: before an answer alone, again after a whole one, in the middle of one, or what pays most.
Choice = Literal["auto", "before", "cascade", "handoff"]


class Query(msgspec.Struct, frozen=True, kw_only=True):
    """The conversation as the router sees it, plus the few request fields that routing reads."""

    kind: Kind
    model: str  #: as asked for: `auto`, a member's name, `router-mf-0.116`, a LoRA adapter's name
    turns: Sequence[Turn]  #: a tuple, or what makes them when asked for (`native.large_body.TextTurns`)
    stream: bool = False
    max_tokens: int | None = None
    choices: int = 1  #: `n` of the OpenAI API
    needs: frozenset[str] = frozenset()  #: of `Capability`
    token_ids: int = 0  #: of the longest prompt that is given in ids; they mean something in one vocabulary only
    any_length: bool = False  #: a prompt that no context holds is no fault: it is cut to fit, or only cut into tokens
    slo_ttft_s: float | None = None  #: refuse members predicted to be slower to the first token
    deadline_s: float | None = None  #: seconds from now until the answer is worth nothing
    request_id: str = ""
    session_id: str = ""
    key_id: str = ""  #: which API key asked; never the key itself
    received_s: float = 0.0  #: of `time.perf_counter`, when all of it had come; 0: when it is submitted
    adapter: str = ""  #: the LoRA adapter that `model` names, of the member that answers
    response_id: str = ""  #: the stored answer that it asks for, or goes on from: the member that has it answers
    own_id: str = ""  #: what the client calls the answer, should it be stored
    background: bool = False  #: the answer is made whether or not somebody waits for it
    priority: int = 0  #: lower runs earlier, in engines that schedule by priority
    task: str = ""  #: a name for the traffic that it belongs to: `batch`
    marked: bool = False  #: each model's part of a stream is to say whose it is
    choice: Choice | Literal[""] = ""  #: as its header, its key or a rule says; empty: the config's
    headers: Mapping[str, str] = {}  #: those that rules of the config read, by lower-case name


#: What a price follows that is not the bought, or the configured, one: a queue, an SLO, a budget, the least quality.
Cause = Literal["", "queue", "slo_ttft", "slo_tpot", "slo_missed", "budget", "quality"]


class Scores(msgspec.Struct, frozen=True):
    """What the head said of a query. `quality[i]` is P(acceptable answer) of the pool's i-th member."""

    quality: tuple[float, ...]
    prompt_tokens: int  #: estimate of the whole conversation's size: what cost and context use
    output_tokens: tuple[float, ...] = ()  #: expected of each member's answer; 0, or none at all: not known
    output_log_sd: tuple[float, ...] = ()  #: the deviation of their logarithm
    ruled: "Ruled | None" = None  #: what rules of the config said; their points are within `quality`


class Ruled(msgspec.Struct, frozen=True, kw_only=True):
    """What rules of the config say of one request. Members by their index in the pool."""

    rules: tuple[str, ...]  #: those that held, by name
    pinned: int = -1
    forbidden: frozenset[int] = frozenset()  #: may not answer, whatever else is so
    passed_over: frozenset[int] = frozenset()  #: may not answer where the request leaves the choice open
    choice: Choice | Literal[""] = ""


class MemberState(msgspec.Struct, frozen=True, kw_only=True):
    """One member at the moment of a decision. Times in seconds, rates per second, money in USD."""

    name: str
    ready: bool = True
    breaker_open: bool = False
    context_tokens: int = 0  #: 0 when unknown
    capabilities: frozenset[str] = frozenset()
    running: int = 0
    waiting: int = 0
    kv_use: float = 0.0  #: share of KV blocks in use, 0..1
    prefix_hit: float = 0.0  #: share of prompt tokens in the prefix cache lately; in a decision, expected of its prompt
    prefill_tokens_per_s: float = 0.0
    time_per_output_token_s: float = 0.0
    mean_output_tokens: float = 0.0
    queued_gpu_s: float = 0.0  #: GPU seconds of the work that waits ahead
    usd_per_s: float = 0.0  #: of the GPU share that the member occupies
    canary_of: int = 0  #: index of the member that it stands for, where `canary_weight` is above 0
    canary_weight: float = 0.0  #: share of that member's requests which it takes; 0: it is no canary
    held_tokens: int = 0  #: of the sequences that run
    queued_tokens: float = 0.0  #: of prompts, to be computed before those of a request that comes now
    queued_steps: float = 0.0  #: until it has a slot
    busy: float = 0.0  #: share of the time in which the engines of its devices worked lately, 0..1
    #: What a step takes now by the member's step model, and each sequence, token held and prompt token in it.
    step_s: float = 0.0
    step_running_s: float = 0.0
    step_context_s: float = 0.0
    step_prefill_s: float = 0.0
    overhead_s: float = 0.0  #: of a first token beyond the steps that lead to it
    cost_trust: float = 0.0  #: how far the model replaces the rates, 0..1: in the engine seconds of a request
    wait_trust: float = 0.0  #: and in the wait for its first token
    replicas: int = 0  #: engines of the model, where it has several: all else is of one of them
    replica: int = 0  #: which of them it is; the next one that was compared is `rival`, itself where none was
    rival: int = 0
    finish_s: float = 0.0  #: predicted, of the whole answer
    rival_finish_s: float = 0.0
    surcharge: float = 0.0  #: by which the price of its devices stands above `usd_per_s`, as a share of it
    surcharge_of: Cause = ""
    favour: float = 0.0  #: quality points that its utility is raised by, to hold its share
    output_surplus: float = 0.0  #: by which its answers were lately longer than `Scores.output_tokens`, as a share


class Snapshot(msgspec.Struct, frozen=True):
    """The pool at the moment of a decision, in the pool's order."""

    members: tuple[MemberState, ...]


class Term(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """Every number that spoke for or against one model. `excluded` names the hard rule that ruled it out."""

    model: str
    quality: float
    gpu_s: float
    cost_usd: float
    wait_s: float
    utility: float
    excluded: str | None = None
    surcharge: float = 0.0  #: within `cost_usd`
    surcharge_of: Cause = ""
    favour: float = 0.0  #: within `utility`


#: A number as it is recorded; what JSON cannot tell (an infinity, NaN) is its name.
Number = bool | int | float | str | None


class DecisionNumbers(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """All numbers of one decision by name, as recorded: what it read, enough to decide again, and what followed.

    Columns hold one value a model, in the order of `models`; one that is 0 for all is left out, as is 0 what a record
    of another release does not tell. `native.policy.numbers_of` reads it.
    """

    models: tuple[str, ...]
    question: dict[str, Number]  #: of `Query`, and `prompt_tokens`
    settings: dict[str, Number]  #: of `policy.Settings`
    excluded: tuple[int, ...] = ()  #: members already tried
    members: dict[str, tuple[Number, ...]]  #: of `MemberState`
    scores: dict[str, tuple[Number, ...]]  #: of `Scores`
    terms: dict[str, tuple[Number, ...]]  #: of `Term`
    beliefs: dict[str, tuple[Number, ...]] = {}  #: of a decision that was planned: `native.plan.believe`


class Numbers(Protocol):
    """The numbers that a decision was made of, as `native.policy` keeps them."""

    @property
    def replica(self) -> int:
        """Which of the chosen model's engines; -1: it has one only."""
        ...

    def terms(self) -> tuple[Term, ...]: ...

    def column(self, name: str) -> Sequence[float | str | None]: ...

    def record(self) -> DecisionNumbers: ...


@dataclass(frozen=True, init=False)
class Decision:
    """Which model, why, and by how much. Its terms are made when first read: most decisions end without that.

    No `msgspec.Struct`, which could not do so; msgspec encodes it as it would one.
    """

    #: In the order in which they are encoded; those with an underscore are not.
    __slots__ = (  # noqa: RUF023
        "id",
        "model",
        "member",
        "reason",
        "terms",
        "runner_up",
        "margin",
        "score",
        "threshold",
        "_numbers",
    )

    id: str
    model: str
    member: int  #: index in the pool
    reason: str  #: pinned, utility, threshold, only_candidate, canary, retry, fallback
    terms: tuple[Term, ...]
    runner_up: str | None
    margin: float  #: utility of the chosen less that of the runner-up
    score: float | None  #: win rate of the strong model, for threshold rules; else the chosen quality
    threshold: float | None

    def __init__(
        self,
        *,
        id: str,
        model: str,
        member: int,
        reason: str,
        terms: tuple[Term, ...],
        runner_up: str | None = None,
        margin: float = 0.0,
        score: float | None = None,
        threshold: float | None = None,
    ) -> None:
        values = (id, model, member, reason, terms, runner_up, margin, score, threshold, None)
        for name, value in zip(self.__slots__, values, strict=True):
            object.__setattr__(self, name, value)

    @property
    def numbers(self) -> Numbers | None:
        """What it was made of; None where it was made of words."""
        numbers: Numbers | None = self._numbers  # type: ignore[attr-defined]
        return numbers

    def __reduce__(self) -> "tuple[Callable[[dict[str, Any]], Decision], tuple[dict[str, Any]]]":
        return _decision, ({field.name: getattr(self, field.name) for field in fields(self)},)


def _decision(values: dict[str, Any]) -> Decision:
    return Decision(**values)


class _Terms:
    """In the place of the slot `terms`: fills it from the numbers where it is empty."""

    def __init__(self, slot: Any) -> None:
        self._slot = slot

    def __get__(self, decision: Decision | None, owner: object = None) -> Any:
        if decision is None:
            return self
        try:
            return self._slot.__get__(decision)
        except AttributeError:
            assert decision.numbers is not None
            self._slot.__set__(decision, decision.numbers.terms())
            return self._slot.__get__(decision)

    def __set__(self, decision: Decision, terms: tuple[Term, ...]) -> None:
        self._slot.__set__(decision, terms)


type.__setattr__(Decision, "terms", _Terms(Decision.__dict__["terms"]))


class Usage(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """Tokens of one answer."""

    prompt_tokens: int = 0
    completion_tokens: int = 0
    cached_tokens: int = 0


class Timings(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """Seconds since the engine host received the request."""

    first_token_s: float = 0.0
    total_s: float = 0.0
