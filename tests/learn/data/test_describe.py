"""What is wrong with a table is found, counted and named."""

from pathlib import Path
from typing import Any

import msgspec
import pytest

from router.cli.main import main
from router.learn.data import describe


def write(path: Path, rows: list[dict[str, Any]]) -> Path:
    path.write_bytes(msgspec.json.Encoder().encode_lines(rows))
    return path


def row(prompt: str, model: str = "m", score: float = 1, **more: Any) -> dict[str, Any]:
    return {"prompt": prompt, "model": model, "score": score, **more}


def described(path: Path) -> describe.Table:
    return describe.run([path]).tables[0]


def test_counts_what_is_there_and_what_is_not(tmp_path: Path) -> None:
    rows = [
        row("a", task="t", cost_usd=1), row("a", "n", 0, task="t"), row("a", "n", 1, task="t"), row("b", task="u"),
        row("b", task="u"), row("a", "m", 0, task="t", prompt_id="other"),
    ]  # fmt: skip
    table = described(write(tmp_path / "x.jsonl", rows))
    assert (table.rows, table.prompts, table.groups) == (6, 3, 2)
    assert (table.missing, table.repeated, table.contradictions, table.copies) == (2, 2, 1, 1)
    assert table.measures == ("cost_usd",)
    assert table.models == (describe.Model("m", 3, 0.6667), describe.Model("n", 1, 0.5))
    assert table.tasks == (describe.Task("t", 2, (0.5, 0.5), None), describe.Task("u", 1, (1.0, None), None))


def test_leaks_between_splits_and_between_tables(tmp_path: Path) -> None:
    one = write(
        tmp_path / "one.jsonl",
        [
            row("a", group="g", split="train"), row("a again", group="g", split="test"), row("b", split="train"),
            row("c", split="test"),
        ],
    )  # fmt: skip
    other = write(tmp_path / "other.jsonl", [row("b", group="elsewhere"), row("d")])
    found = describe.run([one, other])
    assert found.tables[0].splits == {"train": 2, "test": 2}
    assert found.tables[0].leaks == (describe.Leak("test", "train", 1, 1),)
    assert found.leaks == (describe.Leak(str(one), str(other), 1, 1),)


def grid(broken: tuple[str, str], prompts: int = 60) -> list[dict[str, Any]]:
    """Four models on four tasks, right in 50 to 95 of 100 prompts; one cell in 2 of 60."""
    out = []
    for t in range(4):
        for j in range(4):
            right = int(prompts * (0.5 + 0.1 * j + 0.05 * t))
            right = 2 if (f"t{t}", f"m{j}") == broken else right
            out += [row(f"question {t} {i}", f"m{j}", float(i < right), task=f"t{t}") for i in range(prompts)]
    return out


def test_a_mean_far_below_its_neighbours_is_suspicious(tmp_path: Path) -> None:
    table = described(write(tmp_path / "x.jsonl", grid(("t1", "m2"))))
    assert [(one.model, one.task, one.prompts, one.why) for one in table.suspicious] == [
        ("m2", "t1", 60, "far below its neighbours")
    ]
    assert table.suspicious[0].score == pytest.approx(2 / 60, abs=1e-4)
    assert table.suspicious[0].expected == pytest.approx(0.75, abs=0.06)
    assert described(write(tmp_path / "x.jsonl", grid(("", "")))).suspicious == ()


def test_a_mean_below_chance_is_suspicious_even_between_two_models(tmp_path: Path) -> None:
    options = "\nA. one\nB. two\nC. three\nD. four"
    rows = [row(f"Question {i}{options}", model, float(i < right)) for i in range(60) for model, right in RIGHT]
    table = described(write(tmp_path / "x.jsonl", rows))
    assert table.tasks[0].chance == 0.25
    assert [(one.model, one.expected, one.why) for one in table.suspicious] == [("mute", 0.25, "below chance")]


RIGHT = (("good", 50), ("guessing", 13), ("mute", 0))


def test_battles(tmp_path: Path) -> None:
    lines = [("m", "n", "a"), ("n", "m", "tie"), ("m", "o", "b")]
    rows = [{"prompt": "x", "model_a": a, "model_b": b, "winner": winner} for a, b, winner in lines]
    table = described(write(tmp_path / "x.jsonl", rows))
    assert (table.kind, table.rows, table.prompts) == ("battles", 3, 1)
    assert table.models == (describe.Model("m", 3, 0.5), describe.Model("n", 2, 0.25), describe.Model("o", 1, 1.0))


def test_the_command_shows_and_draws(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = write(tmp_path / "x.jsonl", [*grid(("t1", "m2")), row("question 0 0", "m0", 0, task="t0")])
    png = tmp_path / "heat.png"
    assert main(["data", "describe", str(path), "--plot", str(png)]) == 0
    said = capsys.readouterr().out
    assert f"{path}: 961 outcomes; 240 prompts; 240 questions; 4 models; 4 tasks" in said
    assert "! 1 cells have several rows, 1 with different scores (means are used)" in said
    assert "! m2 on t1 scores 0.033, far below its neighbours" in said
    assert png.read_bytes().startswith(b"\x89PNG")
    assert main(["data", "describe", str(path), "--json"]) == 0
    assert msgspec.json.decode(capsys.readouterr().out, type=describe.Description).tables[0].repeated == 1


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("x.jsonl", b'{"prompt": "a", "model": "m", "score": 1}\n{"prompt": "a", "model": "m", "score": 1.2}\n',
         ":2: score: expected a number from 0 to 1, got 1.2"),
        ("x.jsonl", b'{"prompt": "a", "model_a": "m", "model_b": "n", "winner": "x"}\n', ":1: winner: expected one of"),
        ("x.parquet", b"PAR1", ": expected a whole Parquet file"),
        ("x.csv", b"prompt,model,score\na,m,1\n", ": expected a .parquet or .jsonl file, got '.csv'"),
        ("x.pkl", b"\x80\x04N.", ": a pickle is never read"),
        ("x.jsonl", b"", ": expected at least one row, got an empty file"),
    ],
)  # fmt: skip
def test_broken_input_is_code_2(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str, content: bytes, message: str
) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    assert main(["data", "describe", str(path)]) == 2
    assert f"{path}{message}" in capsys.readouterr().err


def test_tables_at_hand(shared_data: Path) -> None:
    """The README's own example of a format failure, and its counts of shared questions."""
    found = describe.run([shared_data / "routellm_pairs.parquet", shared_data / "llmrouter_9models.parquet"])
    assert [leak.groups for leak in found.leaks] == [347]
    assert [(one.model, one.task) for one in found.tables[0].suspicious] == [
        ("gpt-4-1106-preview", "mmlu/high_school_mathematics")
    ]
    assert ("qwen2.5-7b-instruct", "mmlu") in {(one.model, one.task) for one in found.tables[1].suspicious}
