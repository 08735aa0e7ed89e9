"""`multipart/form-data` as it comes: its one file to whoever takes it, its fields into memory, within bounds."""

from collections.abc import Callable

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header

from router.errors import BadRequest

_FILE = b"file"
_MOST_FIELDS = 32
_MOST_FIELD_BYTES = 4_096
_LONGEST_NAME = 512


class Form:
    """Fed in order, in one thread at a time. Raises `BadRequest`, and what `write` does."""

    def __init__(self, content_type: bytes, write: Callable[[bytes], None]) -> None:
        """`write` takes the file's bytes."""
        media, options = parse_options_header(content_type)
        boundary = options.get(b"boundary", b"")
        if media != b"multipart/form-data" or not boundary:
            what = "expected `multipart/form-data` with a boundary, as a form with a file is sent"
            raise BadRequest(f"`content-type`: {what}", param="content-type")
        self.fields: dict[str, str] = {}
        self.filename: str | None = None  #: None: no file has come
        self._write = write
        self._header = self._value = b""
        self._disposition = b""
        self._field: str | None = None  #: the name of the part that comes, where it is a field
        self._text = bytearray()
        self._ended = False
        try:
            self._parser = MultipartParser(
                boundary,
                {
                    "on_part_begin": self._part_begins,
                    "on_header_field": self._header_name,
                    "on_header_value": self._header_value,
                    "on_header_end": self._header_ends,
                    "on_headers_finished": self._part_named,
                    "on_part_data": self._part_data,
                    "on_part_end": self._part_ends,
                    "on_end": self._ends,
                },
            )
        except FormParserError as error:
            raise BadRequest(f"`content-type`: {error}", param="content-type") from None

    def feed(self, data: bytes) -> None:
        try:
            self._parser.write(data)
        except FormParserError as error:
            raise BadRequest(f"the form is malformed: {error}", code="invalid_form") from None

    def end(self) -> None:
        """All of it has come."""
        if not self._ended:
            raise BadRequest("the form is not whole: its last boundary is missing", code="invalid_form")
        if self.filename is None:
            raise BadRequest("`file` is missing", param="file")

    # The parser's

    def _part_begins(self) -> None:
        self._header = self._value = self._disposition = b""
        self._field = None
        self._text.clear()

    def _header_name(self, data: bytes, start: int, end: int) -> None:
        self._header += data[start:end]

    def _header_value(self, data: bytes, start: int, end: int) -> None:
        self._value += data[start:end]

    def _header_ends(self) -> None:
        if self._header.lower() == b"content-disposition":
            self._disposition = self._value
        self._header = self._value = b""

    def _part_named(self) -> None:
        kind, options = parse_options_header(self._disposition)
        name = options.get(b"name", b"")
        if kind != b"form-data" or not name:
            raise BadRequest("a part of the form has no name", code="invalid_form")
        if name == _FILE:
            if self.filename is not None:
                raise BadRequest("`file` stands twice; expected one file", param="file")
            self.filename = _shown(options.get(b"filename", b"")) or "upload"
            return
        if len(self.fields) >= _MOST_FIELDS:
            raise BadRequest(f"the form has more than {_MOST_FIELDS} fields", code="invalid_form")
        self._field = _shown(name)
        if self._field in self.fields:
            raise BadRequest(f"`{self._field}` stands twice", param=self._field)
        self.fields[self._field] = ""

    def _part_data(self, data: bytes, start: int, end: int) -> None:
        if self._field is None:
            self._write(data[start:end])
            return
        self._text += data[start:end]
        if len(self._text) > _MOST_FIELD_BYTES:
            raise BadRequest(f"`{self._field}` is over {_MOST_FIELD_BYTES} bytes", param=self._field)

    def _part_ends(self) -> None:
        if self._field is not None:
            try:
                self.fields[self._field] = self._text.decode()
            except UnicodeDecodeError:
                raise BadRequest(f"`{self._field}` is not UTF-8", param=self._field) from None

    def _ends(self) -> None:
        self._ended = True


def _shown(name: bytes) -> str:
    """The last part of a path, as text that can be shown."""
    text = name.decode(errors="replace").replace("\\", "/").rpartition("/")[2]
    return "".join(c if c.isprintable() else "?" for c in text)[:_LONGEST_NAME]
