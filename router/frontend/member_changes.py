"""`POST /members`, `POST /members/NAME/VERB` and `DELETE /members/NAME` on the admin port: members come and go.

A change is begun and answered with 202; `GET /members` tells how far it is. Every user of the machine reaches the port:
who asks for a change shows the token that only the server's user can read.
"""

import hmac
from typing import Final
from urllib.parse import unquote

import msgspec

from router.errors import BadRequest, Forbidden, NotFound
from router.frontend.exchange import Exchange
from router.pipeline.change import Wanted
from router.pipeline.changes import Changes
from router.pipeline.service import Service

#: That follow a member's name in the path.
VERBS: Final = ("drain", "resume", "replace", "promote", "rollback")
_encode = msgspec.json.Encoder().encode
_wanted = msgspec.json.Decoder(Wanted).decode


class MemberChanges:
    """Handlers over one service."""

    def __init__(self, service: Service) -> None:
        self._service = service

    def add(self, exchange: Exchange) -> None:
        wanted = _read(exchange)
        name = (wanted.member or {}).get("name")
        if not isinstance(name, str):
            raise BadRequest("expected `member` with a `name`", param="member")
        self._begin(exchange, "add", name, wanted)

    def cancel(self, exchange: Exchange) -> None:
        self._require_token(exchange)
        exchange.respond(202, _encode({"change": self._changes().cancel()}))

    def take(self, exchange: Exchange, start: str) -> bool:
        """Whether the path below `start` asks for a change, which then has begun. Raises `RouterError`."""
        rest = exchange.path[len(start) :].decode("latin-1")
        if exchange.method == b"DELETE":
            self._begin(exchange, "remove", _unquoted(rest), Wanted())
            return True
        name, _, verb = rest.rpartition("/")
        if not name or verb not in VERBS:
            return False
        if exchange.method != b"POST":
            raise BadRequest(f"{start}NAME/{verb} is asked by POST")
        self._begin(exchange, verb, _unquoted(name), _read(exchange))
        return True

    def _begin(self, exchange: Exchange, verb: str, name: str, wanted: Wanted) -> None:
        changes = self._changes()
        self._require_token(exchange)
        exchange.respond(202, _encode({"change": changes.begin(verb, name, wanted)}))

    def _require_token(self, exchange: Exchange) -> None:
        """Raises `Forbidden`. Where the pool is not ours to change there is no token, and none is asked for."""
        changes = self._service.changes
        if changes is None:
            return
        given = exchange.headers.get(b"authorization", b"").removeprefix(b"Bearer ")
        if not hmac.compare_digest(given, changes.token.encode()):
            raise Forbidden(f"expected `authorization: Bearer ...` with what {changes.token_file} holds")

    def _changes(self) -> Changes:
        if self._service.changes is None:
            raise NotFound("the members of this pool cannot be changed")
        return self._service.changes


def shown_changes(service: Service) -> dict[str, object]:
    """What `GET /members` tells beside the pool's own members."""
    changes = service.changes
    if changes is None:
        return {}
    told: dict[str, object] = {"joining": changes.joining, "leaving": changes.leaving}
    return {**told, "changes": changes.recent, "admin_file": changes.token_file}


def _read(exchange: Exchange) -> Wanted:
    if not exchange.body:
        return Wanted()
    try:
        return _wanted(exchange.body)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise BadRequest(f"the body: {error}") from error
    except RecursionError:
        raise BadRequest("the body: it is nested too deeply") from None


def _unquoted(name: str) -> str:
    return unquote(name, errors="replace")
