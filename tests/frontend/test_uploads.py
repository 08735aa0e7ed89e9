"""Files as they are sent and read back: to the disk piece by piece, refused where they are wrong or too large."""

import asyncio
import json
import os
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from router.config import Batches as Settings
from router.config import Limits
from router.gate.gate import Gate
from router.observe.metrics import Metrics
from router.pipeline.batch.batches import Batches
from tests.conftest import PATIENCE_S, until
from tests.frontend.conftest import Client, House, Response, ScriptedService, get, post

BOUNDARY = "xyz"


class NoPool:
    """A desk without members: nothing of a batch is begun."""

    pool = ()
    scores_slowly = False

    def __init__(self) -> None:
        self.gate = Gate(Limits(), Metrics(process=False))


def part(name: str, data: bytes, filename: str = "") -> bytes:
    more = f'; filename="{filename}"' if filename else ""
    head = f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="{name}"{more}\r\n\r\n'
    return head.encode() + data + b"\r\n"


END = f"--{BOUNDARY}--\r\n".encode()
TYPE = f"Content-Type: multipart/form-data; boundary={BOUNDARY}"
PURPOSE = part("purpose", b"batch")


class Uploads:
    """A frontend over a folder for batches."""

    def __init__(self, house: House, service: ScriptedService, folder: Path) -> None:
        self.house, self.service, self.folder = house, service, folder
        self.frontend: Any = None

    async def start(self, limits: dict[str, Any] | None = None, **settings: Any) -> None:
        made = Settings(path=str(self.folder), **settings)
        self.service.batches = Batches(NoPool(), made, Limits())  # type: ignore[arg-type]
        self.service.batches.open()
        await until(lambda: self.batches._ready)
        self.frontend = await self.house.start(self.service, **(limits or {}))

    @property
    def batches(self) -> Batches:
        assert self.service.batches is not None
        return self.service.batches

    async def client(self) -> Client:
        return await self.house.connect(self.frontend)

    async def send(self, form: bytes, *headers: str) -> Response:
        client = await self.client()
        client.send(post("/v1/files", form, *(headers or (TYPE,))))
        return await client.response()

    async def get(self, path: str, method: str = "GET") -> Response:
        client = await self.client()
        client.send(get(path, method=method))
        return await client.response(to_head=method == "HEAD")

    async def nothing_is_left(self) -> None:
        await until(lambda: os.listdir(self.folder) == ["lock"], lambda: os.listdir(self.folder))
        assert self.batches.figures().used_bytes == 0


@pytest.fixture
async def uploads(house: House, service: ScriptedService, tmp_path: Path) -> AsyncIterator[Uploads]:
    made = Uploads(house, service, tmp_path / "batches")
    yield made
    await house.end()
    await made.batches.close()


async def test_a_file_is_sent_whatever_the_order_of_its_form(uploads: Uploads) -> None:
    await uploads.start()
    for form in (PURPOSE + part("file", b"one\n", "a.jsonl"), part("file", b"one\n", "a.jsonl") + PURPOSE):
        answer = await uploads.send(form + END)
        assert answer.status == 200, answer.body
        told = json.loads(answer.body)
        assert (told["object"], told["bytes"], told["filename"], told["purpose"]) == ("file", 4, "a.jsonl", "batch")
        content = await uploads.get(f"/v1/files/{told['id']}/content")
        assert (content.status, content.body) == (200, b"one\n")


async def test_a_file_larger_than_bodies_may_be_goes_to_the_disk_and_comes_back(uploads: Uploads) -> None:
    await uploads.start(limits={"body_bytes": 100_000, "pending_bytes": 2_000_000})
    data = os.urandom(5_000_000)
    answer = await uploads.send(PURPOSE + part("file", data, "../../etc/passwd") + END)
    assert answer.status == 200, answer.body
    told = json.loads(answer.body)
    assert (told["bytes"], told["filename"]) == (len(data), "passwd")
    content = await uploads.get(f"/v1/files/{told['id']}/content")
    assert content.headers["content-length"] == str(len(data))
    assert content.body == data
    head = await uploads.get(f"/v1/files/{told['id']}/content", "HEAD")
    assert (head.status, head.headers["content-length"]) == (200, str(len(data)))


async def test_a_form_may_come_byte_by_byte_and_in_chunks(uploads: Uploads) -> None:
    await uploads.start()
    form, client = PURPOSE + part("file", b"a\r\n--xy\r\n--xyzz" * 3, "a") + END, await uploads.client()
    client.send(f"POST /v1/files HTTP/1.1\r\nHost: h\r\n{TYPE}\r\nTransfer-Encoding: chunked\r\n\r\n".encode())
    for i in range(len(form)):
        client.send(b"1\r\n" + form[i : i + 1] + b"\r\n")
        await asyncio.sleep(0)
    client.send(b"0\r\n\r\n")
    answer = await client.response()
    assert (answer.status, json.loads(answer.body)["bytes"]) == (200, 45)


@pytest.mark.parametrize(
    ("form", "headers", "status", "message"),
    [
        (part("file", b"x", "a") + END, (), 400, "`purpose`: expected `batch`, it is missing"),
        (
            part("purpose", b"vision") + part("file", b"x", "a") + END,
            (),
            400,
            "`purpose`: expected `batch`, got 'vision'",
        ),
        (PURPOSE + END, (), 400, "`file` is missing"),
        (PURPOSE + part("file", b"x", "a"), (), 400, "the form is not whole: its last boundary is missing"),
        (PURPOSE + part("file", b"x", "a") * 2 + END, (), 400, "`file` stands twice; expected one file"),
        (PURPOSE * 2 + part("file", b"x", "a") + END, (), 400, "`purpose` stands twice"),
        (b"nonsense", (), 400, "the form is malformed"),
        (part("purpose", b"x" * 5_000) + END, (), 400, "`purpose` is over 4096 bytes"),
        (b"".join(part(f"f{n}", b"") for n in range(40)) + END, (), 400, "the form has more than 32 fields"),
        (
            PURPOSE + part("expires_after[seconds]", b"1") + part("file", b"x", "a") + END,
            (),
            400,
            "`expires_after.anchor`",
        ),
        (b"{}", ("Content-Type: application/json",), 400, "`content-type`: expected `multipart/form-data`"),
        (b"{}", ("Content-Type: multipart/form-data",), 400, "`content-type`: expected `multipart/form-data`"),
        (
            END,
            ("Content-Type: multipart/form-data; boundary=" + "x" * 300,),
            400,
            "`content-type`: Boundary length 300",
        ),
        (
            PURPOSE + part("file", b"x" * 2_000, "a") + END,
            (),
            413,
            "the file is over 1000 bytes (`batches.max_file_bytes`)",
        ),
        (
            PURPOSE + part("file", b"x", "a") + END,
            (TYPE, "Origin: https://evil.example"),
            403,
            "the origin https://evil.example is not one of",
        ),
    ],
)
async def test_a_form_that_is_wrong_is_refused_and_nothing_is_left_of_it(
    uploads: Uploads, form: bytes, headers: tuple[str, ...], status: int, message: str
) -> None:
    await uploads.start(max_file_bytes=1_000, max_line_bytes=1_000)
    answer = await uploads.send(form, *headers)
    assert answer.status == status, answer.body
    assert str(answer.error["message"]).startswith(message)
    await uploads.nothing_is_left()


async def test_all_files_together_are_bounded(uploads: Uploads) -> None:
    await uploads.start(max_file_bytes=1_000, max_line_bytes=1_000, max_files_bytes=1_500)
    form = PURPOSE + part("file", b"x" * 900, "a") + END
    assert (await uploads.send(form)).status == 200
    answer = await uploads.send(form)
    assert (answer.status, answer.error["code"]) == (507, "storage_full")
    assert uploads.batches.figures().used_bytes == 900


async def test_of_a_client_that_leaves_in_the_middle_nothing_is_left(uploads: Uploads) -> None:
    await uploads.start()
    client = await uploads.client()
    form = PURPOSE + part("file", b"x" * 500_000, "a") + END
    client.send(post("/v1/files", form, TYPE)[:300_000])
    await until(lambda: any(name.startswith("upload-") for name in os.listdir(uploads.folder)))
    await client.close()
    await uploads.nothing_is_left()


async def test_of_an_upload_behind_another_answer_nothing_is_left_when_its_client_leaves(uploads: Uploads) -> None:
    await uploads.start()
    client = await uploads.client()
    client.send(post("/v1/chat/completions", {"messages": [{"role": "user", "content": "x"}]}))
    await uploads.service.asked()
    client.send(post("/v1/files", PURPOSE + part("file", b"x", "a") + END, TYPE))
    await until(lambda: any(name.startswith("upload-") for name in os.listdir(uploads.folder)))
    await client.close()
    await uploads.nothing_is_left()


async def test_a_slow_disk_slows_its_client_down_and_nobody_else(
    uploads: Uploads, monkeypatch: pytest.MonkeyPatch
) -> None:
    await uploads.start()
    file, waits = uploads.batches.new_file(), []
    uploads.batches.drop(file)
    write, open_gate = type(file).write, asyncio.Event()
    loop = asyncio.get_running_loop()

    def slow(self: Any, data: bytes) -> None:
        waits.append(len(data))
        asyncio.run_coroutine_threadsafe(open_gate.wait(), loop).result(PATIENCE_S)
        write(self, data)

    monkeypatch.setattr(type(file), "write", slow)
    client = await uploads.client()
    data = b"x" * 30_000_000
    client.send(post("/v1/files", PURPOSE + part("file", data, "a") + END, TYPE))
    await until(lambda: waits)
    assert (await uploads.get("/v1/files")).status == 200
    assert uploads.batches.figures().used_bytes < 3_000_000  # of what was read
    open_gate.set()
    answer = await client.response()
    assert (answer.status, json.loads(answer.body)["bytes"]) == (200, len(data))


async def test_a_client_that_reads_slowly_gets_the_whole_file_and_little_of_it_is_held(uploads: Uploads) -> None:
    await uploads.start()
    data = os.urandom(20_000_000)
    sent = json.loads((await uploads.send(PURPOSE + part("file", data, "a") + END)).body)
    client = await uploads.client()
    client.send(get(f"/v1/files/{sent['id']}/content"))
    await client.head()
    (connection,) = await until(lambda: [one for one in uploads.frontend._public.connections if one.unsent_bytes()])
    await asyncio.sleep(0.2)
    assert connection.unsent_bytes() < 2_000_000
    assert await client.reader.readexactly(len(data)) == data


async def test_lists_are_refused_a_wrong_limit_order_or_place(uploads: Uploads) -> None:
    await uploads.start()
    for path, message in (
        ("/v1/files?limit=0", "`limit`: expected 1 to 10000, got '0'"),
        ("/v1/files?limit=x", "`limit`: expected 1 to 10000, got 'x'"),
        ("/v1/batches?limit=101", "`limit`: expected 1 to 100, got '101'"),
        ("/v1/files?order=up", "`order`: expected `asc` or `desc`, got 'up'"),
        ("/v1/files?after=file-x", "`after`: 'file-x' is none of the list"),
    ):
        answer = await uploads.get(path)
        assert (answer.status, answer.error["message"]) == (400, message)
    answer = await uploads.get("/v1/files?limit=1&after=")
    assert (answer.status, json.loads(answer.body)["data"]) == (200, [])


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"endpoint": "/v1/models"}, "`endpoint`: expected one of /v1/chat/completions"),
        ({"completion_window": "soon"}, "`completion_window`: expected `24h`, or another time up to `30d`, got 'soon'"),
        ({"completion_window": "31d"}, "`completion_window`: expected `24h`"),
        ({"input_file_id": 7}, "`input_file_id`: expected `str`, got `int`"),
        (
            {"metadata": {"a": "x" * 513}},
            "`metadata`: expected keys of at most 64 characters and values of at most 512",
        ),
        ({"metadata": {str(n): "" for n in range(17)}}, "`metadata`: expected at most 16 pairs, got 17"),
        ({"output_expires_after": {"anchor": "now", "seconds": 3600}}, "`output_expires_after.anchor`: expected"),
        ({"output_expires_after": {"anchor": "created_at", "seconds": 1}}, "`output_expires_after.seconds`: expected"),
    ],
)
async def test_a_batch_that_is_wrong_is_refused(uploads: Uploads, fields: dict[str, Any], message: str) -> None:
    await uploads.start()
    file = json.loads((await uploads.send(PURPOSE + part("file", b"x", "a") + END)).body)["id"]
    asked = {"input_file_id": file, "endpoint": "/v1/chat/completions", "completion_window": "24h", **fields}
    client = await uploads.client()
    client.send(post("/v1/batches", asked))
    answer = await client.response()
    assert answer.status == 400
    assert str(answer.error["message"]).startswith(message)


async def test_links_in_the_folder_are_not_followed(uploads: Uploads, tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("secret")
    await uploads.start()
    told = json.loads((await uploads.send(PURPOSE + part("file", b"x", "a") + END)).body)
    data = uploads.folder / f"{told['id']}.data"
    data.unlink()
    data.symlink_to(secret)
    answer = await uploads.get(f"/v1/files/{told['id']}/content")
    assert (answer.status, answer.error["code"], b"secret" in answer.body) == (500, "file_unreadable", False)
