"""Checks that a configured key or origin is one that a client can send in an HTTP header."""

import hashlib
import re

_ORIGIN = re.compile(r"(?P<scheme>[A-Za-z][A-Za-z0-9+.-]*)://(?:\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._-]+)(?::(?P<port>\d+))?")


_ID_DIGITS = 8


def key_id(key: str) -> str:
    """By which an API key is shown: part of its SHA-256 digest."""
    return hashlib.sha256(key.encode()).hexdigest()[:_ID_DIGITS]


def fault_of_api_key(key: str) -> str:
    """Why no request can present `key`, or empty. A key that was left empty must not open the server."""
    if not key or key.isspace():
        return "the API key is empty; give it a value, or remove it to let everyone in"
    if key != key.strip():
        return "the API key begins or ends with white space, which is no part of a header's value"
    if not (key.isascii() and key.isprintable()):
        return "the API key holds characters that a header cannot carry; expected printable ASCII"
    return ""


def fault_of_origin(origin: str) -> str:
    """Why no browser sends `origin`, or empty: it would be allowed in vain."""
    if origin == "*":
        return ""
    match = _ORIGIN.fullmatch(origin)
    if match is None:
        return f"expected an origin as browsers send it, https://host or http://host:port, or '*', got {origin!r}"
    if (match["scheme"].lower(), match["port"]) in (("http", "80"), ("https", "443")):
        return f"browsers leave out a scheme's own port: expected {origin.rpartition(':')[0]!r}, got {origin!r}"
    return ""
