"""What a run measures: policies, workload, load, rules. Fixed before the first request; `run.json` holds it."""

import hashlib
import random
from collections.abc import Sequence

import msgspec

from router.errors import ConfigError
from router.learn.bench import arrivals
from router.learn.bench.arrivals import Arrivals, Trace
from router.learn.bench.generator import Ask, Planned
from router.learn.bench.policies import Policy
from router.learn.bench.workload import Item, Workload, of_lengths

VERSION = 1


class Slo(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What a request must keep to count as good. Milliseconds; None: not asked for."""

    ttft_ms: float | None = None
    tpot_ms: float | None = None
    e2e_ms: float | None = None

    def text(self) -> str:
        parts = {"TTFT": self.ttft_ms, "TPOT": self.tpot_ms, "end to end": self.e2e_ms}
        return ", ".join(f"{name} <= {bound:g} ms" for name, bound in parts.items() if bound is not None)


class Level(msgspec.Struct, frozen=True, kw_only=True):
    """One level of load."""

    name: str
    rate: float  #: requests a second that are sent, on average


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    policies: tuple[Policy, ...]
    workload: Workload
    levels: tuple[Level, ...]
    arrivals: Arrivals = Arrivals()
    trace: Trace | None = None
    seconds: float = 30.0  #: of a cell, warm-up left out
    warmup_s: float = 5.0
    rounds: int = 3
    seed: int = 0
    ask: Ask
    slo: Slo | None = None
    attain: float = 0.99  #: share of requests within the SLO at which a load is held
    stop_saturated: bool = False  #: higher levels are left out once a policy does not hold one
    grade_command: str = ""
    grade_limit_s: float = 10.0
    keep: float = 0.95  #: of the strongest member's quality, what the static threshold must keep
    settle_s: float = 0.5  #: between cells

    def cell_s(self) -> float:
        """Planned seconds of one cell."""
        if self.trace is not None:
            return self.trace.arrivals[-1].at_s
        return self.warmup_s + self.seconds

    def window_s(self) -> tuple[float, float]:
        """Figures are of requests planned in this window."""
        return self.warmup_s, self.cell_s()

    def cell(self, round: int, level: int) -> list[Planned]:
        """The same for every policy. Questions come in an order of their round's own, each before any comes again."""
        if self.trace is not None:
            at_s = [one.at_s for one in self.trace.arrivals]
            items = list(range(len(at_s))) if self.own_items() else self._order(round, 0, len(at_s))
        else:
            seed = self._drawn("moments", round, level)
            at_s = arrivals.planned(self.arrivals, self.levels[level].rate, self.cell_s(), seed).tolist()
            items = self._order(round, level, len(at_s))
        return [Planned(at, item, at < self.warmup_s) for at, item in zip(at_s, items, strict=True)]

    def own_items(self) -> bool:
        """Whether each of a trace's requests has its own question."""
        return self.trace is not None and len(self.workload.items) == len(self.trace.arrivals)

    def fingerprint(self) -> bytes:
        """As JSON: all that rows depend on, and nothing that changes from start to start or is secret."""
        policies = [
            {"name": p.name, "url": p.endpoint.url, "choose": p.chooser, "models": p.models} for p in self.policies
        ]
        told = {
            "version": VERSION, "policies": policies, "workload": _digest(self.workload.items),
            "questions": len(self.workload.items), "levels": self.levels, "arrivals": self.arrivals,
            "trace": _digest(self.trace) if self.trace else None, "seconds": self.seconds, "warmup_s": self.warmup_s,
            "rounds": self.rounds, "seed": self.seed, "ask": self.ask, "grade_command": self.grade_command,
            "stop_saturated": self.stop_saturated, "keep": self.keep,
        }  # fmt: skip
        return msgspec.json.encode(told, order="sorted")

    def _order(self, round: int, level: int, count: int) -> list[int]:
        draw = random.Random(self._drawn("order", round, level))
        out: list[int] = []
        while len(out) < count:
            one = list(range(len(self.workload.items)))
            draw.shuffle(one)
            out += one
        return out[:count]

    def _drawn(self, what: str, round: int, level: int) -> int:
        text = f"{what}:{self.seed}:{round}:{level}".encode()
        return int.from_bytes(hashlib.blake2b(text, digest_size=8).digest(), "big")


def turns(policies: Sequence[Policy], round: int, level: int) -> list[Policy]:
    """The order in which the policies take their turns: each is first equally often."""
    at = (round + level) % len(policies)
    return [*policies[at:], *policies[:at]]


def of_trace(trace: Trace, workload: Workload | None, seed: int) -> Workload:
    """A trace's questions: its own prompts, else the workload's, else made up at its lengths."""
    if workload is not None:
        return workload
    if any(one.prompt is None and not one.input_tokens for one in trace.arrivals):
        raise ConfigError("--trace: it has neither prompts nor token counts: expected --workload or --synthetic too")
    made = of_lengths([(one.input_tokens, one.output_tokens) for one in trace.arrivals], seed)
    items = [
        item if one.prompt is None else _with_prompt(item, one.prompt)
        for item, one in zip(made, trace.arrivals, strict=True)
    ]
    return Workload(items=tuple(items))


def _with_prompt(item: Item, prompt: str) -> Item:
    turn = msgspec.structs.replace(item.turns[0], content=prompt)
    return msgspec.structs.replace(item, turns=(turn,), fixed=False)


def _digest(value: object) -> str:
    return hashlib.sha256(msgspec.json.encode(value)).hexdigest()[:16]
