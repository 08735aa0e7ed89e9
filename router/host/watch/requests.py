"""The host's side of the watch: gives each watched answer a slot of the table, and reads what was seen of it. Knows no
vLLM."""

import logging
import math
from collections import deque
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any, TypedDict

import msgspec
import numpy as np

from router.host.watch.table import Ticket, WatchTable
from router.native.row_statistics import ORDER_FLOATS
from router.watched import MOST_KNOTS, Figures, WatchSettings

logger = logging.getLogger("headgate.host")

#: Ids that end an answer, of one that is watched: vLLM's second runner ends at 129 of them, and ours is one more.
MOST_STOP_IDS = 64
_STATISTICS = ("logprob", "entropy", "margin", "tokens")
#: Generations are float32: whole numbers below this are exact.
_GENERATIONS = 1 << 23
_KNOT_AT, _FIRED, _LIKELIEST, _ESTIMATE, _GENERATION, _BROKEN = 8, 11, 12, 13, 14, 15
_decode = msgspec.json.Decoder(WatchSettings)


class Told(TypedDict):
    """As `handed_on` of the fast way takes it."""

    why: str
    figures: Figures | None
    first_logits: bytes
    look: str


class Watches:
    """Of one engine. `text_of`: a token's text. `stop_is_end`: the token that ends a row ends answers by itself too."""

    def __init__(
        self, table: WatchTable, *, text_of: Callable[[int], str] = lambda token: "", stop_is_end: bool = False
    ) -> None:
        self._table = table
        self._free = deque(range(table.slots))
        self._generation = 0
        self._text_of = text_of
        self._stop_is_end = stop_is_end
        self._said: set[str] = set()

    def begin(
        self,
        wanted: bytes,
        *,
        n: int = 1,
        min_tokens: int = 0,
        ignore_eos: bool = False,
        keeps_stop: bool = False,
        stop_token_ids: Sequence[int] = (),
    ) -> "Watch | None":
        """Watch the answer of a request as `wanted`, `WatchSettings` as JSON, asks for. None: it is not watched, which
        is said once for each reason. `keeps_stop`: what ends it is part of its text."""
        why = self._refusal(n, ignore_eos, keeps_stop, stop_token_ids)
        settings = WatchSettings()
        if not why:
            try:
                settings = _decode.decode(wanted)
                why = self._fault(settings)
            except msgspec.DecodeError as error:
                why = f"its settings cannot be read: {error}"
        if why:
            self.left_out(why)
            return None
        slot = self._free.popleft()
        self._generation = self._generation % (_GENERATIONS - 1) + 1
        ticket = Ticket(slot, float(self._generation))
        self._write(settings, ticket, min_tokens)
        return Watch(self, self._table, ticket, settings)

    def left_out(self, why: str) -> None:
        """An answer is not watched though one asked for it."""
        if why not in self._said and len(self._said) < 32:
            self._said.add(why)
            logger.warning("an answer is not watched: %s (said once)", why)

    def release(self, ticket: Ticket) -> None:
        """Its slot goes to the end of the queue: an engine may still be at a step of its answer."""
        self._table.orders[ticket.slot, 0] = 0
        self._free.append(ticket.slot)

    def text_of(self, token: int) -> str:
        return self._text_of(token)

    @property
    def stop_is_end(self) -> bool:
        return self._stop_is_end

    def _refusal(self, n: int, ignore_eos: bool, keeps_stop: bool, stop_token_ids: Sequence[int]) -> str:
        if n != 1:
            return "it has several choices"
        if keeps_stop:
            return "it asks for what ends it, `include_stop_str_in_output`"
        if ignore_eos and self._stop_is_end:
            return "it ignores the model's end, by which this engine's answers are stopped"
        if len(stop_token_ids) >= MOST_STOP_IDS or self._table.stop in stop_token_ids:
            return f"its `stop_token_ids` are {MOST_STOP_IDS} or more, or hold the watch's"
        return "" if self._free else f"{self._table.slots} are watched already"

    def _fault(self, settings: WatchSettings) -> str:
        knots, weights = settings.knots, settings.first_weights
        if len(knots) > MOST_KNOTS or not all(math.isfinite(value) for knot in knots for value in knot):
            return f"knots: expected at most {MOST_KNOTS} of finite numbers, got {len(knots)}"
        if any(after[0] <= before[0] for before, after in pairwise(knots)):
            return "knots: expected rising numbers of tokens"
        if weights and len(weights) != self._table.firsts:
            return f"first_weights: expected {self._table.firsts}, got {len(weights)}"
        return ""

    def _write(self, settings: WatchSettings, ticket: Ticket, min_tokens: int) -> None:
        order = np.zeros(ORDER_FLOATS, np.float32)
        weights = settings.first_weights
        bound = -math.inf if settings.first_bound is None else settings.first_bound
        order[1:8] = (
            _STATISTICS.index(settings.statistic),
            len(settings.knots),
            min_tokens,
            bound,
            settings.first_bias,
            len(weights),
            settings.keep_first,
        )
        order[_KNOT_AT : _KNOT_AT + 2 * len(settings.knots)] = [value for knot in settings.knots for value in knot]
        self._table.orders[ticket.slot] = order  # of nobody, until its generation says whose
        if weights:
            self._table.weights[ticket.slot] = weights
        self._table.orders[ticket.slot, 0] = ticket.generation


class Watch:
    """One watched answer. Its figures stay readable until `release`."""

    def __init__(self, watches: Watches, table: WatchTable, ticket: Ticket, settings: WatchSettings) -> None:
        self._watches = watches
        self._table = table
        self._ticket = ticket
        self._settings = settings
        self._held = True

    @property
    def stop(self) -> int:
        """Has to be one of the request's `stop_token_ids`."""
        return self._table.stop

    @property
    def extra_args(self) -> dict[str, Any]:
        """For `SamplingParams.extra_args`."""
        return self._table.extra_args(self._ticket)

    def stopped(self, finish_reason: str | None, stop_reason: int | str | None, tokens: int) -> bool:
        """Whether it was the watch that ended the answer, whose `tokens` the reserved one is the last of."""
        ours = stop_reason == self.stop or (self._watches.stop_is_end and stop_reason is None)
        state = self._state(tokens)
        return finish_reason == "stop" and ours and state is not None and state[_FIRED] != 0

    def why(self, tokens: int) -> str:
        """For people: what stopped it."""
        state = self._state(tokens)
        if state is None:
            return "watch"
        if state[_FIRED] == 2:
            return f"watch: log odds {state[_ESTIMATE]:.2f} by the first token"
        name = self._settings.statistic
        seen = {"logprob": state[3], "entropy": state[5], "margin": state[8]}.get(name)
        return f"watch: {name}{'' if seen is None else f' {seen:.3f}'} after {tokens - 1} tokens"

    def look(self, tokens: int) -> str:
        """Text of the token that was the likeliest next one."""
        state = self._state(tokens)
        return "" if state is None or state[_LIKELIEST] < 0 else self._watches.text_of(int(state[_LIKELIEST]))

    def figures(self, tokens: int) -> Figures | None:
        """Of an answer with so many tokens, that which ended it included. None: nothing was seen of it."""
        state = self._state(tokens)
        if state is None:
            return None
        seen = [float(value) for value in state[:_FIRED]]
        return Figures(
            tokens=int(seen[0]),
            mean_logprob=seen[1],
            least_logprob=seen[2],
            recent_logprob=seen[3],
            mean_entropy=seen[4],
            recent_entropy=seen[5],
            mean_margin=seen[6],
            least_margin=seen[7],
            recent_margin=seen[8],
            first_logprob=seen[9],
            first_entropy=seen[10],
        )

    def first_logits(self, tokens: int) -> bytes:
        """As float16, where they were asked for; an answer of no token has none."""
        if not self._settings.keep_first or self._state(tokens) is None:
            return b""
        return bytes(self._table.kept[self._ticket.slot].astype(np.float16).tobytes())

    def told(self, tokens: int) -> "Told":
        """What is said of an answer that the watch ended."""
        return {
            "why": self.why(tokens),
            "figures": self.figures(tokens),
            "first_logits": self.first_logits(tokens),
            "look": self.look(tokens),
        }

    def give_up(self, why: str) -> None:
        """It is answered where nothing can be watched."""
        self._watches.left_out(why)
        self.release()

    def release(self) -> None:
        """Once, at whatever end."""
        if self._held:
            self._held = False
            self._watches.release(self._ticket)

    def _state(self, tokens: int) -> Any:
        """The version of that many tokens. A stop string drops tokens that the engine made: then the nearest after."""
        if not self._held:
            return None
        states = self._table.states[self._ticket.slot]
        known = [
            state
            for state in states
            if state[_GENERATION] == self._ticket.generation and state[_BROKEN] == 0 and state[0] >= max(tokens, 1)
        ]
        return min(known, key=lambda state: float(state[0]), default=None)
