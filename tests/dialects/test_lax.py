"""Values are read as pydantic's lax mode reads them: what it takes is taken, for the same value."""

import json
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError

from router.dialects.decode import decode
from router.errors import BadRequest

FLAG, NUMBER = TypeAdapter(bool | None), TypeAdapter(int | None)
IDS: TypeAdapter[Any] = TypeAdapter(list[int] | list[list[int]] | str | list[str] | None)
USER = [{"role": "user", "content": "hi"}]
ROUTES = {"chat": {"messages": USER}, "completions": {"prompt": "hi"}}

texts = st.one_of(
    st.sampled_from(["yes", "NO", "on", "Off", "t", "F", "y", "n", "true", "FALSE", "1", "0", " 1", "yes "]),
    st.from_regex(r"[ \t]?[+-]?[0-9_]{1,4}(\.0{0,2})?[ \n]?", fullmatch=True),
    st.text("0123456789+-._ eEx\u0660\u00a0", max_size=6),
)
value = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-2, 40),
    st.sampled_from([0.0, 1.0, 2.0, 16.0, 0.5, -1.0, 1e18, 1e300]),
    texts,
    st.lists(st.integers(0, 1), max_size=1),
)


def pydantic(adapter: TypeAdapter[Any], given: object) -> tuple[bool, Any]:
    try:
        return True, adapter.validate_python(given)
    except ValidationError:
        return False, None


@settings(max_examples=500, deadline=None)
@given(value, st.sampled_from(list(ROUTES)))
@example("YeS", "chat")
@example(0.0, "completions")
def test_a_flag_that_pydantic_takes_is_taken_for_the_same(given: object, route: Any) -> None:
    taken, meant = pydantic(FLAG, given)
    body = json.dumps({**ROUTES[route], "stream": given}).encode()
    if taken:
        assert decode(route, body).stream is bool(meant)


@settings(max_examples=500, deadline=None)
@given(value)
@example(" +4.0 ")
@example("1_0")
def test_a_number_that_pydantic_takes_is_taken_for_the_same(given: object) -> None:
    taken, meant = pydantic(NUMBER, given)
    body = json.dumps({"messages": USER, "max_tokens": given}).encode()
    if not taken or (meant is not None and not 1 <= meant < 2**31):
        if taken:
            with pytest.raises(BadRequest, match="max_tokens"):
                decode("chat", body)
        return
    assert decode("chat", body).max_tokens == meant


@settings(max_examples=300, deadline=None)
@given(
    st.lists(st.one_of(st.booleans(), st.integers(0, 9), st.sampled_from([1.0, 2.5, "3", "a"])), min_size=1, max_size=4)
)
def test_token_ids_that_pydantic_takes_are_taken(given: list[object]) -> None:
    taken, meant = pydantic(IDS, given)
    if taken:
        query = decode("completions", json.dumps({"prompt": given}).encode())
        if all(isinstance(item, int) for item in meant) and not any(isinstance(item, str) for item in given):
            assert query.token_ids == len(meant)
