"""Bodies whose fields are all ours to read: nothing of them passes on to an engine."""

from collections.abc import Callable
from typing import TypeVar

import msgspec

from router.dialects.parse import BOM, explain, malformed
from router.errors import BadRequest

T = TypeVar("T")


def read_own(decode: Callable[[bytes], T], body: bytes) -> T:
    """Raises `BadRequest` with the path of the field at fault."""
    body = body.removeprefix(BOM)
    try:
        return decode(body)
    except msgspec.ValidationError as error:
        raise explain(str(error)) from None
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise malformed(str(error), body, ()) from None
    except RecursionError:
        raise BadRequest("the body is nested too deeply", code="invalid_json") from None
