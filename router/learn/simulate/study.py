"""What is to be simulated, and how one point of it becomes figures: the same for a single run, a sweep and a search."""

from collections.abc import Callable, Mapping

import msgspec
import numpy as np

from router.errors import ConfigError
from router.learn.bench.plan import Slo
from router.learn.simulate import figures
from router.learn.simulate.figures import Figures
from router.learn.simulate.pool import Pool, checked
from router.learn.simulate.run import Progress, simulate
from router.learn.simulate.traffic import Traffic
from router.policy import Settings

#: Traffic for a pool of these members, at this mean rate (None: its own), drawn by this seed.
Make = Callable[[float | None, int], Traffic]

SWEPT = ("rate", "price", "slo_ttft_ms", "copies", "max_num_seqs", "max_num_batched_tokens", "kv_tokens")
_NAMES = {
    "rate": "load, requests/s",
    "price": "lambda, quality points per USD",
    "slo_ttft_ms": "TTFT that is asked for, ms",
}


class Study(msgspec.Struct, frozen=True, kw_only=True):
    pool: Pool
    make: Make
    policies: Mapping[str, Settings]  #: by name; at least one
    slo: Slo | None = None
    seeds: tuple[int, ...] = (0,)

    def figures(
        self, policy: str = "auto", *, pool: Pool | None = None, rate: float | None = None,
        settings: Settings | None = None, label: str = "", x: float = float("nan"),
        progress: Progress = lambda share: None,
    ) -> Figures:  # fmt: skip
        """One point over all seeds."""
        pool = pool or self.pool
        settings = settings or self.policies[policy]
        outcomes = []
        for done, seed in enumerate(self.seeds):
            traffic = for_members(self.make(rate, seed), pool)
            outcomes.append(
                simulate(
                    pool, traffic, seed=seed, settings=settings,
                    progress=lambda share, done=done: progress((done + share) / len(self.seeds)),  # type: ignore[misc]
                )
            )  # fmt: skip
        return figures.of(outcomes, label or policy, self.slo, price=settings.price, x=x)


def for_members(traffic: Traffic, pool: Pool) -> Traffic:
    """Its columns for a pool of some of its models. Raises ConfigError where rules of a journal name others."""
    if traffic.names == pool.names:
        return traffic
    at = [traffic.names.index(name) for name in pool.names]
    if traffic.rules:
        raise ConfigError("requests of the journal ask for members that a smaller pool lacks: leave --find out")
    return msgspec.structs.replace(
        traffic, names=pool.names, best=traffic.best_quality, output=np.ascontiguousarray(traffic.output[:, at]),
        score=np.ascontiguousarray(traffic.score[:, at]),
        quality=None if traffic.quality is None else np.ascontiguousarray(traffic.quality[:, at]),
        lengths=None if traffic.lengths is None else tuple(np.ascontiguousarray(one[:, at]) for one in traffic.lengths),
    )  # fmt: skip


def policies(names: tuple[str, ...], pool: Pool, traffic: Traffic) -> dict[str, Settings]:
    """`auto`, a member's name, `router-mf-T`. The strongest and the weakest are those of the traffic's mean quality."""
    mean = traffic.true_quality.mean(axis=0)
    ends = {"strong": int(mean.argmax()), "weak": int(mean.argmin())}
    out = {}
    for name in names:
        if name == "auto":
            out[name] = msgspec.structs.replace(pool.settings, **ends)
        elif name in pool.names:
            out[name] = msgspec.structs.replace(pool.settings, rule="pinned", pinned=pool.names.index(name))
        elif name.startswith("router-") and (threshold := _threshold(name)) is not None:
            out[name] = msgspec.structs.replace(pool.settings, rule="threshold", threshold=threshold, **ends)
        else:
            raise ConfigError(
                f"--policy: expected auto, {', '.join(pool.names)} or router-mf-THRESHOLD with a threshold from 0 to 1;"
                f" got {name!r}"
            )
    return out


def _threshold(name: str) -> float | None:
    try:
        value = float(name.rpartition("-")[2])
    except ValueError:
        return None
    return value if 0 <= value <= 1 else None


class Sweep(msgspec.Struct, frozen=True, kw_only=True):
    """One parameter and its values. `member`: of `copies` and what is an engine's."""

    what: str
    member: str = ""
    values: tuple[float, ...]

    @property
    def name(self) -> str:
        return f"{self.what} of {self.member}" if self.member else _NAMES.get(self.what, self.what)


def sweep_of(text: str, pool: Pool) -> Sweep:
    """`rate=1,2,4`, `price=...`, `copies.large=1,2,3`. Raises ConfigError."""
    key, equals, told = text.partition("=")
    what, _, member = key.partition(".")
    try:
        values = tuple(float(value) for value in told.split(","))
    except ValueError:
        values = ()
    if not equals or what not in SWEPT or not values or not all(0 <= value < 1e12 for value in values):
        raise ConfigError(
            f"--sweep: expected KEY=VALUE,VALUE,... of numbers from 0, KEY one of {', '.join(SWEPT)}, the last four"
            f" with a member as in copies.large; got {text!r}"
        )
    if what in SWEPT[3:] and member not in pool.names:
        raise ConfigError(f"--sweep: expected {what}.MEMBER, one of {', '.join(pool.names)}; got {key!r}")
    if what not in SWEPT[3:] and member:
        raise ConfigError(f"--sweep: {what}: expected no member behind it, got {key!r}")
    if what in ("rate", "slo_ttft_ms") and min(values) <= 0:
        raise ConfigError(f"--sweep: {what}: expected numbers above 0, got {min(values):g}")
    if what in SWEPT[3:] and not all(value >= 1 and value == int(value) for value in values):
        raise ConfigError(f"--sweep: {what}: expected whole numbers from 1, got {told}")
    return Sweep(what=what, member=member, values=tuple(dict.fromkeys(values)))


def swept(study: Study, sweep: Sweep, progress: Callable[[str, float], Progress]) -> list[Figures]:
    """A point a policy and value. `progress(policy, value)` is asked for who is told of that point."""
    out = []
    for policy, settings in study.policies.items():
        for value in sweep.values:
            told = progress(policy, value)
            changed = settings
            if sweep.what == "price":
                changed = msgspec.structs.replace(settings, price=value)
            elif sweep.what == "slo_ttft_ms":
                changed = msgspec.structs.replace(settings, slo_ttft_s=value / 1e3)
            rate = value if sweep.what == "rate" else None
            pool = _with(study.pool, sweep, int(value)) if sweep.member else study.pool
            out.append(study.figures(policy, pool=pool, rate=rate, x=value, progress=told, settings=changed))
    return out


_FIELDS = {"max_num_seqs": "most_running", "max_num_batched_tokens": "step_tokens", "kv_tokens": "kv_tokens"}


def _with(pool: Pool, sweep: Sweep, value: int) -> Pool:
    at = pool.names.index(sweep.member)
    model = pool.models[at]
    if sweep.what == "copies":
        return pool.copied({model.group: value})
    engine = checked(model.name, msgspec.structs.replace(model.engine, **{_FIELDS[sweep.what]: value}))
    models = [*pool.models[:at], msgspec.structs.replace(model, engine=engine), *pool.models[at + 1 :]]
    return msgspec.structs.replace(pool, models=tuple(models))
