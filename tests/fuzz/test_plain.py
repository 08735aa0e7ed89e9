"""Mutated requests, bodies and frames into the common way's readers: they take or leave it, and never read beyond."""

import contextlib
import json
import os
import random
from collections.abc import Callable

import pytest

from router.config import Limits
from router.dialects.decode import decode
from router.errors import BadRequest
from router.features import segments
from router.ipc.frames import encode_frame
from router.ipc.messages import Chunks, Done, Load
from router.native import plain
from router.native.spec import TurnWeights
from router.types import Timings, Usage

ROUNDS = int(os.environ.get("HEADGATE_FUZZ_ROUNDS", "20000"))
SEED = int(os.environ.get("HEADGATE_FUZZ_SEED", "20260101"))

START = b"POST /v1/chat/completions HTTP/1.1\r\n"
BODY = (
    b'{"model": "auto", "messages": [{"role": "system", "content": "a\\n\\u00e9\\ud83c\\udf89"}, '
    b'{"role": "user", "content": "\xc3\xa9 \xf0\x9f\x8e\x89", "name": null}], "stream": true, '
    b'"max_tokens": 16, "n": 2, "temperature": -0.5e1, "stop": ["x", {"y": [true, false, 12]}]}'
)
REQUEST = (
    START
    + b"Host: x\r\nContent-Type: application/json\r\nAuthorization: Bearer k\r\nContent-Length: %d\r\n\r\n%b"
    % (len(BODY), BODY)
)
CHUNKS = bytes(encode_frame(Chunks([(1, b"data: {}\n\n"), (70_000, b""), (2**40, bytes(300))])))[4:]
DONE = bytes(encode_frame(Done(id=4, usage=Usage(300, 70_000, 1), timings=Timings(0.5, 1.5))))[4:]
LOAD = bytes(encode_frame(Load(running=300, waiting=1, kv_use=0.5)))[4:]
TURNS, LIMITS = TurnWeights(), Limits()

READERS: dict[str, tuple[bytes, Callable[[bytes], object]]] = {
    "request": (REQUEST, lambda data: plain.read_request(data, START, LIMITS)),
    "body": (BODY, lambda data: plain.read_chat(data, TURNS)),
    "chunks": (CHUNKS, plain.read_chunks),
    "done": (DONE, plain.read_done),
    "load": (LOAD, plain.read_load),
}


@pytest.mark.parametrize("what", READERS)
def test_mutated_bytes_are_taken_or_left(what: str) -> None:
    good, read = READERS[what]
    assert read(good) is not None
    source = random.Random(f"{SEED}-{what}")
    for round in range(ROUNDS):
        data = _mutated(good, source)
        try:
            read(data)
        except Exception as error:
            pytest.fail(f"seed {SEED}, round {round}: {data!r}: {error!r}")


#: What readers may take for different things: marks, half pairs, equal keys, lax values, depth, large numbers.
ODD = (
    b"\xef\xbb\xbf", b"\xff\xfe", b'"\\ud83d"', b"\\ude00", b'\\"', b"\\u0000", b'"model":"b",', b'"n":1,',
    b'"messages":[],',
    b'"stream":"no",', b'"stream":0.0,', b'"max_tokens":"+4",', b'"max_tokens":4.0,', b'"max_tokens":1e1,', b'"n":01,',
    b'"logprobs":0,', b'"messages":null,', b'"x":' + b"[" * 20 + b"]" * 20 + b",",
    b'"x":' + b"[" * 2000 + b"]" * 2000 + b",",
    b'"x":' + b"7" * 30 + b",", b'"seed":-1e400,', b'"n":' + b"9" * 5000 + b",", b'"x":NaN,',
    b'{"role":"user","content":["t"]},',
    b'{"text":"t"},', b'{"type":"text","text":"t"},', b'"content":[{"text":"t"},{"text":"u"}],', b'"content":[],',
    b'"tools":[{}],', b'"functions":[ ],', b'"logprobs":true,', b'"response_format":{"type":"x"},', b'"tools":null,',
    b'{"role":"user"},', b"{},", b'{"content":null},', b'"role":1,', b"\t", b"\x00", b"\xc2\xa0", b"/**/", b"'",
)  # fmt: skip


def test_what_the_native_reader_takes_all_readers_take_for_the_same() -> None:
    """The ordinary reader of the frontend, and JSON as engines read it."""
    source = random.Random(f"{SEED}-readers")
    taken = 0
    for round in range(ROUNDS):
        data = _mutated(BODY, source) if source.random() < 0.5 else BODY
        for _ in range(source.randrange(3)):
            at = data.find(source.choice((b"{", b"[", b'"', b":", b",")), source.randrange(len(data) + 1)) + 1
            data = data[:at] + source.choice(ODD) + data[at:]
        found = plain.read_chat(data, TURNS)
        if found is None:
            with contextlib.suppress(BadRequest):
                decode("chat", data)
            continue
        taken += 1
        model, weighted, stream, max_tokens, choices, needs = found
        query, whole = decode("chat", data), json.loads(data)
        said = f"seed {SEED}, round {round}: {data!r}"
        assert (model or "auto", stream, max_tokens, choices, needs) == (
            query.model, query.stream, query.max_tokens, query.choices, query.needs
        ), said  # fmt: skip
        assert [text for text, _ in weighted] == [text for text, _ in segments(query.turns, TURNS)], said
        assert (whole.get("model") or "auto", bool(whole.get("stream"))) == (query.model, query.stream), said
        assert [message["role"] for message in whole["messages"]] == [turn.role for turn in query.turns], said
    assert taken > ROUNDS // 10


def _mutated(good: bytes, source: random.Random) -> bytes:
    data = bytearray(good[: source.randrange(len(good) + 1)] if source.random() < 0.3 else good)
    for _ in range(source.randrange(0, 4)):
        at = source.randrange(len(data) + 1)
        change = source.randrange(3)
        if change == 0:
            data[at:at] = source.choice(
                (b'"', b"\\", b"\\u", b"{", b"[", b",", b"\xff", b"\xc5", b"\xdd", b"\r\n", b"9")
            )
        elif change == 1:
            del data[at : at + source.randrange(1, 5)]
        else:
            data[at : at + 1] = bytes([source.randrange(256)])
    return bytes(data)
