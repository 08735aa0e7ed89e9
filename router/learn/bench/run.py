"""Runs a plan: rounds, levels and policies interleaved, each cell sent, graded and written before the next one."""

import asyncio
import time
from collections.abc import Mapping, Sequence

import msgspec
import uvloop

from router.learn.bench import generator, processes, static
from router.learn.bench.generator import Generator, Planned, Sent
from router.learn.bench.grade import Graders, questioned
from router.learn.bench.plan import Plan, turns
from router.learn.bench.policies import Policy
from router.learn.bench.progress import Progress
from router.learn.bench.rows import Cell, CellKey, Folder, Row
from router.learn.bench.slo import holds


def run(plan: Plan, folder: Folder, progress: Progress) -> None:
    """All cells that `folder` does not have yet. Interrupted, it leaves the cell that was running as far as it came,
    and raises `KeyboardInterrupt`. Raises HeadgateError where the disk refuses."""
    generator.raise_file_limit()
    bodies = [generator.body(item, plan.ask) for item in plan.workload.items]
    graders = Graders(plan.grade_command, plan.grade_limit_s)
    try:
        chosen = static.names(plan, folder, bodies, graders, progress)
        _Run(plan, folder, bodies, graders, chosen, progress).all()
    finally:
        graders.close()


class _Run:
    def __init__(
        self, plan: Plan, folder: Folder, bodies: Sequence[bytes], graders: Graders, chosen: Mapping[int, str],
        progress: Progress,
    ) -> None:  # fmt: skip
        self._plan, self._folder, self._bodies, self._graders = plan, folder, bodies, graders
        self._chosen, self._progress = chosen, progress
        self._full: set[tuple[int, str]] = set()  #: rounds and policies that do not hold the load any more

    def all(self) -> None:
        plan = self._plan
        before = _by_cell(self._folder.rows())
        left = [
            (round, level, policy)
            for round in range(plan.rounds)
            for level in range(len(plan.levels))
            for policy in turns(plan.policies, round, level)
        ]
        for at, (round, level, policy) in enumerate(left):
            key = CellKey(round, level, policy.name)
            if (round, policy.name) in self._full:
                continue
            if key in self._folder.cells:
                self._judge(before.get(key, []), self._folder.cells[key])
                continue
            todo = sum(CellKey(r, n, p.name) not in self._folder.cells for r, n, p in left[at:])
            self._one(round, level, policy, todo)

    def _one(self, round: int, level: int, policy: Policy, todo: int) -> None:
        plan = self._plan
        cell = plan.cell(round, level)
        left_s = todo * (plan.cell_s() + plan.settle_s)
        name = f"round {round + 1} of {plan.rounds}, {plan.levels[level].name}, {policy.name}"
        self._progress.stage(f"{name}: about {_duration(left_s)} left", len(cell))
        time.sleep(plan.settle_s)
        before = engine_seconds(policy)
        made = Generator(
            policy, cell, self._bodies, plan.ask, round=round, level=level, seed=plan.seed, static=self._chosen,
            on_end=self._progress.step,
        )  # fmt: skip
        try:
            with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
                sent = runner.run(made.run())
        except KeyboardInterrupt:
            self._end(round, level, policy, cell, made.sent(), before, cut=True)
            raise
        self._end(round, level, policy, cell, sent, before, cut=False)

    def _end(
        self, round: int, level: int, policy: Policy, cell: Sequence[Planned], sent: Sent,
        before: Mapping[str, float], *, cut: bool,
    ) -> None:  # fmt: skip
        after = engine_seconds(policy)
        from_s, to_s = self._plan.window_s()
        ended = Cell(
            round=round, level=level, policy=policy.name, wall_s=sent.wall_s, from_s=from_s,
            to_s=min(to_s, sent.wall_s) if cut else to_s, own_cpu_s=sent.own_cpu_s, events=sent.events,
            engine_s={name: after[name] - s for name, s in before.items() if name in after}, cut=cut,
        )  # fmt: skip
        if cut and ended.to_s <= from_s:
            return  # nothing but warm-up
        rows = self._graded(sent.rows)
        self._folder.end_cell(rows, ended)
        if not cut:
            self._judge(rows, ended)

    def _graded(self, rows: list[Row]) -> list[Row]:
        """What failed is no good answer: it is graded 0."""
        items = self._plan.workload.items
        graded = [row for row in rows if items[row.item].grader is not None]
        answered = [row for row in graded if not row.fault]
        grades = self._graders.grade([questioned(items[row.item], row.text) for row in answered])
        found = {row.number: grade for row, grade in zip(answered, grades, strict=True)}
        out = []
        for row in rows:
            if items[row.item].grader is None:
                out.append(row)
            elif row.fault:
                out.append(msgspec.structs.replace(row, score=0.0))
            else:
                grade = found[row.number]
                out.append(msgspec.structs.replace(row, score=grade.score, ungraded=grade.why))
        return out

    def _judge(self, rows: Sequence[Row], cell: Cell) -> None:
        plan = self._plan
        if plan.stop_saturated and not holds(rows, cell, plan.slo, plan.attain):
            self._full.add((cell.round, cell.policy))


def _by_cell(rows: Sequence[Row]) -> dict[CellKey, list[Row]]:
    out: dict[CellKey, list[Row]] = {}
    for row in rows:
        out.setdefault(CellKey(row.round, row.level, row.policy), []).append(row)
    return out


def engine_seconds(policy: Policy) -> dict[str, float]:
    """CPU seconds so far of the local engines that may answer, by member; empty unless all are known."""
    out = {}
    for member in policy.members:
        seconds = processes.tree_cpu_s(member.pid) if member.cpu and member.pid else None
        if seconds is None:
            return {}
        out[member.name] = seconds
    return out


def _duration(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
