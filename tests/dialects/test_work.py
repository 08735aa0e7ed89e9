"""No step from a body's bytes to its scores costs more than in proportion to the body's size."""

import time
from collections.abc import Callable

import msgspec
import pytest

from router.config import Member
from router.dialects.decode import decode
from router.errors import BadRequest
from router.features import segments
from router.native import plain
from router.native.spec import TurnWeights
from router.pipeline.scoring import Scoring
from router.types import Kind, Turn


class Counted(float):
    """A number that counts the arithmetic done on it and on what came of it."""

    operations = 0

    def _count(self, value: float) -> "Counted":
        Counted.operations += 1
        return Counted(value)

    def __pow__(self, other: float, modulo: None = None) -> "Counted":
        return self._count(float(self) ** float(other))

    def __add__(self, other: float) -> "Counted":
        return self._count(float(self) + float(other))

    def __mul__(self, other: float) -> "Counted":
        return self._count(float(self) * float(other))

    def __truediv__(self, other: float) -> "Counted":
        return self._count(float(self) / float(other))

    __radd__, __rmul__ = __add__, __mul__


@pytest.mark.parametrize("roles", [("user", "assistant"), ("system",), ("",)])
def test_weighing_n_turns_takes_some_operations_a_turn(roles: tuple[str, ...]) -> None:
    number = Counted(0.5)
    for turns in (1_000, 10_000):
        Counted.operations = 0
        segments(
            [Turn(roles[i % len(roles)], "a") for i in range(turns)],
            TurnWeights(earlier=number, decay=number, system=number),
        )
        assert Counted.operations <= 5 * turns


def turns(n: int) -> bytes:
    return b'{"messages":[%b]}' % b",".join([b'{"role":"user","content":"a"}'] * n)


def parts(n: int) -> bytes:
    return b'{"messages":[{"role":"user","content":[%b]}]}' % b",".join([b'{"type":"text","text":"a"}'] * n)


def one_word(n: int) -> bytes:
    return b'{"messages":[{"role":"user","content":"%b"}]}' % (b"a" * n)


def other_words(n: int) -> bytes:
    return b'{"messages":[{"role":"user","content":"%b"}]}' % b" ".join(b"w%x" % (i * 7919) for i in range(n))


def escapes(n: int) -> bytes:
    return b'{"messages":[{"role":"user","content":"%b"}]}' % (b"\\n\\ud83c\\udf89" * n)


def backslashes(n: int) -> bytes:
    """Malformed at its end, so that the explanation is made too."""
    return b'{"messages":[{"role":"user","content":"a"}],"x":"%b\\ud83d"}' % (b"\\\\" * n)


def unread_fields(n: int) -> bytes:
    more = b",".join(b'"f%d":[{"a":1e9}]' % i for i in range(n))
    return b'{"messages":[{"role":"user","content":"a"}],%b}' % more


def same_field(n: int) -> bytes:
    return b'{"messages":[{"role":"user","content":"a"}],%b}' % b",".join([b'"n":1'] * n)


def lax_field(n: int) -> bytes:
    """Spelled as pydantic reads it, so that the body is read a second time."""
    return b'{"messages":[{"role":"user","content":"%b"}],"stream":"yes","max_tokens":"+4"}' % (b"a " * n)


def tools(n: int) -> bytes:
    tool = b'{"type":"function","function":{"name":"f"}}'
    return b'{"messages":[{"role":"user","content":"a"}],"tools":[%b]}' % b",".join([tool] * n)


def digits(n: int) -> bytes:
    return b'{"messages":[{"role":"user","content":"a"}],"seed":%b}' % (b"7" * n)


def digits_of_a_read_field(n: int) -> bytes:
    return b'{"messages":[{"role":"user","content":"a"}],"max_tokens":%b}' % (b"7" * n)


def brackets(n: int) -> bytes:
    return b'{"messages":[{"role":"user","content":"a"}],"x":%b}' % (b"[" * n + b"]" * n)


SCORING = Scoring.load("default", [Member(name="small", strength=0.3), Member(name="large", strength=0.6)])


def decide(kind: Kind, body: bytes) -> None:
    """All that the ordinary way and the common way do with a body before the policy."""
    plain.read_chat(body, TurnWeights())
    try:
        query = decode(kind, body)
    except BadRequest:
        return
    SCORING.score(query)


@pytest.mark.parametrize(
    ("body", "size"),
    [
        (turns, 2_000), (parts, 4_000), (one_word, 60_000), (other_words, 5_000),
        (escapes, 20_000), (backslashes, 200_000), (unread_fields, 10_000), (same_field, 30_000), (lax_field, 20_000),
        (tools, 8_000), (digits, 300_000), (digits_of_a_read_field, 300_000), (brackets, 100_000),
    ],
)  # fmt: skip
def test_a_body_of_sixteen_times_the_size_takes_about_sixteen_times_the_work(
    body: Callable[[int], bytes], size: int
) -> None:
    """A quadratic step would take 256 times as long. The processor's time counts, so that a busy machine may run it."""
    small, large = body(size), body(16 * size)
    spent_s = min(_processor_s(small) for _ in range(3))
    assert min(_processor_s(large) for _ in range(2)) < 64 * max(spent_s, 1e-3)


def test_a_text_below_many_tool_results_is_copied_once() -> None:
    """Joined anew at each level, it would be copied 400 times."""

    def nested(levels: int) -> bytes:
        content = b'"%b"' % (b"word " * 400_000)
        for _ in range(levels):
            content = b'[{"type":"tool_result","content":%b},"b"]' % content
        return b'{"messages":[{"role":"user","content":%b}]}' % content

    assert decode("chat", nested(3)).turns[0].text == "word " * 400_000 + "\nb" * 3
    spent_s = min(_processor_s(nested(4)) for _ in range(3))
    assert min(_processor_s(nested(400)) for _ in range(2)) < 4 * spent_s


def test_what_is_wrong_with_a_long_body_of_escapes_is_told_without_reading_it_anew() -> None:
    """Looked at escape by escape, the explanation took fifty times as long as the reading."""
    body = b'{"messages":[{"role":"user","content":"%b\x01"}]}' % (b"\\n" * 2_000_000)
    begun = time.thread_time()
    with pytest.raises(msgspec.DecodeError):
        msgspec.json.decode(body)
    reading_s = time.thread_time() - begun
    assert min(_processor_s(body) for _ in range(3)) < 20 * max(reading_s, 1e-3)


def _processor_s(body: bytes) -> float:
    begun = time.thread_time()
    decide("chat", body)
    return time.thread_time() - begun
