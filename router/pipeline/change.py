"""One change of the pool's members: what is asked for, how far it is, and the token that who asks must know."""

import secrets
from pathlib import Path
from typing import Any, Literal

import msgspec

from router.files import replaced

TOKEN_FILE = "admin.token"
Stage = Literal["checking", "stopping", "starting", "draining", "done", "failed"]


class Change(msgspec.Struct, kw_only=True):
    """One change, so far."""

    id: int
    what: str
    member: str = ""
    stage: Stage = "checking"
    error: str = ""  #: why it failed, and what is so now
    cut: int = 0  #: requests that had not ended within the time they had
    began_s: float = 0.0  #: Unix seconds

    @property
    def named(self) -> str:
        return f"{self.what} {self.member}".rstrip()

    @property
    def told(self) -> str:
        return f"{self.named}, {self.stage}"


class Wanted(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What is asked for beside the verb: `member` as in a config file."""

    member: dict[str, Any] | None = None
    stop_first: bool = False


def token_of(path: Path) -> str:
    """That of the process from which this one takes over, else a new one."""
    try:
        if token := path.read_text(encoding="ascii"):
            return token
    except (OSError, UnicodeDecodeError):
        pass
    token = secrets.token_urlsafe(32)
    with replaced(path, 0o600) as file:
        file.write(token.encode())
    return token
