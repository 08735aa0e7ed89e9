"""Random and mutated bytes into the frame decoder: messages or `ProtocolError`, nothing else, in little memory."""

import os
import random

import pytest

from router.errors import ProtocolError
from router.ipc.frames import FrameDecoder, encode_frame
from router.ipc.messages import Abort, Chunks, Control, Done, Fail, Hello, Load, Submit
from tests.ipc.decoding import unfinished_bytes

ROUNDS = int(os.environ.get("HEADGATE_FUZZ_ROUNDS", "20000"))
SEED = int(os.environ.get("HEADGATE_FUZZ_SEED", "20260101"))

VALID = [
    Hello(model="m", capabilities=("chat", "tools"), secret=b"12345678"),
    Submit(id=7, kind="chat", body=b'{"messages": []}', request_id="r"),
    Abort(3),
    Chunks([(1, b"data: {}\n\n"), (2, b"")]),
    Done(id=4),
    Fail(id=5, status=500, body=b"{}", retryable=True),
    Load(running=3, kv_use=0.5),
    Control("ping", "x"),
]


def feed_in_pieces(stream: bytes, random: random.Random) -> None:
    decoder = FrameDecoder(max_frame_bytes=1 << 16)
    at = 0
    try:
        while at < len(stream):
            size = random.choice((1, 2, 7, 64, 4096))
            decoder.feed(stream[at : at + size])
            at += size
            assert unfinished_bytes(decoder) <= (1 << 16) + 4
    except ProtocolError:
        pass


@pytest.mark.parametrize("way", ["random", "framed", "mutated"])
def test_bytes_never_crash_the_decoder(way: str) -> None:
    source = random.Random(f"{SEED}-{way}")
    for round in range(ROUNDS):
        if way == "random":
            stream = source.randbytes(source.randrange(200))
        elif way == "framed":
            body = source.randbytes(source.randrange(60))
            stream = len(body).to_bytes(4, "little") + body
        else:
            stream = bytes(_mutated(source))
        try:
            feed_in_pieces(stream, source)
        except Exception as error:
            pytest.fail(f"seed {SEED}, round {round}: {stream!r}: {error!r}")


def _mutated(source: random.Random) -> bytearray:
    stream = bytearray(b"".join(encode_frame(source.choice(VALID)) for _ in range(source.randrange(1, 4))))
    for _ in range(source.randrange(1, 6)):
        at = source.randrange(len(stream))
        what = source.randrange(4)
        if what == 0:
            stream[at] = source.randrange(256)
        elif what == 1:
            del stream[at]
        elif what == 2:
            stream.insert(at, source.randrange(256))
        else:
            stream[at] ^= 1 << source.randrange(8)
        if not stream:
            break
    return stream
