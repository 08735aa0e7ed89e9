"""The words that every room speaks: frozen structs and small tables, no behaviour beyond small derived facts.

Nothing here knows HTTP, vLLM, sockets or files.
"""

from collections.abc import Mapping, Sequence
from typing import Final, Literal

import msgspec

Kind = Literal["chat", "completions", "responses", "messages", "count_tokens", "tokenize", "detokenize"]

#: What OpenAI-compatible servers, vLLM's among them, call each kind.
API_PATHS: Final[Mapping[Kind, str]] = {
    "chat": "/v1/chat/completions",
    "completions": "/v1/completions",
    "responses": "/v1/responses",
    "messages": "/v1/messages",
    "count_tokens": "/v1/messages/count_tokens",
    "tokenize": "/tokenize",
    "detokenize": "/detokenize",
}

#: What a member must be able to do to serve a request. A member lists what it has, a query what it needs.
Capability = Literal[
    "chat", "completions", "tools", "structured", "logprobs", "vision", "audio", "responses", "messages"
]

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


class Turn(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """One message of a conversation, as text. `role` is as the client sent it."""

    role: str
    text: str


#: A text of the conversation and how much it counts.
Segment = tuple[str, float]


class Query(msgspec.Struct, frozen=True, kw_only=True):
    """The conversation as the router sees it, plus the few request fields that routing reads."""

    kind: Kind
    model: str  #: as asked for: `auto`, a member's name, `router-mf-0.116`
    turns: Sequence[Turn]  #: a tuple, or what makes them when asked for (`native.large_body.TextTurns`)
    stream: bool = False
    max_tokens: int | None = None
    choices: int = 1  #: `n` of the OpenAI API
    needs: frozenset[str] = frozenset()  #: of `Capability`
    token_ids: int = 0  #: of the longest prompt that is given in ids; they mean something in one vocabulary only
    slo_ttft_s: float | None = None  #: refuse members predicted to be slower to the first token
    deadline_s: float | None = None  #: seconds from now until the answer is worth nothing
    request_id: str = ""
    session_id: str = ""
    key_id: str = ""  #: which API key asked; never the key itself


class Scores(msgspec.Struct, frozen=True):
    """What the head said of a query. `quality[i]` is P(acceptable answer) of the pool's i-th member."""

    quality: tuple[float, ...]
    prompt_tokens: int  #: estimate of the whole conversation's size: what cost and context use


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
    prefix_hit: float = 0.0  #: share of prompt tokens found in the prefix cache lately, 0..1
    prefill_tokens_per_s: float = 0.0
    time_per_output_token_s: float = 0.0
    mean_output_tokens: float = 0.0
    queued_gpu_s: float = 0.0  #: GPU seconds of the work that waits ahead
    usd_per_s: float = 0.0  #: of the GPU share that the member occupies


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


class Decision(msgspec.Struct, frozen=True, kw_only=True):
    """Which model, why, and by how much."""

    id: str
    model: str
    member: int  #: index in the pool
    reason: str  #: pinned, utility, threshold, only_candidate, retry, fallback
    terms: tuple[Term, ...]
    runner_up: str | None = None
    margin: float = 0.0  #: utility of the chosen less that of the runner-up
    score: float | None = None  #: win rate of the strong model, for threshold rules; else the chosen quality
    threshold: float | None = None


class Usage(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """Tokens of one answer."""

    prompt_tokens: int = 0
    completion_tokens: int = 0
    cached_tokens: int = 0


class Timings(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """Seconds since the engine host received the request."""

    first_token_s: float = 0.0
    total_s: float = 0.0
