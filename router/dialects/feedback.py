"""The body of `/v1/feedback`. All of its fields are ours, so one that is unknown is refused, as in no other body."""

import msgspec

from router.dialects.parse import BOM, explain, malformed
from router.errors import BadRequest
from router.observe.feedback import Said

_decode = msgspec.json.Decoder(Said).decode


def read_feedback(body: bytes) -> Said:
    """Raises `BadRequest`."""
    body = body.removeprefix(BOM)
    try:
        return _decode(body)
    except msgspec.ValidationError as error:
        raise explain(str(error)) from None
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise malformed(str(error), body, ()) from None
    except RecursionError:
        raise BadRequest("the body is nested too deeply", code="invalid_json") from None
