"""A member's load and speed as a decision reads them. Counting is native (csrc/load.hpp) and shared with the native
request path; this module is its Python interface. Knows no clock and no connection."""

from collections.abc import Mapping, Sequence
from typing import Any

from router.config import CPU, Config, DeviceSettings, Member, argument_name, device_names, devices_needed, model_name
from router.native.lane import LaneLoad
from router.types import Cause, MemberState, Usage

#: Finish reasons of answers that would have been longer, as chats and messages call them (csrc/frame.hpp: `is_cut`).
CUT = frozenset({"length", "max_tokens"})


class LoadTracker(LaneLoad):
    """One member's load. Tokens, seconds, USD; the snapshot is made anew only after something changed."""

    def __init__(self, member: Member, gpu_share: float) -> None:
        super().__init__(member.mean_output_tokens, member.prefill_tokens_per_s, member.time_per_output_token_s)
        self._name = model_name(member)
        self._state: MemberState | None = None
        self._changes = -1  # how many had been made when `_state` was taken
        self.usd_per_s = member.usd_per_hour / 3600.0 * gpu_share
        self.context_tokens = member.context_tokens
        self.capabilities: frozenset[str] = frozenset(member.capabilities or ())
        self._canary: tuple[int, float] = (0, 0.0)
        self._surcharge: tuple[float, Cause] = (0.0, "")

    def described(self, capabilities: frozenset[str], context_tokens: int) -> None:
        """The engine said what it can do."""
        self.capabilities = capabilities
        self.context_tokens = context_tokens
        self._state = None

    def placed(self, model: str, usd_per_s: float, canary_of: int, canary_weight: float) -> None:
        """What the member is in its pool from now on."""
        self._name, self.usd_per_s, self._canary = model, usd_per_s, (canary_of, canary_weight)
        self._state = None

    def charged(self, surcharge: float, cause: Cause) -> None:
        """Its devices' price stands so far above the bought one, and why."""
        if (surcharge, cause) != self._surcharge:
            self._surcharge, self._state = (surcharge, cause), None

    def state(self, *, ready: bool, breaker_open: bool) -> MemberState:
        """The member as a decision sees it."""
        state = self._state
        if (
            state is None
            or self._changes != self.changes
            or state.ready is not ready
            or state.breaker_open is not breaker_open
        ):
            self._changes = self.changes
            state = self._state = MemberState(
                name=self._name,
                ready=ready,
                breaker_open=breaker_open,
                context_tokens=self.context_tokens,
                capabilities=self.capabilities,
                usd_per_s=self.usd_per_s,
                canary_of=self._canary[0],
                canary_weight=self._canary[1],
                surcharge=self._surcharge[0],
                surcharge_of=self._surcharge[1],
                **self.figures(),
            )
        return state


def without_length(usage: Usage) -> Usage:
    """Of an answer whose length was the asker's wish, as a judge's one digit is: to learn speed from, not length."""
    return Usage(usage.prompt_tokens, 0, usage.cached_tokens)


def usd_per_s(config: Config) -> tuple[float, ...]:
    """What each member is charged a second: its share of the price of each of its devices."""
    shares = gpu_shares(config.pool)
    return tuple(
        usd_per_hour(member, config.devices) / 3600.0 * share for member, share in zip(config.pool, shares, strict=True)
    )


def usd_per_hour(member: Member, settings: Mapping[str, DeviceSettings]) -> float:
    """Of all its devices together, as whole ones. `settings`: by index, as the member's devices are."""
    names = [name for name in device_names(member) if name != CPU]
    prices = [settings[name].usd_per_hour if name in settings else None for name in names]
    told = [member.usd_per_hour if price is None else price for price in prices]
    # Not placed yet: as many as its parallelism needs.
    return sum(told) if told else member.usd_per_hour * devices_needed(member)


def gpu_shares(pool: tuple[Member, ...]) -> tuple[float, ...]:
    """The share of each of its devices that a member is charged for: as configured, else the memory it takes, else 1/n
    of the engines there.

    An `openai` member without a share is charged the whole: it has a machine of its own.
    """
    engines = [member for member in pool if member.kind == "engine"]
    return tuple(_gpu_share(member, _beside(member, engines)) for member in pool)


def _beside(member: Member, engines: Sequence[Member]) -> int:
    """How many engines live where `member` does; those that are not placed may live anywhere."""
    mine = set(device_names(member))
    return sum(not mine or not (names := device_names(other)) or not mine.isdisjoint(names) for other in engines)


def _gpu_share(member: Member, engines: int) -> float:
    if member.gpu_share is not None:
        return member.gpu_share
    if member.kind == "openai":
        return 1.0
    share = memory_share(member.engine_args)
    return share if share is not None else 1.0 / max(engines, 1)


def memory_share(engine_args: Mapping[str, Any]) -> float | None:
    """Of each of its devices, as an engine is told; None where it is not, or by what vLLM refuses."""
    for name, value in engine_args.items():
        if argument_name(name) == "gpu_memory_utilization" and isinstance(value, int | float) and 0 < value <= 1:
            return float(value)
    return None
