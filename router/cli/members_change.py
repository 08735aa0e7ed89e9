"""The verbs of `headgate members` that change the pool of a running server: asked for, and followed to the end."""

import argparse
import os
import stat
import sys
import time
from pathlib import Path
from typing import Any
from urllib.parse import quote

import msgspec

from router.cli import admin_port
from router.cli.engine_args import engine_args_of
from router.cli.members_shown import VERBS, Answer, ShownChange, members_of, state_of
from router.config import document
from router.errors import ConfigError, HeadgateError

_LOOK_S = 0.25
_TAKES_FILE = ("add", "replace")
_TOKEN_NAME = "admin.token"
_MOST_TOKEN = 200
#: Flags that are keys of a member.
_KEYS = ("name", "model", "url", "like", "strength", "usd_per_hour", "replaces", "weight")


class _Begun(msgspec.Struct, frozen=True):
    change: ShownChange


def change(args: argparse.Namespace) -> int:
    """Begin it, and return once it has ended: 0 where it was done, 1 where all is as it was."""
    name, file = _words(args)
    body: dict[str, Any] = {}
    if args.verb in _TAKES_FILE:
        member = _member(args, file)
        name = name or str(member.get("name", ""))
        body = {"member": member, "stop_first": args.stop_first}
    headers = {"authorization": f"Bearer {_token(args.admin)}"}
    method, path = _route(args.verb, name)
    told = msgspec.json.encode(body) if body else b""
    begun = admin_port.ask(args.admin, path, method=method, body=told, headers=headers)
    done = _followed(args, msgspec.json.decode(begun, type=_Begun).change)
    if args.verb == "drain":
        _wait_idle(args, name)
    if args.json:
        print(msgspec.json.encode(done).decode())
    elif done.stage != "failed" or args.verb == "cancel":
        cut = f"; {done.cut} requests had not ended in time" if done.cut else ""
        print(f"{done.what} {done.member}: {done.error or done.stage}{cut}")
    failed = done.stage == "failed" and args.verb != "cancel"  # what is cancelled has failed
    if failed and not args.json:
        raise HeadgateError(f"{done.what} {done.member}: {done.error}")
    return 1 if failed else 0


def _route(verb: str, name: str) -> tuple[str, str]:
    """Method and path."""
    if verb == "add":
        return "POST", "/members"
    if verb == "cancel":
        return "DELETE", "/changes"
    path = f"/members/{quote(name)}"
    return ("DELETE", path) if verb == "remove" else ("POST", f"{path}/{verb}")


def _words(args: argparse.Namespace) -> tuple[str, str]:
    """The name and the file, empty where there is none. Raises `ConfigError`."""
    words, named, filed = list(args.words), args.verb not in ("add", "cancel"), args.verb in _TAKES_FILE
    if len(words) < named or len(words) > named + filed:
        raise ConfigError(f"expected `headgate members {VERBS[args.verb]}`, got {len(words)} words behind the verb")
    name = words.pop(0) if named else ""
    return name, words[0] if words else ""


def _member(args: argparse.Namespace, file: str) -> dict[str, Any]:
    """As a config file would hold it; the server expands its references and checks it."""
    member = _of_file(Path(file)) if file else {}
    for key in _KEYS:
        if (value := getattr(args, key)) is not None:
            member[key] = value
    if args.url:
        member["kind"] = "openai"
    if args.model and os.path.exists(args.model):
        member["model"] = str(Path(args.model).resolve())
    if args.engine_arg:
        member["engine_args"] = {**member.get("engine_args", {}), **engine_args_of(args.engine_arg, "--engine-arg")}
    if not member:
        raise ConfigError(f"{args.verb}: expected a file, or --model MODEL, or --url URL")
    if args.verb == "add" and not member.get("name"):
        raise ConfigError("add: expected a name, in the file or by --name")
    return member


def _of_file(path: Path) -> dict[str, Any]:
    """A member, or the only one of a config. A path in it that exists beside the file becomes absolute."""
    try:
        tree = document.read(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, document.Refused) as error:
        raise ConfigError(f"{path}: cannot be read: {error}") from error
    if isinstance(tree, dict) and isinstance(tree.get("pool"), list):
        if len(tree["pool"]) != 1:
            raise ConfigError(f"{path}: expected a `pool` of one member, got {len(tree['pool'])}")
        (tree,) = tree["pool"]
    if not isinstance(tree, dict):
        raise ConfigError(f"{path}: expected a member, as in a config file's `pool`")
    model = tree.get("model")
    if isinstance(model, str) and model and os.path.exists(path.parent / model):
        tree["model"] = str((path.parent / model).resolve())
    return tree


def _token(address: str) -> str:
    """What the server's user alone can read. Raises `HeadgateError` where that is somebody else."""
    _, answer = members_of(address)
    path = answer.admin_file
    if not path:
        raise HeadgateError(f"{address}: the members of this server cannot be changed")
    try:
        if os.path.basename(path) != _TOKEN_NAME:
            raise PermissionError("it is no token of a Headgate server")
        with open(os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)) as file:
            status = os.fstat(file.fileno())
            if not stat.S_ISREG(status.st_mode) or status.st_uid not in (os.getuid(), 0):
                raise PermissionError("it belongs to somebody else")
            return file.read(_MOST_TOKEN)
    except OSError as error:
        raise HeadgateError(f"{path}: cannot be read, which only the server's user can: {error}") from error


def _followed(args: argparse.Namespace, begun: ShownChange) -> ShownChange:
    """The change at its end. Its progress goes to standard error."""
    said = ""
    while begun.stage not in ("done", "failed"):
        time.sleep(_LOOK_S)
        _, answer = members_of(args.admin)
        found = [each for each in answer.changes if each.id == begun.id]
        if not found:
            raise HeadgateError(f"{begun.what} {begun.member}: the server has forgotten it: it was started anew")
        begun = found[0]
        text = _progress(begun, answer)
        if not args.json and text != said:
            print(text, file=sys.stderr, flush=True)
            said = text
    return begun


def _wait_idle(args: argparse.Namespace, name: str) -> None:
    """Until the last request of a drained member has ended, or it is drained no more."""
    said = -1
    while True:
        _, answer = members_of(args.admin)
        left = sum(member.in_flight for member in answer.members if member.name == name and member.phase == "draining")
        if not left:
            return
        if not args.json and left != said:
            print(f"drain {name}: {left} requests are not over", file=sys.stderr, flush=True)
            said = left
        time.sleep(_LOOK_S)


def _progress(change: ShownChange, answer: Answer) -> str:
    what = f"{change.what} {change.member}: {change.stage}"
    if change.stage == "starting" and answer.joining:
        return f"{what}: {', '.join(f'{member.name} {state_of(member)}' for member in answer.joining)}"
    if change.stage == "draining" and answer.leaving:
        left = sum(member.in_flight for member in answer.leaving)
        return f"{what}: {left} requests are not over"
    return what
