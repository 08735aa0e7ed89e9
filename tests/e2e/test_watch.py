"""Answers watched in a real engine: stopped in the very step, with the figures that the engine itself streams."""

import json
import re

import msgspec
import numpy as np
import pytest

from router.ipc.messages import Done, Handoff
from router.watched import WatchSettings

pytestmark = [pytest.mark.engine, pytest.mark.timeout(1200)]

#: Answered "4+6=10 5+8+1=14 so 140", a token a sign: safe places are behind 6 and 15 of them.
QUESTION = "What is 54+86?"
ASK = {"messages": [{"role": "user", "content": QUESTION}], "temperature": 0, "max_tokens": 24}
LONG = ASK | {"ignore_eos": True}
PROMPT = {
    "prompt": f"<|user|>{QUESTION}<|end|><|assistant|>",
    "temperature": 0,
    "max_tokens": 24,
    "ignore_eos": True,
}


def watch(**settings):
    return json.dumps(settings).encode()


def after(tokens, **more):
    """Stop at the first safe place where there are so many tokens."""
    return watch(statistic="tokens", knots=[[tokens, 0]], **more)


@pytest.fixture(scope="module")
def hosts(root, start_host):
    pytest.importorskip("vllm", reason="the end-to-end tests need vLLM")
    zoo = root / "examples" / "zoo"
    #: The prompt of 80 tokens is read in several steps.
    args = {"max_num_batched_tokens": 32, "max_num_seqs": 8, "enable_chunked_prefill": True}
    return {
        "watched": start_host(zoo / "small", **args),
        "plain": start_host(zoo / "small", watch=False, **args),
    }


@pytest.fixture
async def client(hosts, join_host):
    client = await join_host(hosts["watched"])
    yield client
    client.channel.close()


@pytest.fixture
async def plain(hosts, join_host):
    client = await join_host(hosts["plain"])
    yield client
    client.channel.close()


async def logprobs_of(client, body):
    """Of the likeliest token at each step, as vLLM streams them."""
    answer = await client.json("completions", body | {"logprobs": 2})
    tops = answer["choices"][0]["logprobs"]["top_logprobs"]
    return [sorted(top.values(), reverse=True) for top in tops], answer["choices"][0]


async def test_the_host_says_that_it_watches(client, plain):
    assert "watch" in (await client.hello()).verbs
    assert "watch" not in (await plain.hello()).verbs


async def test_a_watched_answer_is_the_same_and_its_figures_are_the_streamed_logprobs(client, plain):
    wanted = await plain.json("completions", PROMPT)
    data, end = await client.ask("completions", PROMPT, watch=watch(keep_first=True))
    assert isinstance(end, Done)
    assert json.loads(data)["choices"] == wanted["choices"]
    assert json.loads(data)["usage"] == wanted["usage"]
    tops, _ = await logprobs_of(client, PROMPT)
    logprobs, margins = [top[0] for top in tops], [top[0] - top[1] for top in tops]
    recent = 0.0
    for n, value in enumerate(logprobs, 1):
        recent += max(1 / 16, 1 / n) * (value - recent)
    figures = end.figures
    assert figures.tokens == len(logprobs) == 24
    assert figures.mean_logprob == pytest.approx(np.mean(logprobs), abs=1e-3)
    assert figures.least_logprob == pytest.approx(min(logprobs), abs=1e-3)
    assert figures.recent_logprob == pytest.approx(recent, abs=1e-3)
    assert figures.mean_margin == pytest.approx(np.mean(margins), abs=1e-3)
    assert figures.least_margin == pytest.approx(min(margins), abs=1e-3)
    assert figures.first_logprob == pytest.approx(logprobs[0], abs=1e-3)
    assert 0 < figures.mean_entropy < np.log(512)
    first = np.frombuffer(end.first_logits, np.float16)
    assert first.shape == (512,)
    assert first.max() == pytest.approx(figures.first_logprob, abs=2e-2)


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
@pytest.mark.parametrize("kind", ["chat", "completions"])
async def test_it_stops_in_that_very_step_and_no_token_beyond_is_shown(client, plain, kind, stream):
    body = (LONG if kind == "chat" else PROMPT) | {"stream": stream}
    data, end = await client.ask(kind, body, watch=after(3))
    assert isinstance(end, Handoff), end
    whole = await plain.json(kind, body | {"stream": False})
    choice = whole["choices"][0]
    text = choice["message"]["content"] if kind == "chat" else choice["text"]
    assert text.startswith(end.text)
    assert (end.text, end.continued.look) == ("4+6=10", " ")
    assert end.tokens == 6
    assert end.usage.completion_tokens == end.tokens == end.figures.tokens - 1
    assert end.usage.prompt_tokens == whole["usage"]["prompt_tokens"]
    assert end.why == f"watch: tokens after {end.tokens} tokens"
    if stream:
        shown = b"".join(re.findall(rb'"(?:content|text)":"([^"]*)"', data)).decode()
        assert end.text.startswith(shown)
        assert end.continued.sent == len(shown)
        assert end.continued.opened == (kind == "chat" or bool(shown))
        assert b"[DONE]" not in data
        assert b'"finish_reason":"' not in data
    else:
        assert data == b""
        assert end.continued.sent == 0


async def test_it_stops_before_the_first_token_and_shows_nothing(client):
    settings = WatchSettings(first_bound=0.0, first_weights=(0.0,) * 512, first_bias=-1.0, keep_first=True)
    data, end = await client.ask("chat", LONG | {"stream": True}, watch=msgspec.json.encode(settings))
    assert isinstance(end, Handoff)
    assert (data, end.text, end.tokens, end.usage.completion_tokens) == (b"", "", 0, 0)
    assert (end.continued.opened, end.continued.sent) == (False, 0)
    assert end.why == "watch: log odds -1.00 by the first token"
    assert len(end.first_logits) == 1024


@pytest.mark.parametrize(
    "more",
    [
        {"presence_penalty": 1.5, "frequency_penalty": 1.0, "repetition_penalty": 1.2},
        {"temperature": 1.0, "seed": 3, "top_p": 0.9, "top_k": 20, "min_p": 0.01},
        {"stop": ["zzzzzz", "qqqq"]},
        {"logit_bias": {"0": -100, "1": -100}},
        {"ignore_eos": True},
    ],
    ids=lambda more: next(iter(more)),
)
async def test_it_stops_whatever_else_is_asked(client, more):
    _, end = await client.ask("chat", LONG | {"max_tokens": 120} | more, watch=after(4))
    assert isinstance(end, Handoff)
    assert end.figures.tokens == end.tokens + 1


async def test_it_waits_until_min_tokens(client):
    _, end = await client.ask("chat", LONG | {"min_tokens": 12}, watch=after(2))
    assert isinstance(end, Handoff)
    assert end.tokens >= 12


async def test_a_prompt_read_in_several_steps_counts_once(client):
    body = PROMPT | {"prompt": "one two three four " * 30, "max_tokens": 5}
    _, end = await client.ask("completions", body, watch=watch())
    assert end.usage.prompt_tokens > 64
    assert (end.usage.completion_tokens, end.figures.tokens) == (5, 5)


async def test_answers_side_by_side_have_their_own_figures(client):
    bodies = [
        PROMPT | {"prompt": f"Say {word} {word}", "max_tokens": 8 + 3 * at}
        for at, word in enumerate(["a", "the", "to", "what"])
    ]
    alone = [(await client.ask("completions", body, watch=watch()))[1].figures for body in bodies]
    ids = [client.submit("completions", body, watch=watch()) for body in bodies]
    for id, body, figures in zip(ids, bodies, alone, strict=True):
        while isinstance(piece := await client.next(id), bytes):
            pass
        assert piece.figures.tokens == body["max_tokens"]
        assert piece.figures.mean_logprob == pytest.approx(figures.mean_logprob, abs=1e-2)


async def test_an_answer_that_ends_by_itself_has_its_figures(client):
    _, end = await client.ask("chat", ASK | {"max_tokens": 200}, watch=watch())
    assert isinstance(end, Done)
    assert end.figures.tokens == end.usage.completion_tokens


@pytest.mark.parametrize(
    ("more", "why"),
    [
        ({"n": 2, "temperature": 1}, "it has several choices"),
        ({"response_format": {"type": "json_object"}}, "it takes the slow way"),
        ({"logprobs": True}, "it takes the slow way"),
        ({"include_stop_str_in_output": True}, "include_stop_str_in_output"),
    ],
)
async def test_what_is_not_watched_is_answered_all_the_same(client, hosts, more, why):
    data, end = await client.ask("chat", LONG | more, watch=after(2))
    assert isinstance(end, Done), end
    assert end.figures is None
    assert end.first_logits == b""
    assert json.loads(data)["choices"]
    assert why in hosts["watched"].log()


@pytest.mark.parametrize("given", [["x", 0, 1], [0, 0], "mine", {"slot": 1}])
async def test_a_clients_arguments_do_not_reach_the_watch(client, given):
    body = LONG | {"vllm_xargs": {"headgate_watch": given}}
    fail, error = await client.refusal("chat", body)
    assert fail.status == 400
    assert "headgate_watch" in error["message"] or "vllm_xargs" in error["message"]
    _, end = await client.ask("chat", LONG, watch=watch())
    assert end.figures.tokens == 24


async def test_a_stopped_answers_slot_is_free_again(client):
    for _ in range(3):
        _, end = await client.ask("chat", LONG, watch=after(3))
        assert isinstance(end, Handoff)
    id = client.submit("chat", LONG | {"stream": True, "max_tokens": 400}, watch=watch())
    await client.next(id)
    client.abort(id)
    _, end = await client.ask("chat", LONG, watch=watch())
    assert end.figures.tokens == 24
