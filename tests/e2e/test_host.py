"""One engine host with a real engine, driven over its socket. The hosts of all tests start at once; the last test kills
the one that the others used."""

import asyncio
import json
import os
import re
import signal
import stat
import time
from pathlib import Path

import pytest

from router.ipc.messages import Control, Done, Fail
from tests.conftest import PATIENCE_S, WORK_S, until

pytestmark = [pytest.mark.engine, pytest.mark.timeout(1200)]

SUM = [{"role": "user", "content": "What is 12 + 30?"}]
GREEDY = {"temperature": 0}
#: A field that only vLLM's own classes know, with no effect: the same request, the other way.
SLOWLY = {"echo": False}
TOOL = {"type": "function", "function": {"name": "add", "parameters": {"type": "object", "properties": {}}}}


@pytest.fixture(scope="module")
def hosts(pair, start_host):
    return {
        "good": start_host(pair / "small", enable_auto_tool_choice=True, tool_call_parser="hermes"),
        "victim": start_host(pair / "large", name="large", warm_up=True),
        "owned": start_host(pair / "small"),
        "no such model": start_host("/nowhere/model"),
        "too little memory": start_host(pair / "small", kv_cache_memory_bytes=1),
    }


@pytest.fixture
async def client(hosts, join_host):
    client = await join_host(hosts["good"])
    yield client
    client.channel.close()
    await asyncio.sleep(0)


@pytest.fixture
async def parserless(hosts, join_host):
    """Of a model without a parser of tools, as most are served."""
    client = await join_host(hosts["victim"])
    yield client
    client.channel.close()
    await asyncio.sleep(0)


async def logged(host, text):
    """What the host prints passes through a pipe: it may be there a moment later."""
    await until(lambda: text in host.log(), host.log)


def error_line(host):
    host.process.wait(WORK_S)
    lines = [line for line in host.log().splitlines() if line.startswith("headgate-host: error: ")]
    return lines[-1] if lines else "nothing was said"


def bare(answer):
    """An answer without what differs from one request to the next."""
    if isinstance(answer, dict):
        return {key: bare(value) for key, value in answer.items() if key not in ("id", "created")}
    return [bare(item) for item in answer] if isinstance(answer, list) else answer


def text_of(events):
    return "".join(event["choices"][0]["delta"].get("content") or "" for event in events if event["choices"])


def says(event):
    """Whether an event says anything: vLLM sends empty ones while it holds text back."""
    if not event["choices"] or "role" in event["choices"][0].get("delta", {}):
        return True
    (choice,) = event["choices"]
    return bool(choice.get("text") or choice.get("delta", {}).get("content") or choice["finish_reason"])


async def both_ways(client, kind, body, slowly):
    """The events of one request on the fast way and through vLLM's serving classes, in the same cut: vLLM joins the
    tokens of several steps where it cannot keep up, so on a busy machine it is asked again."""
    give_up = time.monotonic() + PATIENCE_S
    while True:
        fast, slow = await client.events(kind, body), await client.events(kind, {**body, **slowly})
        fast, slow = [event for event in fast if says(event)], [event for event in slow if says(event)]
        if len(fast) == len(slow) or time.monotonic() > give_up:
            break
    for events in (fast, slow):
        assert len({(event["id"], event["created"]) for event in events}) == 1
    return [sorted(bare(events), key=index_of) for events in (fast, slow)]


def index_of(event):
    """Choices of one stream take turns as they please; the order within each counts."""
    return event["choices"][0]["index"] if event["choices"] else 1_000


# Start


async def test_the_host_tells_what_it_holds(client, hosts):
    hello = await client.hello()
    assert (hello.role, hello.model, hello.context_tokens) == ("host", "tiny", 512)
    assert hello.kv_tokens > 10_000
    assert hello.max_running > 0
    assert hello.engine_version.startswith("vllm 0.")
    wanted = {"chat", "completions", "logprobs", "messages", "responses", "structured", "tools"}
    assert set(hello.capabilities) == wanted | {"chat_batch", "generative_scoring"}
    assert stat.S_IMODE(hosts["good"].socket.stat().st_mode) == 0o600
    await logged(hosts["good"], "the fast way takes plain chat and completions")


@pytest.mark.parametrize(
    ("which", "pattern"),
    [
        ("no such model", r"/nowhere/model"),
        ("too little memory", r"(?i)(memory|cache|blocks)"),
    ],
)
def test_an_engine_that_does_not_start_says_why(hosts, which, pattern):
    host = hosts[which]
    line = error_line(host)
    assert host.process.returncode == 1, host.log()[-3000:]
    assert re.search(pattern, line), line
    assert "See root cause above" not in line
    host.kill()  # nothing of its group is left, or this fails


# The fast way is the slow way, faster


@pytest.mark.parametrize(
    "more",
    [
        {},
        {"max_tokens": 3},
        {"max_completion_tokens": 4, "max_tokens": 9},
        {"stop": ["="]},
        {"stop": ["="], "include_stop_str_in_output": True},
        {"stop_token_ids": [22, 23, 24, 25]},
        {"n": 2, "temperature": 1.0, "seed": 3},
        {"ignore_eos": True, "max_tokens": 20},
        {"min_tokens": 12},
        {"logit_bias": {"22": 100}, "max_tokens": 4},
        {"repetition_penalty": 1.5, "frequency_penalty": 1.0, "presence_penalty": 0.5},
        {"skip_special_tokens": False},
        {"top_k": 1, "temperature": 1.0},
        {"seed": 7, "temperature": 1.0, "max_tokens": 8},
        {"messages": [{"role": "system", "content": "Add."}, *SUM]},
        {
            "messages": [
                {"role": "user", "content": [{"type": "text", "text": "What is"}, {"type": "text", "text": "1+1?"}]}
            ]
        },
        {"messages": [*SUM, {"role": "assistant", "content": "42"}, {"role": "user", "content": "And 1 + 1?"}]},
        {"chat_template_kwargs": {"unused": 1}},
    ],
    ids=str,
)
async def test_chat_is_answered_alike_both_ways(client, more):
    body = {"messages": SUM, **GREEDY, **more}
    fast, slow = await client.json("chat", body), await client.json("chat", {**body, **SLOWLY})
    assert bare(fast) == bare(slow)
    assert re.fullmatch(r"chatcmpl-[0-9a-f]{16,32}", fast["id"])
    assert fast.keys() <= slow.keys()


@pytest.mark.parametrize(
    "more",
    [
        {},
        {"stream_options": {"include_usage": True}},
        {"stream_options": {"include_usage": True, "continuous_usage_stats": True}},
        {"stream_options": {"continuous_usage_stats": True}},
        {"stop": ["="]},
        {"max_tokens": 1},
        {"n": 2, "temperature": 1.0, "seed": 3, "stream_options": {"include_usage": True}},
    ],
    ids=str,
)
async def test_streams_are_alike_both_ways(client, parserless, more):
    body = {"messages": SUM, **GREEDY, **more}
    for host in (client, parserless):  # with a parser of tools an answer's last event may have an empty delta
        fast, slow = await both_ways(host, "chat", body, SLOWLY)
        assert fast == slow
        assert fast[0]["choices"][0]["delta"] == {"role": "assistant", "content": ""}


@pytest.mark.parametrize(
    "more",
    [{}, {"n": 2, "temperature": 1.0, "seed": 3}, {"prompt": [22, 16, 22]}, {"stop": "\n", "max_tokens": 40}],
    ids=str,
)
@pytest.mark.parametrize("stream", [False, True])
async def test_completions_are_answered_alike_both_ways(client, more, stream):
    body = {"prompt": "What is 1 + 1?", **GREEDY, **more}
    slowly = {"add_special_tokens": True}
    if not stream:
        assert bare(await client.json("completions", body)) == bare(
            await client.json("completions", {**body, **slowly})
        )
        return
    for more in ({}, {"stream_options": {"include_usage": True, "continuous_usage_stats": True}}):
        fast, slow = await both_ways(client, "completions", {**body, **more}, slowly)
        assert fast == slow


async def test_more_tokens_than_there_is_room_for_fare_alike_both_ways(client):
    body = {"messages": SUM, **GREEDY, "max_tokens": 505}  # vLLM cuts it from 0.30 on
    (fast, fast_end), (slow, slow_end) = await client.ask("chat", body), await client.ask("chat", {**body, **SLOWLY})
    assert type(fast_end) is type(slow_end)
    if isinstance(fast_end, Done):
        assert bare(json.loads(fast)) == bare(json.loads(slow))
    else:
        assert fast_end.body == slow_end.body


async def test_the_models_answer_is_worth_having(client):
    answer = await client.json("chat", {"messages": SUM})
    assert any(character.isdigit() for character in answer["choices"][0]["message"]["content"])
    assert answer["model"] == "tiny"


async def test_the_request_id_names_the_answer(client):
    for way in ({}, SLOWLY):
        answer = await client.json("chat", {"messages": SUM, "max_tokens": 1, **way}, request_id="abc")
        assert answer["id"] == "chatcmpl-abc"


async def test_the_tokens_of_a_message_are_counted_as_they_are_tokenized(client):
    counted = await client.json("count_tokens", {"messages": SUM})
    assert counted["input_tokens"] == (await client.json("tokenize", {"messages": SUM}))["count"]


async def test_usage_and_timings_are_told_at_the_end(client):
    for way in ({}, SLOWLY):
        for stream in (False, True):
            body = {"messages": SUM, "max_tokens": 3, "ignore_eos": True, "stream": stream, **way}
            _, done = await client.ask("chat", body)
            assert isinstance(done, Done)
            assert (done.usage.completion_tokens, done.finish_reason) == (3, "length")
            assert 10 < done.usage.prompt_tokens < 20
            if stream:
                assert 0 < done.timings.first_token_s <= done.timings.total_s
            elif way:  # vLLM's application tells nothing before its whole answer
                assert 0 == done.timings.first_token_s < done.timings.total_s
            else:  # two more tokens were made after the first
                assert 0 < done.timings.first_token_s < done.timings.total_s


async def test_a_partial_answer_is_continued(client):
    body = {"messages": SUM, **GREEDY}
    whole = (await client.json("chat", body))["choices"][0]["message"]["content"]
    rest = await client.json("chat", body, continue_text=whole[:1])
    assert whole[:1] + rest["choices"][0]["message"]["content"] == whole
    slowly = await client.json("chat", {**body, **SLOWLY}, continue_text=whole[:1])
    assert slowly["choices"][0]["message"]["content"]


async def test_many_streams_at_once_keep_apart(client):
    questions = [[{"role": "user", "content": f"What is {n} + {n + 1}?"}] for n in range(24)]
    alone = [text_of(await client.events("chat", {"messages": q, **GREEDY})) for q in questions[:4]]
    together = await asyncio.gather(*(client.events("chat", {"messages": q, **GREEDY}) for q in questions))
    assert [text_of(events) for events in together[:4]] == alone
    assert max(len(frame.items) for frame in client.frames) > 4  # one frame a tick, not a frame a chunk


# What only vLLM's own classes know


async def test_logprobs(client):
    body = {"messages": SUM, "logprobs": True, "top_logprobs": 2, "max_tokens": 2}
    answer = await client.json("chat", body)
    content = answer["choices"][0]["logprobs"]["content"]
    assert [len(token["top_logprobs"]) for token in content] == [2, 2]
    assert all(token["logprob"] <= 0 for token in content)
    completion = await client.json("completions", {"prompt": "1 + 1", "logprobs": 1, "max_tokens": 2})
    assert len(completion["choices"][0]["logprobs"]["token_logprobs"]) == 2


async def test_structured_output(client):
    body = {"messages": SUM, "structured_outputs": {"choice": ["yes", "no"]}}
    answer = await client.json("chat", body)
    assert answer["choices"][0]["message"]["content"] in ("yes", "no")


async def test_tools(client):
    body = {"messages": SUM, "tools": [TOOL], "tool_choice": {"type": "function", "function": {"name": "add"}}}
    answer = await client.json("chat", {**body, "max_tokens": 60})
    (call,) = answer["choices"][0]["message"]["tool_calls"]
    assert call["function"]["name"] == "add"
    _, done = await client.ask("chat", {"messages": SUM, "tools": [TOOL], "stream": True})
    assert isinstance(done, Done)


async def test_responses_and_messages(client):
    response = await client.json("responses", {"input": "What is 1 + 1?", "max_output_tokens": 5})
    assert response["output"][0]["content"][0]["type"] == "output_text"
    message = await client.json("messages", {"messages": SUM, "max_tokens": 5})
    assert (message["type"], message["role"], message["model"]) == ("message", "assistant", "tiny")
    data, done = await client.ask("messages", {"messages": SUM, "max_tokens": 5, "stream": True})
    assert isinstance(done, Done)
    assert data.startswith(b"event: message_start")


async def test_tokenize_and_detokenize(client):
    tokens = (await client.json("tokenize", {"prompt": "1 + 1"}))["tokens"]
    assert (await client.json("detokenize", {"tokens": tokens}))["prompt"] == "1 + 1"


# Bad input


@pytest.mark.parametrize(
    ("body", "param", "message"),
    [
        ({"messages": SUM, "top_p": 7}, "top_p", "top_p must be in"),
        ({"messages": SUM, "temperature": -1}, "temperature", "temperature"),
        ({"messages": SUM, "max_tokens": -1}, None, "max_tokens"),
        ({"messages": SUM, "n": 0}, None, "n must be at least 1"),
        ({"messages": SUM, "stream_options": {"include_usage": True}}, "stream_options", "stream=True"),
        ({"messages": "hello"}, "messages", "valid list"),
        ({}, "messages", "required"),
        ({"messages": SUM, "temperature": "hot"}, "temperature", "valid number"),
        ({"messages": [{"role": "user", "content": 5}]}, None, "content"),
    ],
    ids=str,
)
async def test_bad_requests_get_vllms_own_words(client, body, param, message):
    fail, error = await client.refusal("chat", body)
    assert (fail.status, fail.retryable) == (400, False)
    assert error["type"] == "invalid_request_error"
    assert message in error["message"]
    if param is not None:
        assert error["param"] == param


UNKNOWN_TYPE = {"type": "json_schema", "json_schema": {"name": "x", "schema": {"type": "objekt"}}}
DANGLING = {"type": "json_schema", "json_schema": {"name": "x", "schema": {"$ref": "#/$defs/nothing"}}}
NO_TOKEN = 9_999_999


@pytest.mark.parametrize(
    ("kind", "more", "message"),
    [
        ("chat", {"response_format": UNKNOWN_TYPE}, "Invalid type: objekt"),
        ("chat", {"response_format": DANGLING}, "nothing"),
        ("chat", {"structured_outputs": {"regex": "(["}}, "regex"),
        ("chat", {"structured_outputs": {"grammar": "root ::= ("}}, "grammar"),
        ("chat", {"logprobs": True, "top_logprobs": 21}, "21"),
        ("chat", {"logit_bias": {NO_TOKEN: 1}}, "logit_bias"),
        ("chat", {"stop_token_ids": [NO_TOKEN]}, "stop_token_ids"),
        ("chat", {"allowed_token_ids": [NO_TOKEN]}, "allowed_token_ids"),
        ("completions", {"logprobs": 30}, "30"),
        ("completions", {"logit_bias": {NO_TOKEN: 1}}, "logit_bias"),
        ("messages", {"output_config": {"format": UNKNOWN_TYPE["json_schema"] | {"type": "json_schema"}}}, "objekt"),
        ("responses", {"text": {"format": UNKNOWN_TYPE["json_schema"] | {"type": "json_schema"}}}, "objekt"),
        ("responses", {"logit_bias": {NO_TOKEN: 1}}, "logit_bias"),
    ],
    ids=str,
)
async def test_what_the_engine_refuses_once_it_looks_closer_is_refused_alike_whole_and_streamed(
    client, kind, more, message
):
    body = {
        "chat": {"messages": SUM},
        "completions": {"prompt": "Hi"},
        "responses": {"input": "Hi"},
        "messages": {"messages": SUM, "max_tokens": 4},
    }[kind]
    fails = []
    for stream in (False, True):
        data, fail = await client.ask(kind, {**body, **more, "stream": stream})
        assert data == b""
        assert isinstance(fail, Fail)
        assert (fail.status, fail.retryable) == (400, False)
        fails.append(json.loads(fail.body)["error"])
    assert fails[0] == fails[1]
    assert fails[0]["type"] == "invalid_request_error"
    assert message in fails[0]["message"]


async def test_malformed_json_is_a_bad_request(client):
    fail, error = await client.refusal("chat", b'{"messages": [')
    assert fail.status == 400
    assert "JSON" in error["message"]


@pytest.mark.parametrize(
    "body",
    [
        {"messages": [{"role": "user", "content": "1 + " * 400}]},
        {"messages": SUM, "max_tokens": 10**9},
        {"messages": [{"role": "user", "content": "word " * 100_000}]},
        {"messages": [{"role": "user", "content": "1" * 8_000_000}]},
        {"messages": [{"role": "user", "content": "a"}] * 100_000},
    ],
    ids=["long prompt", "huge max_tokens", "endless prompt", "8 MB of digits", "100,000 messages"],
)
@pytest.mark.parametrize("way", [{}, SLOWLY], ids=["fast", "slow"])
async def test_what_does_not_fit_may_fit_elsewhere(client, body, way):
    fail, error = await client.refusal("chat", {**body, **way})
    assert (fail.status, fail.code, fail.retryable) == (400, "context_length_exceeded", True)
    assert error["code"] == "context_length_exceeded"


def cpu_s(host):
    """CPU seconds that the host's own process has spent."""
    fields = Path(f"/proc/{host.process.pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


@pytest.mark.parametrize("way", [{}, SLOWLY], ids=["fast", "slow"])
@pytest.mark.parametrize(
    "messages",
    [[{"role": "user", "content": "a"}] * 100_000, [{"role": "user", "content": "1" * 8_000_000}]],
    ids=["100,000 messages", "8 MB of digits"],
)
async def test_what_certainly_does_not_fit_costs_the_host_little(client, hosts, messages, way):
    begun = cpu_s(hosts["good"])
    await client.refusal("chat", {"messages": messages, **way})
    assert cpu_s(hosts["good"]) - begun < 3  # rendering and cutting them into tokens took 17 and 110


async def test_errors_of_messages_have_anthropics_shape(client):
    _, fail = await client.ask("messages", {"messages": SUM, "max_tokens": -5})
    body = json.loads(fail.body)
    assert body["type"] == "error"
    assert body["error"]["type"] == "invalid_request_error"
    assert "max_tokens must be positive" in body["error"]["message"]


# Stopping


ENDLESS = {"messages": SUM, "ignore_eos": True, "max_tokens": 490, "stream": True}


async def until_idle(client):
    await until(lambda: not client.loads[-1].running + client.loads[-1].waiting, lambda: client.loads[-1])


async def until_seen_running(client, count, since=0):
    """As one of the loads told it: on a busy machine it may be over before anyone looks."""
    await until(lambda: any(load.running >= count for load in client.loads[since:]), lambda: client.loads[since:])


@pytest.mark.parametrize("way", [{}, SLOWLY, {"n": 2, "temperature": 1.0}], ids=["fast", "slow", "two choices"])
async def test_an_abort_reaches_the_engine(client, way):
    since = len(client.loads)
    ids = [client.submit("chat", {**ENDLESS, **way}) for _ in range(4)]
    for id in ids:
        assert isinstance(await client.next(id), bytes)
    await until_seen_running(client, 4, since)
    for id in ids:
        client.abort(id)
    await until_idle(client)
    assert client.loads[-1].kv_use == 0


async def test_a_lost_connection_stops_its_requests(client, hosts, join_host):
    other = await join_host(hosts["good"])
    id = other.submit("chat", ENDLESS)
    await other.next(id)
    await until_seen_running(client, 1)
    other.channel.close()
    await until_idle(client)


async def test_a_deadline_stops_the_generation(client):
    _, end = await client.ask("chat", ENDLESS, deadline_s=0.1)
    assert isinstance(end, Fail)
    assert (end.status, end.code) == (504, "deadline_exceeded")
    await until_idle(client)


async def test_load_tells_the_engines_pace(client):
    await client.ask("chat", ENDLESS)
    load = client.loads[-1]
    assert load.prefill_tokens_per_s > 0
    assert 0 < load.time_per_output_token_s < 1
    assert 0 < max(load.kv_use for load in client.loads) < 1


async def test_a_ping_is_answered(client):
    client.channel.send(Control("ping"))
    assert (await asyncio.wait_for(client.controls.get(), PATIENCE_S)).op == "pong"


async def control(peer, op, argument=""):
    """What the host answers."""
    peer.channel.send(Control(op, argument))
    return await asyncio.wait_for(peer.controls.get(), PATIENCE_S)


async def test_two_connections_to_one_host_get_their_own_answers_and_only_the_owner_may_drain_and_end_it(
    hosts, join_host
):
    host = hosts["owned"]
    owner, client = await join_host(host, "owner"), await join_host(host)
    for op in ("drain", "sleep", "wake", "stop"):
        assert (await control(client, op)).op == "refused"
    done = await control(owner, "sleep", "not a number")
    assert done.op == "done"
    assert "invalid literal" in done.argument

    # Equal ids, and equal names of the requests, at the same time.
    bodies = [{"messages": [{"role": "user", "content": f"What is {n} + {n}?"}], **GREEDY} for n in (12, 30)]
    alone = [text_of(await client.events("chat", body)) for body in bodies]
    owner._next = client._next
    both = await asyncio.gather(
        owner.events("chat", bodies[0], request_id="same"), client.events("chat", bodies[1], request_id="same")
    )
    assert [text_of(events) for events in both] == alone

    # The end of the client's connection stops its request alone.
    its = client.submit("chat", ENDLESS)
    await client.next(its)
    owners = owner.submit("chat", {**ENDLESS, "max_tokens": 200})
    await owner.next(owners)
    client.channel.close()

    # Draining ends with the owner's last answer.
    owner.channel.send(Control("drain"))
    fail, _ = await owner.refusal("chat", {"messages": SUM})
    assert (fail.status, fail.retryable) == (503, True)
    while isinstance(end := await owner.next(owners), bytes):
        pass
    assert isinstance(end, Done)
    assert (await asyncio.wait_for(owner.controls.get(), PATIENCE_S)).op == "drained"

    owner.channel.close()
    await until(lambda: host.process.poll() is not None, host.log)
    assert host.process.returncode == 0


async def test_a_dead_engine_core_fails_what_runs_and_ends_the_host(hosts, join_host):
    host = hosts["victim"]
    client = await join_host(host)
    await logged(host, "warmed up in")
    core = next(pid for pid, command in host.members().items() if command.startswith("VLLM::Engine"))
    ways = ({}, SLOWLY, {"stream": False})
    for way in ways:  # a way's first request takes seconds, in which the others' answers would end
        assert isinstance((await client.ask("chat", {**ENDLESS, **way, "max_tokens": 1}))[1], Done)
    ids = [client.submit("chat", {**ENDLESS, **way}) for way in ways]
    for id in ids[:2]:
        assert isinstance(await client.next(id), bytes)
    os.kill(core, signal.SIGKILL)
    for id in ids:
        while isinstance(end := await client.next(id), bytes):
            pass
        assert isinstance(end, Fail)
        assert (end.status, end.code, end.retryable) == (502, "engine_failed", True)
    assert error_line(host) != "nothing was said"
    assert host.process.returncode == 1
    client.channel.close()


def shared_memory(pids):
    """The segments of shared memory that these processes have mapped."""
    maps = "".join(Path(f"/proc/{pid}/maps").read_text() for pid in pids)
    return {Path(path) for path in re.findall(r"/dev/shm/psm_\w+", maps)}


async def test_kill_9_takes_the_engine_core_along(hosts):
    host = hosts["good"]
    members = host.members()
    assert any("VLLM::Engine" in command for command in members.values())
    assert len(list(host.socket.parent.iterdir())) > 2  # vLLM's own sockets lie beside ours, not in /tmp
    shared = shared_memory(members)
    host.kill()
    assert not host.members()
    assert not [path for path in shared if path.exists()]
