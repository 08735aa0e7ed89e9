"""What a request's `model` means: a rule to decide by, or one member.

auto, headgate/auto     the configured rule
router-mf-0.116         RouteLLM's: the strongest member iff its win rate over the weakest reaches 0.116; served by
                        whatever head there is, so that RouteLLM's clients go on working
router-knn-0.4          the same, where the head that is served is that method's
a member's name         that member; so do the path or hub id of its weights, where only one member has them
an adapter's name       the member that has this LoRA adapter
"""

import difflib
import re
from collections import Counter
from collections.abc import Sequence
from itertools import islice
from typing import Protocol

import msgspec

from router.config import RESERVED_NAMES, Limits, Member, Routing
from router.errors import BadRequest, ModelNotFound
from router.pipeline.listed import MOST_LISTED, listed
from router.policy import Settings
from router.types import Adapter, Cause, Query

_ROUTELLM = re.compile(r"router-([A-Za-z0-9_.-]+?)-([01]|0?\.\d+|1\.0+)")
#: Methods by RouteLLM's name for them, where it is another.
_ALSO = {"classifier": "bert"}
#: Names that a refusal compares, those of members and of adapters each: a comparison takes up to 2 ms.
_MOST_COMPARED = MOST_LISTED


class Adapters(Protocol):
    """The LoRA adapters of the pool, which may change while it serves."""

    def at(self, name: str) -> int | None:
        """The index of the member that has the adapter called `name`."""
        ...

    def of(self, member: int) -> Sequence[Adapter]: ...

    def names(self) -> Sequence[str]: ...


class Names:
    """All names of one pool. `strong` and `weak` are the members of highest and lowest strength."""

    def __init__(
        self,
        pool: Sequence[Member],
        routing: Routing,
        limits: Limits,
        *,
        strong: int,
        weak: int,
        adapters: Adapters | None = None,
        router: str = "mf",
    ) -> None:
        """`router`: the method of the head that is served."""
        base = Settings(
            price=routing.price,
            strong=strong,
            weak=weak,
            slo_ttft_s=routing.slo_ttft_s,
            most_waiting=limits.waiting,
        )
        auto = base
        if routing.threshold is not None:
            auto = msgspec.structs.replace(base, rule="threshold", threshold=routing.threshold)
        self._base = base
        self._adapters = adapters
        self._routers = tuple(dict.fromkeys(("mf", router, _ALSO.get(router, router))))
        self.known: dict[str, Settings] = dict.fromkeys(RESERVED_NAMES, auto)  #: every name without a number in it
        weights = Counter(member.model for member in pool if not member.replaces)
        for i, member in enumerate(pool):
            pinned = msgspec.structs.replace(base, rule="pinned", pinned=i)
            if member.model and weights[member.model] == 1 and not member.replaces:
                self.known.setdefault(member.model, pinned)
        for i, member in enumerate(pool):
            pinned = msgspec.structs.replace(base, rule="pinned", pinned=i)
            self.known |= dict.fromkeys((member.name, *member.also), pinned)
        self._one_vocabulary = len(pool) == 1 or (len(weights) == 1 and "" not in weights)
        self._shown = (RESERVED_NAMES[0], *(name for member in pool for name in (member.name, *member.also)))

    def steer(self, price: float, price_of: Cause, shed_ttft_s: float | None) -> None:
        """Decide by this lambda, and refuse by this wait, whatever names no member."""
        steered = {"price": price, "price_of": price_of, "shed_ttft_s": shed_ttft_s}
        self._base = msgspec.structs.replace(self._base, **steered)
        self.known |= {name: msgspec.structs.replace(self.known[name], **steered) for name in RESERVED_NAMES}

    def settings_of(self, query: Query) -> Settings:
        """How to decide for `query`. Raises `BadRequest` where token ids could be read in one vocabulary or another."""
        settings = self.known.get(query.model) or self.settings(query.model)
        if query.token_ids and settings.rule != "pinned" and not self._one_vocabulary:
            param = "tokens" if query.kind == "detokenize" else "prompt"
            raise BadRequest(
                f"`{param}` holds token ids, which mean something in one model's vocabulary only: "
                "name that model in `model` instead of leaving the choice open",
                param=param,
            )
        return settings

    def settings(self, model: str) -> Settings:
        """How to decide for `model`. Raises `ModelNotFound`, saying what there is."""
        found = self.known.get(model)
        if found is not None:
            return found
        match = _ROUTELLM.fullmatch(model)
        if match is not None and match[1] in self._routers:
            return msgspec.structs.replace(self._base, rule="threshold", threshold=float(match[2]))
        member = None if self._adapters is None else self._adapters.at(model)
        if member is not None:
            return msgspec.structs.replace(self._base, rule="pinned", pinned=member)
        raise ModelNotFound(self._explain(model), param="model")

    def _explain(self, model: str) -> str:
        if model.startswith("router-"):
            forms = " or ".join(f"`router-{name}-THRESHOLD`" for name in self._routers)
            return f"model {model[:200]!r} is not understood; a RouteLLM name reads {forms}, 0 to 1"
        adapters = () if self._adapters is None else tuple(self._adapters.names())
        compared = (*islice(self.known, _MOST_COMPARED), *adapters[:_MOST_COMPARED])
        near = difflib.get_close_matches(model[:200], compared, n=1, cutoff=0.6)
        hint = f"did you mean {near[0]!r}? " if near else ""
        there = listed(self._shown) + (f", {listed(adapters, 'more adapters')}" if adapters else "")
        return f"model {model[:200]!r} does not exist; {hint}there are {there}"


def strongest_and_weakest(strengths: Sequence[float], usd_per_s: Sequence[float]) -> tuple[int, int]:
    """Indices of the strongest and the weakest member. Of equals the dearer is the stronger, then the later one."""
    order = sorted(range(len(strengths)), key=lambda i: (strengths[i], usd_per_s[i], i))
    return order[-1], order[0]
