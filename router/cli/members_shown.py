"""What the admin port tells of a running server's members, as `headgate members` reads it, and what its verbs take."""

import msgspec

from router.cli import admin_port
from router.errors import HeadgateError
from router.steps import StepModel

#: What is done to which words behind the verb.
VERBS = {
    "show": "show",
    "add": "add [FILE]",
    "remove": "remove NAME",
    "replace": "replace NAME [FILE]",
    "drain": "drain NAME",
    "resume": "resume NAME",
    "promote": "promote NAME",
    "rollback": "rollback NAME",
    "cancel": "cancel",
}


class Load(msgspec.Struct, frozen=True, kw_only=True):
    """What is shown of a member's state."""

    ready: bool = False
    breaker_open: bool = False
    running: int = 0
    waiting: int = 0
    kv_use: float = 0.0  #: 0..1
    context_tokens: int = 0
    surcharge: float = 0.0  #: on `usd_per_hour`, as a share of it
    surcharge_of: str = ""
    capabilities: frozenset[str] = frozenset()


class Start(msgspec.Struct, frozen=True, kw_only=True):
    stage: str = ""
    percent: int = 0
    left_s: float | None = None


class Shown(msgspec.Struct, frozen=True, kw_only=True):
    """One member of the admin port's answer; what another release tells beyond it is ignored."""

    name: str
    kind: str = ""
    phase: str = ""
    state: Load = Load()
    restarts: int = 0
    last_error: str = ""
    in_flight: int = 0
    start: Start | None = None
    devices: tuple[str, ...] = ()
    memory_share: float | None = None
    usd_per_hour: float = 0.0
    pid: int = 0  #: of its engine's host
    replaces: str = ""
    weight: float = 0.0
    sleep: str | None = None
    wake_s: float = 0.0
    cost: StepModel | None = None


class ShownDevice(msgspec.Struct, frozen=True, kw_only=True):
    device: str = ""
    usd_per_hour: float = 0.0
    factor: float = 1.0
    cause: str = ""
    wait_s: float = 0.0


class ShownPrices(msgspec.Struct, frozen=True, kw_only=True):
    """What the prices are, and what the objective reaches (`policy.prices.PricesTold`)."""

    objective: str = ""
    price: float = 0.0
    price_of: str = ""
    aim: float | None = None
    reached: float | None = None
    broken: str = ""
    devices: tuple[ShownDevice, ...] = ()


class ShownChange(msgspec.Struct, frozen=True, kw_only=True):
    id: int
    what: str = ""
    member: str = ""
    stage: str = ""
    error: str = ""
    cut: int = 0


class Answer(msgspec.Struct, frozen=True, kw_only=True):
    members: tuple[Shown, ...]
    joining: tuple[Shown, ...] = ()
    leaving: tuple[Shown, ...] = ()
    changes: tuple[ShownChange, ...] = ()
    admin_file: str = ""
    prices: ShownPrices | None = None


def members_of(address: str) -> tuple[bytes, Answer]:
    """As they were told, and read."""
    body = admin_port.ask(address, "/members")
    try:
        return body, msgspec.json.decode(body, type=Answer)
    except msgspec.DecodeError as error:
        raise HeadgateError(f"{address}: expected the members of a Headgate server: {error}") from error


def state_of(member: Shown) -> str:
    """The phase, and what else keeps requests away from it or says when they can come."""
    phase = f"{member.phase}, {100 * member.weight:g} % of {member.replaces}" if member.replaces else member.phase
    if member.start is not None:
        left = "" if member.start.left_s is None else f", about {member.start.left_s:.0f} s left"
        return f"{phase}: {member.start.stage}, {member.start.percent} %{left}"
    if member.sleep not in (None, "awake"):
        wakes = f", wakes in about {member.wake_s:.1f} s" if member.wake_s and member.sleep != "away" else ""
        return f"{phase}: {member.sleep}{wakes}"
    return f"{phase}, breaker open" if member.state.breaker_open else phase


def devices_of(member: Shown) -> str:
    """Which, and the share of the memory of each."""
    if not member.devices:
        return "-"
    share = "" if member.memory_share is None else f", {100 * member.memory_share:.0f} %"
    return ",".join(member.devices) + share


def usd_of(member: Shown) -> str:
    """An hour of what it holds, as bought, and by what factor its time costs more now."""
    dearer = f" x {1 + member.state.surcharge:.2f}" if member.state.surcharge >= 0.005 else ""
    return f"{member.usd_per_hour:.2f}{dearer}"
