"""Which requests the fast way covers. A request that it takes wrongly would be answered wrongly."""

import msgspec
import pytest

from router.host.fields import ChatBody, CompletionBody, decode

MESSAGES = [{"role": "user", "content": "hi"}]

FAST_CHAT = [
    {},
    {"model": "auto", "stream": True, "stream_options": {"include_usage": True, "continuous_usage_stats": True}},
    {"temperature": 0, "top_p": 0.9, "top_k": 5, "min_p": 0.1, "seed": -3, "repetition_penalty": 1.1},
    {"frequency_penalty": 0.5, "presence_penalty": -0.5, "logit_bias": {"5": -100}},
    {"stop": "x"},
    {"stop": ["a", "b", "c", "d"]},
    {"stop": ["x", "y"], "stop_token_ids": [1, 2], "include_stop_str_in_output": True},
    {"max_tokens": 5, "max_completion_tokens": 6, "min_tokens": 1, "ignore_eos": True, "n": 3},
    {"skip_special_tokens": False, "spaces_between_special_tokens": False},
    {"user": "u", "metadata": {"a": 1}, "store": False, "service_tier": "auto", "parallel_tool_calls": True},
    {"response_format": {"type": "text"}, "logprobs": False, "top_logprobs": 0, "tool_choice": "none"},
    {"chat_template_kwargs": {"enable_thinking": False}, "priority": 0},
    {"temperature": None, "stop": None, "n": None, "max_tokens": None, "stream": None, "stream_options": None},
]

SLOW_CHAT = [
    {"tools": [{"type": "function", "function": {"name": "f"}}]},
    {"tool_choice": "auto"},
    {"response_format": {"type": "json_object"}},
    {"response_format": {"type": "json_schema", "json_schema": {}}},
    {"structured_outputs": {"regex": "a"}},
    {"guided_json": {}},
    {"logprobs": True},
    {"top_logprobs": 2},
    {"prompt_logprobs": 1},
    {"echo": True},
    {"use_beam_search": True},
    {"documents": []},
    {"chat_template": "x"},
    {"continue_final_message": True, "add_generation_prompt": False},
    {"reasoning_effort": "low"},
    {"return_token_ids": True},
    {"mm_processor_kwargs": {}},
    {"cache_salt": "x"},
    {"bad_words": ["x"]},
    {"truncate_prompt_tokens": 5},
    {"stream_options": {"include_usage": True}},  # without stream: vLLM refuses
    {"stream": True, "stream_options": {"other": 1}},
    {"n": 0},
    {"n": 100_000},
    {"temperature": "0.5"},
    {"stream": "yes"},
    {"max_tokens": 1.5},
    {"ignore_eos": None},
    {"seed": 2**70},
    {"never_heard_of": 1},
    {"stop": ["a", "b", "c", "d", "e"]},
]


@pytest.mark.parametrize("more", FAST_CHAT, ids=str)
def test_plain_chat_is_covered(more):
    assert isinstance(decode("chat", msgspec.json.encode({"messages": MESSAGES, **more})), ChatBody)


@pytest.mark.parametrize("more", SLOW_CHAT, ids=str)
def test_all_other_chat_is_not(more):
    assert decode("chat", msgspec.json.encode({"messages": MESSAGES, **more})) is None


@pytest.mark.parametrize(
    ("message", "covered"),
    [
        ({"role": "system", "content": "s"}, True),
        ({"role": "assistant", "content": "a"}, True),
        ({"role": "user", "content": "u", "name": "n"}, True),
        ({"role": "user", "content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]}, True),
        ({"role": "user", "content": [{"type": "image_url", "image_url": {"url": "x"}}]}, False),
        ({"role": "user", "content": [{"type": "text", "text": "a", "cache_control": {}}]}, False),
        ({"role": "user", "content": "u", "name": None}, False),
        ({"role": "user", "content": [{"text": "a"}]}, False),
        ({"role": "user", "content": ["a"]}, False),
        ({"role": "user", "content": None}, False),
        ({"role": "user"}, False),
        ({"role": "assistant", "content": "a", "tool_calls": []}, False),
        ({"role": "assistant", "content": "a", "reasoning_content": "r"}, False),
        ({"role": "tool", "content": "t", "tool_call_id": "1"}, False),
        ({"role": "developer", "content": "d"}, False),
        ({"role": "user", "content": 5}, False),
        ("hello", False),
    ],
    ids=str,
)
def test_messages(message, covered):
    body = msgspec.json.encode({"messages": [message]})
    assert (decode("chat", body) is not None) is covered


@pytest.mark.parametrize(
    "body", [b"", b"{", b"[]", b"null", b'{"messages": []}', b"{}", b'{"messages": "x"}', b"\xff\xfe"]
)
def test_malformed_bodies_are_left_to_vllm(body):
    assert decode("chat", body) is None


def test_lone_surrogates_are_left_to_vllm():
    assert decode("chat", b'{"messages": [{"role": "user", "content": "\\ud800"}]}') is None


@pytest.mark.parametrize(
    ("more", "covered"),
    [
        ({}, True),
        ({"prompt": [1, 2, 3]}, True),
        ({"max_tokens": 3, "stream": True, "echo": False, "best_of": None, "suffix": None}, True),
        ({"prompt": ""}, False),
        ({"prompt": []}, False),
        ({"prompt": ["a", "b"]}, False),
        ({"prompt": [[1], [2]]}, False),
        ({"echo": True}, False),
        ({"logprobs": 0}, False),
        ({"best_of": 2}, False),
        ({"n": None}, False),
        ({"prompt": [1, -1]}, False),
        ({"suffix": "x"}, False),
        ({"max_tokens": None}, False),
    ],
    ids=str,
)
def test_completions(more, covered):
    body = msgspec.json.encode({"prompt": "once", **more})
    assert (decode("completions", body) is not None) is covered


def test_token_bounds_default_as_openai_does():
    completion = decode("completions", b'{"prompt": "x"}')
    assert isinstance(completion, CompletionBody)
    assert completion.max_output_tokens == 16
    chat = decode("chat", msgspec.json.encode({"messages": MESSAGES}))
    assert chat is not None
    assert chat.max_output_tokens is None
    both = decode("chat", msgspec.json.encode({"messages": MESSAGES, "max_tokens": 3, "max_completion_tokens": 4}))
    assert both is not None
    assert both.max_output_tokens == 4


@pytest.mark.parametrize("kind", ["responses", "messages", "tokenize", "detokenize"])
def test_other_kinds_are_never_covered(kind):
    assert decode(kind, msgspec.json.encode({"messages": MESSAGES})) is None
