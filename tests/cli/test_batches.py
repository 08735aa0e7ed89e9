"""Files and batches of `headgate serve`, by the `openai` client; also where the server is killed in their midst."""

import io
import json
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import openai
import pytest

from tests.conftest import PATIENCE_S, wait_until

CHAT = "/v1/chat/completions"


def line(number: int, *steps: list[Any], name: str | None = None, **body: Any) -> dict[str, Any]:
    """A line of an input, whose answer is scripted."""
    script = json.dumps(steps or (["chunk", f'{{"choices": [], "n": {number}}}'], ["done"]))
    asked = {"model": "small", "messages": [{"role": "user", "content": f"{number}?"}], "user": script, **body}
    return {"custom_id": name or f"line-{number}", "method": "POST", "url": CHAT, "body": asked}


def jsonl(lines: list[dict[str, Any]]) -> io.BytesIO:
    file = io.BytesIO("".join(json.dumps(each) + "\n" for each in lines).encode())
    file.name = "in.jsonl"
    return file


def client_of(server: Any, key: str = "none") -> openai.OpenAI:
    return openai.OpenAI(base_url=f"{server.url}/v1", api_key=key, max_retries=0, timeout=PATIENCE_S)


def begun(client: openai.OpenAI, lines: list[dict[str, Any]], **more: Any) -> Any:
    file = client.files.create(file=jsonl(lines), purpose="batch")
    more = {"endpoint": CHAT, "completion_window": "24h", **more}
    return client.batches.create(input_file_id=file.id, **more)


def ended(client: openai.OpenAI, id: str, status: str = "completed") -> Any:
    over = ("completed", "failed", "expired", "cancelled")
    wait_until(lambda: client.batches.retrieve(id).status in over, lambda: client.batches.retrieve(id))
    batch = client.batches.retrieve(id)
    assert batch.status == status, batch
    return batch


def results(client: openai.OpenAI, file_id: str | None) -> dict[str, Any]:
    """By custom_id. None of them stands twice."""
    if file_id is None:
        return {}
    read = [json.loads(each) for each in client.files.content(file_id).text.splitlines()]
    found = {each["custom_id"]: each for each in read}
    assert len(found) == len(read)
    return found


@pytest.fixture
def server(serve: Callable[..., Any], config: Callable[..., Path], tmp_path: Path) -> Any:
    return serve(config(batches={"path": str(tmp_path / "batches"), "running": 4}))


def test_a_batch_of_chats_is_answered_line_by_line_in_openais_format(server: Any) -> None:
    with client_of(server) as client:
        batch = begun(client, [line(n) for n in range(1, 41)], metadata={"who": "me"})
        assert (batch.status, batch.metadata, batch.endpoint) == ("validating", {"who": "me"}, CHAT)
        batch = ended(client, batch.id)
        assert (batch.request_counts.total, batch.request_counts.completed, batch.request_counts.failed) == (40, 40, 0)
        assert batch.error_file_id is None
        found = results(client, batch.output_file_id)
    assert found.keys() == {f"line-{n}" for n in range(1, 41)}
    one = found["line-7"]
    assert one["error"] is None
    assert one["response"]["status_code"] == 200
    assert one["response"]["body"] == {"choices": [], "n": 7}
    assert one["id"] == one["response"]["request_id"]


def test_a_batch_tells_the_sum_of_its_tokens_and_the_model_that_all_lines_name(server: Any) -> None:
    usage = {"prompt_tokens": 10, "completion_tokens": 4, "prompt_tokens_details": {"cached_tokens": 8}}
    told = ["chunk", json.dumps({"choices": [], "usage": usage})]
    with client_of(server) as client:
        alike = begun(client, [line(n, told, ["done"]) for n in range(1, 6)] + [line(6, model=7)])
        mixed = begun(client, [line(1, told, ["done"]), line(2, told, ["done"], model="large"), line(3)])
        batch = ended(client, alike.id)
        assert (alike.model, alike.usage) == (None, None)
        assert batch.model is None  # a line names none
        assert batch.usage.to_dict() == {
            "input_tokens": 50,
            "input_tokens_details": {"cached_tokens": 40},
            "output_tokens": 20,
            "output_tokens_details": {"reasoning_tokens": 0},
            "total_tokens": 70,
        }
        batch = ended(client, mixed.id)
        assert (batch.model, batch.usage.total_tokens) == (None, 28)
        batch = ended(client, begun(client, [line(1), line(2), {**line(3), "method": "GET"}]).id)
        assert (batch.model, batch.usage.total_tokens) == ("small", 0)


def test_broken_lines_stand_in_the_error_file_by_number_and_the_rest_runs(server: Any) -> None:
    good = json.dumps(line(1))
    lines = [
        "\ufeff" + good,
        "not json",
        "",
        json.dumps({**line(4), "url": "/v1/embeddings"}),
        json.dumps({**line(5), "method": "GET"}),
        json.dumps({**line(6), "body": [1]}),
        json.dumps({**line(7), "custom_id": 7}),
        json.dumps(line(8, name="line-1")),
        json.dumps({"custom_id": "nobody", "method": "POST", "url": CHAT}),
        json.dumps(line(10, model="no-such-model")),
        json.dumps(line(11, messages="none")),
        json.dumps(line(12, stream=True)),
        json.dumps({**line(13), "custom_id": ""}),
        json.dumps(line(14)),
    ]
    with client_of(server) as client:
        file = client.files.create(file=("in.jsonl", "\r\n".join(lines).encode()), purpose="batch")
        batch = client.batches.create(input_file_id=file.id, endpoint=CHAT, completion_window="24h")
        batch = ended(client, batch.id)
        counts = batch.request_counts
        assert (counts.total, counts.completed, counts.failed) == (13, 2, 11)
        assert results(client, batch.output_file_id).keys() == {"line-1", "line-14"}
        wrong = [json.loads(each) for each in client.files.content(batch.error_file_id).text.splitlines()]
    told = {each["error"]["line"]: each["error"] for each in wrong if each["error"] is not None}
    assert {line: error["code"] for line, error in told.items()} == {
        2: "invalid_json_line",
        4: "mismatched_url",
        5: "invalid_method",
        6: "invalid_body",
        7: "invalid_line",
        8: "duplicate_custom_id",
        9: "invalid_line",
        13: "invalid_custom_id",
    }
    assert told[8]["message"] == "line 8: `custom_id`: 'line-1' is that of line 1 too"
    assert told[9]["message"] == "line 9: Object missing required field `body`"
    assert [(fault.line, fault.code) for fault in batch.errors.data] == [
        (n, error["code"])
        for n, error in sorted(told.items(), key=lambda each: (each[1]["code"].startswith("dup"), each[0]))
    ]
    answered = {each["custom_id"]: each["response"] for each in wrong if each["response"] is not None}
    assert {name: response["status_code"] for name, response in answered.items()} == {
        "line-10": 404,
        "line-11": 400,
        "line-12": 400,
    }
    assert answered["line-10"]["body"]["error"]["code"] == "model_not_found"
    assert answered["line-12"]["body"]["error"]["param"] == "stream"


def test_a_batch_without_a_good_line_fails_and_says_why(server: Any) -> None:
    with client_of(server) as client:
        file = client.files.create(file=("in.jsonl", b"one\n{}\n"), purpose="batch")
        batch = client.batches.create(input_file_id=file.id, endpoint=CHAT, completion_window="24h")
        batch = ended(client, batch.id, "failed")
        assert [(fault.line, fault.code) for fault in batch.errors.data] == [
            (1, "invalid_json_line"),
            (2, "invalid_line"),
        ]
        assert len(client.files.content(batch.error_file_id).text.splitlines()) == 2
        empty = client.files.create(file=("in.jsonl", b"\n \r\n"), purpose="batch")
        batch = client.batches.create(input_file_id=empty.id, endpoint=CHAT, completion_window="24h")
        batch = ended(client, batch.id, "failed")
        assert batch.errors.data[0].code == "empty_file"


def test_a_failing_engine_is_tried_again_and_its_error_is_the_lines_result(server: Any) -> None:
    lines = [
        line(1, ["fail", 400, "too_bad", False]),
        line(2, ["fail", 500, "broken", False]),
        line(3),
    ]
    with client_of(server) as client:
        batch = ended(client, begun(client, lines).id)
        wrong = results(client, batch.error_file_id)
        assert results(client, batch.output_file_id).keys() == {"line-3"}
    assert {name: each["response"]["status_code"] for name, each in wrong.items()} == {"line-1": 400, "line-2": 500}
    assert wrong["line-1"]["response"]["body"]["error"]["message"] == "scripted 400"


def test_a_cancelled_batch_keeps_what_was_answered_and_tells_of_the_others(server: Any) -> None:
    lines = [line(1), line(2), *(line(n, ["sleep", 3600]) for n in range(3, 9))]
    with client_of(server) as client:
        batch = begun(client, lines)
        wait_until(lambda: client.batches.retrieve(batch.id).request_counts.completed == 2)
        assert client.batches.cancel(batch.id).status in ("cancelling", "cancelled")
        batch = ended(client, batch.id, "cancelled")
        assert results(client, batch.output_file_id).keys() == {"line-1", "line-2"}
        wrong = results(client, batch.error_file_id)
        assert {each["error"]["code"] for each in wrong.values()} == {"batch_cancelled"}
        assert wrong.keys() == {f"line-{n}" for n in range(3, 9)}
        assert (batch.request_counts.completed, batch.request_counts.failed) == (2, 6)
        with pytest.raises(openai.BadRequestError, match="it cannot be cancelled"):
            client.batches.cancel(batch.id)
    wait_until(lambda: json.load(server.open("/members", admin=True))["members"][0]["in_flight"] == 0)


def test_files_are_listed_in_pages_shown_read_and_deleted(server: Any) -> None:
    with client_of(server) as client:
        made = [client.files.create(file=(f"{n}.jsonl", b"x" * n), purpose="batch") for n in (1, 2, 3)]
        hour = {"anchor": "created_at", "seconds": 3600}
        kept = client.files.create(file=("4.jsonl", b"four"), purpose="batch", expires_after=hour)  # type: ignore[arg-type]
        assert kept.expires_at == kept.created_at + 3600
        ids = [file.id for file in made]
        assert [file.id for file in client.files.list(order="asc", limit=2)] == [*ids, kept.id]  # all pages
        page = client.files.list(limit=2)
        assert ([file.id for file in page.data], page.has_more) == ([kept.id, ids[2]], True)
        assert [file.id for file in client.files.list(purpose="batch_output")] == []
        shown = client.files.retrieve(ids[1])
        assert (shown.bytes, shown.filename, shown.purpose, shown.status) == (2, "2.jsonl", "batch", "processed")
        assert client.files.content(kept.id).content == b"four"
        assert client.files.delete(ids[0]).deleted
        with pytest.raises(openai.NotFoundError, match="no file"):
            client.files.retrieve(ids[0])
        with pytest.raises(openai.NotFoundError, match="no file"):
            client.files.content("../../etc/passwd")


def test_a_file_that_a_batch_reads_is_not_deleted(server: Any) -> None:
    with client_of(server) as client:
        batch = begun(client, [line(1, ["sleep", 3600])])
        with pytest.raises(openai.BadRequestError, match="a batch that is not over"):
            client.files.delete(batch.input_file_id)
        client.batches.cancel(batch.id)
        ended(client, batch.id, "cancelled")
        assert client.files.delete(batch.input_file_id).deleted


def test_files_and_batches_belong_to_the_key_that_made_them(
    serve: Callable[..., Any], config: Callable[..., Path], tmp_path: Path
) -> None:
    server = serve(
        config(
            server={"port": 0, "admin_port": 0, "api_keys": ["one", "two"]}, batches={"path": str(tmp_path / "batches")}
        )
    )
    with client_of(server, "one") as one, client_of(server, "two") as two:
        batch = ended(one, begun(one, [line(1)]).id)
        assert [each.id for each in one.batches.list()] == [batch.id]
        assert len(list(one.files.list())) == 2
        assert (list(two.batches.list()), list(two.files.list())) == ([], [])
        for call in (two.batches.retrieve, two.batches.cancel):
            with pytest.raises(openai.NotFoundError):
                call(batch.id)
        for call in (two.files.retrieve, two.files.content, two.files.delete):
            with pytest.raises(openai.NotFoundError):
                call(batch.output_file_id)
        with pytest.raises(openai.NotFoundError):
            two.batches.create(input_file_id=batch.input_file_id, endpoint=CHAT, completion_window="24h")
        with client_of(server, "three") as three, pytest.raises(openai.AuthenticationError):
            three.files.list()


def test_a_killed_server_goes_on_where_its_results_end(
    serve: Callable[..., Any], config: Callable[..., Path], tmp_path: Path
) -> None:
    folder = tmp_path / "batches"
    settings = config(batches={"path": str(folder), "running": 4})
    server = serve(settings)
    lines = [line(n, ["sleep", 0.01], ["chunk", f'{{"n": {n}}}'], ["done"]) for n in range(1, 301)]
    with client_of(server) as client:
        id = begun(client, lines).id
    for share in (60, 160):
        with client_of(server) as client:
            wait_until(lambda: client.batches.retrieve(id).request_counts.completed >= share)
        server.signal(signal.SIGKILL)
        server.end()
        with open(folder / f"{id}.output", "ab") as torn:  # as a crash of the machine may leave it
            torn.write(b'{"id":"batch_req_torn')
        server = serve(settings)
    with client_of(server) as client:
        batch = ended(client, id)
        found = results(client, batch.output_file_id)
        assert batch.request_counts.completed == 300
    assert {name: each["response"]["body"]["n"] for name, each in found.items()} == {
        f"line-{n}": n for n in range(1, 301)
    }


def test_a_server_that_ends_puts_its_lines_back_and_the_next_one_answers_them(
    serve: Callable[..., Any], config: Callable[..., Path], tmp_path: Path
) -> None:
    settings = config(batches={"path": str(tmp_path / "batches"), "running": 2})
    server = serve(settings)
    lines = [line(n, ["sleep", 0.02], ["chunk", f'{{"n": {n}}}'], ["done"]) for n in range(1, 101)]
    with client_of(server) as client:
        id = begun(client, lines).id
        wait_until(lambda: client.batches.retrieve(id).request_counts.completed >= 10)
    server.signal(signal.SIGTERM)
    code, said = server.end()
    assert (code, "Traceback" in said) == (0, False), said
    server = serve(settings)
    with client_of(server) as client:
        batch = ended(client, id)
        assert results(client, batch.output_file_id).keys() == {f"line-{n}" for n in range(1, 101)}


def test_a_second_server_waits_for_the_folder_and_says_so(
    serve: Callable[..., Any], config: Callable[..., Path], tmp_path: Path
) -> None:
    settings = config(batches={"path": str(tmp_path / "batches")})
    first = serve(settings)
    second = serve(settings)
    second.wait_said("another process has it")
    with client_of(second) as client:
        with pytest.raises(openai.InternalServerError, match="another process has it") as refused:
            client.files.list()
        assert refused.value.status_code == 503
        first.signal(signal.SIGTERM)
        first.end()

        def listed() -> bool:
            try:
                return list(client.files.list()) == []
            except openai.InternalServerError:
                return False

        wait_until(listed)


def test_without_a_folder_there_are_no_batches(serve: Callable[..., Any], config: Callable[..., Path]) -> None:
    with client_of(serve(config())) as client:
        for call in (client.files.list, client.batches.list):
            with pytest.raises(openai.APIStatusError, match=r"no `batches\.path` in its config") as refused:
                call()
            assert (refused.value.status_code, refused.value.code) == (501, "batches_off")  # type: ignore[attr-defined]


def test_all_that_is_in_the_folder_is_for_its_owner_alone(server: Any, tmp_path: Path) -> None:
    with client_of(server) as client:
        ended(client, begun(client, [line(1)]).id)
    folder = tmp_path / "batches"
    assert folder.stat().st_mode & 0o777 == 0o700
    assert {(folder / name).stat().st_mode & 0o777 for name in os.listdir(folder)} == {0o600}


def test_a_batch_of_embeddings_goes_to_the_member_that_makes_them(
    serve: Callable[..., Any], config: Callable[..., Path], tmp_path: Path
) -> None:
    pool = [
        {"name": "small", "model": "stub", "strength": 0.4},
        {
            "name": "vectors",
            "model": "stub",
            "engine_args": {"runner": "pooling", "capabilities": ["embeddings"]},
        },
    ]
    url = "/v1/embeddings"
    script = json.dumps([["chunk", '{"object": "list", "data": [{"embedding": [0.5]}]}'], ["done"]])
    lines = [
        {"custom_id": f"line-{n}", "method": "POST", "url": url, "body": {"input": "x", "user": script, **more}}
        for n, more in enumerate(({"model": "vectors"}, {}, {"model": "small"}), start=1)
    ]
    with client_of(serve(config(pool=pool, batches={"path": str(tmp_path / "batches")}))) as client:
        batch = ended(client, begun(client, lines, endpoint=url).id)
        found = results(client, batch.output_file_id)
        (wrong,) = results(client, batch.error_file_id).values()
    assert {name: each["response"]["body"]["data"] for name, each in found.items()} == {
        "line-1": [{"embedding": [0.5]}],
        "line-2": [{"embedding": [0.5]}],
    }
    assert (wrong["custom_id"], wrong["response"]["status_code"]) == ("line-3", 400)
