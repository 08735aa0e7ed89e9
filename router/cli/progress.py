"""What `headgate serve` tells while it starts and once it is ready: a spinner, plain lines, or JSON lines."""

import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Protocol

import msgspec

from router.config import Config
from router.heads.base import Placement
from router.pool.base import MemberStatus
from router.pool.supervisor import StartEvent
from router.version import __version__

if TYPE_CHECKING:
    from rich.status import Status


class Progress(Protocol):
    def engine(self, event: StartEvent) -> None:
        """A member starts, is ready, or failed."""
        ...

    def ready(
        self,
        config: Config,
        members: Sequence[MemberStatus],
        placements: Sequence[Placement],
        *,
        port: int,
        admin_port: int,
    ) -> None: ...

    def close(self) -> None: ...


def progress(*, json: bool) -> Progress:
    if json:
        return JsonProgress()
    return Spinner() if sys.stderr.isatty() else Lines()


class JsonProgress:
    """One JSON object a line on standard output."""

    def engine(self, event: StartEvent) -> None:
        self._say(event=event.what, member=event.member, seconds=round(event.seconds, 3), why=event.why, log=event.log)

    def ready(
        self,
        config: Config,
        members: Sequence[MemberStatus],
        placements: Sequence[Placement],
        *,
        port: int,
        admin_port: int,
    ) -> None:
        self._say(
            event="serving",
            version=__version__,
            url=_url(config.server.host, port),
            admin_url=_url(config.server.admin_host, admin_port),
            members=[member.name for member in members],
            placements=placements,
        )

    def close(self) -> None: ...

    def _say(self, **fields: Any) -> None:
        print(msgspec.json.encode(fields).decode(), flush=True)


class Lines:
    """Plain lines: progress on standard error, the address on standard output."""

    def engine(self, event: StartEvent) -> None:
        if event.what == "starting":
            _note(f"starting {event.member!r} ...")
        elif event.what == "ready":
            _note(f"{event.member!r} is ready after {event.seconds:.1f} s")
        elif event.log:
            _note(f"{event.member!r} failed after {event.seconds:.1f} s; all that it said is in {event.log}")

    def ready(
        self,
        config: Config,
        members: Sequence[MemberStatus],
        placements: Sequence[Placement],
        *,
        port: int,
        admin_port: int,
    ) -> None:
        print(ready_text(config, members, placements, port=port, admin_port=admin_port), flush=True)

    def close(self) -> None: ...


class Spinner(Lines):
    """Lines, with something that moves while an engine loads."""

    def __init__(self) -> None:
        self._status: Status | None = None

    def engine(self, event: StartEvent) -> None:
        if event.what == "starting":
            from rich.console import Console

            self._status = Console(stderr=True).status(f"starting {event.member!r}: loading weights takes a while")
            self._status.start()
            return
        self.close()
        super().engine(event)

    def close(self) -> None:
        if self._status is not None:
            self._status.stop()
            self._status = None


def ready_text(
    config: Config, members: Sequence[MemberStatus], placements: Sequence[Placement], *, port: int, admin_port: int
) -> str:
    """Where it is, what answers there, and what to try next."""
    url, admin = _url(config.server.host, port), _url(config.server.admin_host, admin_port)
    key = " -H 'authorization: Bearer YOUR_KEY'" if config.server.api_keys else ""
    lines = [f"Headgate {__version__} is ready: {url}/v1   (admin: {admin})", ""]
    width = max(len(member.name) for member in members)
    for member, placement in zip(config.pool, placements, strict=True):
        lines.append(f"  {member.name:<{width}}  {member.model or member.url}, {placement_text(placement)}")
    lines += [
        "",
        "Try:",
        f"  curl {url}/v1/chat/completions -H 'content-type: application/json'{key} \\",
        """    -d '{"model": "auto", "messages": [{"role": "user", "content": "What is 2 + 2?"}]}' -i""",
        f"  curl {admin}/metrics",
    ]
    return "\n".join(lines)


def placement_text(placement: Placement) -> str:
    """How a member is scored, in words."""
    if placement.by in ("like", "name"):
        return f"scored as {placement.reference}"
    if placement.by == "strength":
        return f"scored by strength {placement.strength:g}"
    if placement.by == "size":
        return f"scored by strength {placement.strength:.2f}, a guess from its size"
    return "scored as an average model: nothing is known of it; give `like` or `strength`"


def _note(text: str) -> None:
    print(f"headgate: {text}", file=sys.stderr, flush=True)


def _url(host: str, port: int) -> str:
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
