"""What a user sees while engines start, and once they are up."""

import gc
import json
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest

from router import Router
from router.cli.places import MemberPlace
from router.cli.progress import (
    JsonProgress,
    Lines,
    Ready,
    ServedMember,
    StartBars,
    journal_text,
    placement_text,
    progress,
    ready_text,
)
from router.config import Journal
from router.heads.base import Placement
from router.pool.stages import StartProgress
from router.pool.supervisor import StartEvent

READY = Ready(
    version="1.2.3",
    url="http://127.0.0.1:8000",
    admin_url="http://127.0.0.1:8001",
    guarded=True,
    members=(
        ServedMember("s", "org/small", Placement(name="s", by="size", strength=0.271), "/tmp/s.log"),
        ServedMember("large", "http://other:8000", Placement(name="large", by="like", reference="llama-3.1-70b")),
    ),
)


def test_the_ready_text_has_all_that_one_needs() -> None:
    text = ready_text(READY)
    assert text.startswith("Headgate 1.2.3 is ready: http://127.0.0.1:8000/v1   (admin: http://127.0.0.1:8001)\n")
    assert "  s      org/small, scored by strength 0.27, a guess from its size; `strength` or `like` sets it\n" in text
    assert "  large  http://other:8000, scored as llama-3.1-70b\n" in text
    assert "  s      /tmp/s.log\n" in text
    assert "curl http://127.0.0.1:8000/v1/chat/completions" in text
    assert "authorization: Bearer YOUR_KEY" in text


def test_a_pool_of_pooling_models_alone_is_tried_by_an_embedding() -> None:
    members = (ServedMember("emb", "org/emb", Placement(name="emb", by="none")),)
    text = ready_text(msgspec.structs.replace(READY, members=members))
    assert "/v1/embeddings" in text
    assert '"input": "What is 2 + 2?"' in text
    assert "chat" not in text


def test_a_journal_is_told_with_what_it_holds_and_none_is_not_told() -> None:
    assert journal_text(Journal()) == ""
    kept = journal_text(Journal(path="/var/journal", prompts=True, sync="record"))
    assert kept == "/var/journal, with prompts, sync: record"
    assert f"\nJournal: {kept}\n" in ready_text(msgspec.structs.replace(READY, journal=kept))
    assert "Journal" not in ready_text(READY)


def test_a_unix_socket_is_told_with_the_words_that_reach_it() -> None:
    text = ready_text(msgspec.structs.replace(READY, url="http://localhost", uds="/run/a b"))
    assert "is ready: http://localhost/v1, by the Unix socket /run/a b   (admin" in text
    assert "curl --unix-socket '/run/a b' http://localhost/v1/chat/completions" in text


@pytest.mark.parametrize(
    ("placement", "text"),
    [
        (Placement(name="x", by="name", reference="qwen"), "scored as qwen"),
        (Placement(name="x", by="strength", strength=0.44), "scored by strength 0.44"),
        (Placement(name="x", by="default"), "scored as an average model: nothing is known of it"),
        (Placement(name="x", by="none"), "a pooling model: asked for by name, not scored"),
    ],
)
def test_placements_in_words(placement: Placement, text: str) -> None:
    assert placement_text(placement).startswith(text)


def test_where_members_live_is_told_on_standard_error_before_they_start(capsys: pytest.CaptureFixture[str]) -> None:
    places = (MemberPlace(name="a", devices=("0",), where="0 (H100)", memory_share=0.45, usd_per_hour=1.125),)
    Lines().places(places)
    out, err = capsys.readouterr()
    assert out == ""
    assert err == (
        "headgate: the members live here:\n  member  devices   memory  USD/hour\n  a       0 (H100)  45.0 %      1.12\n"
    )
    JsonProgress().places(places)  # told with the `serving` event
    assert capsys.readouterr() == ("", "")


def test_lines(capsys: pytest.CaptureFixture[str]) -> None:
    lines = Lines()
    for event in (
        StartEvent("a", "starting"),
        StartEvent("a", "ready", 1.25),
        StartEvent("b", "failed", 2.0, "why", "/tmp/b.log"),
    ):
        lines.engine(event)
    lines.ready(READY)
    out, err = capsys.readouterr()
    assert err.splitlines() == [
        "headgate: starting 'a' ...",
        "headgate: 'a' is ready after 1.2 s",
        "headgate: 'b' failed after 2.0 s; all that it said is in /tmp/b.log",
    ]
    assert out == ready_text(READY) + "\n"


SO_FAR = StartProgress(stage="loading weights", percent=42, elapsed_s=20.0, left_s=31.4)


def test_lines_tell_each_stage_once_and_the_time_left_where_it_is_known(capsys: pytest.CaptureFixture[str]) -> None:
    lines = Lines()
    for start in (
        StartProgress(stage="importing vLLM", percent=3, elapsed_s=1.0),
        SO_FAR,
        msgspec.structs.replace(SO_FAR, percent=43),
    ):
        lines.engine(StartEvent("a", "progress", start.elapsed_s, start=start))
    assert capsys.readouterr().err.splitlines() == [
        "headgate: 'a': importing vLLM, 3 % of the start",
        "headgate: 'a': loading weights, 42 % of the start, about 31 s left",
    ]


def test_a_terminal_gets_a_bar_with_stage_and_time_left_and_then_a_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")  # to rich this is a terminal then
    monkeypatch.setenv("COLUMNS", "120")
    bars = StartBars()
    bars.engine(StartEvent("a[b]", "starting"))
    bars.engine(StartEvent("a[b]", "progress", 20.0, start=SO_FAR))
    assert bars._bars is not None
    bars._bars.refresh()
    bars.engine(StartEvent("a[b]", "ready", 1.0))
    bars.close()
    told = capsys.readouterr().err
    for part in ("a[b]", " 42 %", "loading weights", "about 31 s left"):
        assert part in told
    assert told.endswith("headgate: 'a[b]' is ready after 1.0 s\n")


def test_engines_that_load_side_by_side_have_a_bar_each_until_they_are_ready(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("COLUMNS", "120")
    bars = StartBars()
    bars.engine(StartEvent("one", "starting"))
    bars.engine(StartEvent("two", "starting"))
    bars.engine(StartEvent("one", "progress", 20.0, start=SO_FAR))
    assert bars._bars is not None
    assert [task.description for task in bars._bars.tasks] == ["one", "two"]
    bars.engine(StartEvent("one", "ready", 1.0))
    bars.engine(StartEvent("two", "progress", 21.0, start=SO_FAR))
    assert [(task.description, task.completed) for task in bars._bars.tasks] == [("two", 42)]
    bars.engine(StartEvent("two", "failed", 2.0, "no memory", "/a.log"))
    assert bars._bars is None
    told = capsys.readouterr().err
    assert "headgate: 'one' is ready after 1.0 s\n" in told
    assert told.endswith("headgate: 'two' failed after 2.0 s; all that it said is in /a.log\n")


def test_progress_is_a_json_line_with_all_that_is_known(capsys: pytest.CaptureFixture[str]) -> None:
    JsonProgress().engine(StartEvent("a", "progress", 20.0, start=SO_FAR))
    said = json.loads(capsys.readouterr().out)
    assert (said["event"], said["member"]) == ("progress", "a")
    assert said["start"] == {"stage": "loading weights", "percent": 42, "elapsed_s": 20.0, "left_s": 31.4}


def test_json_lines(capsys: pytest.CaptureFixture[str]) -> None:
    said = progress(json=True)
    assert isinstance(said, JsonProgress)
    said.engine(StartEvent("a", "ready", 1.5))
    said.ready(READY)
    first, last = map(json.loads, capsys.readouterr().out.splitlines())
    assert first == {"event": "ready", "member": "a", "seconds": 1.5, "why": "", "log": ""}
    assert last["event"] == "serving"
    assert last["members"][0]["placement"]["by"] == "size"


def test_a_terminal_gets_bars(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    assert isinstance(progress(json=False), StartBars)
    monkeypatch.setattr(sys.stderr, "isatty", lambda: False, raising=False)
    assert type(progress(json=False)) is Lines


def test_the_same_config_decides_without_engines(config: Callable[..., Path]) -> None:
    router = Router.from_config(config(), start=False)
    decision = router.decide("what is 2 + 2?")
    assert decision.model == "large"
    assert [placement.by for placement in router.placements] == ["like", "strength"]
    assert Router.from_config(str(config()), start=False).decide("x", model="small").reason == "pinned"


def test_a_router_that_is_never_started_leaves_nothing(
    config: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("router.config.runtime_root", lambda: Path(tempfile.mkdtemp(prefix="hg-", dir="/tmp")))
    router = Router.from_config(config())
    folder = router._folder.path
    assert folder.is_dir()
    del router
    gc.collect()
    assert not folder.exists()
    folder.parent.rmdir()
