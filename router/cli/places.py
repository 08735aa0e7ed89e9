"""Where each member lives and what it costs there, as a table in plain text."""

import msgspec

from router.config import Config, device_names
from router.pool.devices import DeviceList
from router.pool.load import memory_share, usd_per_s

_HEAD = ("member", "devices", "memory", "USD/hour")


class MemberPlace(msgspec.Struct, frozen=True, kw_only=True):
    """One member of a placed config."""

    name: str
    devices: tuple[str, ...] = ()  #: by index; empty: `where` says more
    where: str  #: in words
    memory_share: float | None = None  #: of each of its devices; None: as vLLM decides
    usd_per_hour: float


def places_of(config: Config, found: DeviceList) -> tuple[MemberPlace, ...]:
    """`config`: placed on the devices `found`."""
    return tuple(
        MemberPlace(
            name=member.name,
            devices=() if found.kind == "cpu" else device_names(member),
            where="elsewhere" if member.kind == "openai" else _where(device_names(member), found),
            memory_share=memory_share(member.engine_args) if found.kind != "cpu" else None,
            usd_per_hour=round(usd * 3600.0, 6),
        )
        for member, usd in zip(config.pool, usd_per_s(config), strict=True)
    )


def places_text(places: tuple[MemberPlace, ...]) -> str:
    """The head and a line for each member."""
    rows = [_HEAD, *((one.name, one.where, memory_text(one), f"{one.usd_per_hour:.2f}") for one in places)]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = [
        f"  {name:<{widths[0]}}  {where:<{widths[1]}}  {memory:>{widths[2]}}  {usd:>{widths[3]}}"
        for name, where, memory, usd in rows
    ]
    return "\n".join(lines)


def memory_text(place: MemberPlace) -> str:
    return "-" if place.memory_share is None else f"{100 * place.memory_share:.1f} %"


def _where(names: tuple[str, ...], found: DeviceList) -> str:
    if found.kind == "cpu":
        return "cpu"
    if not names:
        return "all"
    kinds = {found.devices[int(name)].name for name in names if found.kind == "listed"}
    return ",".join(names) + (f" ({', '.join(sorted(kinds))})" if kinds else "")
