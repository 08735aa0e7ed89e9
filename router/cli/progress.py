"""What `headgate serve` tells while it starts and once it is ready: bars, plain lines, or JSON lines."""

import shlex
import sys
from typing import TYPE_CHECKING, Protocol

import msgspec

from router import urls
from router.cli.places import MemberPlace, places_text
from router.config import Config, Journal
from router.gate.keys import Keys
from router.heads.base import Placement
from router.pool.stages import StartProgress
from router.pool.supervisor import StartEvent
from router.version import __version__

if TYPE_CHECKING:
    from rich.progress import Progress as Progress_
    from rich.progress import TaskID


class ServedMember(msgspec.Struct, frozen=True):
    """One model that answers."""

    name: str
    model: str  #: path, hub id or URL
    placement: Placement
    log: str = ""  #: an engine's
    place: MemberPlace | None = None


class Ready(msgspec.Struct, frozen=True, kw_only=True, tag_field="event", tag="serving"):
    """All that one needs to use the server."""

    version: str = __version__
    url: str
    uds: str = ""  #: the Unix socket by which `url` is reached; empty: its port
    admin_url: str
    guarded: bool  #: by an API key
    members: tuple[ServedMember, ...]
    journal: str = ""  #: where it is written and what it holds; empty: no journal is written


class Progress(Protocol):
    def places(self, places: tuple[MemberPlace, ...]) -> None:
        """Where the members will live; before any of them starts."""
        ...

    def engine(self, event: StartEvent) -> None:
        """A member starts, is so far, is ready, or failed."""
        ...

    def ready(self, ready: Ready) -> None: ...

    def close(self) -> None: ...


def progress(*, json: bool) -> Progress:
    if json:
        return JsonProgress()
    return StartBars() if sys.stderr.isatty() else Lines()


class JsonProgress:
    """One JSON object a line on standard output; `event` says of what."""

    def places(self, places: tuple[MemberPlace, ...]) -> None:
        """The `serving` event tells them."""

    def engine(self, event: StartEvent) -> None:
        fields = msgspec.structs.asdict(event)
        if event.start is None:
            del fields["start"]
        self._say({"event": fields.pop("what"), **fields})

    def ready(self, ready: Ready) -> None:
        self._say(ready)

    def close(self) -> None: ...

    def _say(self, what: object) -> None:
        print(msgspec.json.encode(what).decode(), flush=True)


class Lines:
    """Plain lines: progress on standard error, one a stage, the address on standard output."""

    def __init__(self) -> None:
        self._stages: dict[str, str] = {}  #: the last that was told, by member

    def places(self, places: tuple[MemberPlace, ...]) -> None:
        _note("the members live here:\n" + places_text(places))

    def engine(self, event: StartEvent) -> None:
        if event.what == "starting":
            _note(f"starting {event.member!r} ...")
        elif event.start is not None:
            if self._stages.get(event.member) != event.start.stage:
                self._stages[event.member] = event.start.stage
                _note(f"{event.member!r}: {progress_text(event.start)}")
        elif event.what == "ready":
            _note(f"{event.member!r} is ready after {event.seconds:.1f} s")
        elif event.log:
            _note(f"{event.member!r} failed after {event.seconds:.1f} s; all that it said is in {event.log}")

    def ready(self, ready: Ready) -> None:
        print(ready_text(ready), flush=True)

    def close(self) -> None: ...


class StartBars(Lines):
    """A bar for each engine that starts, a line for each that has."""

    def __init__(self) -> None:
        super().__init__()
        self._bars: Progress_ | None = None
        self._tasks: dict[str, TaskID] = {}

    def engine(self, event: StartEvent) -> None:
        if event.what == "starting":
            self._begin(event.member)
        elif event.start is not None:
            if self._bars is not None and (task := self._tasks.get(event.member)) is not None:
                stage, left = event.start.stage, left_text(event.start)
                self._bars.update(task, completed=event.start.percent, stage=stage, left=left)
        else:
            self._end(event.member)
            super().engine(event)

    def close(self) -> None:
        if self._bars is not None:
            self._bars.stop()
            self._bars = None
            self._tasks.clear()

    def _begin(self, member: str) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

        if self._bars is None:
            name, stage = TextColumn("{task.description}", markup=False), TextColumn("{task.fields[stage]}")
            percent, left = TextColumn("{task.percentage:>3.0f} %"), TextColumn("{task.fields[left]}")
            columns = (SpinnerColumn(), name, BarColumn(24), percent, TimeElapsedColumn(), stage, left)
            self._bars = Progress(*columns, console=Console(stderr=True), transient=True)
            self._bars.start()
        self._tasks[member] = self._bars.add_task(member, total=100, stage="starting", left="")

    def _end(self, member: str) -> None:
        task = self._tasks.pop(member, None)
        if self._bars is not None and task is not None:
            self._bars.remove_task(task)
        if not self._tasks:
            self.close()


def progress_text(start: StartProgress) -> str:
    left = left_text(start)
    return f"{start.stage}, {start.percent} % of the start" + (f", {left}" if left else "")


def left_text(start: StartProgress) -> str:
    """By an earlier start; empty where there was none."""
    return "" if start.left_s is None else f"about {start.left_s:.0f} s left"


def ready_of(
    config: Config,
    placements: tuple[Placement, ...],
    logs: dict[str, str],
    places: tuple[MemberPlace, ...],
    *,
    port: int,
    admin_port: int,
) -> Ready:
    members = [
        ServedMember(member.name, member.model or urls.shown(member.url), placement, logs.get(member.name, ""), place)
        for member, placement, place in zip(config.pool, placements, places, strict=True)
    ]
    return Ready(
        url=_url(config.server.host, port) if not config.server.uds else "http://localhost",
        uds=config.server.uds,
        admin_url=_url(config.server.admin_host, admin_port),
        guarded=bool(Keys(config.server.keys)),
        members=tuple(members),
        journal=journal_text(config.journal),
    )


#: What to try first: a path and a body.
_CHAT = ("/v1/chat/completions", '{"model": "auto", "messages": [{"role": "user", "content": "What is 2 + 2?"}]}')
_EMBED = ("/v1/embeddings", '{"model": "auto", "input": "What is 2 + 2?"}')


def ready_text(ready: Ready) -> str:
    """Where it is, what answers there, and what to try next."""
    key = " -H 'authorization: Bearer YOUR_KEY'" if ready.guarded else ""
    socket = f" --unix-socket {shlex.quote(ready.uds)}" if ready.uds else ""
    by_socket = f", by the Unix socket {ready.uds}" if ready.uds else ""
    width = max(len(member.name) for member in ready.members)
    members = [f"  {m.name:<{width}}  {m.model}, {placement_text(m.placement)}" for m in ready.members]
    logs = [f"  {m.name:<{width}}  {m.log}" for m in ready.members if m.log]
    path, body = _EMBED if all(m.placement.by == "none" for m in ready.members) else _CHAT
    return "\n".join(
        [
            f"Headgate {ready.version} is ready: {ready.url}/v1{by_socket}   (admin: {ready.admin_url})",
            "",
            *members,
            *(["", "Engine logs:", *logs] if logs else []),
            *(["", f"Journal: {ready.journal}"] if ready.journal else []),
            "",
            "Try:",
            f"  curl{socket} {ready.url}{path} -H 'content-type: application/json'{key} \\",
            f"    -d '{body}' -i",
            f"  curl {ready.admin_url}/metrics",
        ]
    )


def journal_text(journal: Journal) -> str:
    """Where a journal is written and what it holds, in words; empty where none is written."""
    if not journal.path:
        return ""
    return f"{journal.path}, {'with' if journal.prompts else 'without'} prompts, sync: {journal.sync}"


def placement_text(placement: Placement) -> str:
    """How a member is scored, in words."""
    if placement.by in ("like", "name"):
        return f"scored as {placement.reference}"
    if placement.by == "strength":
        return f"scored by strength {placement.strength:g}"
    if placement.by == "size":
        return f"scored by strength {placement.strength:.2f}, a guess from its size; `strength` or `like` sets it"
    if placement.by == "none":
        return "a pooling model: asked for by name, not scored"
    return "scored as an average model: nothing is known of it; give `like` or `strength`"


def _note(text: str) -> None:
    print(f"headgate: {text}", file=sys.stderr, flush=True)


def _url(host: str, port: int) -> str:
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
