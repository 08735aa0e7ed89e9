"""Step models of a pool's engines: taught window by window by what their step sums grew by, and kept in a file of the
user's cache folder. Callers pass the time. How a model learns: csrc/cost.hpp.
"""

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

import msgspec

from router.config.replicas import engine_name
from router.files import replaced
from router.steps import StepModel

log = logging.getLogger("headgate.pool")

#: From one window to the next, and from one writing of the file to the next.
WINDOW_S = 0.25
KEEP_S = 30.0

_FILE = "costs.json"
_VERSION = 1
_MOST_ENGINES = 200
_MOST_BYTES = 1 << 20


class Learner(Protocol):
    """The load of one engine."""

    def worked_s(self) -> float: ...

    def learn(self, others: float, busy: float) -> bool: ...


def learn(loads: Sequence[Learner], devices: Sequence[Sequence[str]], took_s: float) -> None:
    """Teach each load what its engine did in the last `took_s`. `devices`: those of each; empty: any may be its own."""
    if took_s <= 0:
        return
    shares = [min(1.0, load.worked_s() / took_s) for load in loads]
    for i, load in enumerate(loads):
        others = sum(shares[j] for j in range(len(loads)) if j != i and _beside(devices[i], devices[j]))
        load.learn(others, min(1.0, shares[i] + others))


def _beside(mine: Sequence[str], theirs: Sequence[str]) -> bool:
    return not mine or not theirs or not set(mine).isdisjoint(theirs)


class KeptCost(msgspec.Struct, frozen=True, kw_only=True):
    """One engine's model in the file. `numbers`: what the fit knows beyond it."""

    member: str = ""  #: for readers of the file
    model: StepModel
    numbers: list[float]


class _Kept(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    headgate_costs: int  #: the version of this form
    engines: dict[str, KeptCost]


class Costs:
    """The file. `folder`: None keeps nothing."""

    def __init__(self, folder: Path | None) -> None:
        self._path = None if folder is None else folder / _FILE

    def of(self, key: str) -> KeptCost | None:
        """None where nothing is known of the engine. What cannot be read is said, and ignored."""
        return self._read().get(key)

    def called(self, member: str) -> KeptCost | None:
        """What was kept last of an engine of this member, whatever its arguments."""
        kept = reversed(self._read().values())
        return next((one for one in kept if one.member in (member, engine_name(member, 0))), None)

    def keep(self, found: dict[str, KeptCost]) -> None:
        """In the place of what was known of these engines; beyond 200 the oldest are forgotten."""
        if self._path is None or not found:
            return
        known = self._read()
        for key, cost in found.items():
            known.pop(key, None)
            known[key] = cost
        kept = _Kept(headgate_costs=_VERSION, engines=dict(list(known.items())[-_MOST_ENGINES:]))
        try:
            self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            with replaced(self._path, 0o600) as file:
                file.write(msgspec.json.encode(kept))
        except OSError as error:
            log.warning("%s: the step costs could not be kept: %s", self._path, error)

    def _read(self) -> dict[str, KeptCost]:
        if self._path is None:
            return {}
        try:
            with self._path.open("rb") as file:
                found = msgspec.json.decode(file.read(_MOST_BYTES), type=_Kept)
        except FileNotFoundError:
            return {}
        except (OSError, ValueError) as error:  # msgspec's errors are such
            log.warning("%s: ignored, and replaced when costs are next kept: %s", self._path, error)
            return {}
        if found.headgate_costs != _VERSION:
            log.warning(
                "%s: ignored: expected version %d of the file, got %d", self._path, _VERSION, found.headgate_costs
            )
            return {}
        return found.engines


class Priced(Learner, Protocol):
    def model(self) -> StepModel: ...

    def kept(self) -> list[float]: ...

    def restore(self, kept: list[float], model: StepModel) -> bool: ...


class Pricing:
    """One engine's model and its place in the file."""

    def __init__(self, costs: Costs, key: str, member: str, load: Priced) -> None:
        """Goes on from what is kept."""
        self.costs, self.key, self._member, self.load = costs, key, member, load
        self._windows = 0  # of what is kept
        kept = costs.of(key)
        if kept is None:
            return
        if sound(kept.model) and load.restore(kept.numbers, kept.model):
            self._windows = kept.model.windows
        else:
            log.warning("the costs kept of engine %r are no such numbers: ignored", member)

    def news(self) -> KeptCost | None:
        """What is to be kept; None where nothing was learnt since the last time."""
        model = self.load.model()
        if model.windows == self._windows:
            return None
        self._windows = model.windows
        return KeptCost(member=self._member, model=model, numbers=self.load.kept())


def keep(pricings: Sequence[Pricing]) -> None:
    """All that was learnt."""
    found: dict[Costs, dict[str, KeptCost]] = {}
    for pricing in pricings:
        if (news := pricing.news()) is not None:
            found.setdefault(pricing.costs, {})[pricing.key] = news
    for costs, engines in found.items():
        costs.keep(engines)


def sound(model: StepModel) -> bool:
    """Whether its figures can be such."""
    counts = (model.windows, model.cut, model.answers)
    figures = (model.overhead_s, model.error_window, model.error_first_token, model.error_output_token)
    return all(0 <= count < 1 << 62 for count in counts) and all(0 <= figure < 1e6 for figure in figures)
