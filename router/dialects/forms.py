"""Multipart bodies, of audio: which model they name, and the same body naming another. All else travels on as it is.

As it travels, a form is one text of bytes, since its boundary stands in the request's head:

    content type, a line feed, the body
"""

import re
from typing import Final

import msgspec

from router.errors import BadRequest

_TYPE: Final = re.compile(
    rb"""multipart/form-data\s*;.*?\bboundary=(?:"([^"\r\n]{1,70})"|([^\s";,]{1,70}))""", re.IGNORECASE
)
_NAME: Final = re.compile(rb"""content-disposition:[^\r\n]*?[;\s]name=(?:"([^"\r\n]*)"|([^\s";]+))""", re.IGNORECASE)
_LONGEST_HEAD = 4_096  #: bytes of a part's head lines
_LONGEST_FIELD = 1_024
_MOST_PARTS = 256
_TRUE: Final = frozenset((b"1", b"on", b"t", b"true", b"y", b"yes"))


class Form(msgspec.Struct, frozen=True):
    """What is read of a form."""

    content_type: bytes
    body: bytes
    model: str = ""
    stream: bool = False
    format: str = ""  #: `response_format`
    model_at: tuple[int, int] | None = None  #: where the model's name stands in `body`

    @property
    def travelling(self) -> bytes:
        return self.content_type + b"\n" + self.body

    def naming(self, model: str) -> "Form":
        """The same form for the model called `model`."""
        name = model.encode()
        if self.model_at is not None:
            begin, end = self.model_at
            return Form(self.content_type, self.body[:begin] + name + self.body[end:], model, self.stream, self.format)
        boundary = _boundary(self.content_type)
        part = b'--%b\r\nContent-Disposition: form-data; name="model"\r\n\r\n%b\r\n' % (boundary, name)
        return Form(self.content_type, part + self.body, model, self.stream, self.format)


def read_travelling(data: bytes) -> Form:
    """Raises `BadRequest`."""
    content_type, _, body = data.partition(b"\n")
    return read_form(content_type, body)


def read_form(content_type: bytes, body: bytes) -> Form:
    """Raises `BadRequest` where it is no form, or one that two readers could read differently."""
    mark = b"--" + _boundary(content_type)
    found: dict[bytes, tuple[int, int]] = {}
    begin = 0 if body.startswith(mark) else body.find(b"\r\n" + mark) + 2
    if not body.startswith(mark, begin):
        raise BadRequest("the body is no form: its boundary does not stand in it")
    for _ in range(_MOST_PARTS):
        begin += len(mark)
        if body.startswith(b"--", begin):
            return _form(content_type, body, found)
        end = body.find(b"\r\n" + mark, begin)
        head_end = body.find(b"\r\n\r\n", begin, begin + _LONGEST_HEAD)
        if end < 0 or not 0 <= head_end <= end:
            raise BadRequest("the body is no form: a part of it does not end, or has no head")
        name = _NAME.search(body, begin, head_end)
        if name is not None:
            field = name[1] if name[1] is not None else name[2]
            if field in found and field in (b"model", b"stream", b"response_format"):
                raise BadRequest(f"`{field.decode()}` stands more than once in the form", param=field.decode())
            found[field] = (min(head_end + 4, end), end)
        begin = end + 2
    raise BadRequest(f"the form has more than {_MOST_PARTS} parts")


def _form(content_type: bytes, body: bytes, found: dict[bytes, tuple[int, int]]) -> Form:
    def value(name: bytes) -> bytes:
        begin, end = found.get(name, (0, 0))
        if end - begin > _LONGEST_FIELD:
            raise BadRequest(f"`{name.decode()}`: expected at most {_LONGEST_FIELD} bytes", param=name.decode())
        return body[begin:end].strip()

    return Form(
        content_type,
        body,
        value(b"model").decode(errors="replace"),
        value(b"stream").lower() in _TRUE,
        value(b"response_format").decode(errors="replace"),
        found.get(b"model"),
    )


def _boundary(content_type: bytes) -> bytes:
    match = _TYPE.match(content_type.strip())
    if match is None:
        what = "`content-type`: expected `multipart/form-data` with a boundary"
        raise BadRequest(what, param="content-type")
    return match[1] or match[2]
