"""Imports files of any format into one table: detects the format, converts row by row, reports skipped rows."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path

import msgspec

from router.errors import ConfigError
from router.learn import output
from router.learn.data import importers, records
from router.learn.data.importers import sink
from router.learn.data.importers.base import Broken, Importer, Options, Outcome, Rest, Row, Source

OnStage = Callable[[str, int], None]
OnStep = Callable[[], None]
NO_OPTIONS = Options()
LONGEST = 500  #: characters of what is wrong with a row
EVERY = 1000  #: records a step of the progress bar
_SUFFIXES = (".parquet", ".csv", ".jsonl", ".ndjson", ".json")


class Took(msgspec.Struct, frozen=True):
    """A file, the format it was read as, and its records."""

    path: str
    format: str
    records: int


class LeftOut(msgspec.Struct, frozen=True):
    """Records that gave no row, for one reason, and where the first of them stands."""

    why: str
    count: int
    first: str


class Imported(msgspec.Struct, frozen=True):
    out: str
    kind: str  #: outcomes or battles
    rows: int
    prompts: int
    models: tuple[str, ...]
    took: tuple[Took, ...]
    left_out: tuple[LeftOut, ...]


def run(
    paths: Sequence[Path],
    out: Path,
    format: str = "auto",
    options: Options = NO_OPTIONS,
    *,
    skip_broken: bool = False,
    keep_responses: bool = True,
    on_stage: OnStage = lambda name, steps: None,
    on_step: OnStep = lambda: None,
) -> Imported:
    """Raises ConfigError at the first broken record, by file and line, unless it may be skipped."""
    job = _Job(skip_broken, keep_responses, on_step)
    files = list(_files(paths))
    sink.check_name(out)
    output.check("--out", out, files)
    with ExitStack() as stack:
        table: sink.Sink | None = None
        for path in files:
            on_stage(str(path), 0)
            for row in job.rows(path, format, options):
                table = table or stack.enter_context(sink.opened(out, sink.kind_of(row)))
                table.add(row)
        for row in job.rest(files[-1]):
            table = table or stack.enter_context(sink.opened(out, sink.kind_of(row)))
            table.add(row)
        if table is None:
            raise ConfigError(f"{paths[0]}: expected at least one row, got none{job.reasons()}")
    return job.report(out)


def _files(paths: Sequence[Path]) -> Iterator[Path]:
    """A folder stands for all tables in it, at any depth."""
    for path in paths:
        if not path.is_dir():
            yield path
            continue
        found = sorted(one for one in path.rglob("*") if one.is_file() and one.suffix in _SUFFIXES)
        if not found:
            raise ConfigError(f"{path}: expected a folder with tables ({', '.join(_SUFFIXES)}), got none")
        yield from found


class _Job:
    """What one import has seen so far."""

    def __init__(self, skip_broken: bool, keep_responses: bool, on_step: OnStep) -> None:
        self._skip, self._responses, self._on_step = skip_broken, keep_responses, on_step
        self._took: list[Took] = []
        self._across: dict[str, Importer] = {}  # by format: those that read all its files
        self._left_out: dict[str, LeftOut] = {}
        self._prompts: set[str] = set()
        self._models: dict[str, None] = {}
        self._rows = 0
        self._kind = "outcomes"

    def rows(self, path: Path, format: str, options: Options) -> Iterator[Row]:
        kind = records.kind_of(path)
        source = Source(path, kind, _first(path, kind))
        name = importers.sniff(source) if format == "auto" else format
        format_ = importers.find(name)
        across, torn = getattr(format_, "ACROSS_FILES", False), getattr(format_, "TORN_LINES", False)
        importer = self._across.get(name) or format_.importer(source, options)
        if across:
            self._across[name] = importer
        number = 0
        for number, record in enumerate(records.read(path, kind), 1):
            if number % EVERY == 0:
                self._on_step()
            if torn and record.broken:
                self._leave_out("a line that is not whole", 1, record.where)
                continue
            try:
                if record.broken:
                    raise Broken(record.broken)
                made = list(importer.rows(record))
            except Broken as error:
                self._refuse(record.where, str(error))
                continue
            for row in made:
                yield self._counted(row)
        self._took.append(Took(records.told(path), name, number))
        if not across:
            self._leave_out_of(importer, path)

    def rest(self, last: Path) -> Iterator[Row]:
        """After all files: what only all of them tell."""
        for importer in self._across.values():
            if isinstance(importer, Rest):
                for row in importer.rest():
                    yield self._counted(row)
            self._leave_out_of(importer, last)

    def _leave_out_of(self, importer: Importer, path: Path) -> None:
        for why, count in importer.left_out().items():
            self._leave_out(why, count, records.told(path))

    def report(self, out: Path) -> Imported:
        return Imported(
            out=records.told(out), kind=self._kind, rows=self._rows, prompts=len(self._prompts),
            models=tuple(self._models), took=tuple(self._took), left_out=tuple(self._left_out.values()),
        )  # fmt: skip

    def reasons(self) -> str:
        return "".join(f"; {one.count}: {one.why} (first: {one.first})" for one in self._left_out.values())

    def _counted(self, row: Row) -> Row:
        self._rows += 1
        self._prompts.add(row.prompt_id)
        if isinstance(row, Outcome):
            self._models[row.model] = None
            return row if self._responses or row.response is None else msgspec.structs.replace(row, response=None)
        self._kind = "battles"
        self._models.update({row.model_a: None, row.model_b: None})
        return row

    def _refuse(self, where: str, why: str) -> None:
        why = why if len(why) <= LONGEST else why[:LONGEST] + "..."
        if not self._skip:
            raise ConfigError(f"{where}: {why} (--skip-broken leaves such rows out)")
        self._leave_out(f"broken: {why.partition(', got')[0]}", 1, where)

    def _leave_out(self, why: str, count: int, first: str) -> None:
        known = self._left_out.get(why)
        self._left_out[why] = LeftOut(why, count + (known.count if known else 0), known.first if known else first)


def _first(path: Path, kind: records.Kind) -> dict[str, object]:
    """The first record that can be read. Raises ConfigError where there is none."""
    broken: records.Record | None = None
    for record in records.read(path, kind):
        if not record.broken:
            return record.values
        broken = broken or record
    if broken is not None:
        raise ConfigError(f"{broken.where}: {broken.broken}")
    raise ConfigError(f"{path}: expected at least one row, got none")
