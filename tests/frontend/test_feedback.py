"""`POST /v1/feedback`: 200 once the line is written, a clear error for all else, and each result counted."""

import json
from collections.abc import Callable
from typing import Any

import pytest

from router.observe.feedback import Feedback
from router.observe.journal import FeedbackLine
from router.observe.record import SCHEMA_VERSION, Record
from tests.conftest import until
from tests.frontend.conftest import House, Response, ScriptedService, get, post
from tests.observe.scripted_ledger import ScriptedLedger

KEY = "authorization: Bearer secret"


class Disk:
    """In a journal's place: what was put, and whom to tell."""

    def __init__(self) -> None:
        self.lines: list[FeedbackLine] = []
        self.written: list[Callable[[bool], None]] = []
        self.at_once: bool | None = True

    def put(self, line: FeedbackLine, written: Callable[[bool], None]) -> None:
        self.lines.append(line)
        self.written.append(written)
        if self.at_once is not None:
            written(self.at_once)


class Desk:
    """A frontend whose service keeps feedback, and two ended answers: `d1` of the key, `d2` of another."""

    def __init__(self, house: House, service: ScriptedService) -> None:
        self.house, self.service, self.disk = house, service, Disk()

    async def start(self, **options: Any) -> None:
        self.frontend = await self.house.start(self.service, **options)
        ledger = ScriptedLedger()
        self.service.feedback = Feedback(self.disk, ledger, ("small", "large"), 100)  # type: ignore[arg-type]
        self.frontend.metrics.watch_feedback(self.service.feedback)
        key_id = self.frontend._public.keys.identify({b"x-api-key": b"secret"})
        for id, key in (("d1", key_id), ("d2", "another")):
            ledger.ended(
                Record(
                    version=SCHEMA_VERSION, id=id, request_id="r", time_s=1.0, kind="chat", asked="auto", end="finish",
                    status=200, model="small", key_id=key,
                )
            )  # fmt: skip
        ledger.tell()

    async def say(self, body: bytes | dict[str, object], *headers: str) -> Response:
        client = await self.house.connect(self.frontend)
        client.send(post("/v1/feedback", body, "content-type: application/json", *headers))
        return await client.response()

    async def results(self) -> str:
        return self.frontend.metrics.render().decode()


@pytest.fixture
async def desk(house: House, service: ScriptedService) -> Desk:
    made = Desk(house, service)
    await made.start(api_keys=("secret", "other"))
    return made


async def test_a_score_and_a_preference_are_written_and_answered_as_they_were_understood(desk: Desk) -> None:
    first = await desk.say({"id": "d1", "score": 0.5, "preferred": "large"}, KEY, "x-request-id: r7")
    assert (first.status, json.loads(first.body)) == (
        200,
        {"object": "feedback", "id": "d1", "model": "small", "score": 0.5, "better": "large", "worse": "small"},
    )
    assert first.headers["x-request-id"] == "r7"
    again = await desk.say({"id": "d1", "tie_with": "large"}, KEY)
    assert json.loads(again.body) == {
        "object": "feedback", "id": "d1", "model": "small", "better": "large", "worse": "small", "tie": True,
        "replaced": True,
    }  # fmt: skip
    assert [(line.id, line.score, line.better, line.tie) for line in desk.disk.lines] == [
        ("d1", 0.5, "large", False), ("d1", None, "large", True),
    ]  # fmt: skip
    page = await desk.results()
    assert 'headgate_feedback_total{result="written"} 2.0' in page
    assert 'headgate_requests_total{model="",route="/v1/feedback",status="200"} 2.0' in page


@pytest.mark.parametrize(
    ("body", "status", "code", "why"),
    [
        ({"id": "d1"}, 400, 400, "expected `score`, `preferred` or `tie_with`"),
        ({"score": 1}, 400, 400, "`id` is missing"),
        ({"id": "d1", "score": 2}, 400, 400, "`score`: expected a number from 0 to 1, got 2"),
        ({"id": "d1", "score": "good"}, 400, 400, "`score`: expected `float | null`, got `str`"),
        ({"id": "d1", "score": True}, 400, 400, "`score`: expected `float | null`, got `bool`"),
        ({"id": 5, "score": 1}, 400, 400, "`id`: expected `str`, got `int`"),
        ({"id": "d1", "scor": 1}, 400, 400, "object contains unknown field `scor`"),
        ({"id": "d1", "preferred": "gpt"}, 400, 400, "`preferred`: expected one of small, large; got 'gpt'"),
        (b"{", 400, "invalid_json", "not valid JSON"),
        (b"", 400, "invalid_json", "the body is empty"),
        (b'{"id": "\xff"}', 400, "invalid_json", "not valid JSON"),
        (b'{"id": "\\ud800", "score": 1}', 400, "invalid_json", "half of a surrogate pair"),
        (b"[" * 9_999, 400, 400, "expected `object`, got `array`"),
        ({"id": "nothing", "score": 1}, 404, "unknown_decision", "no answer with the decision id 'nothing'"),
        ({"id": "d2", "score": 1}, 404, "unknown_decision", "no answer with the decision id 'd2'"),
    ],
)
async def test_what_cannot_be_written_is_refused(
    desk: Desk, body: bytes | dict[str, object], status: int, code: object, why: str
) -> None:
    answer = await desk.say(body, KEY)
    assert (answer.status, answer.error["code"]) == (status, code)
    assert why in str(answer.error["message"])
    assert set(answer.error) == {"message", "type", "param", "code"}
    assert desk.disk.lines == []
    result = code if isinstance(code, str) else "refused"
    assert f'headgate_feedback_total{{result="{result}"}} 1.0' in await desk.results()


async def test_a_key_rates_only_its_own_answers_and_without_one_nobody_does(desk: Desk) -> None:
    other = await desk.say({"id": "d1", "score": 1}, "authorization: Bearer other")
    assert (other.status, other.error["code"]) == (404, "unknown_decision")
    none = await desk.say({"id": "d1", "score": 1})
    assert (none.status, none.error["code"]) == (401, "invalid_api_key")
    assert desk.disk.lines == []


async def test_without_a_journal_it_is_said_that_nothing_is_written(house: House, service: ScriptedService) -> None:
    frontend = await house.start(service)
    client = await house.connect(frontend)
    client.send(post("/v1/feedback", {"id": "d1", "score": 1}))
    answer = await client.response()
    assert (answer.status, answer.error["type"], answer.error["code"]) == (501, "not_supported_error", "feedback_off")
    assert "no `journal.path` in its config" in str(answer.error["message"])


async def test_what_the_disk_refuses_is_not_acknowledged(desk: Desk) -> None:
    desk.disk.at_once = False
    answer = await desk.say({"id": "d1", "score": 1}, KEY)
    assert (answer.status, answer.error["code"]) == (503, "feedback_not_written")
    assert "retry-after" in answer.headers
    assert 'headgate_feedback_total{result="feedback_not_written"} 1.0' in await desk.results()


async def test_a_disk_that_hangs_ends_in_a_timeout(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("router.observe.feedback.LONGEST_WAIT_S", 0.01)
    desk.disk.at_once = None
    answer = await desk.say({"id": "d1", "score": 1}, KEY)
    assert (answer.status, answer.error["type"], answer.error["code"]) == (504, "timeout_error", "feedback_late")


async def test_a_client_that_leaves_while_it_waits_harms_nothing_and_a_drain_waits_for_the_disk(desk: Desk) -> None:
    desk.disk.at_once = None
    client = await desk.house.connect(desk.frontend)
    client.send(post("/v1/feedback", {"id": "d1", "score": 1}, KEY))
    await until(lambda: len(desk.disk.written) == 1)
    staying = await desk.house.connect(desk.frontend)
    staying.send(post("/v1/feedback", {"id": "d1", "score": 0}, KEY))
    await until(lambda: len(desk.disk.written) == 2)
    await client.close()
    await until(lambda: desk.frontend.connections == 1)
    desk.frontend.begin_drain()
    for written in desk.disk.written:
        written(True)
    assert (await staying.response()).status == 200
    assert 'headgate_feedback_total{result="written"} 2.0' in await desk.results()


async def test_the_route_is_named_where_one_is_unknown_and_takes_post_only(desk: Desk) -> None:
    client = await desk.house.connect(desk.frontend)
    client.send(post("/v1/fedback", {}))
    assert "did you mean /v1/feedback?" in str((await client.response()).error["message"])
    client.send(get("/v1/feedback", KEY))
    answer = await client.response()
    assert (answer.status, answer.headers["allow"]) == (405, "OPTIONS, POST")
