"""Batches that run while another process takes the server over, and while members come and go: each line is answered
once."""

import select
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from tests.cli.conftest import Serve
from tests.cli.test_batches import begun, client_of, ended, line, results
from tests.cli.test_change_members import Cli, members
from tests.conftest import PATIENCE_S, wait_until

COUNT = 300


def slow(number: int, **body: Any) -> dict[str, Any]:
    return line(number, ["sleep", 0.05], ["chunk", f'{{"choices": [], "n": {number}}}'], ["done"], **body)


def test_a_batch_that_runs_through_two_takeovers_has_each_line_answered_once(
    serve: Callable[..., Serve], taking: Callable[..., Serve], config: Callable[..., Path], tmp_path: Path
) -> None:
    file = config(batches={"path": str(tmp_path / "batches"), "running": 8})
    server = serve(file)
    with client_of(server) as client:
        id = begun(client, [slow(n) for n in range(1, COUNT + 1)]).id
        wait_until(lambda: client.batches.retrieve(id).request_counts.completed > 20)
    for part in (2, 3):
        old, server = server, taking(server, file)
        assert old.end()[0] == 0
        assert "Traceback" not in old.errors + server.errors
        with client_of(server) as client:
            wait_until(lambda: ready(client))
            wait_until(lambda: client.batches.retrieve(id).request_counts.completed > 40 * part)
    with client_of(server) as client:
        batch = ended(client, id)
        assert (batch.request_counts.completed, batch.request_counts.failed) == (COUNT, 0)
        assert results(client, batch.output_file_id).keys() == {f"line-{n}" for n in range(1, COUNT + 1)}
    assert "Traceback" not in server.errors


def ready(client: Any) -> bool:
    try:
        client.batches.list()
    except Exception:
        return False
    return True


def test_lines_are_answered_once_while_their_members_are_replaced_added_and_removed(
    serve: Callable[..., Serve], config: Callable[..., Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    server = serve(config(batches={"path": str(tmp_path / "batches"), "running": 8}))
    cli = Cli(server, capsys)
    with client_of(server) as client:
        lines = [slow(n, model="auto" if n % 2 else "large") for n in range(1, COUNT + 1)]
        id = begun(client, lines).id
        wait_until(lambda: client.batches.retrieve(id).request_counts.completed > 10)
        cli("replace", "large", "--model", "stub2", "--strength", "0.6")
        cli("add", "--name", "medium", "--model", "stub", "--strength", "0.5")
        cli("remove", "small")
        batch = ended(client, id)
        assert (batch.request_counts.completed, batch.request_counts.failed) == (COUNT, 0)
        assert results(client, batch.output_file_id).keys() == {f"line-{n}" for n in range(1, COUNT + 1)}
    assert "Traceback" not in server.errors
    assert [member["in_flight"] for member in members(server)["members"]] == [0, 0]


def test_a_client_that_sends_its_file_byte_by_byte_keeps_no_batches_from_the_process_that_takes_over(
    serve: Callable[..., Serve], taking: Callable[..., Serve], config: Callable[..., Path], tmp_path: Path
) -> None:
    limits = {"drain_s": 1.0}
    server = {"port": 0, "admin_port": 0, "limits": limits}
    file = config(server=server, batches={"path": str(tmp_path / "batches")})
    old = serve(file)
    url = urlsplit(old.url)
    with socket.create_connection((url.hostname, url.port), PATIENCE_S) as slow:
        slow.sendall(
            b"POST /v1/files HTTP/1.1\r\nhost: x\r\ncontent-type: multipart/form-data; boundary=X\r\n"
            b"content-length: 100000\r\n\r\n--X\r\n"
            b'content-disposition: form-data; name="file"; filename="a"\r\n\r\n'
        )
        wait_until(lambda: feed(slow) and len(list((tmp_path / "batches").glob("upload-*"))) == 1)
        with client_of(taking(old, file)) as client:
            wait_until(lambda: not feed(slow) or ready(client))
            wait_until(lambda: not feed(slow))
            wait_until(lambda: ready(client))
            assert slow.recv(100).startswith(b"HTTP/1.1 503 ")
            assert client.files.list().data == []
    assert old.end()[0] == 0
    assert "Traceback" not in old.errors
    assert sorted(each.name for each in (tmp_path / "batches").iterdir()) == ["lock"]


def feed(slow: socket.socket) -> bool:
    """Send one byte more, unless there is an answer already; whether there was none."""
    if select.select([slow], [], [], 0.0)[0]:
        return False
    slow.sendall(b"x")
    return True
