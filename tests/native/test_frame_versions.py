"""Frames of older and newer peers: native readers and msgspec take every longer, shorter and odd array for the same."""

import os
import random
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from router.ipc.messages import Chunks, Done, Load, Message
from router.native import plain
from router.types import Timings, Usage

ROUNDS = int(os.environ.get("HEADGATE_FUZZ_ROUNDS", "20000"))
SEED = int(os.environ.get("HEADGATE_FUZZ_SEED", "20260101"))

encode = msgspec.msgpack.encode
_decode = msgspec.msgpack.Decoder(Message).decode
_UNREADABLE = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)

DONE: list[Any] = [4, 7, [300, 70_000, 1], "length", [0.5, 1.5]]
UNWATCHED: list[Any] = [*DONE, None, b""]  #: all fields of one whose answer was not watched
SUMS = [float(i) for i in range(22)]
LOAD: list[Any] = [7, 300, 1, 0.5, 0.25, 1e3, 0.01, 70_000, SUMS]
CHUNKS: list[Any] = [3, [[1, b"data: {}\n\n"], [70_000, b""], [2**40, bytes(300)]]]

scalars = (
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats()
    | st.text(max_size=300)
    | st.binary(max_size=300)
    | st.builds(msgspec.msgpack.Ext, st.integers(-128, 127), st.binary(max_size=300))
)
#: Whatever msgpack can hold, nested too.
values = st.recursive(
    scalars, lambda inner: st.lists(inner, max_size=20) | st.dictionaries(st.text(max_size=5), inner, max_size=20)
)
appended = st.lists(values, min_size=1, max_size=20)


def natively(frame: bytes) -> Message | None:
    """What the native readers take a frame for; None: it is left to msgspec."""
    chunks, done, load = plain.read_chunks(frame), plain.read_done(frame), plain.read_load(frame)
    assert (chunks, done, load).count(None) >= 2
    if chunks is not None:
        return Chunks(chunks)
    if done is not None:
        id, usage, times, reason = done
        return Done(id=id, usage=Usage(*usage), finish_reason=reason, timings=Timings(*times))
    if load is not None:
        running, waiting, kv_use, prefix_hit, prefill, output, held, sums = load
        return Load(
            running=running,
            waiting=waiting,
            kv_use=kv_use,
            prefix_hit=prefix_hit,
            prefill_tokens_per_s=prefill,
            time_per_output_token_s=output,
            context_tokens=held,
            sums=sums,
        )
    return None


def check_alike(frame: bytes) -> bool:
    """Whether it was read natively, and then as msgspec reads it. What msgspec refuses is never taken."""
    found = natively(frame)
    if found is None:
        return False
    try:
        read = _decode(frame)
    except _UNREADABLE as error:
        pytest.fail(f"{frame.hex()} was taken for {found}; msgspec: {error}")
    assert repr(found) == repr(read), frame.hex()  # repr: two that are no number are not equal
    return True


@pytest.mark.parametrize("fields", [UNWATCHED, LOAD, CHUNKS], ids=["done", "load", "chunks"])
@given(appended)
@settings(max_examples=200, deadline=None)
def test_fields_appended_to_a_message_are_skipped_natively(fields: list[Any], more: list[Any]) -> None:
    frame = encode(fields + more)
    assert natively(frame) == natively(encode(fields)) == _decode(frame)


@given(appended, appended)
@settings(max_examples=200, deadline=None)
def test_fields_appended_to_usage_and_timings_are_skipped_natively(usage: list[Any], timings: list[Any]) -> None:
    frame = encode([4, 7, [300, 70_000, 1, *usage], "length", [0.5, 1.5, *timings]])
    assert natively(frame) == natively(encode(DONE)) == _decode(frame)


@pytest.mark.parametrize(
    "fields", [UNWATCHED[:length] for length in (2, 3, 4, 6, 7)] + [LOAD[:length] for length in range(1, 10)]
)
def test_missing_fields_have_their_defaults_natively(fields: list[Any]) -> None:
    found = natively(encode(fields))
    assert found is not None
    assert found == _decode(encode(fields))


@pytest.mark.parametrize("sums", [[], SUMS[:5], SUMS[:21], [*SUMS, 1.5], [*SUMS, None, [1]]], ids=len)
def test_step_sums_of_older_and_newer_hosts_are_read_natively(sums: list[Any]) -> None:
    frame = encode([*LOAD[:-1], sums])
    found = natively(frame)
    assert found is not None
    assert found == _decode(frame)


@pytest.mark.parametrize("more", [[[3, -0.5]], [None, b"\x00\x3c"]], ids=["figures", "logits"])
def test_an_end_with_figures_is_left_to_msgspec(more: list[Any]) -> None:
    frame = encode(DONE + more)
    assert natively(frame) is None
    assert isinstance(_decode(frame), Done)


@pytest.mark.parametrize("usage", [[], [3], [3, 2]], ids=str)
@pytest.mark.parametrize("timings", [[], [0.5]], ids=str)
def test_missing_fields_of_usage_and_timings_have_their_defaults_natively(
    usage: list[int], timings: list[float]
) -> None:
    frame = encode([4, 7, usage, "stop", timings])
    assert natively(frame) == Done(id=7, usage=Usage(*usage), timings=Timings(*timings)) == _decode(frame)


@pytest.mark.parametrize(
    ("fields", "why"),
    [
        ([4], "Expected `array` of at least length 2, got 1"),
        ([3], "Expected `array` of at least length 2, got 1"),
        ([3, [[1]]], "Expected `array` of length 2, got 1"),
        ([3, [[1, b"", 0]]], "Expected `array` of length 2, got 3"),
        ([], "Expected `array` of at least length 1, got 0"),
    ],
    ids=str,
)
def test_a_message_without_a_required_field_is_left_and_msgspec_says_what_is_missing(
    fields: list[Any], why: str
) -> None:
    assert natively(encode(fields)) is None
    with pytest.raises(msgspec.ValidationError, match=why):
        _decode(encode(fields))


@pytest.mark.parametrize("start", [DONE, LOAD, CHUNKS], ids=["done", "load", "chunks"])
@pytest.mark.parametrize(
    "value",
    [b"\xc1", b"\xdd\xff\xff\xff\xff", b"\xdf\xff\xff\xff\xff", b"\xc6\xff\xff\xff\xff", b"\xdb\xff\xff\xff\xff",
     b"\xc9\xff\xff\xff\xff", b"\x91", b"\x81\xc0", b"\xd8" + bytes(16), b"\xcb" + bytes(7), b"\xa1", b""],
    ids=bytes.hex,
)  # fmt: skip
def test_an_appended_value_that_is_not_whole_is_left(start: list[Any], value: bytes) -> None:
    frame = bytes([0x90 + len(start) + 1]) + encode(start)[1:] + value
    assert natively(frame) is None
    with pytest.raises(msgspec.DecodeError):
        _decode(frame)


def test_an_appended_value_nested_32_deep_is_skipped_and_a_deeper_one_is_left() -> None:
    for depth, taken in ((32, True), (33, False), (100_000, False)):
        frame = b"\x98" + encode(UNWATCHED)[1:] + b"\x91" * depth + b"\xc0"
        assert (natively(frame) is not None) is taken


def test_bytes_behind_the_last_field_are_left() -> None:
    for fields in (DONE, LOAD, CHUNKS):
        assert natively(encode(fields) + b"\xc0") is None


odd = st.one_of(values, st.lists(values, max_size=5), st.integers(0, 9), st.sampled_from(["stop", "länge", "x" * 40]))


@given(st.sampled_from([3, 4, 7, 5]), st.lists(odd, max_size=12))
@settings(max_examples=1000, deadline=None)
def test_any_array_is_read_alike_or_left(tag: int, fields: list[Any]) -> None:
    check_alike(encode([tag, *fields]))


@given(st.data())
@settings(max_examples=500, deadline=None)
def test_a_message_with_one_odd_field_is_read_alike_or_left(data: st.DataObject) -> None:
    fields = list(data.draw(st.sampled_from([DONE, LOAD, CHUNKS])))
    fields[data.draw(st.integers(0, len(fields) - 1))] = data.draw(odd)
    check_alike(encode(fields[: data.draw(st.integers(0, len(fields)))] + data.draw(st.lists(odd, max_size=3))))


def test_mutated_longer_and_shorter_frames_are_read_alike_or_left() -> None:
    source = random.Random(f"{SEED}-versions")
    extras = [None, True, -5, 2**40, 1.5, "text", b"bytes", [1, [2, {"a": [b""]}]], msgspec.msgpack.Ext(3, b"12345")]
    taken = 0
    for _ in range(ROUNDS):
        fields = source.choice((DONE, LOAD, CHUNKS))
        fields = fields[: source.randrange(1, len(fields) + 1)] + source.sample(extras, source.randrange(4))
        frame = bytearray(encode(fields))
        for _ in range(source.randrange(3)):
            at, change = source.randrange(len(frame)), source.randrange(3)
            if change == 0:
                frame[at] = source.randrange(256)
            elif change == 1:
                frame[at:at] = source.randbytes(source.randrange(1, 3))
            elif len(frame) > 1:
                del frame[at]
        taken += check_alike(bytes(frame))
    assert taken > ROUNDS // 20
