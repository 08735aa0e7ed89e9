"""The base URL of a member: taken apart once, with a reason where it cannot be one. Opens no connection."""

import base64
import re
from urllib.parse import SplitResult, unquote, urlsplit

import msgspec

#: Where a base was expected and one of its endpoints was given.
_ENDPOINT = re.compile(
    r"/(v1/(completions|responses|messages|models|embeddings|rerank|score)|v2/(embed|rerank)|(v1/)?chat/completions"
    r"|(de)?tokenize)$",
    re.IGNORECASE,
)
_HOST = re.compile(r"[^\x00-\x20\x7f\"#%/<>?@\[\\\]^`{|}]+")
_IN_BRACKETS = re.compile(r"\[[^\]]*:[^\]]*\](:\d*)?")


class BaseUrl(msgspec.Struct, frozen=True):
    """`https://user:password@host:1234/prefix/v1?api-version=1`, in parts."""

    shown: str  #: scheme, host, port and prefix: nothing secret
    query: str = ""  #: goes with every call
    authorization: str = ""  #: header value of the user and password in it

    def at(self, path: str) -> str:
        """The URL of an API's path, `/v1/models` for example."""
        return self.shown + path + (f"?{self.query}" if self.query else "")


def parse(url: str) -> BaseUrl:
    """Raises `ValueError`, whose text never holds the URL's password."""
    url = url.strip()
    if any(c.isspace() or not c.isprintable() for c in url):
        raise ValueError("it holds white space or control characters")
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError as error:
        # Python's text may repeat the URL's login.
        raise ValueError("its host or port cannot be read: a port is 1 to 65535, an IPv6 host is in [ ]") from error
    if parts.scheme not in ("http", "https"):
        raise ValueError("expected http(s)://...")
    if port == 0:
        raise ValueError("a port is 1 to 65535, got 0")
    if "#" in url:
        raise ValueError("it has a fragment (#...), which is never sent")
    path = parts.path.rstrip("/")
    endpoint = _ENDPOINT.search(path)
    if endpoint:
        raise ValueError(f"it is one endpoint ({endpoint[0]}); expected the base that all of them share")
    host = _host(parts)
    shown = f"{parts.scheme}://{host}" + (f":{port}" if port else "") + path.removesuffix("/v1").rstrip("/")
    return BaseUrl(shown, parts.query, _authorization(parts))


def shown(url: str) -> str:
    """Any text given as a URL, as it may be shown: user, password and query hidden."""
    return re.sub(r"\?.*", "?***", re.sub(r"//.*@", "//***@", url, flags=re.DOTALL), flags=re.DOTALL)[:200]


def _host(parts: SplitResult) -> str:
    host = parts.hostname or ""
    if not host:
        raise ValueError("it names no host")
    host_and_port = parts.netloc.rpartition("@")[2]
    if _IN_BRACKETS.fullmatch(host_and_port):
        return f"[{host}]"
    if "[" in host_and_port:
        raise ValueError("only an IPv6 address stands in [ ], alone or before its port")
    try:
        host.encode("idna")
    except UnicodeError:
        raise ValueError(f"{host!r} is no host name") from None
    if not _HOST.fullmatch(host):
        raise ValueError(f"{host!r} is no host name")
    return host


def _authorization(parts: SplitResult) -> str:
    if parts.username is None and parts.password is None:
        return ""
    login = f"{unquote(parts.username or '')}:{unquote(parts.password or '')}"
    return "Basic " + base64.b64encode(login.encode()).decode()
