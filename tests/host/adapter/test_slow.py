"""The slow way against small ASGI applications that behave as vLLM's does. No vLLM here: tests/e2e has the real one."""

import asyncio
import json
from types import SimpleNamespace

import pytest

from router.host.adapter.slow import SlowWay
from router.host.limits import Bounds
from router.ipc.messages import Submit
from router.types import Usage
from router.watched import Continued
from tests.conftest import PATIENCE_S, until


class Heard:
    """An answer, remembered."""

    def __init__(self):
        self.chunks, self.usage, self.finish_reason, self.failure = [], None, None, None
        self.ended = asyncio.Event()
        self.timed = True

    def untimed(self):
        self.timed = False

    def chunk(self, data):
        self.chunks.append(data)

    def done(self, usage, finish_reason):
        self.usage, self.finish_reason = usage, finish_reason
        self.ended.set()

    def fail(self, failure):
        self.failure = failure
        self.ended.set()


def answering(status, body, content_type=b"application/json", state=None, seen=None):
    """An application that answers with `body`: bytes, or a list of events to stream."""

    async def app(scope, receive, send):
        message = await receive()
        if seen is not None:
            seen.update(scope=scope, body=json.loads(message["body"]))
        if state is not None:
            scope["state"].update(state)
        await send({"type": "http.response.start", "status": status, "headers": [(b"content-type", content_type)]})
        parts = body if isinstance(body, list) else [body]
        for part in parts:
            await send({"type": "http.response.body", "body": part, "more_body": True})
        await send({"type": "http.response.body", "body": b"", "more_body": False})

    return app


async def ask(app, kind="chat", body=b"{}", **more):
    heard = Heard()
    SlowWay(app, "tiny", asyncio.get_running_loop()).start(Submit(id=1, kind=kind, body=body, **more), heard)
    await asyncio.wait_for(heard.ended.wait(), PATIENCE_S)
    return heard


def error_of(heard):
    return json.loads(heard.failure.body)["error"]


async def test_the_request_reaches_the_application_under_the_served_name():
    seen = {}
    await ask(
        answering(200, b"{}", seen=seen),
        body=b'{"model": "auto", "a": 1}',
        request_id="r1",
        traceparent="00-1",
    )
    assert seen["body"] == {"model": "tiny", "a": 1}
    assert seen["scope"]["path"] == "/v1/chat/completions"
    headers = dict(seen["scope"]["headers"])
    assert headers[b"x-request-id"] == b"r1"
    assert headers[b"traceparent"] == b"00-1"


@pytest.mark.parametrize(
    ("kind", "path"),
    [
        ("completions", "/v1/completions"),
        ("responses", "/v1/responses"),
        ("messages", "/v1/messages"),
        ("tokenize", "/tokenize"),
        ("count_tokens", "/v1/messages/count_tokens"),
        ("detokenize", "/detokenize"),
    ],
)
async def test_paths(kind, path):
    seen = {}
    await ask(answering(200, b"{}", seen=seen), kind)
    assert seen["scope"]["path"] == path


async def test_a_whole_body_is_one_chunk_with_its_usage():
    body = b'{"choices":[{"finish_reason":"tool_calls"}],"usage":{"prompt_tokens":5,"completion_tokens":2}}'
    heard = await ask(answering(200, body))
    assert heard.chunks == [body]
    assert not heard.timed  # the application does not tell when the first token came
    assert (heard.usage, heard.finish_reason) == (Usage(5, 2), "tool_calls")
    heard = await ask(answering(200, b'{"usage":{"input_tokens":4,"output_tokens":1}}'), "responses")
    assert heard.usage == Usage(4, 1)


async def test_events_pass_as_they_come():
    events = [b'data: {"choices":[{"finish_reason":null}]}\n\n', b'data: {"x":1,"finish_reason":"length"}\n\n']
    final = SimpleNamespace(
        prompt_tokens=7, completion_tokens=3, prompt_tokens_details=SimpleNamespace(cached_tokens=4)
    )
    state = {"request_metadata": SimpleNamespace(final_usage_info=final)}
    heard = await ask(answering(200, [*events, b"data: [DONE]\n\n"], b"text/event-stream; charset=utf-8", state))
    assert heard.chunks == [*events, b"data: [DONE]\n\n"]
    assert (heard.usage, heard.finish_reason) == (Usage(7, 3, 4), "length")


async def test_broken_json_names_no_field():
    report = "1 validation error:\n  {'type': 'json_invalid', 'loc': 'body.12', 'msg': 'JSON decode error'}"
    heard = await ask(answering(400, json.dumps({"error": {"message": report, "param": "body.12"}}).encode()))
    assert error_of(heard)["message"] == "JSON decode error"
    assert error_of(heard)["param"] is None


async def test_an_error_in_a_stream_ends_it_as_an_error():
    events = [b'data: {"a":1}\n\n', b'data: {"error": {"message": "broke", "code": 500}}\n\n', b"data: [DONE]\n\n"]
    heard = await ask(answering(200, events, b"text/event-stream"))
    assert heard.chunks == [events[0]]
    assert heard.failure.status == 500
    assert error_of(heard)["message"] == "broke"
    events = [b'event: error\ndata: {"type":"error","error":{"type":"internal_error","message":"broke"}}\n\n']
    heard = await ask(answering(200, events, b"text/event-stream"), "messages")
    assert json.loads(heard.failure.body) == {
        "type": "error",
        "error": {"type": "internal_error", "message": "broke"},
    }


def error_event(code, type="BadRequestError"):
    error = {"message": "no such token", "type": type, "param": "logit_bias", "code": code}
    return b"data: " + json.dumps({"error": error}).encode() + b"\n\n"


@pytest.mark.parametrize(
    ("event", "status", "type", "retryable"),
    [
        (error_event(400), 400, "invalid_request_error", False),
        (error_event(404), 404, "not_found_error", False),
        (error_event(422), 422, "invalid_request_error", False),
        (error_event(501), 501, "internal_error", True),
        (error_event(503), 503, "service_unavailable", True),
        (error_event(500), 500, "internal_error", False),
        (error_event(None), 400, "invalid_request_error", False),  # told by its type
        (error_event(None, "InternalServerError"), 500, "internal_error", False),
        (error_event(2**63), 400, "invalid_request_error", False),
        (error_event([], {}), 500, "internal_error", False),
        (error_event(True, 7), 500, "internal_error", False),
        (error_event(200), 400, "invalid_request_error", False),
    ],
)
async def test_an_error_event_before_anything_else_is_a_refusal_of_its_own_status(event, status, type, retryable):
    heard = await ask(answering(200, [event, b"data: [DONE]\n\n"], b"text/event-stream"))
    assert heard.chunks == []
    assert (heard.failure.status, heard.failure.retryable) == (status, retryable)
    assert (error_of(heard)["type"], error_of(heard)["message"]) == (type, "no such token")
    assert error_of(heard)["param"] == "logit_bias"


async def test_an_error_event_of_responses_or_messages_says_its_status_by_name():
    event = b'event: error\ndata: {"code":"invalid_request_error","message":"no","param":"top_p","type":"error"}\n\n'
    heard = await ask(answering(200, [event], b"text/event-stream"), "responses")
    assert (heard.failure.status, error_of(heard)["message"], error_of(heard)["param"]) == (400, "no", "top_p")
    event = b'event: error\ndata: {"type":"error","error":{"type":"overloaded_error","message":"later"}}\n\n'
    heard = await ask(answering(200, [event], b"text/event-stream"), "messages")
    assert (heard.failure.status, heard.failure.retryable) == (503, True)


CREATED = b'event: response.created\ndata: {"type":"response.created"}\n\n'
IN_PROGRESS = b'event: response.in_progress\ndata: {"type":"response.in_progress"}\n\n'


async def test_what_responses_says_before_its_first_output_waits_for_it():
    delta = b'event: response.output_text.delta\ndata: {"delta":"a"}\n\n'
    heard = await ask(answering(200, [CREATED, IN_PROGRESS, delta, delta], b"text/event-stream"), "responses")
    assert heard.chunks == [CREATED + IN_PROGRESS + delta, delta]
    heard = await ask(answering(200, [CREATED, IN_PROGRESS], b"text/event-stream"), "responses")
    assert heard.chunks == [CREATED + IN_PROGRESS]
    assert heard.usage is not None


class Raising:
    """An application that raises once its stream has begun, as `responses` of vLLM does, with vLLM's kind of
    handlers: they say what an error is, where they may still answer."""

    def __init__(self, error, events=()):
        self.error, self.events, self.handled = error, events, []
        self.exception_handlers = {ValueError: self.refuse}

    async def refuse(self, request, error):
        self.handled.append(request.scope["path"])
        body = {"error": {"message": str(error), "type": "BadRequestError", "param": None, "code": 400}}
        return SimpleNamespace(status_code=400, body=json.dumps(body).encode())

    async def __call__(self, scope, receive, send):
        await receive()
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"text/event-stream")]})
        for event in self.events:
            await send({"type": "http.response.body", "body": event, "more_body": True})
        try:
            raise ExceptionGroup("unhandled", [self.error])
        except ExceptionGroup as error:
            raise RuntimeError("Caught handled exception, but response already started.") from error


async def test_what_is_raised_before_the_first_output_is_refused_as_vllms_handlers_say():
    app = Raising(ValueError("token 9 is no token"), [CREATED, IN_PROGRESS])
    heard = await ask(app, "responses")
    assert heard.chunks == []
    assert (heard.failure.status, heard.failure.retryable) == (400, False)
    assert error_of(heard)["message"] == "token 9 is no token"
    assert app.handled == ["/v1/responses"]


async def test_what_no_handler_of_vllm_knows_is_the_engines_fault():
    heard = await ask(Raising(KeyError("oops"), [CREATED]), "responses")
    assert (heard.failure.status, heard.failure.retryable) == (502, True)
    assert error_of(heard)["message"] == "KeyError: 'oops'"


async def test_an_error_that_was_no_event_does_not_hide_what_it_was():
    class ValidationError(ValueError):
        pass

    try:
        try:
            raise RuntimeError("the engine broke")
        except RuntimeError:
            raise ValidationError("6 validation errors") from None
    except ValidationError as error:
        heard = await ask(Raising(error), "responses")
    assert (heard.failure.status, error_of(heard)["message"]) == (502, "RuntimeError: the engine broke")


async def test_a_message_that_quotes_the_whole_request_is_cut():
    body = json.dumps({"error": {"message": "x" * 10_000_000}}).encode()
    heard = await ask(answering(400, body))
    assert error_of(heard)["message"] == "x" * 8000 + "... (9992000 more characters)"
    heard = await ask(answering(400, b"y" * 10_000_000))
    assert len(heard.failure.body) < 9000


async def test_half_a_surrogate_pair_in_a_message_is_told_without_it():
    body = b'{"error":{"message":"token \\ud800 is wrong"}}'
    heard = await ask(answering(400, body))
    assert "is wrong" in error_of(heard)["message"]


async def test_errors_are_told_in_openais_shape():
    body = b'{"error":{"message":"top_p must be in (0, 1]","type":"BadRequestError","param":"top_p","code":400}}'
    heard = await ask(answering(400, body))
    assert (heard.failure.status, heard.failure.code, heard.failure.retryable) == (400, "", False)
    assert error_of(heard) == {
        "message": "top_p must be in (0, 1]",
        "type": "invalid_request_error",
        "param": "top_p",
        "code": None,
    }


TOO_LONG = [
    ("chat", {"messages": [{}] * 101}, "101 messages"),
    ("messages", {"messages": [{}] * 101}, "101 messages"),
    ("completions", {"prompt": "x" * 501, "logprobs": 1}, "501 characters"),
    ("completions", {"prompt": [7] * 101, "logprobs": 1}, "101 tokens"),
    ("responses", {"input": "x" * 501}, "501 characters"),
]


@pytest.mark.parametrize(("kind", "body", "what"), TOO_LONG)
async def test_what_certainly_does_not_fit_is_refused_before_vllm_looks_at_it(kind, body, what):
    async def never(scope, receive, send):
        raise AssertionError("asked")

    heard = Heard()
    way = SlowWay(never, "tiny", asyncio.get_running_loop(), bounds=Bounds(100, 5, True))
    way.start(Submit(id=1, kind=kind, body=json.dumps(body).encode()), heard)
    assert heard.failure is None  # an answer is never called before `start` returns
    await asyncio.wait_for(heard.ended.wait(), 60)
    assert (heard.failure.status, heard.failure.code, heard.failure.retryable) == (400, "context_length_exceeded", True)
    assert error_of(heard)["message"].startswith(
        f"This model's maximum context length is 100 tokens. Your prompt has {what}"
    )
    assert (json.loads(heard.failure.body).get("type") == "error") == (kind == "messages")


@pytest.mark.parametrize(
    ("kind", "body"),
    [
        ("chat", {"messages": [{}] * 100}),
        ("chat", {"messages": 7}),
        ("completions", {"prompt": "x" * 500}),
        ("completions", {"prompt": "x" * 501, "truncate_prompt_tokens": 9}),
        ("completions", {"prompt": [[7] * 90, [7] * 90]}),
        ("completions", {"prompt": []}),
        ("responses", {"input": [{"content": "x" * 501}]}),
        ("tokenize", {"prompt": "x" * 501}),
    ],
)
async def test_what_may_fit_is_vllms_to_judge(kind, body):
    heard = Heard()
    way = SlowWay(answering(200, b"{}"), "tiny", asyncio.get_running_loop(), bounds=Bounds(100, 5, True))
    way.start(Submit(id=1, kind=kind, body=json.dumps(body).encode()), heard)
    await asyncio.wait_for(heard.ended.wait(), 60)
    assert heard.failure is None


async def test_a_pydantic_report_is_put_in_plain_words():
    report = (
        "2 validation errors:\n  {'type': 'int_type', 'loc': 'body.n', 'msg': 'Input should be an integer'}"
        "\n  {'type': 'value_error', 'loc': 'body.max_tokens', 'msg': \"Value error, can't be 0\", 'input': 'y'}"
    )
    heard = await ask(answering(400, json.dumps({"error": {"message": report, "param": "body.n"}}).encode()))
    assert error_of(heard)["message"] == "n: Input should be an integer; max_tokens: can't be 0"
    assert error_of(heard)["param"] == "n"
    older = report.replace("'body.n'", "('body', 'n')").replace("'body.max_tokens'", "('body', 'messages', 0, 'user')")
    heard = await ask(answering(400, json.dumps({"error": {"message": older, "param": "body.n"}}).encode()))
    assert error_of(heard)["message"] == "n: Input should be an integer; messages.0.user: can't be 0"
    assert error_of(heard)["param"] == "n"


@pytest.mark.parametrize(
    "message",
    [
        "This model's maximum context length is 512 tokens. However, your request has 600 input tokens.",
        "max_tokens=9999 cannot be greater than max_model_len=512.",
        "The decoder prompt (length 600) is longer than the maximum model length of 512.",
    ],
)
async def test_what_is_too_long_here_may_fit_elsewhere(message):
    heard = await ask(answering(400, json.dumps({"error": {"message": message}}).encode()))
    assert (heard.failure.code, heard.failure.retryable) == ("context_length_exceeded", True)
    assert error_of(heard)["code"] == "context_length_exceeded"


async def test_what_this_engine_was_not_set_up_for_may_work_elsewhere():
    message = '"auto" tool choice requires --enable-auto-tool-choice and --tool-call-parser to be set'
    heard = await ask(answering(400, json.dumps({"error": {"message": message}}).encode()))
    assert heard.failure.retryable


async def test_an_application_that_breaks_is_a_retryable_failure():
    async def app(scope, receive, send):
        raise RuntimeError("no")

    heard = await ask(app)
    assert (heard.failure.status, heard.failure.retryable) == (502, True)
    assert error_of(heard)["message"] == "RuntimeError: no"

    async def silent(scope, receive, send):
        pass

    assert (await ask(silent)).failure.status == 502


async def test_a_dead_engine_is_nobodys_fault():
    body = b'{"error":{"message":"EngineCore encountered an issue."}}'
    for app in (answering(500, body), answering(200, [b"data: " + body + b"\n\n"], b"text/event-stream")):
        heard = Heard()
        way = SlowWay(app, "tiny", asyncio.get_running_loop(), dead=lambda: True)
        way.start(Submit(id=1, kind="chat", body=b"{}"), heard)
        await asyncio.wait_for(heard.ended.wait(), PATIENCE_S)
        assert (heard.failure.status, heard.failure.code, heard.failure.retryable) == (502, "engine_failed", True)


async def test_a_body_that_is_not_json_is_still_vllms_to_refuse():
    seen = {}

    async def app(scope, receive, send):
        message = await receive()
        seen["body"] = message["body"]
        await send({"type": "http.response.start", "status": 400, "headers": []})
        await send({"type": "http.response.body", "body": b'{"error": {"message": "bad json"}}'})

    heard = await ask(app, body=b"{nonsense")
    assert seen["body"] == b"{nonsense"
    assert error_of(heard)["message"] == "bad json"


async def test_an_abort_disconnects_and_says_nothing():
    cancelled = asyncio.Event()

    async def app(scope, receive, send):
        await receive()
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"text/event-stream")]})
        await send({"type": "http.response.body", "body": b"data: 1\n\n", "more_body": True})
        assert await receive() == {"type": "http.disconnect"}
        cancelled.set()

    heard = Heard()
    stop = SlowWay(app, "tiny", asyncio.get_running_loop()).start(Submit(id=1, kind="chat", body=b"{}"), heard)
    await until(lambda: heard.chunks)
    stop()
    await asyncio.wait_for(cancelled.wait(), PATIENCE_S)
    await asyncio.sleep(0.01)
    assert heard.chunks == [b"data: 1\n\n"]
    assert not heard.ended.is_set()


async def test_a_partial_answer_is_continued():
    seen = {}
    body = b'{"messages": [{"role": "user", "content": "hi"}]}'
    await ask(answering(200, b"{}", seen=seen), body=body, continue_text="so far")
    assert seen["body"]["messages"][-1] == {"role": "assistant", "content": "so far"}
    assert seen["body"]["continue_final_message"] is True
    assert seen["body"]["add_generation_prompt"] is False
    await ask(answering(200, b"{}", seen=seen), "completions", b'{"prompt": "once"}', continue_text=" upon")
    assert seen["body"]["prompt"] == "once upon"


@pytest.mark.parametrize(
    "asked",
    [
        {"continue_text": "so far", "continued": Continued(id="x")},
        {"continued": Continued(opened=True)},
        {"warm": True},
    ],
    ids=["a text", "an open stream", "to be read only"],
)
async def test_what_vllms_classes_cannot_write_is_refused(asked):
    async def never(scope, receive, send):
        raise AssertionError("asked")

    heard = await ask(never, body=b'{"messages": []}', **asked)
    assert (heard.failure.status, heard.failure.code, heard.failure.retryable) == (400, "not_continuable", False)
    assert "only plain chat and completions of one choice" in error_of(heard)["message"]


async def test_a_client_that_wants_to_know_whose_the_parts_are_is_answered_without():
    seen = {}
    heard = await ask(answering(200, b"{}", seen=seen), body=b'{"messages": []}', continued=Continued(told=True))
    assert (heard.failure, seen["body"]["messages"]) == (None, [])


async def test_asking_for_ourselves():
    seen = {}
    way = SlowWay(answering(200, b'{"tokens": [1]}', seen=seen), "tiny", asyncio.get_running_loop())
    assert await way.ask("tokenize", {"prompt": "x"}) == (200, b'{"tokens": [1]}')
    assert seen["body"] == {"prompt": "x", "model": "tiny"}


async def test_a_handler_of_errors_that_fails_itself_ends_the_answer_too():
    async def app(scope, receive, send):
        raise ValueError("bad")

    def handler(request, error):
        raise KeyError("the handler's own")

    app.exception_handlers = {ValueError: handler}
    told = []
    asyncio.get_running_loop().set_exception_handler(lambda loop, context: told.append(context["exception"]))
    heard = await ask(app)
    assert heard.failure.status == 502
    assert error_of(heard)["message"] == 'KeyError: "the handler\'s own"'
    assert [type(error) for error in told] == [KeyError]


async def test_a_route_of_members_is_asked_for_by_vllms_own_path():
    seen = {}
    body = b'{"usage":{"prompt_tokens":3,"total_tokens":3}}'
    heard = await ask(answering(200, body, seen=seen), kind="rerank", body=b'{"query": "q"}')
    assert (seen["scope"]["path"], seen["body"]) == ("/rerank", {"query": "q", "model": "tiny"})
    assert heard.usage == Usage(3, 0)


async def test_cohere_tells_its_tokens_elsewhere():
    body = b'{"embeddings":{"float":[[1]]},"meta":{"billed_units":{"input_tokens":5}}}'
    assert (await ask(answering(200, body), kind="embed")).usage == Usage(5, 0)


async def test_a_route_that_is_read_is_got_without_a_body():
    seen = {}

    async def app(scope, receive, send):
        seen.update(scope=scope, body=(await receive())["body"])
        await answering(200, b"{}")(scope, receive_nothing, send)

    async def receive_nothing():
        return {"body": b"{}"}

    await ask(app, kind="tokenizer_info", body=b'{"model": "m"}')
    assert (seen["scope"]["method"], seen["scope"]["path"], seen["body"]) == ("GET", "/tokenizer_info", b"")


async def test_a_form_reaches_the_application_with_its_type_under_the_served_name():
    seen = {}

    async def app(scope, receive, send):
        seen.update(scope=scope, body=(await receive())["body"])
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b'{"text":"hello"}'})

    part = b'--b\r\nContent-Disposition: form-data; name="model"\r\n\r\n%b\r\n--b--\r\n'
    heard = await ask(app, kind="transcriptions", body=b"multipart/form-data; boundary=b\n" + part % b"whisper")
    headers = dict(seen["scope"]["headers"])
    assert headers[b"content-type"] == b"multipart/form-data; boundary=b"
    assert headers[b"content-length"] == b"%d" % len(seen["body"])
    assert seen["body"] == part % b"tiny"
    assert heard.chunks == [b'{"text":"hello"}']


async def test_an_error_without_words_is_told_by_its_status():
    heard = await ask(answering(404, b'{"detail":"Not Found"}'), kind="classify")
    assert (heard.failure.status, error_of(heard)["message"]) == (404, "the engine answered with status 404")
