"""Files that are written: refused before the work, whole or not at all, and never in place of what is read."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from router import heads
from router.artefacts import tensors
from router.cli.main import main
from router.errors import ConfigError
from router.learn import output, settings_text
from router.learn.data.importers import sink
from router.learn.data.importers.base import Outcome

ROW = '{"prompt": "1?", "model": "m", "score": 1}\n'
OUT = Outcome(prompt_id="p", group="g", task="", prompt="1?", model="m", score=1.0)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "t.jsonl").write_text(ROW * 3)
    (tmp_path / "out").mkdir()
    (tmp_path / "link.jsonl").symlink_to("t.jsonl")
    (tmp_path / "hard.jsonl").hardlink_to(tmp_path / "t.jsonl")
    return tmp_path


READ = "expected another file than those that are read, got "
VERBS = {
    "import": (["data", "import", "t.jsonl", "--out"], "--out"),
    "describe": (["data", "describe", "t.jsonl", "--plot"], "--plot"),
    "train": (["train", "t.jsonl", "--out"], "--out"),
    "add-model": (["train", "t.jsonl", "--add-model", "m", "--base", "default", "--out"], "--out"),
    "verifier": (["train", "t.jsonl", "--router", "verifier", "--out"], "--out"),
}


@pytest.mark.parametrize("verb", VERBS)
@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("gone/x", "expected a file in an existing folder, got gone/x"),
        ("folder", "expected the name of a file, got the folder folder"),
        ("t", READ),
        ("link", READ),
        ("hard", READ),
    ],
)
def test_an_output_that_cannot_be_is_refused_before_the_work(
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    verb: str,
    name: str,
    message: str,
) -> None:
    monkeypatch.chdir(folder)
    end = ".png" if verb == "describe" else ".jsonl"
    Path("folder" + end).mkdir()
    if end == ".png":
        for one in ("t", "link", "hard"):
            Path(one + end).hardlink_to("t.jsonl")
    words, flag = VERBS[verb]
    before = Path("t.jsonl").read_bytes()
    assert main([*words, name + end]) == 2
    said = capsys.readouterr().err
    assert f"headgate: error: {flag}: {message}" in said
    assert "read t.jsonl" not in said
    assert Path("t.jsonl").read_bytes() == before


def test_a_folder_that_holds_its_own_output_is_refused(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = folder / "all.jsonl"
    (folder / "link.jsonl").unlink()
    (folder / "hard.jsonl").unlink()
    assert main(["data", "import", str(folder), "--out", str(out)]) == 0
    assert main(["data", "import", str(folder), "--out", str(out)]) == 2
    assert f"--out: {READ}{out}" in capsys.readouterr().err


def test_a_full_disk_leaves_the_file_that_was_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "out.jsonl"
    path.write_text("before")

    def full(self: sink.Sink) -> None:
        self._file.write(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(sink.Sink, "_flush", full)
    with (
        pytest.raises(ConfigError, match=r"--out: .*out\.jsonl: cannot be written: No space left on device"),
        sink.opened(path, Outcome) as table,
    ):
        table.add(OUT)
    assert path.read_text() == "before"
    assert [one.name for one in tmp_path.iterdir()] == ["out.jsonl"]


@pytest.mark.parametrize("error", [KeyboardInterrupt(), ValueError("x"), SystemExit()])
def test_whatever_ends_the_writing_leaves_the_file_that_was_there(tmp_path: Path, error: BaseException) -> None:
    path = tmp_path / "out"
    path.write_text("before")
    with pytest.raises(type(error)), output.replaced("--out", path) as file:
        file.write(b"half")
        raise error
    assert path.read_text() == "before"
    assert [one.name for one in tmp_path.iterdir()] == ["out"]
    with output.replaced("--out", path) as file:
        file.write(b"whole")
    assert path.read_text() == "whole"
    assert path.stat().st_mode & 0o777 == 0o666 & ~_umask()


def _umask() -> int:
    now = os.umask(0)
    os.umask(now)
    return now


def test_a_checkpoint_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"gone/x: cannot be written: No such file or directory"):
        tensors.write(tmp_path / "gone" / "x", "{}", {})


INTERRUPTED = """
import signal, sys
from router.cli.main import main
from router.learn.data.importers.sink import Sink

signal.signal(signal.SIGINT, signal.default_int_handler)  # what runs in the background of a shell ignores it
add = Sink.add

def add_and_interrupt(self, row):
    add(self, row)
    signal.raise_signal(signal.SIGINT)

Sink.add = add_and_interrupt
sys.exit(main())
"""


def test_an_interrupted_import_leaves_the_table_that_was_there(tmp_path: Path) -> None:
    """Interrupted by itself, after its first row: a signal from outside may come after its end."""
    source, out = tmp_path / "x.jsonl", tmp_path / "out.jsonl"
    source.write_text(ROW * 3)
    out.write_text("before")
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    command = [sys.executable, "-P", "-c", INTERRUPTED, "data", "import", str(source), "--out", str(out)]
    ended = subprocess.run(command, capture_output=True, env=environment, timeout=60)
    assert ended.returncode == 130
    assert out.read_text() == "before"
    assert sorted(one.name for one in tmp_path.iterdir()) == ["out.jsonl", "x.jsonl"]


def test_names_that_are_no_text_are_written_with_escapes(table: Path, tmp_path: Path) -> None:
    odd = Path(os.fsdecode(os.fsencode(tmp_path) + b"/odd\xff.jsonl"))
    odd.write_bytes(table.read_bytes())
    out = tmp_path / "x.safetensors"
    assert main(["train", str(odd), "--router", "rules", "--folds", "2", "--out", str(out)]) == 0
    assert heads.read(out).meta.data[0].name == r"odd\xff.jsonl".replace(r"\xff", r"\udcff")
    assert main(["data", "import", str(odd), "--out", str(tmp_path / "o.jsonl"), "--json"]) == 0


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[" * 40, "expected at most 32 levels of YAML or JSON, got more"),
        ("[" * 200_000, "expected at most 32 levels of YAML or JSON, got more"),
        ("{a: " * 100, "expected at most 32 levels of YAML or JSON, got more"),
        ("[&a [x], *a]", r"expected YAML or JSON without aliases, got \*a"),
        ("&a [*a]", r"expected YAML or JSON without aliases, got \*a"),
        ("2001-99-99", "expected YAML or JSON: month must be in 1..12"),
        ("1" * 5000, "expected YAML or JSON: Exceeds the limit"),
        ("{[]: 1}", "expected YAML or JSON: while constructing a mapping"),
        ("\x00", "expected YAML or JSON: unacceptable character"),
        ("!!python/object/apply:os.system [true]", "expected YAML or JSON: could not determine a constructor"),
    ],
    ids=range(10),
)
def test_settings_that_are_refused(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(ConfigError, match=rf"^--option x: {message}"):
        settings_text.of_text(text, "--option x")
    path = tmp_path / "x.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError, match=rf"x\.yaml: {message}"):
        settings_text.of_file(path)


def test_a_file_of_settings_is_bounded_and_may_have_a_mark(tmp_path: Path) -> None:
    path = tmp_path / "x.yaml"
    path.write_bytes(b"\xef\xbb\xbfa: 1\n")
    assert settings_text.of_file(path) == {"a": 1}
    path.write_bytes(b"#" * (1 << 20) + b"#")
    with pytest.raises(ConfigError, match=r"x\.yaml: expected at most 1048576 bytes of YAML or JSON, got more"):
        settings_text.of_file(path)
    path.write_bytes(b"\xff")
    with pytest.raises(ConfigError, match=r"x\.yaml: expected YAML or JSON: 'utf-8'"):
        settings_text.of_file(path)
