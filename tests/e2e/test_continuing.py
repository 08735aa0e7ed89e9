"""Real engines that go on with answers: of their own model and of another, and prompts that they read beforehand."""

import asyncio
import json

import pytest

from router.ipc.messages import Done, Fail
from router.watched import Continued
from tests.conftest import until

pytestmark = [pytest.mark.engine, pytest.mark.timeout(1200)]

#: Answers of the zoo put their working first: words, each behind a blank.
QUESTIONS = ("Sort 31 27 97 45 12 60.", "Count b in c, c, b, a, b, d, b, a, c.", "27+82=")
GREEDY = {"temperature": 0, "max_tokens": 100}


@pytest.fixture(scope="module")
def hosts(root, start_host):
    pytest.importorskip("vllm", reason="the end-to-end tests need vLLM")
    return {name: start_host(root / "examples" / "zoo" / name, name=f"zoo-{name}") for name in ("small", "large")}


@pytest.fixture
async def small(hosts, join_host):
    client = await join_host(hosts["small"])
    yield client
    client.channel.close()
    await asyncio.sleep(0)


@pytest.fixture
async def large(hosts, join_host):
    client = await join_host(hosts["large"])
    yield client
    client.channel.close()
    await asyncio.sleep(0)


def asked(kind, question):
    if kind == "chat":
        return {"messages": [{"role": "user", "content": question}], **GREEDY}
    return {"prompt": question, **GREEDY}


def text_of(answer):
    (choice,) = answer["choices"]
    return choice["message"]["content"] if "message" in choice else choice["text"]


def streamed(events):
    choices = [event["choices"][0] for event in events if event["choices"]]
    return "".join(choice["delta"].get("content", "") if "delta" in choice else choice["text"] for choice in choices)


def word_cuts(text):
    return [at for at in range(1, len(text) - 1) if text[at] == " " and text[at + 1] != " "]


async def test_hosts_say_that_they_go_on_and_read_beforehand(small):
    assert {"continue", "warm"} <= set((await small.hello()).verbs)


@pytest.mark.parametrize("kind", ["chat", "completions"])
@pytest.mark.parametrize("question", QUESTIONS)
@pytest.mark.parametrize("penalty", [1.0, 1.3])
async def test_a_greedy_answer_that_its_own_model_goes_on_with_is_the_one_it_would_have_been(
    small, kind, question, penalty
):
    body = asked(kind, question) | {"repetition_penalty": penalty}
    whole = await small.json(kind, body)
    text, usage = text_of(whole), whole["usage"]
    cuts = word_cuts(text)
    assert cuts
    for at in cuts:
        counted = await small.json("tokenize", {"prompt": text[:at], "add_special_tokens": False})
        made = counted["count"]
        before = Continued(id="first", created=5, opened=True, prompt_tokens=7, completion_tokens=made, sent=at - 1)
        rest = await small.json(kind, body, continue_text=text[:at], continued=before)
        assert (text_of(rest), rest["id"], rest["created"]) == (text, "first", 5), at
        assert rest["choices"][0]["finish_reason"] == whole["choices"][0]["finish_reason"]
        assert (rest["usage"]["prompt_tokens"], "headgate" in rest["usage"]) == (7, False)
        events = await small.events(kind, body, continue_text=text[:at], continued=before)
        assert streamed(events) == text[at - 1 :], at
        assert not any("role" in event["choices"][0].get("delta", {}) for event in events)
        assert rest["usage"]["completion_tokens"] == usage["completion_tokens"]


@pytest.mark.parametrize(("kind", "question"), [("chat", QUESTIONS[0]), ("completions", QUESTIONS[2])])
async def test_a_larger_model_goes_on_with_what_a_smaller_one_began(small, large, kind, question):
    body = asked(kind, question) | {"stream_options": {"include_usage": True}}
    first = await small.events(kind, body)
    began = streamed(first)
    at = word_cuts(began)[1]
    before = Continued(
        id=first[0]["id"],
        created=first[0]["created"],
        opened=True,
        prompt_tokens=first[-1]["usage"]["prompt_tokens"],
        completion_tokens=4,
        sent=at,
        model="zoo-small",
        wrote=(("zoo-small", 4),),
        told=True,
    )
    events = await large.events(kind, body, continue_text=began[:at], continued=before)
    assert {(event["id"], event["created"], event["model"]) for event in events} == {
        (first[0]["id"], first[0]["created"], "zoo-small")
    }
    assert [event.get("headgate") for event in events[:2]] == [{"model": "zoo-large"}, None]
    usage = events[-1]["usage"]
    made = usage["headgate"]["zoo-large"]
    assert usage["headgate"] == {"zoo-small": 4, "zoo-large": made}
    assert (usage["prompt_tokens"], usage["completion_tokens"]) == (before.prompt_tokens, 4 + made)
    assert streamed(events).strip()


async def test_a_stop_string_that_began_in_the_text_ends_the_answer(small):
    body = asked("chat", QUESTIONS[0])
    text = text_of(await small.json("chat", body))
    at = word_cuts(text)[1]
    stop = text[at - 1 : at + 2]
    before = Continued(id="first", completion_tokens=2)
    answer = await small.json("chat", body | {"stop": stop}, continue_text=text[:at], continued=before)
    assert (text_of(answer), answer["choices"][0]["stop_reason"]) == (text[: text.index(stop, at - 2)], stop)


async def test_a_prompt_read_beforehand_is_in_the_prefix_cache_when_it_is_answered(large):
    body = asked("chat", "Copy " + "e s z y q w r t p l m n a c " * 4)
    data, end = await large.ask("chat", body, warm=True)
    assert (data, type(end)) == (b"", Done)
    assert (end.usage.completion_tokens, end.usage.cached_tokens) == (0, 0)
    _, done = await large.ask("chat", body, continue_text="so e", continued=Continued(id="first", completion_tokens=2))
    assert end.usage.prompt_tokens > 32
    assert done.usage.cached_tokens == end.usage.prompt_tokens // 32 * 32


async def test_an_abort_ends_what_goes_on_and_what_is_read(large):
    body = asked("chat", QUESTIONS[1]) | {"ignore_eos": True, "max_tokens": 400, "stream": True}
    before = Continued(id="first", completion_tokens=2)
    going = large.submit("chat", body, continue_text="c0", continued=before)
    assert isinstance(await large.next(going), bytes)
    reading = large.submit("chat", asked("chat", QUESTIONS[1]), warm=True)
    large.abort(going)
    large.abort(reading)
    await until(lambda: large.loads[-1].running == 0, lambda: large.loads[-1])
    assert await large.json("chat", asked("chat", QUESTIONS[2]))


@pytest.mark.parametrize(
    "more",
    [{"logprobs": True}, {"n": 2}, {"response_format": {"type": "json_object"}}],
    ids=lambda more: next(iter(more)),
)
async def test_what_only_vllms_classes_write_is_refused(small, more):
    body = asked("chat", QUESTIONS[0]) | more
    data, end = await small.ask("chat", body, continue_text="so", continued=Continued(id="first"))
    assert isinstance(end, Fail)
    assert (data, end.status, end.code, end.retryable) == (b"", 400, "not_continuable", False)
    assert json.loads(end.body)["error"]["type"] == "invalid_request_error"


async def test_an_answer_with_nothing_left_ends_by_length(small):
    body = asked("chat", QUESTIONS[0]) | {"max_tokens": 5}
    before = Continued(id="first", completion_tokens=5, prompt_tokens=9)
    answer = await small.json("chat", body, continue_text="2731", continued=before)
    assert (text_of(answer), answer["choices"][0]["finish_reason"]) == ("2731", "length")
    assert (answer["usage"]["prompt_tokens"], answer["usage"]["completion_tokens"]) == (9, 5)
