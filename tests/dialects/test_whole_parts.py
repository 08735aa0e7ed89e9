"""Bare texts among a message's parts become parts, natively; nothing else of a body changes."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from router.dialects.decode import read
from router.dialects.lax import _MOST_PARTS
from router.errors import BadRequest
from router.native.large_body import with_whole_parts

texts = st.text('aé"\\\n,]}', max_size=4)
values = st.recursive(
    st.one_of(texts, st.integers(), st.none(), st.booleans()),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3), st.dictionaries(st.sampled_from(["content", "messages", "a"]), inner, max_size=2)
    ),
    max_leaves=8,
)
objects = st.dictionaries(st.sampled_from(["content", "role", "system", "x"]), values, max_size=4)


def whole(parts: Any) -> Any:
    if not isinstance(parts, list):
        return parts
    return [{"type": "text", "text": part} if isinstance(part, str) else part for part in parts]


@given(st.lists(objects | values, max_size=4) | values, values, values, st.sampled_from([None, 1]), st.booleans())
def test_bare_texts_of_messages_and_system_become_parts(
    messages: Any, system: Any, other: Any, indent: int | None, ascii: bool
) -> None:
    body = {"messages": messages, "other": other, "system": system}
    rewritten = with_whole_parts(json.dumps(body, indent=indent, ensure_ascii=ascii).encode(), 100)
    if isinstance(messages, list):
        messages = [
            {key: whole(value) if key == "content" else value for key, value in message.items()}
            if isinstance(message, dict)
            else message
            for message in messages
        ]
    assert isinstance(rewritten, bytes)
    assert json.loads(rewritten) == {"messages": messages, "other": other, "system": whole(system)}


def test_every_other_byte_stays_as_it_was() -> None:
    body = b' { "messages" :[ { "c\\u006fntent": [ "a" , {"text" : 1e3} ,"b"] , "content ":["c"] } ], "x": ["d"] } '
    assert with_whole_parts(body, 9) == body.replace(b'"a"', b'{"type":"text","text":"a"}').replace(
        b'"b"', b'{"type":"text","text":"b"}'
    )


@pytest.mark.parametrize(
    ("contents", "system", "too_many"),
    [
        ([_MOST_PARTS - 1, 1], 0, ""),
        ([_MOST_PARTS - 1, 2], 0, "content"),
        ([1], _MOST_PARTS - 1, ""),
        ([1], _MOST_PARTS, "system"),
        ([1, _MOST_PARTS], _MOST_PARTS, "content"),
    ],
)
def test_more_parts_than_are_rewritten_are_refused(contents: list[int], system: int, too_many: str) -> None:
    messages = [{"role": "user", "content": ["a"] * count} for count in contents]
    body = json.dumps({"system": ["a"] * system, "messages": messages}).encode()
    if not too_many:
        assert read("messages", body)[1].count(b'"type"') == sum(contents) + system
        return
    with pytest.raises(BadRequest) as refused:
        read("messages", body)
    message = f"`{too_many}`: more than {_MOST_PARTS} parts, and bare texts among them"
    assert (str(refused.value), refused.value.param) == (f'{message}; send `{{"type": "text"}}` parts', too_many)


@given(st.binary(max_size=60) | st.text('{}[]",:\\ messages content', max_size=80).map(str.encode))
def test_what_is_no_json_ends(body: bytes) -> None:
    assert with_whole_parts(body, 5) is not None
