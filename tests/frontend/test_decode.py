"""What routing reads of each kind of body."""

import json
import time

import pytest

from router.errors import BadRequest
from router.frontend.decode import decode
from router.types import Kind, Query, Turn


def read(kind: Kind, **body: object) -> Query:
    return decode(kind, json.dumps(body).encode())


USER = [{"role": "user", "content": "hi"}]


def test_chat_reads_every_form_of_content() -> None:
    query = read(
        "chat",
        messages=[
            {"role": "system", "content": "be kind"},
            {"role": "user", "content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}, "c"]},
            {"role": "assistant", "content": None, "tool_calls": [{"id": "1", "function": {"name": "f"}}]},
            {"role": "tool", "tool_call_id": "1", "content": "42"},
            {"role": "user"},
        ],
    )
    assert query.turns == (
        Turn("system", "be kind"),
        Turn("user", "a\nb\nc"),
        Turn("assistant", ""),
        Turn("tool", "42"),
        Turn("user", ""),
    )
    assert (query.model, query.stream, query.max_tokens, query.choices) == ("auto", False, None, 1)
    assert query.needs == {"chat"}


@pytest.mark.parametrize(
    ("fields", "needs"),
    [
        ({}, set()),
        ({"temperature": 0.5, "unknown": {"deep": [1]}}, set()),
        ({"tools": [{"type": "function", "function": {"name": "f"}}]}, {"tools"}),
        ({"tools": []}, set()),
        ({"tools": None}, set()),
        ({"functions": [{"name": "f"}]}, {"tools"}),
        ({"response_format": {"type": "json_schema", "json_schema": {}}}, {"structured"}),
        ({"response_format": {"type": "json_object"}}, {"structured"}),
        ({"response_format": {"type": "text"}}, set()),
        ({"structured_outputs": {"regex": "a+"}}, {"structured"}),
        ({"logprobs": True, "top_logprobs": 3}, {"logprobs"}),
        ({"logprobs": False}, set()),
    ],
)
def test_chat_needs(fields: dict[str, object], needs: set[str]) -> None:
    assert read("chat", messages=USER, **fields).needs == {"chat"} | needs


@pytest.mark.parametrize(
    ("part", "need"),
    [
        ({"type": "image_url", "image_url": {"url": "data:"}}, "vision"),
        ({"type": "video_url", "video_url": {"url": "x"}}, "vision"),
        ({"type": "input_audio", "input_audio": {"data": "", "format": "wav"}}, "audio"),
    ],
)
def test_parts_need_senses(part: dict[str, object], need: str) -> None:
    assert read("chat", messages=[{"role": "user", "content": [part]}]).needs == {"chat", need}


def test_the_newer_token_limit_wins() -> None:
    assert read("chat", messages=USER, max_tokens=5, max_completion_tokens=7).max_tokens == 7


@pytest.mark.parametrize(
    ("field", "value", "want"), [("max_tokens", "16", 16), ("max_tokens", 16.0, 16), ("n", "2", 2)]
)
def test_what_vllm_coerces_is_coerced(field: str, value: object, want: int) -> None:
    query = read("chat", messages=USER, **{field: value})
    assert want in (query.max_tokens, query.choices)


def test_stream_as_text() -> None:
    assert read("chat", messages=USER, stream="true").stream


def test_completions() -> None:
    query = read("completions", prompt="hi", max_tokens=0, echo=True, logprobs=0, stream=True)
    assert query.turns == (Turn("user", "hi"),)
    assert query.needs == {"completions", "logprobs"}
    assert (query.max_tokens, query.stream) == (0, True)
    assert read("completions", prompt=["a", "b"]).turns == (Turn("user", "a\nb"),)


@pytest.mark.parametrize("prompt", [[1, 2], [[1, 2], [3]], ["a", [1]]])
def test_token_ids_need_a_named_model(prompt: list[object]) -> None:
    assert read("completions", prompt=prompt, model="small").turns[0].text in ("", "a")
    for model in ("auto", "headgate/auto", "router-mf-0.116", None):
        with pytest.raises(BadRequest, match="token ids, which mean something in one model's vocabulary only"):
            read("completions", prompt=prompt, model=model)


@pytest.mark.parametrize("fields", [{}, {"prompt": None}, {"prompt": []}])
def test_a_missing_prompt(fields: dict[str, object]) -> None:
    with pytest.raises(BadRequest, match="`prompt` is missing or empty"):
        read("completions", **fields)
    assert read("completions", prompt_embeds="AAAA", **fields).turns == (Turn("user", ""),)


def test_responses() -> None:
    query = read(
        "responses",
        model="small",
        instructions="be kind",
        input=[
            {
                "role": "user",
                "content": [{"type": "input_text", "text": "hi"}, {"type": "input_image", "image_url": "x"}],
            },
            {"type": "function_call", "name": "f", "arguments": "{}", "call_id": "1"},
            {"type": "function_call_output", "call_id": "1", "output": "42"},
            {"type": "computer_call_output", "call_id": "2", "output": {"type": "computer_screenshot"}},
        ],
        max_output_tokens=9,
        text={"format": {"type": "json_schema", "name": "x", "schema": {}}},
        tools=[{"type": "function", "name": "f"}],
    )
    assert query.turns == (
        Turn("system", "be kind"),
        Turn("user", "hi"),
        Turn("assistant", ""),
        Turn("tool", "42"),
        Turn("tool", ""),
    )
    assert query.needs == {"responses", "vision", "structured", "tools"}
    assert query.max_tokens == 9
    assert read("responses", input="hi").turns == (Turn("user", "hi"),)
    with pytest.raises(BadRequest, match="`input` is missing or empty"):
        read("responses", input=[])


def test_messages() -> None:
    result = {"type": "tool_result", "tool_use_id": "1", "content": [{"type": "text", "text": "42"}]}
    query = read(
        "messages",
        model="small",
        system=[{"type": "text", "text": "be kind"}],
        messages=[
            {"role": "user", "content": [{"type": "text", "text": "hi"}, {"type": "image", "source": {}}, result]}
        ],
        max_tokens=9,
        tools=[{"name": "f", "input_schema": {}}],
    )
    assert query.turns == (Turn("system", "be kind"), Turn("user", "hi\n42"))
    assert query.needs == {"messages", "vision", "tools"}


def test_tokenizer_requests() -> None:
    assert read("tokenize", prompt="hi").turns == (Turn("user", "hi"),)
    assert read("tokenize", messages=USER).turns == (Turn("user", "hi"),)
    assert read("detokenize", tokens=[1, 2], model="small").model == "small"
    with pytest.raises(BadRequest, match="expected `prompt` or `messages`"):
        read("tokenize")
    with pytest.raises(BadRequest, match="`tokens` holds token ids"):
        read("detokenize", tokens=[1, 2])


@pytest.mark.parametrize("kind", ["chat", "completions", "responses", "messages", "tokenize", "detokenize"])
@pytest.mark.parametrize(
    "body", [b"", b"null", b"3", b'"x"', b"[]", b"{", b'{"model":3}', b"\xff\xfe", b'{"a":' * 5000]
)
def test_nothing_but_bad_request_escapes(kind: Kind, body: bytes) -> None:
    with pytest.raises(BadRequest):
        decode(kind, body)


@pytest.mark.parametrize("unit", [b"{},", b"[],", b'{"role":""},'])
def test_bodies_that_would_explode_in_memory_are_refused(unit: bytes) -> None:
    many = unit * (16 * 1024 * 1024 // len(unit))
    for body in (b'{"messages":[{"role":"u","content":[%b""]}]}', b'{"messages":[%b{"role":""}]}', b'{"x":[%b0]}'):
        with pytest.raises(BadRequest, match="more than 1000000 objects and lists"):
            decode("chat", body % many)


def test_a_huge_model_name_is_not_echoed() -> None:
    with pytest.raises(BadRequest, match="`model`: expected at most 1024 characters"):
        read("chat", messages=USER, model="m" * 1_000_000)


def test_thirty_two_megabytes_do_not_hold_the_loop_for_long() -> None:
    """A second is far above what it takes, and far below what would be noticed as a hang."""
    body = b'{"messages":[{"role":"user","content":"' + b"word \\n" * (32 * 1024 * 1024 // 7) + b'"}]}'
    begun = time.process_time()
    query = decode("chat", body)
    assert time.process_time() - begun < 1
    assert len(query.turns[0].text) > 25_000_000
