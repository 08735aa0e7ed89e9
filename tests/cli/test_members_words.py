"""What `headgate members` makes of its words before it asks a server, and of a server that names no token."""

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from router.cli.main import main


@pytest.fixture
def told() -> Iterator[dict[str, Any]]:
    """What the server at `admin` answers to `GET /members`, to be changed by the test; `asked`: what it was sent."""
    answer: dict[str, Any] = {"members": []}
    asked: list[tuple[str, str, str, str]] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            length = int(self.headers.get("content-length", 0))
            words = (self.command, self.path, self.headers.get("authorization", ""), self.rfile.read(length).decode())
            asked.append(words)
            change = {"change": {"id": 1, "what": "w", "member": "m", "stage": "done", "cut": 0}}
            body = json.dumps({key: value for key, value in answer.items() if key not in ("admin", "asked")} | change)
            self.send_response(200)
            self.end_headers()
            self.wfile.write(body.encode())

        do_POST = do_DELETE = do_GET

        def log_message(self, *_: object) -> None: ...

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    answer |= {"admin": f"127.0.0.1:{server.server_address[1]}", "asked": asked}
    yield answer
    server.shutdown()
    server.server_close()


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (("remove",), "expected `headgate members remove NAME`, got 0 words behind the verb"),
        (("promote", "a", "b"), "expected `headgate members promote NAME`, got 2 words"),
        (("add", "a", "b"), "expected `headgate members add [FILE]`, got 2 words"),
        (("replace", "a", "b", "c"), "expected `headgate members replace NAME [FILE]`, got 3 words"),
        (("show", "a"), "members show: expected nothing behind it, got 'a'"),
        (("add",), "add: expected a file, or --model MODEL, or --url URL"),
        (("add", "--model", "m"), "add: expected a name, in the file or by --name"),
        (("add", "/nowhere.yaml"), "/nowhere.yaml: cannot be read"),
    ],
)
def test_words_that_say_too_little_or_too_much_are_a_usage_error(
    capsys: pytest.CaptureFixture[str], words: tuple[str, ...], why: str
) -> None:
    assert main(["members", *words, "--admin", "127.0.0.1:1"]) == 2
    assert why in capsys.readouterr().err


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("pool: [{name: a}, {name: b}]", "expected a `pool` of one member, got 2"),
        ("- a", "expected a member, as in a config file's `pool`"),
        ("a: b: c", "cannot be read"),
    ],
)
def test_a_file_that_is_no_member_is_a_usage_error(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], text: str, why: str
) -> None:
    file = tmp_path / "member.yaml"
    file.write_text(text)
    assert main(["members", "add", str(file)]) == 2
    assert f"{file}: {why}" in capsys.readouterr().err


def test_a_member_is_sent_as_its_file_and_its_flags_say_with_the_token(told: dict[str, Any], tmp_path: Path) -> None:
    (tmp_path / "weights").mkdir()
    (tmp_path / "admin.token").write_text("secret")
    file = tmp_path / "member.yaml"
    file.write_text("pool:\n- name: a\n  model: weights\n  engine_args: {seed: 1, x: '${HOME}'}\n  weight: .2\n")
    told["admin_file"] = str(tmp_path / "admin.token")
    words = ("replace", "b/c", str(file), "--weight", ".5", "--engine-arg", "seed=2", "--stop-first")
    assert main(["members", *words, "--admin", told["admin"]]) == 0
    method, path, token, body = told["asked"][-1]
    assert (method, path, token) == ("POST", "/members/b/c/replace", "Bearer secret")
    args = {"seed": 2, "x": "${HOME}"}  # which the server expands
    member = {"name": "a", "model": str(tmp_path / "weights"), "engine_args": args, "weight": 0.5}
    assert json.loads(body) == {"member": member, "stop_first": True}


def test_validate_tells_whose_canary_a_member_is(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pool = [{"name": "a", "model": "m", "strength": 0.5}, {"name": "b", "model": "n", "strength": 0.6, "replaces": "a"}]
    (tmp_path / "headgate.yaml").write_text(json.dumps({"pool": pool}))
    assert main(["validate", str(tmp_path / "headgate.yaml")]) == 0
    assert "b: engine n, scored by strength 0.6, a canary: 5 % of a\n" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "method", "path"),
    [
        (("remove", "a b"), "DELETE", "/members/a%20b"),
        (("drain", "a"), "POST", "/members/a/drain"),
        (("promote", "a"), "POST", "/members/a/promote"),
        (("cancel",), "DELETE", "/changes"),
    ],
)
def test_verbs_without_a_member_show_the_token_too(
    told: dict[str, Any], tmp_path: Path, words: tuple[str, ...], method: str, path: str
) -> None:
    (tmp_path / "admin.token").write_text("secret")
    told["admin_file"] = str(tmp_path / "admin.token")
    assert main(["members", *words, "--admin", told["admin"]]) == 0
    assert (method, path, "Bearer secret", "") in told["asked"]
    assert main(["members", "--admin", told["admin"]]) == 0
    assert told["asked"][-1] == ("GET", "/members", "", "")


def test_no_other_file_than_a_token_is_sent_to_a_server_that_names_it(
    told: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "id_rsa").write_text("private")
    (tmp_path / "admin.token").symlink_to(tmp_path / "id_rsa")
    for name in ("id_rsa", "admin.token", "missing/admin.token"):
        told["admin_file"] = str(tmp_path / name)
        assert main(["members", "add", "--name", "a", "--model", "m", "--admin", told["admin"]]) == 1
        assert "cannot be read, which only the server's user can" in capsys.readouterr().err
    told["admin_file"] = ""
    assert main(["members", "add", "--name", "a", "--model", "m", "--admin", told["admin"]]) == 1
    assert "the members of this server cannot be changed" in capsys.readouterr().err
    assert not any("private" in word for words in told["asked"] for word in words)
