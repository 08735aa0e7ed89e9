"""Who may use the public routes. Of a key its SHA-256 digest is kept; its id, a part of that, may be shown.

A key is found by its digest, so 10,000 keys take no longer than one. What a look-up's time could tell is about digests,
of which a client cannot choose the bytes; the digest that was found is compared in constant time all the same.
"""

import hashlib
from collections.abc import Mapping
from hmac import compare_digest

from router.config import ApiKey, fault_of_api_key, key_id
from router.errors import ConfigError, Unauthorized
from router.types import Choice

_BEARER = b"bearer "
_NONE = (bytes(32), "")  # in the place of a digest that is not there: the comparison takes its time all the same
_sha256 = hashlib.sha256


class Keys:
    """The configured API keys; with none, everyone is let in."""

    __slots__ = ("_ids", "choices")

    def __init__(self, keys: tuple[ApiKey, ...]) -> None:
        """Raises `ConfigError` on a key that no request can present: none is dropped, which could open the server."""
        for i, each in enumerate(keys):
            if why := fault_of_api_key(each.key):
                raise ConfigError(f"{why} - at `$.server.api_keys[{i}]`")
        digests = {each.key: _sha256(each.key.encode()).digest() for each in keys}
        #: By id, where a key has its own.
        self.choices: dict[str, Choice] = {key_id(each.key): each.choice for each in keys if each.choice}
        self._ids = {digest: (digest, key_id(key)) for key, digest in digests.items()}

    def __bool__(self) -> bool:
        """Whether one is asked for."""
        return bool(self._ids)

    def identify(self, headers: Mapping[bytes, bytes]) -> str:
        """The id of the key that `headers` present, empty where none is asked for. Raises `Unauthorized`."""
        return self.find(headers.get(b"authorization", b""), headers.get(b"x-api-key", b""))

    def find(self, authorization: bytes, api_key: bytes) -> str:
        """`identify`, of the values of `authorization` and `x-api-key`; empty: not sent. Raises `Unauthorized`.

        One right key is enough: gateways and tools add an `authorization` of their own beside the client's `x-api-key`.
        """
        if not self._ids:
            return ""
        bearer = _bearer(authorization)
        if not bearer and not api_key:
            raise Unauthorized("an API key is required: send `authorization: Bearer KEY` or `x-api-key: KEY`")
        found = (bearer and self._id_of(bearer)) or (api_key and self._id_of(api_key))
        if not found:
            raise Unauthorized("the API key is not one of this server's")
        return str(found)

    def find_plain(self, authorization: bytes, api_key: bytes) -> str:
        """`find`, for who asks of requests that are as the config says. Raises `Unauthorized` too for a key with
        settings of its own."""
        id = self.find(authorization, api_key)
        if id in self.choices:
            raise Unauthorized("the API key has settings of its own")
        return id

    def _id_of(self, key: bytes) -> str:
        digest = _sha256(key).digest()
        kept, id = self._ids.get(digest, _NONE)
        return id if compare_digest(kept, digest) else ""


def _bearer(authorization: bytes) -> bytes:
    if authorization[: len(_BEARER)].lower() == _BEARER:
        return authorization[len(_BEARER) :].strip()
    return b""
