"""Answers that two and three engines write, by the fast way over vLLM's own detokenizers; the engines are scripted.
What the client is sent is compared with the text that they wrote."""

import asyncio
import json

import pytest

from router.ipc.messages import Submit
from router.types import Usage
from router.watched import Continued

pytestmark = [pytest.mark.engine, pytest.mark.filterwarnings("ignore")]

CUTS = 500
PARTS = 5


@pytest.fixture(autouse=True)
def lab(monkeypatch):
    """vLLM's import warns, which is no error inside a test."""
    pytest.importorskip("vllm")
    from router.host.adapter import fast
    from tests.e2e import seam_engine

    monkeypatch.setattr(fast, "Generation", seam_engine.Stopped)
    return seam_engine


@pytest.mark.parametrize("part", range(PARTS))
async def test_a_client_reads_the_text_and_the_usage_of_all_segments_wherever_they_are_cut(part):
    from tests.e2e.seam_trial import Trial, read

    handed = 0
    for seed in range(part * CUTS // PARTS, (part + 1) * CUTS // PARTS):
        trial = Trial(seed)
        data, wrote = await trial.run()
        text, finish, stop, usage = read(data, trial.kind, trial.stream)
        first = next(iter(trial.engines[0].requests.values()))
        assert text == trial.wanted, f"seed {seed}"
        assert (finish, stop) == ("stop", trial.stop if trial.wanted != trial.text or trial.includes else stop)
        assert usage["prompt_tokens"] == len(first.prompt_token_ids)
        assert usage["completion_tokens"] == sum(wrote.values())
        assert usage.get("headgate") == (wrote if len(wrote) > 1 else None), f"seed {seed}"
        handed += len(wrote) > 1
    assert handed > CUTS // PARTS // 2


# Stop strings


async def hand_over(lab, first, second, *, text, rest, kind="chat", end="stop", told=False, **fields):
    """`first` says `text` and is stopped by its watch, `second` the `rest`. What the client got, and the hand-over."""
    heard, more = lab.Heard(), lab.Heard()
    asked = lab.body(kind, **fields)
    before = Continued(told=True) if told else None
    await lab.start(first, heard, kind=kind, body=asked, watch=b"{}", continued=before)
    lab.stop_by_watch(first, lab.ids_of(first, text))
    assert heard.handed is not None
    handed = heard.handed
    await lab.start(second, more, kind=kind, body=asked, continue_text=handed.text, continued=handed.continued)
    if not more.ends:
        lab.said(second, rest, end)
    return heard.data, more, handed


@pytest.mark.parametrize("lean", [True, False], ids=["lean", "by vllms collectors"])
@pytest.mark.parametrize("stream", [True, False], ids=["stream", "whole"])
@pytest.mark.parametrize("includes", [True, False], ids=["kept", "left out"])
async def test_a_stop_string_that_begins_before_the_seam_and_ends_behind_it_ends_the_answer(
    lab, stream, includes, lean
):
    from tests.e2e.seam_trial import read

    first, second = lab.Engine("gpt2", "small", lean), lab.Engine("sentencepiece", "large", lean)
    fields = {"stop": ["never", "42. So"], "include_stop_str_in_output": includes}
    fields |= {"stream": True, "stream_options": {"include_usage": True}} if stream else {}
    data, more, _ = await hand_over(lab, first, second, text="The sum is 42.", rest=" So it is not 43.", **fields)
    text, finish, stop, _ = read(data + more.data, "chat", stream)
    assert text == ("The sum is 42. So" if includes else "The sum is ")
    assert (finish, stop, more.reason) == ("stop", "42. So", "stop")


def told(data):
    """The events with a choice, as lines."""
    return [line for line in data.decode().split("\n\n") if '"choices":[{' in line]


async def test_text_that_may_begin_a_stop_string_is_not_sent_before_the_next_engine_has_gone_on(lab):
    from tests.e2e.seam_trial import delta

    first, second = lab.Engine("gpt2", "small"), lab.Engine("qwen", "large")
    data, more, handed = await hand_over(
        lab, first, second, text="The sum is 42.", rest=" Yes.", stream=True, stop="42. So", stream_options=None
    )
    assert handed.text == "The sum is 42."
    assert handed.text[: handed.continued.sent] == "The sum i"
    sent, rest = (
        "".join(map(delta, (json.loads(line[6:]) for line in lines))) for lines in (told(data), told(more.data))
    )
    assert (sent, rest) == ("The sum i", "s 42. Yes.")


# Bounds


async def test_tokens_made_before_the_seam_count_for_the_most_and_the_least(lab):
    first, second = lab.Engine("gpt2", "small"), lab.Engine("gpt2", "large")
    _, _, handed = await hand_over(
        lab, first, second, text="The sum is", rest=" 42.", max_tokens=50, min_tokens=9, seed=7, presence_penalty=0.5
    )
    made = handed.tokens
    sampling = second.asked().sampling_params
    assert (sampling.max_tokens, sampling.min_tokens) == (50 - made, 9 - made)
    assert (sampling.seed, sampling.presence_penalty) == (7, 0.5)
    assert first.asked().sampling_params.seed == 7


@pytest.mark.parametrize("stream", [True, False], ids=["stream", "whole"])
async def test_an_answer_with_no_tokens_left_ends_by_length_and_no_engine_reads_it(lab, stream):
    from tests.e2e.seam_trial import read

    first, second = lab.Engine("gpt2", "small"), lab.Engine("gpt2", "large")
    size = len(lab.ids_of(first, "The sum is"))
    fields = {"stream": True, "stream_options": {"include_usage": True}} if stream else {}
    data, more, _ = await hand_over(lab, first, second, text="The sum is", rest="", max_tokens=size, **fields)
    text, finish, _, usage = read(data + more.data, "chat", stream)
    assert (text, finish, more.reason) == ("The sum is", "length", "length")
    assert (usage["completion_tokens"], usage.get("headgate")) == (size, None)
    assert (more.usage, second.requests) == (Usage(), {})


async def test_an_engine_without_room_for_the_text_refuses_so_that_another_can_be_asked(lab):
    first, second = lab.Engine("gpt2", "small"), lab.Engine("gpt2", "large", context=40)
    second.way.renderer._bounds = first.way.renderer._bounds.__class__(40)
    second.way.renderer._most_tokens = 40
    _, more, _ = await hand_over(lab, first, second, text="a b c d e f g " * 20, rest="")
    assert (more.failure.code, more.failure.retryable) == ("context_length_exceeded", True)


# Rendering


@pytest.mark.parametrize("kind", ["gpt2", "qwen", "sentencepiece"])
async def test_the_text_stands_behind_the_prompts_own_tokens_which_the_prefix_cache_has(lab, kind):
    first, second = lab.Engine("qwen", "small"), lab.Engine(kind, "large")
    await lab.start(second, lab.Heard(), kind="chat", body=lab.body("chat"))
    prompt = second.asked().prompt_token_ids
    await hand_over(lab, first, second, text="Größe: 42", rest=" m.")
    ids = second.asked().prompt_token_ids
    assert ids[: len(prompt)] == prompt
    assert ids[len(prompt) :] == lab.ids_of(second, "Größe: 42")


async def test_a_prompt_of_token_ids_is_followed_by_the_texts_tokens(lab):
    first, second = lab.Engine("gpt2", "small"), lab.Engine("gpt2", "large")
    _, more, _ = await hand_over(lab, first, second, text="is", rest=" 42.", kind="completions", prompt=[40, 41, 42])
    assert second.asked().prompt_token_ids == [40, 41, 42, *lab.ids_of(second, "is")]
    answer = json.loads(more.data)
    assert (answer["choices"][0]["text"], answer["usage"]["prompt_tokens"]) == ("is 42.", 3)


async def test_a_cut_inside_a_character_gives_whole_characters_and_counts_the_tokens_all_the_same(lab):
    first, second = lab.Engine("gpt2", "small"), lab.Engine("qwen", "large")
    heard, more = lab.Heard(), lab.Heard()
    asked = lab.body("chat", stream=True)
    ids = first.tokenizer.encode("Go:\U0001f6f8", add_special_tokens=False).ids
    await lab.start(first, heard, kind="chat", body=asked, watch=b"{}")
    lab.stop_by_watch(first, ids[:-1])
    handed = heard.handed
    assert (handed.text, handed.tokens) == ("Go:", len(ids) - 1)
    await lab.start(second, more, kind="chat", body=asked, continue_text=handed.text, continued=handed.continued)
    lab.said(second, "\U0001f6f8!")
    from tests.e2e.seam_trial import delta, events

    chunks = [event for event in events(heard.data + more.data) if event["choices"]]
    assert "".join(map(delta, chunks)) == "Go:\U0001f6f8!"


# Whose the parts are


async def test_events_say_whose_each_part_is_where_the_client_asked(lab):
    from tests.e2e.seam_trial import events

    first, second = lab.Engine("gpt2", "small"), lab.Engine("qwen", "large")
    data, more, _ = await hand_over(lab, first, second, text="The sum", rest=" is 42.", stream=True, told=True)
    marked = [(event["headgate"]["model"], event["model"]) for event in events(data + more.data) if "headgate" in event]
    assert marked == [("small", "small"), ("large", "small")]


async def test_an_engine_that_goes_on_with_its_own_answer_is_told_as_one_model(lab):
    from tests.e2e.seam_trial import read

    engine = lab.Engine("gpt2", "small")
    data, more, _ = await hand_over(lab, engine, engine, text="The sum", rest=" is 42.")
    text, _, _, usage = read(data + more.data, "chat", False)
    assert (text, "headgate" in usage) == ("The sum is 42.", False)


# Handing on


async def test_an_answer_stopped_before_its_first_token_is_opened_by_the_next_engine(lab):
    from tests.e2e.seam_trial import read

    first, second = lab.Engine("gpt2", "small"), lab.Engine("qwen", "large")
    fields = {"stream": True, "stream_options": {"include_usage": True}}
    data, more, handed = await hand_over(lab, first, second, text="", rest="42.", **fields)
    assert (data, handed.text, handed.continued.sent) == (b"", "", 0)
    assert (handed.tokens, handed.continued.opened) == (0, False)
    text, _, _, usage = read(more.data, "chat", True)
    assert (text, usage.get("headgate")) == ("42.", None)


async def test_a_host_that_stops_an_answer_itself_hands_on_what_was_heard_and_aborts_it(lab):
    from router.watched import Figures

    engine, heard = lab.Engine("gpt2", "small"), lab.Heard()
    stop = await lab.start(engine, heard, kind="chat", body=lab.body("chat", stream=True), watch=b"{}")
    ids = lab.ids_of(engine, "The sum is")
    engine.say(ids)
    figures = Figures(tokens=len(ids))
    stop.__self__.handed_on("slow", figures, b"xy", " 42")
    handed = heard.handed
    assert (handed.text, handed.tokens, handed.why) == ("The sum is", len(ids), "slow")
    assert (handed.figures, handed.first_logits, handed.continued.look) == (figures, b"xy", " 42")
    assert handed.continued.sent == len("The sum is")
    await asyncio.sleep(0)
    assert engine.aborted == [engine.last]
    engine.say(ids)
    assert heard.ends == 1


async def test_a_request_of_one_engine_keeps_no_text(lab):
    from router.host.sse import EventWriter

    engine = lab.Engine("gpt2", "small")
    stop = await lab.start(engine, lab.Heard(), kind="chat", body=lab.body("chat", stream=True))
    assert type(stop.__self__._writer) is EventWriter


# What is refused


@pytest.mark.parametrize(
    ("kind", "fields"),
    [
        ("chat", {"n": 2}),
        ("chat", {"logprobs": True}),
        ("chat", {"tools": [{"type": "function", "function": {"name": "f"}}]}),
        ("chat", {"response_format": {"type": "json_object"}}),
        ("chat", {"prompt_logprobs": 1}),
        ("completions", {"n": 2}),
        ("completions", {"logprobs": 1}),
        ("completions", {"echo": True}),
        ("completions", {"suffix": "x"}),
        ("responses", {"input": "x"}),
        ("messages", {"max_tokens": 3}),
    ],
    ids=lambda value: value if isinstance(value, str) else "-".join(value),
)
async def test_what_the_fast_way_does_not_write_is_not_continued_by_it(lab, kind, fields):
    engine = lab.Engine("gpt2", "small")
    body = lab.body(kind, **fields)
    submit = Submit(id=1, kind=kind, body=body, continue_text="x", continued=Continued(id="x"))
    assert engine.way.start(submit, lab.Heard()) is None


@pytest.mark.parametrize("kind", ["gpt2", "qwen", "sentencepiece"])
async def test_the_detokenizers_of_this_vllm_take_text_from_before(lab, kind):
    from router.host.adapter.priming import can_prime

    assert can_prime(lab.vllm_tokenizer(kind))


async def test_a_vllm_whose_detokenizer_is_another_does_not_say_that_it_continues(lab, monkeypatch):
    from router.host.adapter import priming

    class Other:
        output_text = ""
        stop = ()

        def get_next_output_text(self, finished, delta):
            return ""

    monkeypatch.setattr(priming.IncrementalDetokenizer, "from_new_request", lambda tokenizer, request: Other())
    assert not priming.can_prime(None)


async def test_a_token_that_came_before_the_text_was_known_fails_the_answer(lab, monkeypatch):
    engine, heard = lab.Engine("gpt2", "small"), lab.Heard()
    added = engine.add_request

    async def hasty(*given, **more):
        collector = await added(*given, **more)
        engine.say(lab.ids_of(engine, "!"))
        return collector

    monkeypatch.setattr(engine, "add_request", hasty)
    asyncio.get_running_loop().set_exception_handler(lambda loop, context: None)
    before = Continued(id="x", completion_tokens=1, prompt_tokens=3)
    await lab.start(engine, heard, kind="chat", body=lab.body("chat"), continue_text="a", continued=before)
    for _ in range(10):
        await asyncio.sleep(0)
    assert (heard.failure.status, heard.failure.retryable, heard.data) == (502, True, b"")
    assert (
        "a token came before the text that it continues was known" in json.loads(heard.failure.body)["error"]["message"]
    )
    assert engine.aborted == [engine.last]
