"""What vLLM refuses is never answered by the fast way, and what both read they read alike: field by field, against
vLLM's own request models."""

import functools
import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from router.host.fields import ChatBody, CompletionBody, decode

pytestmark = [pytest.mark.engine, pytest.mark.filterwarnings("ignore")]

KINDS = {"chat": ChatBody, "completions": CompletionBody}
BASE: dict[str, dict[str, Any]] = {
    "chat": {"messages": [{"role": "user", "content": "hi"}]},
    "completions": {"prompt": "hi"},
}
#: Compared by hand, or no field of vLLM's.
_OTHER = {"messages", "stream_options", "response_format", "best_of"}

scalar = st.one_of(
    st.sampled_from([None, True, False, "", "x", "1", " 4 ", "+4", "4.0", "yes", "no", "text", "none", "auto", "a\0"]),
    st.sampled_from([0, 1, -1, 2, 5, 1024, 1025, 2**31, 2**63 - 1, 2**63, -(2**63), -(2**63) - 1, 2**70]),
    st.sampled_from([0.0, -0.0, 1.0, 1.5, -0.5, 3.0, 1e308, 5e-324]),
)
odd = st.recursive(
    scalar,
    lambda inner: (
        st.lists(inner, max_size=6)
        | st.dictionaries(
            st.sampled_from(
                ["type", "text", "include_usage", "continuous_usage_stats", "json_schema", "5", "-1", "x", "role"]
            ),
            inner,
            max_size=3,
        )
    ),
    max_leaves=6,
)
content = st.one_of(
    odd,
    st.lists(
        st.one_of(
            odd,
            st.fixed_dictionaries({"type": scalar, "text": scalar}),
            st.fixed_dictionaries({}, optional={"type": st.just("text"), "text": scalar, "cache_control": odd}),
        ),
        max_size=3,
    ),
)
message = st.fixed_dictionaries(
    {"role": st.sampled_from(["system", "user", "assistant", "tool", "developer"]) | scalar, "content": content},
    optional={"name": scalar, "tool_calls": odd, "refusal": odd},
)


@functools.cache
def models() -> dict[str, Any]:
    from vllm.entrypoints.openai.chat_completion.protocol import ChatCompletionRequest
    from vllm.entrypoints.openai.completion.protocol import CompletionRequest

    return {"chat": ChatCompletionRequest, "completions": CompletionRequest}


def check(kind: Any, body: dict[str, Any]) -> bool:
    """Whether the fast way takes `body`; fails where vLLM would not, or would take it for something else."""
    encoded = json.dumps(body).encode()
    fast = decode(kind, encoded)
    if fast is None:
        return False
    try:
        full = models()[kind](**json.loads(encoded))
    except Exception as error:
        pytest.fail(f"the fast way takes what vLLM refuses: {body}: {error}")
    for name in set(fast.__struct_fields__) - _OTHER:
        value = getattr(fast, name)
        if value is not None:
            assert value == getattr(full, name, value), name
    for message in body.get("messages", ()):
        if isinstance(message["content"], list):  # vLLM looks at these as late as when it renders them
            assert all(part.keys() == {"type", "text"} and part["type"] == "text" for part in message["content"])
    return True


@pytest.mark.parametrize("kind", KINDS)
def test_a_plain_body_is_taken(kind: str) -> None:
    assert check(kind, BASE[kind])


@pytest.mark.parametrize(
    ("kind", "field"), [(kind, field) for kind, struct in KINDS.items() for field in struct.__struct_fields__]
)
@settings(max_examples=60, deadline=None)
@given(value=odd, stream=st.sampled_from([{}, {"stream": True}, {"stream": False}]))
def test_an_odd_value_of_a_field_is_taken_as_vllm_takes_it_or_left(
    kind: str, field: str, value: object, stream: dict[str, Any]
) -> None:
    check(kind, {**BASE[kind], **stream, field: value})


@settings(max_examples=600, deadline=None)
@given(messages=st.lists(message, min_size=1, max_size=3))
def test_odd_messages_are_taken_as_vllm_takes_them_or_left(messages: list[dict[str, Any]]) -> None:
    check("chat", {"messages": messages})


@pytest.mark.parametrize("field", ["stop", "stop_token_ids", "n", "prompt", "logit_bias"])
@pytest.mark.parametrize(
    "value",
    [["a"] * 4, ["a"] * 5, None, [-1], [0], [2**63], [1.0], [True], ["1"], {"5": 1}, {"5": None}, {"x": 1}, "a", 2],
    ids=str,
)
def test_values_near_a_bound(field: str, value: object) -> None:
    for kind in KINDS:
        check(kind, {**BASE[kind], field: value})
