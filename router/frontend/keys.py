"""Who may use the public routes. Keys are compared in constant time and never leave this file; their ids do."""

import hashlib
from hmac import compare_digest

from router.config import fault_of_api_key
from router.errors import ConfigError, Unauthorized

_BEARER = b"bearer "


class Keys:
    """The configured API keys; with none, everyone is let in."""

    __slots__ = ("_keys",)

    def __init__(self, keys: tuple[str, ...]) -> None:
        """Raises `ConfigError` on a key that no request can present: none is dropped, which could open the server."""
        for i, key in enumerate(keys):
            if why := fault_of_api_key(key):
                raise ConfigError(f"{why} - at `$.server.api_keys[{i}]`")
        self._keys = tuple((key.encode(), hashlib.sha256(key.encode()).hexdigest()[:8]) for key in keys)

    def __bool__(self) -> bool:
        """Whether one is asked for."""
        return bool(self._keys)

    def identify(self, headers: dict[bytes, bytes]) -> str:
        """The id of the key that `headers` present, empty where none is asked for. Raises `Unauthorized`.

        One right key is enough: gateways and tools add an `authorization` of their own beside the client's `x-api-key`.
        """
        if not self._keys:
            return ""
        bearer, other = _bearer(headers.get(b"authorization", b"")), headers.get(b"x-api-key")
        if not bearer and not other:
            raise Unauthorized("an API key is required: send `authorization: Bearer KEY` or `x-api-key: KEY`")
        found = ""
        # No early exit: the time taken tells nothing of which key came close.
        for key, key_id in self._keys:
            if bearer and compare_digest(key, bearer):
                found = found or key_id
            if other and compare_digest(key, other):
                found = found or key_id
        if not found:
            raise Unauthorized("the API key is not one of this server's")
        return found


def _bearer(authorization: bytes) -> bytes:
    if authorization[: len(_BEARER)].lower() == _BEARER:
        return authorization[len(_BEARER) :].strip()
    return b""
