"""Multipart bodies: which model they name, and the same bytes naming another."""

from collections.abc import Mapping

import pytest

from router.dialects.decode import decode
from router.dialects.forms import read_form, read_travelling
from router.errors import BadRequest

TYPE = b"multipart/form-data; boundary=xyz"
AUDIO = b"\x00\r\n--xy\r\n\r\n\xff" * 50


def form(fields: Mapping[str, bytes], boundary: bytes = b"xyz", before: bytes = b"") -> bytes:
    parts = [
        b'--%b\r\nContent-Disposition: form-data; name="%b"%b\r\n\r\n%b\r\n'
        % (boundary, name.encode(), b'; filename="a.wav"' if name == "file" else b"", value)
        for name, value in fields.items()
    ]
    return before + b"".join(parts) + b"--" + boundary + b"--\r\n"


@pytest.mark.parametrize(
    ("fields", "model", "stream"),
    [
        ({"file": AUDIO, "model": b"whisper"}, "whisper", False),
        ({"model": b" whisper\t", "file": AUDIO, "stream": b"True"}, "whisper", True),
        ({"file": AUDIO, "stream": b"1"}, "", True),
        ({"file": b"", "stream": b"false", "model": "é".encode()}, "é", False),
    ],
)
def test_model_and_stream_are_read_whatever_the_audio_holds(fields: dict[str, bytes], model: str, stream: bool) -> None:
    body = form(fields)
    found = read_form(TYPE, body)
    assert (found.model, found.stream) == (model, stream)
    assert read_travelling(found.travelling) == found
    query = decode("transcriptions", found.travelling)
    assert (query.model, query.stream, query.needs) == (model or "auto", stream, {"transcriptions"})


@pytest.mark.parametrize(
    "fields", [{"file": AUDIO, "model": b"theirs"}, {"model": b"x", "file": AUDIO}, {"file": AUDIO}]
)
def test_another_name_leaves_all_else_as_it_was(fields: dict[str, bytes]) -> None:
    named = read_form(TYPE, form(fields)).naming("org/ours")
    assert read_form(TYPE, named.body).model == "org/ours"
    assert named.body.count(AUDIO) == 1
    assert named.body.count(b'name="model"') == 1
    assert named.body == (form(fields | {"model": b"org/ours"}) if "model" in fields else named.body)


@pytest.mark.parametrize(
    "content_type",
    [b'Multipart/Form-Data;boundary="x y?z"', b'multipart/form-data; charset=utf-8; boundary="x y?z"; a=b'],
)
def test_a_quoted_boundary_and_a_preamble(content_type: bytes) -> None:
    assert read_form(content_type, form({"model": b"m"}, b"x y?z", b"ignored\r\n")).model == "m"


@pytest.mark.parametrize(
    ("content_type", "body", "message"),
    [
        (b"application/json", b"{}", "`content-type`: expected `multipart/form-data` with a boundary"),
        (b"multipart/form-data", b"--\r\n", "with a boundary"),
        (b"", b"", "with a boundary"),
        (TYPE, b"", "its boundary does not stand in it"),
        (TYPE, b"--abc\r\n", "its boundary does not stand in it"),
        (TYPE, b'--xyz\r\nContent-Disposition: form-data; name="model"\r\n\r\nm', "a part of it does not end"),
        (TYPE, b"--xyz\r\nno head\r\n--xyz--", "or has no head"),
        (TYPE, form({"model": b"a"})[:-9] + form({"model": b"b"}), "`model` stands more than once"),
        (TYPE, form({"model": b"a" * 2000}), "`model`: expected at most 1024 bytes"),
        (TYPE, b"--xyz" + b"\r\n\r\n\r\n--xyz" * 300 + b"--", "more than 256 parts"),
    ],
)
def test_what_is_no_form_is_refused(content_type: bytes, body: bytes, message: str) -> None:
    with pytest.raises(BadRequest, match=message):
        read_form(content_type, body)
