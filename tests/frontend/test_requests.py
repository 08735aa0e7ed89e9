"""What a well-behaved client sees: answers, headers, keep-alive, pipelining, chunked bodies, 100-continue."""

import asyncio
import json
import re
import time

import msgspec
import pytest

from router.config import ApiKey
from router.pool.stages import StartProgress
from tests.frontend.conftest import DECISION, DONE, REPLY, Ask, House, Request, ScriptedService, chat, event, get, post


async def test_json_answer(ask: Ask) -> None:
    response = await ask(chat())
    assert response.status == 200
    assert response.body == REPLY
    assert response.headers["content-type"] == "application/json"
    assert response.headers["x-headgate-model"] == "small"
    assert response.headers["x-headgate-reason"] == "utility"
    assert response.headers["x-headgate-score"] == "0.7100"
    assert response.headers["x-headgate-threshold"] == "0.5000"
    assert response.headers["x-headgate-decision-id"] == "d-1"
    assert float(response.headers["x-headgate-overhead-ms"]) > 0
    assert re.fullmatch("[0-9a-f]{24}", response.headers["x-request-id"])
    assert response.headers["date"].endswith(" GMT")
    assert "x-headgate-terms" not in response.headers
    assert "connection" not in response.headers


async def test_debug_shows_all_terms_as_json(ask: Ask) -> None:
    response = await ask(chat("x-headgate-debug: true"))
    (term,) = json.loads(response.headers["x-headgate-terms"])
    assert term["model"] == "small"
    assert term["quality"] == 0.71
    assert term["wait_s"] is None  # infinity has no JSON


async def test_a_stream_is_chunked_and_ends(house: House, service: ScriptedService) -> None:
    client = await house.connect(await house.start(service))
    client.send(chat(stream=True))
    request = await service.asked()
    request.sink.start(DECISION)
    request.sink.chunk(event("a"))
    status, headers = await client.head()
    assert status == 200
    assert headers["content-type"].startswith("text/event-stream")
    assert headers["transfer-encoding"] == "chunked"
    assert headers["x-headgate-model"] == "small"
    assert await client.chunk() == event("a")
    request.sink.chunk(event("b"))
    request.sink.chunk(b"")  # would end the body, were it framed
    request.sink.chunk(b"data: [DONE]\n\n")
    request.sink.done(DONE)
    assert await client.chunk() == event("b")
    assert await client.chunk() == b"data: [DONE]\n\n"
    assert await client.chunk() == b""
    client.send(get("/health"))
    assert (await client.response()).status == 200


async def test_the_query_and_body_reach_the_service(house: House, replying: ScriptedService) -> None:
    client = await house.connect(await house.start(replying, api_keys=("secret",)))
    trace = f"00-{'a' * 32}-{'b' * 16}-01"
    headers = ("Authorization: Bearer secret", "X-Request-Id: r.1", "X-Session-Id: s-2", f"traceparent: {trace}")
    sent = chat(*headers, "X-Headgate-SLO-TTFT: 0.25", "x-headgate-deadline: 9", model="small", max_tokens=5, n=2)
    client.send(sent)
    response = await client.response()
    assert response.headers["x-request-id"] == "r.1"
    (request,) = replying.requests
    query = request.query
    assert (query.kind, query.model, query.max_tokens, query.choices) == ("chat", "small", 5, 2)
    assert (query.request_id, query.session_id) == ("r.1", "s-2")
    assert query.slo_ttft_s == 0.25
    assert query.deadline_s is not None
    assert 0 < query.deadline_s < 9.0
    assert [(turn.role, turn.text) for turn in query.turns] == [("user", "hello")]
    assert query.key_id
    assert "secret" not in query.key_id
    assert request.traceparent == trace
    assert sent.endswith(request.body)


@pytest.mark.parametrize(
    ("sent", "echoed"),
    [
        (b"a b", "ab"),
        (b" a\t", "a"),
        (b"a" * 300, "a" * 256),
        (b"caf\xc3\xa9-\xff1", "caf-1"),
        (b"", None),
        (b"\xff \xfe", None),
    ],
)
async def test_what_is_printable_of_a_request_id_is_echoed(ask: Ask, sent: bytes, echoed: str | None) -> None:
    response = await ask(chat("X-Request-Id: ?").replace(b"?", sent))
    assert response.status == 200
    given = response.headers["x-request-id"]
    assert given == echoed if echoed is not None else re.fullmatch("[0-9a-f]{24}", given)


@pytest.mark.parametrize("sent", [b"\xe9", b"a b", b"a" * 257, b""])
async def test_a_session_id_that_could_be_taken_for_another_is_refused(ask: Ask, sent: bytes) -> None:
    response = await ask(chat("X-Session-Id: ?").replace(b"?", sent))
    assert response.status == 400
    assert response.error["param"] == "x-session-id"
    assert "1 to 256 printable ASCII" in str(response.error["message"])


@pytest.mark.parametrize("data", [get("/none", "x-request-id: r"), chat("x-request-id: r", n=0)])
async def test_refusals_echo_the_request_id(ask: Ask, data: bytes) -> None:
    response = await ask(data)
    assert response.status >= 400
    assert response.headers["x-request-id"] == "r"


@pytest.mark.parametrize(("sent", "choice"), [("handoff", "handoff"), ("Cascade", "cascade"), (None, "")])
async def test_when_models_are_chosen_is_told_by_a_header(
    house: House, service: ScriptedService, sent: str | None, choice: str
) -> None:
    client = await house.connect(await house.start(service))
    client.send(chat(f"x-headgate-choice: {sent}") if sent else chat())
    assert (await service.asked()).query.choice == choice


async def test_of_a_key_with_a_choice_that_counts_where_no_header_says_another(
    house: House, service: ScriptedService
) -> None:
    keys = (ApiKey(key="own", choice="cascade"), "plain")
    client = await house.connect(await house.start(service, api_keys=keys))
    asked = []
    for i, headers in enumerate(
        (["x-api-key: own"], ["x-api-key: own", "x-headgate-choice: before"], ["x-api-key: plain"])
    ):
        client.send(chat(*headers))
        request = await service.asked(i + 1)
        asked.append(request.query.choice)
        request.reply()
    assert asked == ["cascade", "before", ""]


async def test_headers_that_rules_read_come_with_the_query_and_no_others(
    house: House, service: ScriptedService
) -> None:
    service.rule_headers = frozenset({"x-team", "x-none"})
    client = await house.connect(await house.start(service))
    client.send(chat("X-Team: law", "x-other: secret"))
    assert (await service.asked()).query.headers == {"x-team": "law"}


@pytest.mark.parametrize("value", ["after", "", "auto,before"])
async def test_another_choice_is_refused(ask: Ask, value: str) -> None:
    response = await ask(chat(f"x-headgate-choice: {value}"))
    assert response.status == 400
    assert response.error["param"] == "x-headgate-choice"
    assert "expected one of auto, before, cascade, handoff, got " in str(response.error["message"])


@pytest.mark.parametrize("header", ["x-headgate-slo-ttft", "x-headgate-deadline"])
@pytest.mark.parametrize("value", ["0", "-1", "nan", "inf", "soon"])
async def test_bad_seconds_are_refused(ask: Ask, header: str, value: str) -> None:
    response = await ask(chat(f"{header}: {value}"))
    assert response.status == 400
    assert response.error["param"] == header


async def test_a_deadline_runs_from_the_first_byte_of_its_request(house: House, service: ScriptedService) -> None:
    client = await house.connect(await house.start(service))
    sent = chat("x-headgate-deadline: 600")
    client.send(sent[:60])
    await asyncio.sleep(0.02)
    await asyncio.sleep(0.05)  # of one turn of the loop later: by then it was read, however late that turn came
    client.send(sent[60:])
    deadline_s = (await service.asked()).query.deadline_s
    assert deadline_s is not None
    assert 0 < deadline_s < 599.96


async def test_a_request_whose_turn_comes_after_its_deadline_is_refused(house: House, service: ScriptedService) -> None:
    client = await house.connect(await house.start(service))
    client.send(chat())
    first = await service.asked()
    client.send(chat("x-headgate-deadline: 0.01"))
    await asyncio.sleep(0.02)
    await asyncio.sleep(0.05)  # of one turn of the loop later: by then it was read
    first.reply()
    assert (await client.response()).status == 200
    late = await client.response()
    assert late.status == 504
    assert late.error["message"] == "the request was not complete, or its turn not come, within 0.01 s"
    assert len(service.requests) == 1


async def test_a_malformed_traceparent_is_as_none(house: House, replying: ScriptedService) -> None:
    client = await house.connect(await house.start(replying))
    client.send(chat("traceparent: 00-zz"))
    tail = b"-01-\xff"  # of a version to come, and no ASCII
    client.send(chat("traceparent: ?").replace(b"?", b"00-" + b"a" * 32 + b"-" + b"b" * 16 + tail))
    for request in range(2):
        assert (await client.response()).status == 200
        assert replying.requests[request].traceparent == ""


async def test_pipelined_answers_leave_in_order(house: House, service: ScriptedService) -> None:
    client = await house.connect(await house.start(service))
    client.send(chat(user="1") + get("/version") + chat(user="2"))
    first = await service.asked(1)
    await asyncio.sleep(0.02)
    assert len(service.requests) == 1, "the second waits for the first answer"
    first.reply(b'"one"')
    (await service.asked(2)).reply(b'"two"')
    assert (await client.response()).body == b'"one"'
    assert "version" in json.loads((await client.response()).body)
    assert (await client.response()).body == b'"two"'


async def test_endless_pipelining_is_not_read_on(house: House, service: ScriptedService) -> None:
    """What waits behind a slow answer is bounded: TCP holds the rest back at the client."""
    client = await house.connect(await house.start(service))
    client.send(chat())
    slow = await service.asked()
    count = 20_000
    client.send(get("/version", "x-padding: " + "a" * 500) * count)
    await asyncio.sleep(0.2)
    assert client.writer.transport.get_write_buffer_size() > 2_000_000
    slow.reply()
    for _ in range(count + 1):
        assert (await client.response()).status == 200


async def test_chunked_body_split_at_every_byte(house: House, replying: ScriptedService) -> None:
    body = b'{"messages":[{"role":"user","content":"hi"}]}'
    head = (
        b"POST /v1/chat/completions HTTP/1.1\r\nHost: h\r\n"
        b"Content-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n"
    )
    data = head + b"%x;ext=1\r\n%b\r\n5\r\n     \r\n0\r\nX-Trailer: 1\r\n\r\n" % (len(body), body)
    client = await house.connect(await house.start(replying))
    for at in range(1, len(data)):
        client.send(data[:at])
        await asyncio.sleep(0)
        client.send(data[at:])
        assert (await client.response()).status == 200
    assert {request.body for request in replying.requests} == {body + b"     "}


async def test_chunked_body_byte_by_byte(house: House, replying: ScriptedService) -> None:
    client = await house.connect(await house.start(replying))
    for byte in chat():
        client.send(bytes((byte,)))
        await asyncio.sleep(0)
    assert (await client.response()).status == 200


async def test_a_trailer_is_no_header(house: House, replying: ScriptedService) -> None:
    head = (
        b"POST /v1/chat/completions HTTP/1.1\r\nHost: h\r\n"
        b"Content-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n"
    )
    body = b'{"messages":[{"role":"user","content":"hi"}]}'
    client = await house.connect(await house.start(replying, api_keys=("k",)))
    client.send(head + b"%x\r\n%b\r\n0\r\nAuthorization: Bearer k\r\n\r\n" % (len(body), body))
    assert (await client.response()).status == 401


async def test_expect_100_continue(house: House, replying: ScriptedService) -> None:
    client = await house.connect(await house.start(replying))
    data = chat("Expect: 100-continue")
    head, _, body = data.partition(b"\r\n\r\n")
    client.send(head + b"\r\n\r\n")
    assert (await client.response()).status == 100
    client.send(body)
    assert (await client.response()).body == REPLY


async def test_expect_is_answered_after_the_answer_before(house: House, service: ScriptedService) -> None:
    client = await house.connect(await house.start(service))
    head, _, body = chat("Expect: 100-continue").partition(b"\r\n\r\n")
    client.send(chat() + head + b"\r\n\r\n")
    (await service.asked()).reply()
    assert (await client.response()).body == REPLY
    assert (await client.response()).status == 100
    client.send(body)
    (await service.asked(2)).reply()
    assert (await client.response()).body == REPLY


async def test_expect_of_a_refused_request_gets_the_refusal_at_once(house: House, replying: ScriptedService) -> None:
    client = await house.connect(await house.start(replying))
    client.send(post("/v1/nothing", b"x" * 9, "Expect: 100-continue").partition(b"\r\n\r\n")[0] + b"\r\n\r\n")
    response = await client.response()
    assert response.status == 404
    assert response.headers["connection"] == "close"


async def test_http_1_0_is_answered_and_closed(house: House, replying: ScriptedService) -> None:
    client = await house.connect(await house.start(replying))
    client.send(chat().replace(b"HTTP/1.1", b"HTTP/1.0"))
    response = await client.response()
    assert response.body == REPLY
    assert response.headers["connection"] == "close"
    assert await client.closed()


async def test_http_1_0_keep_alive(house: House, replying: ScriptedService) -> None:
    client = await house.connect(await house.start(replying))
    for _ in range(2):
        client.send(chat("Connection: keep-alive").replace(b"HTTP/1.1", b"HTTP/1.0"))
        response = await client.response()
        assert response.headers["connection"] == "keep-alive"


async def test_http_1_0_stream_ends_with_the_connection(house: House) -> None:
    def stream(request: Request) -> None:
        request.sink.start(DECISION)
        request.sink.chunk(event("a"))
        request.sink.done(DONE)

    client = await house.connect(await house.start(ScriptedService(script=stream)))
    client.send(chat("Connection: keep-alive", stream=True).replace(b"HTTP/1.1", b"HTTP/1.0"))
    status, headers = await client.head()
    assert status == 200
    assert "transfer-encoding" not in headers
    assert headers["connection"] == "close"
    assert await client.rest() == event("a")


async def test_connection_close_is_honoured(house: House, replying: ScriptedService) -> None:
    client = await house.connect(await house.start(replying))
    client.send(chat("Connection: close") + chat())
    assert (await client.response()).headers["connection"] == "close"
    assert await client.closed()
    assert len(replying.requests) == 1


async def test_head_has_the_head_of_get(ask: Ask) -> None:
    response = await ask(get("/v1/models", method="HEAD"))
    assert response.status == 200
    assert int(response.headers["content-length"]) == len((await ask(get("/v1/models"))).body)


async def test_options(ask: Ask) -> None:
    response = await ask(get("/v1/chat/completions", method="OPTIONS"))
    assert response.status == 204
    assert response.headers["allow"] == "OPTIONS, POST"
    assert "content-length" not in response.headers


@pytest.mark.parametrize("body", [b"", b'{"messages":[{"role":"user","content":"hi"}]}'])
async def test_an_offered_upgrade_is_declined_and_the_body_read(
    house: House, replying: ScriptedService, body: bytes
) -> None:
    """As Java's client sends it; llhttp alone would take the body for the next request."""
    offer = ("Connection: Upgrade, HTTP2-Settings", "Upgrade: h2c", "HTTP2-Settings: AAEAAEAA")
    data = post("/v1/chat/completions", body, *offer) if body else get("/version", *offer)
    chunked = data.replace(b"Content-Length: %d" % len(body), b"Transfer-Encoding: chunked")
    chunked = chunked.replace(body, b"%x\r\n%b\r\n0\r\n\r\n" % (len(body), body)) if body else data
    client = await house.connect(await house.start(replying))
    client.send(data * 3 + chunked + get("/health"))
    for _ in range(5):
        assert (await client.response()).status == 200
    assert [request.body for request in replying.requests] == ([body] * 4 if body else [])


async def test_absolute_targets_and_queries(ask: Ask) -> None:
    assert (await ask(get("http://h/version?x=1"))).status == 200
    assert (await ask(get("/version?x=1"))).status == 200


async def test_models(ask: Ask) -> None:
    listed = json.loads((await ask(get("/v1/models"))).body)
    assert listed["object"] == "list"
    assert [card["id"] for card in listed["data"]] == ["auto", "headgate/auto", "small"]
    assert listed["data"][2]["max_model_len"] == 4096
    assert json.loads((await ask(get("/v1/models/headgate/auto"))).body)["id"] == "headgate/auto"
    assert json.loads((await ask(get("/v1/models/headgate%2Fauto"))).body)["object"] == "model"
    assert [card["root"] for card in listed["data"]] == ["org/small", "headgate/auto", "org/small"]
    for card in listed["data"]:
        assert set(card) == {
            "id", "object", "created", "owned_by", "root", "parent", "max_model_len", "permission"
        }  # fmt: skip
        assert card["permission"][0]["allow_sampling"] is True
    missing = await ask(get("/v1/models/none"))
    assert missing.status == 404
    assert missing.error["code"] == "model_not_found"


async def test_ready_follows_the_members(house: House, service: ScriptedService) -> None:
    client = await house.connect(await house.start(service))
    client.send(get("/ready"))
    response = await client.response()
    assert (response.status, json.loads(response.body)["status"]) == (200, "ready")
    service.ready = False
    client.send(get("/ready"))
    response = await client.response()
    assert response.status == 503
    assert json.loads(response.body) == {"status": "not ready", "members": {"small": "starting"}}


async def test_ready_is_200_and_degraded_while_one_of_two_members_is_not_ready(
    house: House, service: ScriptedService, monkeypatch: pytest.MonkeyPatch
) -> None:
    (small,) = service.members()
    state = msgspec.structs.replace(small.state, name="large", ready=False)
    large = msgspec.structs.replace(small, name="large", phase="failed", state=state)
    monkeypatch.setattr(service, "members", lambda: (small, large))
    client = await house.connect(await house.start(service))
    client.send(get("/ready"))
    response = await client.response()
    assert response.status == 200
    assert json.loads(response.body) == {"status": "degraded", "members": {"small": "ready", "large": "failed"}}


async def test_ready_tells_how_far_the_engines_are_that_start(
    house: House, service: ScriptedService, monkeypatch: pytest.MonkeyPatch
) -> None:
    service.ready = False
    (small,) = service.members()
    start = StartProgress(stage="loading weights", percent=42, elapsed_s=20.0, left_s=31.4)
    monkeypatch.setattr(service, "members", lambda: (msgspec.structs.replace(small, start=start),))
    frontend = await house.start(service)
    client, admin = await house.connect(frontend), await house.connect(frontend, admin=True)
    client.send(get("/ready"))
    response = await client.response()
    assert response.status == 503
    about = {"stage": "loading weights", "percent": 42, "elapsed_s": 20.0, "left_s": 31.4}
    assert json.loads(response.body)["starting"] == {"small": about}
    admin.send(get("/members").replace(b"Host: h", b"Host: localhost"))
    assert json.loads((await admin.response()).body)["members"][0]["start"] == about


async def test_metrics_of_requests(ask: Ask) -> None:
    await ask(chat())
    await ask(chat(n=-1))
    text = (await ask(get("/metrics"))).body.decode()
    assert 'headgate_requests_total{model="small",route="/v1/chat/completions",status="200"} 1.0' in text
    assert 'headgate_requests_total{model="",route="/v1/chat/completions",status="400"} 1.0' in text
    assert 'headgate_errors_total{type="invalid_request_error"} 1.0' in text
    assert 'headgate_tokens_total{model="small",type="completion"} 2.0' in text
    assert 'headgate_member_running{model="small"} 3.0' in text
    assert "headgate_connections 3.0" in text
    assert "vllm:" not in text


async def test_a_byte_order_mark_is_passed_over(house: House, replying: ScriptedService) -> None:
    body = b'{"messages":[{"role":"user","content":"hi"}]}'
    client = await house.connect(await house.start(replying))
    client.send(post("/v1/chat/completions", b"\xef\xbb\xbf" + body))
    assert (await client.response()).status == 200
    assert (await replying.asked()).body == body


async def test_a_bare_text_among_parts_reaches_the_service_as_a_part(house: House, replying: ScriptedService) -> None:
    client = await house.connect(await house.start(replying))
    client.send(post("/v1/chat/completions", {"messages": [{"role": "user", "content": ["hi"]}]}))
    assert (await client.response()).status == 200
    request = await replying.asked()
    assert request.query.turns[0].text == "hi"
    assert json.loads(request.body)["messages"][0]["content"] == [{"type": "text", "text": "hi"}]


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/v1/completions", {"prompt": "a", "logprobs": False}),
        ("/v1/completions", {"prompt": [True]}),
        ("/v1/chat/completions", {"stream": "no"}),
        ("/v1/chat/completions", {"stream": 0.0, "logprobs": "off"}),
        ("/v1/chat/completions", {"max_tokens": " 4 ", "n": True}),
        ("/v1/responses", {"input": "a", "max_output_tokens": "+4", "stream": "F"}),
        ("/v1/messages", {"max_tokens": "4.0", "stream": "n"}),
        ("/detokenize", {"tokens": [1, True, 2.0]}),
    ],
    ids=str,
)
async def test_what_vllm_coerces_is_answered_and_travels_on_untouched(
    house: House, replying: ScriptedService, path: str, body: dict[str, object]
) -> None:
    sent = json.dumps({"messages": [{"role": "user", "content": "a"}]} | body).encode()
    client = await house.connect(await house.start(replying))
    client.send(post(path, sent))
    assert (await client.response()).status == 200
    assert (await replying.asked()).body == sent


async def test_an_answer_in_many_small_pieces_costs_no_more_than_its_size(replying: ScriptedService, ask: Ask) -> None:
    pieces = 50_000

    def script(request: Request) -> None:
        request.sink.start(DECISION)
        request.sink.chunk(b'"' + b"x" * 16_000_000)
        for _ in range(pieces):
            request.sink.chunk(b"y")
        request.sink.chunk(b'"')
        request.sink.done(DONE)

    replying.script = script
    begun = time.thread_time()
    reply = await ask(chat())
    assert reply.body == b'"' + b"x" * 16_000_000 + b"y" * pieces + b'"'
    assert time.thread_time() - begun < 20  # copied anew for each piece: 800 GB
