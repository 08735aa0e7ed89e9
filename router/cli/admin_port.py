"""One question to the admin port of a running server."""

import http.client
from collections.abc import Mapping

import msgspec

from router.errors import ConfigError, HeadgateError

_TIMEOUT_S = 10.0
_MOST_BYTES = 16 * 1024 * 1024
DEFAULT = "127.0.0.1:8001"


class _Told(msgspec.Struct, frozen=True):
    message: str = ""


class _Refusal(msgspec.Struct, frozen=True):
    error: _Told = _Told()


def ask(
    address: str, path: str, *, method: str = "GET", body: bytes = b"", headers: Mapping[str, str] | None = None
) -> bytes:
    """The body of the answer. Raises `ConfigError` on a bad address, `HeadgateError` where nobody answers, or with what
    the server says where it refuses."""
    host, port = _parts(address)
    connection = http.client.HTTPConnection(host, port, timeout=_TIMEOUT_S)
    lines = {"content-type": "application/json", **(headers or {})} if body or headers else {}
    try:
        connection.request(method, path, body or None, lines)
        answer = connection.getresponse()
        got = answer.read(_MOST_BYTES)
    except (OSError, http.client.HTTPException) as error:
        raise HeadgateError(
            f"no server answers at {address}: {error}; `--admin` says where the admin port is"
        ) from error
    finally:
        connection.close()
    if answer.status not in (200, 202):
        raise HeadgateError(_refused(got) or _other(address, answer.status))
    return got


def is_local(address: str) -> bool:
    """Whether it is an address of this machine's own loopback."""
    return _parts(address)[0] in ("127.0.0.1", "::1", "localhost")


def _parts(address: str) -> tuple[str, int]:
    host, _, port = address.removeprefix("http://").rstrip("/").rpartition(":")
    if not host or not (port.isascii() and port.isdigit() and int(port) < 65_536):
        raise ConfigError(f"--admin: expected HOST:PORT, got {address!r}")
    return host.strip("[]"), int(port)


def _refused(body: bytes) -> str:
    try:
        return msgspec.json.decode(body, type=_Refusal).error.message
    except msgspec.MsgspecError:
        return ""


def _other(address: str, status: int) -> str:
    return f"{address}: status {status}; expected the admin port of a Headgate server"
