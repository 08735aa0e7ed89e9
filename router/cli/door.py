"""The public port of a running server, as a verb asks it: from its config, or a URL."""

import urllib.parse
from pathlib import Path

import msgspec

from router import config as configuration
from router.errors import ConfigError

DEFAULT = "http://127.0.0.1:8000"


class Door(msgspec.Struct, frozen=True):
    """Where requests go."""

    host: str
    port: int
    key: str = ""
    tls: bool = False
    prefix: str = ""  #: of paths

    @property
    def url(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{'https' if self.tls else 'http'}://{host}:{self.port}{self.prefix}"


def door_of(verb: str, config: Path | None, url: str | None) -> Door:
    """That of the server whose config it is, or at `url`. The key is a key of the config, else `$HEADGATE_API_KEY`.
    Raises `ConfigError`."""
    key = configuration.api_key_from_environment() or ""
    if config is not None:
        server = configuration.load(config).server
        if server.uds:
            raise ConfigError(f"{verb}: the server listens on a Unix socket only; --url says where it can be asked")
        return Door(server.host, server.port, next((each.key for each in server.keys), key), prefix=server.root_path)
    return _at(url or DEFAULT, key)


def _at(url: str, key: str) -> Door:
    parts = urllib.parse.urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ConfigError(f"--url: expected http://HOST:PORT, got {url!r}")
    try:
        port = parts.port or (443 if parts.scheme == "https" else 80)
    except ValueError:
        raise ConfigError(f"--url: expected http://HOST:PORT, got {url!r}") from None
    prefix = parts.path.rstrip("/").removesuffix("/v1")
    return Door(parts.hostname, port, key, parts.scheme == "https", prefix)
