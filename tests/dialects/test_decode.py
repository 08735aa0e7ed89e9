"""What routing reads of each kind of body."""

import json
import time

import pytest

from router.dialects.decode import decode
from router.dialects.decode import read as read_body
from router.errors import BadRequest
from router.types import MEMBER_ROUTES, Kind, Query, Turn


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


@pytest.mark.parametrize("value", ["16", 16.0, " 16 ", "+16", "1_6", "16.0", "016"])
@pytest.mark.parametrize("field", ["max_tokens", "max_completion_tokens", "n"])
def test_an_integer_is_read_however_pydantic_reads_it(field: str, value: object) -> None:
    query = read("chat", messages=USER, **{field: value})
    assert 16 in (query.max_tokens, query.choices)


def test_true_is_one() -> None:
    assert read("chat", messages=USER, max_tokens=True).max_tokens == 1
    assert read("responses", input="hi", max_output_tokens=True).max_tokens == 1
    assert read("messages", messages=USER, max_tokens=True).max_tokens == 1


@pytest.mark.parametrize("value", [1, 1.0, "1", "on", "T", "true", "TRUE", "y", "Yes"])
def test_what_pydantic_reads_as_true(value: object) -> None:
    query = read("chat", messages=USER, stream=value, logprobs=value)
    assert (query.stream, query.needs) == (True, {"chat", "logprobs"})


@pytest.mark.parametrize("value", [0, 0.0, "0", "off", "F", "false", "FALSE", "n", "No"])
def test_what_pydantic_reads_as_false(value: object) -> None:
    query = read("chat", messages=USER, stream=value, logprobs=value)
    assert (query.stream, query.needs) == (False, {"chat"})


@pytest.mark.parametrize("value", [True, False])
def test_completions_take_a_boolean_for_the_number_of_logprobs(value: bool) -> None:
    assert read("completions", prompt="a", logprobs=value).needs == {"completions", "logprobs"}


@pytest.mark.parametrize(
    ("field", "value"),
    [("stream", "maybe"), ("stream", 2), ("stream", []), ("max_tokens", 1.5), ("max_tokens", "x"), ("n", "4 2"),
     ("n", "--1"), ("max_tokens", {}), ("logprobs", 0.5), ("stream", "t" * 1000), ("n", 1e300)],
)  # fmt: skip
def test_what_pydantic_refuses_is_refused_by_its_name(field: str, value: object) -> None:
    with pytest.raises(BadRequest) as error:
        read("chat", messages=USER, **{field: value})
    assert error.value.param == field
    assert error.value.message.startswith(f"`{field}`: ")


def test_of_equal_keys_the_last_wins_whatever_the_others_hold() -> None:
    query = decode("chat", b'{"n":"x","model":3,"messages":0,"messages":[{"role":"u"}],"model":"a","n":"+2"}')
    assert (query.model, query.choices) == ("a", 2)


# What travels on


def test_a_byte_order_mark_does_not_travel_on() -> None:
    body = json.dumps({"messages": USER}).encode()
    query, sent = read_body("chat", b"\xef\xbb\xbf" + body)
    assert (query.turns, sent) == ((Turn("user", "hi"),), body)


def test_any_other_body_is_the_very_same() -> None:
    body = b'{"messages" : [{"role":"user","content":[{"type":"text","text":"a"}]}], "stream":"no", "n":"+2"} '
    assert read_body("chat", body)[1] is body


@pytest.mark.parametrize("kind", ["chat", "messages", "tokenize"])
def test_a_bare_text_among_parts_becomes_a_part(kind: Kind) -> None:
    message = b'{"role":"user","x":1.50,"content":["a\\u00e9",{"type":"text","text":"b"}]}'
    body = b'{"a":1e2,"messages":[%b,{"role":"u"}]}' % message
    query, sent = read_body(kind, body)
    assert query.turns == (Turn("user", "a\u00e9\nb"), Turn("u", ""))
    assert query.needs == (set() if kind == "tokenize" else {kind})
    assert sent == body.replace(b'"a\\u00e9"', b'{"type":"text","text":"a\\u00e9"}')


def test_a_bare_text_of_a_system_prompt_becomes_a_part() -> None:
    query, sent = read_body("messages", b'{"system":["s"],"messages":[{"role":"user","content":"hi"}]}')
    assert query.turns[0] == Turn("system", "s")
    assert json.loads(sent)["system"] == [{"type": "text", "text": "s"}]


# Malformed


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b'{"metadata":"a \\ud83d"}', r"not valid JSON: half of a surrogate pair, \ud83d, stands alone (byte 15)"),
        (b'{"a":"\\\\\\uDE00"}', r"half of a surrogate pair, \uDE00, stands alone (byte 8)"),
        (b'{"a":"\\ud83d\\ud83d\\ude00"}', r"half of a surrogate pair, \ud83d, stands alone (byte 6)"),
        (b'{"messages":[{"role":"u","content":"\\ud83d!"}]}', r"\ud83d, stands alone (byte 36)"),
        (b'{"a":"\\ud83d\\ude00', "Input data was truncated (byte 18)"),
        (b'{"a":"\\\\ud83d', "Input data was truncated (byte 13)"),
        (b'{"a":x,"b":"\\ud83d"}', "invalid character (byte 5)"),
        ('{"a":1}'.encode("utf-16"), "not valid UTF-8: UTF-16"),
        ('{"a":1}'.encode("utf-16-le"), "not valid UTF-8: UTF-16 or UTF-32"),
        ('{"a":1}'.encode("utf-32-be"), "not valid UTF-8: UTF-16 or UTF-32"),
    ],
)
def test_malformed_text_is_refused_by_its_cause_and_place(body: bytes, message: str) -> None:
    with pytest.raises(BadRequest) as error:
        decode("chat", body)
    assert message in error.value.message
    assert error.value.code == "invalid_json"


def test_completions() -> None:
    query = read("completions", prompt="hi", max_tokens=0, echo=True, logprobs=0, stream=True)
    assert query.turns == (Turn("user", "hi"),)
    assert query.needs == {"completions", "logprobs"}
    assert (query.max_tokens, query.stream) == (0, True)
    assert read("completions", prompt=["a", "b"]).turns == (Turn("user", "a\nb"),)


@pytest.mark.parametrize(
    ("prompt", "text", "ids"),
    [([1, 2], "", 2), ([[1, 2], [3]], "", 2), (["a", [1]], "a", 1), ([[]], "", 1), ([True, 2.0], "", 2), ("a", "a", 0)],
)
def test_token_ids_of_the_longest_prompt_are_counted(prompt: object, text: str, ids: int) -> None:
    query = read("completions", prompt=prompt)
    assert (query.turns[0].text, query.token_ids) == (text, ids)


@pytest.mark.parametrize(
    ("prompt", "why"),
    [
        ([1.5], r"^`prompt\[0\]`: expected `int \| str \| array`, got `float`$"),
        ([1.0, {}], r"^`prompt\[1\]`: expected `int \| str \| array`, got `object`$"),
        ([[1, True], [2.5]], r"^`prompt\[1\]\[0\]`: expected `int`, got `float`$"),
    ],
)
def test_what_is_no_token_id_is_named_as_what_it_is(prompt: object, why: str) -> None:
    with pytest.raises(BadRequest, match=why):
        read("completions", prompt=prompt)


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


@pytest.mark.parametrize(
    ("kind", "fields", "any_length"),
    [
        ("chat", {"messages": USER}, False),
        ("chat", {"messages": USER, "truncate_prompt_tokens": 20}, True),
        ("chat", {"messages": USER, "truncate_prompt_tokens": None}, False),
        ("completions", {"prompt": "hi", "truncate_prompt_tokens": -1}, True),
        ("completions", {"prompt": "hi"}, False),
        ("responses", {"input": "hi", "truncation": "auto"}, True),
        ("responses", {"input": "hi", "truncation": "disabled"}, False),
        ("tokenize", {"prompt": "hi"}, True),
        ("detokenize", {"tokens": [1]}, True),
    ],
)
def test_a_prompt_that_is_cut_to_fit_or_only_into_tokens_may_be_of_any_length(
    kind: Kind, fields: dict[str, object], any_length: bool
) -> None:
    assert read(kind, **fields).any_length is any_length


@pytest.mark.parametrize("kind", ["messages", "count_tokens"])
def test_a_message_names_its_model_or_none_but_no_empty_one(kind: Kind) -> None:
    assert read(kind, messages=USER).model == "auto"
    with pytest.raises(BadRequest, match="`model` is empty") as refused:
        read(kind, messages=USER, model="")
    assert refused.value.param == "model"


def test_tokenizer_requests() -> None:
    assert read("tokenize", prompt="hi").turns == (Turn("user", "hi"),)
    assert read("tokenize", messages=USER).turns == (Turn("user", "hi"),)
    assert read("detokenize", tokens=[1, True], model="small").token_ids == 2
    with pytest.raises(BadRequest, match="expected `prompt` or `messages`"):
        read("tokenize")


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
        with pytest.raises(BadRequest, match="more than 1048576 objects, lists, keys and values"):
            decode("chat", body % many)


@pytest.mark.parametrize(
    ("kind", "body"),
    [
        ("chat", b'{"messages":[{"role":"u","content":[%b""]}]}' % (b'"",' * 1_100_000)),
        ("chat", b'{"messages":[{"role":"u"}],"stream":"q",%b}' % b",".join([b'"k":1'] * 600_000)),
        ("chat", b'{"messages":[{"role":"u"}],"logit_bias":[%b1]}' % (b"1," * 1_100_000)),
        ("messages", b'{"messages":[{"role":"u","content":[{"content":{%b}}]}]}' % b",".join([b'"k":1'] * 600_000)),
        ("completions", b'{"prompt":[%b1]}' % (b"1," * 1_100_000)),
        ("completions", b'{"prompt":[%b[1]]}' % (b"[1]," * 600_000)),
        ("detokenize", b'{"tokens":["1",%b1]}' % (b"1," * 1_100_000)),
        ("responses", b'{"input":[%b{}]}' % (b'{"role":""},' * 400_000)),
    ],
    ids=range(8),
)
def test_a_body_of_more_values_than_are_decoded_in_a_moment_is_refused(kind: Kind, body: bytes) -> None:
    """A million of them took up to a second, thirty million up to twenty: no other request is served meanwhile."""
    with pytest.raises(BadRequest, match="the body holds more than 1048576 objects, lists, keys and values"):
        decode(kind, body)


def test_what_a_text_holds_is_no_value() -> None:
    text = '{"a": [1, 2]}, \\" ' * 200_000
    assert read("chat", messages=[{"role": "user", "content": text}]).turns[0].text == text


def test_a_prompt_of_a_million_token_ids_is_read() -> None:
    assert decode("completions", b'{"prompt":[%b1]}' % (b"1," * 1_000_000)).token_ids == 1_000_001


def test_bare_texts_among_more_parts_than_are_respelled_are_refused() -> None:
    with pytest.raises(BadRequest, match="more than 100000 parts, and bare texts among them") as error:
        decode("chat", b'{"messages":[{"role":"u","content":[%b""]}]}' % (b'"",' * 200_000))
    assert error.value.param == "content"


def test_many_token_ids_that_are_no_integers_are_refused_unread() -> None:
    with pytest.raises(BadRequest, match=r"`tokens\[0\]`: expected `int`, got `str`"):
        decode("detokenize", b'{"tokens":["x",%b1]}' % (b"1," * 500_000))


@pytest.mark.parametrize("before", [b"", b"\\\\" * 50_000, b"\\ud83d\\ude00" * 50_000, b'\\"' * 50_001, b"x" * 50_003])
@pytest.mark.parametrize(
    "half", [b"\\ud83d", b"\\udc00", b"\\ud83dx", b"\\ud83d\\n", b"\\ud83d\\u0041", b"\\ud83d\\ud83d"]
)
def test_half_of_a_pair_is_found_wherever_it_stands(before: bytes, half: bytes) -> None:
    head = b'{"x":"' + before
    with pytest.raises(BadRequest) as error:
        decode("chat", head + half + b'","messages":[]}')
    assert error.value.message.endswith(
        f"half of a surrogate pair, {half[:6].decode()}, stands alone (byte {len(head)})"
    )


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (
            b'{"messages":[%b]}' % b",".join([b"{}"] * 530_000),
            "the body holds more than 1048576 objects, lists, keys and",
        ),
        (b'{"messages":[%b]}' % b",".join([b"{}"] * 520_000), "`messages[0].role` is missing"),
        (b'{"messages":[{"role":"u"}],"n":%b}' % (b"7" * 1_000_000), "out of range"),
        (b'{"messages":[{"role":"u"}],"model":%b}' % (b"7" * 1_000_000), ""),
        (b'{"messages":[{"role":"u","content":%b}]}' % (b"[" * 100_000 + b"]" * 100_000), "nested too deeply"),
        (b"[" * 100_000, ""),
    ],
    ids=range(6),
)
def test_depth_and_size_are_refused(body: bytes, message: str) -> None:
    with pytest.raises(BadRequest) as error:
        decode("chat", body)
    assert message in error.value.message
    assert len(error.value.message) < 300


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


def test_a_batch_is_read_as_one_conversation_of_all() -> None:
    picture = [{"type": "text", "text": "what?"}, {"type": "image_url", "image_url": {"url": "u"}}]
    query = read("chat_batch", model="m", messages=[USER, [{"role": "user", "content": picture}]], max_tokens=7)
    assert query.turns == (Turn("user", "hi"), Turn("user", "what?"))
    assert (query.model, query.choices, query.max_tokens, query.stream) == ("m", 2, 7, False)
    assert query.needs == {"chat_batch", "vision"}


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ({"messages": []}, "`messages` is empty; expected a list of conversations"),
        ({"messages": [[]]}, "`messages` is empty"),
        ({"messages": USER}, r"`messages\[0\]`: expected `array`, got `object`"),
        ({}, "`messages` is missing"),
        ({"messages": [USER], "max_tokens": 0}, "`max_tokens`: expected 1 to"),
    ],
)
def test_a_batch_that_is_none_is_refused(body: dict[str, object], message: str) -> None:
    with pytest.raises(BadRequest, match=message):
        read("chat_batch", **body)


WHOLE = [kind for kind, route in MEMBER_ROUTES.items() if not route.decided and route.body != "form"]


@pytest.mark.parametrize("kind", WHOLE)
@pytest.mark.parametrize("inputs", [["x"], [[1, 2]] * 20_000])
def test_of_a_route_that_a_member_answers_whole_the_model_is_read(kind: Kind, inputs: list[object]) -> None:
    query = read(kind, model="m", input=inputs, stream=True)
    assert (query.model, query.turns, query.needs) == ("m", (), {kind})
    assert query.stream is MEMBER_ROUTES[kind].streams


@pytest.mark.parametrize("kind", ["embeddings", "pooling"])
@pytest.mark.parametrize("format", ["bytes", "bytes_only"])
def test_embeddings_that_are_no_json_are_refused(kind: Kind, format: str) -> None:
    with pytest.raises(BadRequest, match="`encoding_format`: expected 'float' or 'base64', got 'bytes") as refused:
        read(kind, input="x", encoding_format=format)
    assert refused.value.param == "encoding_format"


def test_a_body_of_a_whole_route_that_is_no_json_is_refused() -> None:
    with pytest.raises(BadRequest, match="not valid JSON"):
        decode("embeddings", b"{")
    with pytest.raises(BadRequest, match="`model`: expected `str"):
        decode("rerank", b'{"model": 3}')
