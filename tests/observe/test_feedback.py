"""What clients say of answers: only of their own, as long as there is room, and never in vain."""

import asyncio
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

from router.config import Journal as Settings
from router.errors import BadRequest, NotFound, RouterError
from router.observe.feedback import Feedback, Said
from router.observe.journal import FeedbackLine, Journal, Reader
from router.observe.metrics import Metrics
from router.observe.record import SCHEMA_VERSION, Record
from tests.conftest import until
from tests.observe.scripted_ledger import ScriptedLedger

MODELS = ("small", "large", "huge")


def record(id: str, **fields: Any) -> Record:
    known: dict[str, Any] = {"request_id": "r", "time_s": 1.0, "kind": "chat", "asked": "auto", "end": "finish"}
    return Record(**{"version": SCHEMA_VERSION, "id": id, "status": 200, "model": "small", **known, **fields})


class Kit:
    def __init__(self, folder: Path, models: tuple[str, ...] = MODELS, most: int = 100) -> None:
        self.folder = folder
        self.metrics = Metrics(process=False)
        self.ledger = ScriptedLedger()
        self.journal = Journal(Settings(path=str(folder)), self.ledger)
        self.feedback = Feedback(self.journal, self.ledger, models, most)
        self.metrics.watch_feedback(self.feedback)

    def end(self, *records: Record) -> None:
        for each in records:
            self.ledger.ended(each)
        self.ledger.tell()

    def read(self, id: str = "d1", key_id: str = "", **said: Any) -> FeedbackLine:
        return self.feedback.read(Said(id=id, **said), key_id).line


@pytest.fixture
async def kit(tmp_path: Path) -> AsyncIterator[Callable[..., Kit]]:
    kits: list[Kit] = []

    def make(**options: Any) -> Kit:
        kits.append(Kit(tmp_path / f"journal{len(kits)}", **options))
        return kits[-1]

    yield make
    for each in kits:
        await each.journal.close()


async def test_it_is_written_before_it_is_told_and_a_second_word_replaces_the_first(kit: Callable[..., Kit]) -> None:
    k = kit()
    k.end(record("d1"))
    told: list[RouterError | None] = []
    for score in (1.0, 0.25):
        given = k.feedback.read(Said(id="d1", score=score), "")
        assert (given.model, given.again) == ("small", score == 0.25)
        k.feedback.write(given, told.append)
        await until(lambda: len(told) == (1 if score == 1.0 else 2))
        last = list(Reader(k.folder))[-1]
        assert isinstance(last, FeedbackLine)
        assert (last.id, last.score) == ("d1", score)
        assert last.time_s > 0
    assert told == [None, None]


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        ({"preferred": "large"}, ("large", "small", False)),
        ({"preferred": "large", "score": 0.2}, ("large", "small", False)),
        ({"preferred": "small", "over": "huge"}, ("small", "huge", False)),
        ({"preferred": "huge", "over": "small"}, ("huge", "small", False)),
        ({"tie_with": "large"}, ("large", "small", True)),
        ({"score": 0.0}, ("", "", False)),
    ],
)
async def test_a_preference_is_between_the_model_that_answered_and_another(
    kit: Callable[..., Kit], said: dict[str, Any], expected: tuple[str, str, bool]
) -> None:
    k = kit()
    k.end(record("d1"))
    line = k.read(**said)
    assert (line.better, line.worse, line.tie) == expected
    assert line.score == said.get("score")


async def test_of_two_models_the_one_that_answered_is_preferred_over_the_other(kit: Callable[..., Kit]) -> None:
    k = kit(models=("small", "large"))
    k.end(record("d1"))
    line = k.read(preferred="small")
    assert (line.better, line.worse) == ("small", "large")


@pytest.mark.parametrize(
    ("said", "param", "why"),
    [
        ({}, "score", "expected `score`, `preferred` or `tie_with`"),
        ({"score": 1.5}, "score", "`score`: expected a number from 0 to 1, got 1.5"),
        ({"score": -0.1}, "score", "`score`: expected a number from 0 to 1, got -0.1"),
        ({"score": float("nan")}, "score", "`score`: expected a number from 0 to 1, got nan"),
        ({"over": "large"}, "over", "`over`: expected `preferred` beside it"),
        ({"tie_with": "large", "over": "small"}, "over", "`over`: expected `preferred` beside it"),
        ({"preferred": "large", "tie_with": "large"}, "tie_with", "`tie_with`: expected none beside `preferred`"),
        ({"preferred": "lage"}, "preferred", "`preferred`: did you mean 'large'? expected one of small, large, huge"),
        ({"preferred": "small", "over": "auto"}, "over", "`over`: expected one of small, large, huge; got 'auto'"),
        ({"preferred": "small"}, "preferred", "expected two different models, got 'small' twice; `over` names"),
        ({"tie_with": "small"}, "tie_with", "`tie_with`: expected two different models, got 'small' twice"),
        ({"preferred": "large", "over": "huge"}, "preferred", "expected 'small', which answered, to be one of the two"),
    ],
)
async def test_what_makes_no_sense_is_refused_and_says_what_is_expected(
    kit: Callable[..., Kit], said: dict[str, Any], param: str, why: str
) -> None:
    k = kit()
    k.end(record("d1"))
    with pytest.raises(BadRequest) as raised:
        k.read(**said)
    assert why in raised.value.message
    assert raised.value.param == param


async def test_only_answers_that_began_and_are_of_the_same_key_can_be_rated(kit: Callable[..., Kit]) -> None:
    k = kit()
    k.end(record("mine", key_id="k1"), record("stopped", key_id="k1", end="cancel", status=499))
    k.end(record("nothing", key_id="k1", model="", end="error", status=502), record("", key_id="k1"))
    for id in ("mine", "stopped"):
        assert k.read(id, "k1", score=1).id == id
    for id, key_id in (("mine", "k2"), ("mine", ""), ("nothing", "k1"), ("other", "k1"), ("", "k1")):
        with pytest.raises(NotFound, match=f"no answer with the decision id '{id}' can be rated") as raised:
            k.read(id, key_id, score=1)
        assert (raised.value.code, raised.value.param) == ("unknown_decision", "id")


async def test_the_oldest_ids_leave_over_the_bound_and_are_counted(kit: Callable[..., Kit]) -> None:
    k = kit(most=3)
    k.end(*(record(f"d{i}", key_id=f"k{i % 2}") for i in range(5)))
    with pytest.raises(NotFound, match="older than the last 3 answers"):
        k.read("d1", "k1", score=1)
    assert [k.read(f"d{i}", f"k{i % 2}", score=1).id for i in (2, 3, 4)] == ["d2", "d3", "d4"]
    page = k.metrics.render().decode()
    assert "headgate_feedback_open_ids 3.0" in page
    assert "headgate_feedback_forgotten_total 2.0" in page


class Disk:
    """In a journal's place: tells when the test says so."""

    def __init__(self) -> None:
        self.written: list[Callable[[bool], None]] = []

    def put(self, line: FeedbackLine, written: Callable[[bool], None]) -> None:
        self.written.append(written)


@pytest.mark.parametrize("written", [True, False])
async def test_what_is_dropped_is_told_as_not_written_and_may_be_said_again(
    kit: Callable[..., Kit], written: bool
) -> None:
    k, disk = kit(), Disk()
    k.end(record("d1"))
    k.feedback._journal = disk  # type: ignore[assignment]
    told: list[RouterError | None] = []
    k.feedback.write(k.feedback.read(Said(id="d1", score=1), ""), told.append)
    assert told == []
    disk.written[0](written)
    assert [error and (error.status, error.code) for error in told] == [
        None if written else (503, "feedback_not_written")
    ]
    assert k.feedback.read(Said(id="d1", score=1), "").again is written


async def test_a_disk_that_hangs_is_told_after_a_while_and_once(
    kit: Callable[..., Kit], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("router.observe.feedback.LONGEST_WAIT_S", 0.01)
    k, disk = kit(), Disk()
    k.end(record("d1"))
    k.feedback._journal = disk  # type: ignore[assignment]
    told: list[RouterError | None] = []
    k.feedback.write(k.feedback.read(Said(id="d1", score=1), ""), told.append)
    await until(lambda: bool(told))
    disk.written[0](True)
    await asyncio.sleep(0)
    assert [error and (error.status, error.code) for error in told] == [(504, "feedback_late")]


async def test_answers_that_were_handed_over_are_rated_in_the_next_process_and_the_oldest_leave_first(
    kit: Callable[..., Kit],
) -> None:
    old, new = kit(), kit(models=("small", "large"), most=4)
    old.end(record("d1"), record("d2", model="huge"), record("d3"))
    old.feedback.written(old.feedback.read(Said(id="d3", score=1.0), ""))
    new.end(record("n1"))
    new.feedback.adopt(old.feedback.hand_over())
    assert new.feedback.open_ids == 4
    assert new.read("d1", score=0.5).score == 0.5
    assert (new.read("d2", preferred="small").better, new.read("d2", preferred="small").worse) == ("small", "huge")
    assert (new.feedback.read(Said(id="d3", score=0.0), "").again, new.feedback.forgotten) == (True, 0)
    assert old.feedback.hand_over() == []
    old.end(record("d4"))
    assert old.read("d4", score=0.5).score == 0.5  # connections that are still open there may rate it too
    new.feedback.adopt(old.feedback.hand_over())
    assert (new.feedback.open_ids, new.feedback.forgotten) == (4, 1)
    for id in ("d2", "d3", "n1", "d4"):
        assert new.read(id, score=0.5).id == id
    with pytest.raises(NotFound):
        new.read("d1", score=0.5)


async def test_an_answer_that_was_handed_over_stays_its_keys_own(kit: Callable[..., Kit]) -> None:
    old, new = kit(), kit()
    old.end(record("d1", key_id="k"))
    new.feedback.adopt(old.feedback.hand_over())
    assert new.read("d1", key_id="k", score=0.5).score == 0.5
    with pytest.raises(NotFound):
        new.read("d1", key_id="other", score=0.5)
