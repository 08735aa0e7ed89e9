"""`headgate eval` as a user types it."""

import json
import re
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest
from markupsafe import escape

from router.cli.main import main
from router.learn.evaluate import plots
from router.learn.evaluate.results import Evaluation

QUICK = ["--size", "small", "--folds", "3", "--draws", "20", "--prompts", "200"]
Write = Callable[[str, list[dict[str, object]]], Path]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    def write(name: str, rows: list[dict[str, object]]) -> Path:
        path = tmp_path / name
        path.write_bytes(b"".join(msgspec.json.encode(row) + b"\n" for row in rows))
        return path

    return write


@pytest.fixture(scope="module")
def three(tmp_path_factory: pytest.TempPathFactory, table: Path) -> Path:
    """The sums with a third model, whose name is a trap for the page and the plots."""
    rows = [msgspec.json.decode(line) for line in table.read_bytes().splitlines()]
    also = [{**row, "model": "<b>$mid$</b>"} for row in rows if row["model"] == "tiny"]
    path = tmp_path_factory.mktemp("three") / "three.jsonl"
    path.write_bytes(b"".join(msgspec.json.encode(row) + b"\n" for row in rows + also))
    return path


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, three: Path) -> Path:
    """One run with all there is."""
    out = tmp_path_factory.mktemp("out") / "deep" / "er"
    prices = ["--price", "tiny=0.1", "--price", "</b>=0.2", "--price", "big=1/4"]
    asked = ["eval", str(three), *QUICK, *prices, "--learning-curve", "16,64", "--out", str(out), "--json"]
    assert main(asked) == 0
    return out


@pytest.fixture(scope="module")
def found(folder: Path) -> Evaluation:
    return msgspec.json.decode((folder / "evaluation.json").read_bytes(), type=Evaluation)


def test_prints_every_contestant(table: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["eval", str(table), *QUICK, "--cpt", "30,80"]) == 0
    said = capsys.readouterr()
    assert "tiny (0." in said.out
    assert "-> big (0." in said.out
    for name in ("mf", "random", "task-mean", "nearest", "routellm", "oracle", "CPT30", "CPT80", "lead on routellm"):
        assert name in said.out
    assert "has 200 prompts: differences that small tables show are mostly chance" in said.out
    assert "mf: 3 held-out fits ..." in said.err


def test_json_has_stable_fields(found: Evaluation) -> None:
    """Fields may be appended; what stands here is what others read."""
    assert found.schema == 1
    plain = msgspec.to_builtins(found)
    assert {"version", "date", "command", "protocol", "held_out", "seed", "draws", "versions", "tables"} < plain.keys()
    assert {"routers", "pairs", "many", "learning", "caveats"} < plain.keys()
    (pair,) = plain["pairs"]
    assert {"table", "weak", "strong", "prompts", "weak_score", "strong_score", "against", "routers"} <= pair.keys()
    assert {
        "router", "apgr", "apgr_95", "cpt", "lead", "lead_95", "brier", "ece_mass", "ece_width", "sent", "share_error",
        "pgr", "reliability_weak", "reliability_strong", "tasks",
    } <= pair["routers"][0].keys()  # fmt: skip
    (many,) = plain["many"]
    assert {"table", "prompts", "models", "best_single", "against", "single_aiq", "routers"} <= many.keys()
    assert {
        "router", "accuracy", "accuracy_95", "lead", "lead_95", "of_gap", "brier", "ece_mass", "ece_width", "aiq",
        "saving", "curve", "tasks",
    } <= many["routers"][0].keys()  # fmt: skip
    assert {"router", "table", "what", "figure", "labels", "value", "low", "high"} <= plain["learning"][0].keys()


def test_figures_are_of_the_table(found: Evaluation) -> None:
    (pair,), (many,) = found.pairs, found.many
    by_name = {one.router: one for one in pair.routers}
    assert list(by_name) == ["mf", "random", "task-mean", "nearest", "routellm", "oracle"]
    assert by_name["mf"].apgr > 0.6
    assert by_name["mf"].apgr_95.low < by_name["mf"].apgr < by_name["mf"].apgr_95.high
    assert by_name["oracle"].apgr > by_name["mf"].apgr
    assert by_name["oracle"].brier is None
    assert len(by_name["mf"].pgr) == 101
    assert sum(bin.prompts for bin in by_name["mf"].reliability_weak) == pair.prompts == many.prompts == 200
    assert [model.name for model in many.models] == ["tiny", "big", "b>"]
    assert many.best_single == "big"
    oracle = many.routers[-1]
    assert (oracle.router, oracle.of_gap) == ("oracle", 1)
    assert {(one.figure, one.labels) for one in found.learning} == {
        (figure, labels) for figure in ("apgr", "accuracy") for labels in (0, 16, 64)
    }
    assert found.tables[0].models == ("tiny", "big", "b>")


def test_the_folder_holds_plots_and_one_page(folder: Path, found: Evaluation) -> None:
    names = {path.name for path in folder.iterdir()}
    plots = {"pair-1", "reliability-1", "mistakes-1", "cost-1", "regret-1", "learning-1", "learning-2"}
    assert names == {f"{name}.png" for name in plots} | {"evaluation.json", "report.html"}
    for name in plots:
        assert (folder / f"{name}.png").read_bytes().startswith(b"\x89PNG")
    page = (folder / "report.html").read_text(encoding="utf-8")
    assert page.count('src="data:image/png;base64,') == len(plots)
    assert not re.findall(r"""(?:src|href)\s*=\s*["'](?!data:)""", page)
    assert not re.findall(r"https?://|<script|@import", page)


def test_the_page_says_what_it_rests_on(folder: Path, found: Evaluation) -> None:
    page = (folder / "report.html").read_text(encoding="utf-8")
    (table,), (pair,) = found.tables, found.pairs
    for words in (table.sha256, found.command, found.date, found.held_out, f"numpy {found.versions['numpy']}"):
        assert escape(words) in page
    for one in pair.routers:
        assert f"<td>{one.router}</td><td>{one.apgr:.3f}</td>" in page
    for caveat in found.caveats:
        assert escape(caveat) in page
    assert "Before you believe a figure" in page


def test_a_model_may_cost_nothing(found: Evaluation) -> None:
    replace = msgspec.structs.replace
    (many,) = found.many
    free = replace(many, models=(replace(many.models[0], cost_usd=0.0), *many.models[1:]))
    names = [picture.name for picture in plots.draw(replace(found, pairs=(), learning=(), many=(free,)))]
    assert names == ["cost-1", "regret-1"]


def test_gaps_are_told(write: Write, capsys: pytest.CaptureFixture[str]) -> None:
    """Three models of which no prompt has all answers."""
    rows: list[dict[str, object]] = [
        {"prompt": f"prompt {i}", "model": model, "score": float(model == "c" or i % 4 == 0)}
        for i in range(60)
        for model in ("abc".replace("ab"[i % 2], ""))
    ]
    assert main(["eval", str(write("gaps.jsonl", rows)), *QUICK, "--pair", "a,c", "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert said["many"] == []
    assert any(
        caveat == "gaps.jsonl has no prompt that every model has answered: no figures of all its models."
        for caveat in said["caveats"]
    )


def test_names_from_tables_run_nothing(write: Write, tmp_path: Path) -> None:
    rows: list[dict[str, object]] = [
        {"prompt": f"What is {i} + {i}?", "model": model, "score": score, "task": "<script>alert(1)</script>$x$ 题"}
        for i in range(60)
        for model, score in (("tiny", float(i % 3 == 0)), ("<img onerror=x>", 1.0))
    ]
    assert main(["eval", str(write("t.jsonl", rows)), *QUICK, "--out", str(tmp_path / "out"), "--json"]) == 0
    page = (tmp_path / "out" / "report.html").read_text(encoding="utf-8")
    assert "<script" not in page
    assert "<img onerror" not in page
    assert "&lt;img onerror=x&gt;" in page


def test_a_checkpoint_that_knows_the_table_is_called_a_leak(
    table: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "mine.safetensors"
    assert main(["train", str(table), "--out", str(out), "--size", "small", "--folds", "2"]) == 0
    capsys.readouterr()
    assert main(["eval", str(table), *QUICK, "--checkpoint", str(out), "--against", "mine (file)", "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    first = said["routers"][0]
    assert (first["name"], first["kind"], first["leaks"]) == ("mine (file)", "checkpoint", [table.name])
    assert any(caveat.startswith("Leak: mine (file) was trained on sums.jsonl") for caveat in said["caveats"])
    assert said["pairs"][0]["against"] == "mine (file)"


def test_leaves_tasks_out_and_transfers(table: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["eval", str(table), *QUICK, "--leave-tasks-out", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["held_out"].endswith("2 tasks in 2 folds")
    assert main(["eval", str(table), *QUICK, "--transfer", "sums:riddle", "sums:sum", "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert said["held_out"] == "every question of sums:sum; trained on sums:riddle"


def test_equal_seeds_give_equal_figures(table: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = []
    for seed in ("1", "1", "2"):
        assert main(["eval", str(table), *QUICK, "--seed", seed, "--json"]) == 0
        found.append(json.loads(capsys.readouterr().out)["pairs"])
    assert found[0] == found[1]
    assert found[0] != found[2]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--router", "mff"], "--router: expected one of mf,"),
        (["--router", "mff"], "got 'mff'; did you mean 'mf'?"),
        (["--against", "routelm"], "got 'routelm'; did you mean 'routellm'?"),
        (["--pair", "tiny"], "--pair: expected WEAK,STRONG, got 'tiny'"),
        (["--pair", "tiny,bog"], "--pair: expected two of tiny, big; got 'bog'; did you mean 'big'?"),
        (["--pair", "big,tiny"], "tiny scores no higher than big on their common prompts; expected weak, then strong"),
        (["--folds", "50", "--prompts", "20"], "--folds: 50 folds need more questions than 20"),
        (["--models", "tiny,bog"], "--models: expected some of tiny, big; got 'bog'; did you mean 'big'?"),
        (
            ["--checkpoint", "default", "--learning-curve", "4"],
            "--learning-curve: expected a --router to train beside it",
        ),
        (
            ["--option", "knn.neighbours=3"],
            "--option: expected NAME.KEY=VALUE of a --router NAME, got 'knn.neighbours=3'",
        ),
        (["--router", "knn", "--option", "knn.x=3"], "--router knn: option x: expected one of"),
        (["--rules", "x.yaml"], "--rules: expected --router rules beside it"),
        (["--train-on", "sums"], "--train-on: expected --test-on beside it"),
        (["--test-on", "sums", "--leave-tasks-out"], "--leave-tasks-out: expected it without --test-on or --transfer"),
        (["--test-on", "sums:rid"], "--test-on: sums has no prompt of task 'rid'; did you mean 'riddle'?"),
        (["--price", "tiny"], "--price: expected MODEL=USD or MODEL=INPUT/OUTPUT, got 'tiny'"),
        (["--checkpoint", "none.safetensors"], "none.safetensors"),
    ],
)
def test_refuses_in_one_line(
    table: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], message: str
) -> None:
    assert main(["eval", str(table), "--size", "small", *arguments]) == 2
    assert message in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--learning-curve", "16,many"], "expected whole numbers from 1, as in 16,64,256,1024,4096, got '16,many'"),
        (["--cpt", "0"], "expected percentages above 0 and up to 100, got '0'"),
        (["--folds", "1"], "argument --folds: expected a whole number from 2 to 50, got '1'"),
        (["--draws", "0"], "argument --draws: expected a whole number from 1 to 100000, got '0'"),
    ],
)
def test_refuses_flags(table: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], message: str) -> None:
    with pytest.raises(SystemExit):
        main(["eval", str(table), *arguments])
    assert message in capsys.readouterr().err


def test_refuses_tables_that_cannot_be_routed_between(write: Write, capsys: pytest.CaptureFixture[str]) -> None:
    one = [{"prompt": f"p{i}", "model": "only", "score": 1} for i in range(20)]
    assert main(["eval", str(write("one.jsonl", one)), *QUICK]) == 2
    assert "one.jsonl: expected at least two models to route between, got 'only' only" in capsys.readouterr().err
    apart = [{"prompt": f"p{i}", "model": "ab"[i % 2], "score": i % 2} for i in range(20)]
    assert main(["eval", str(write("apart.jsonl", apart)), *QUICK]) == 2
    assert (
        "apart.jsonl: no two of its models have answered the same prompt: nothing compares them"
        in capsys.readouterr().err
    )
    broken = write("broken.jsonl", [{"prompt": "p", "model": "m", "score": 2}])
    assert main(["eval", str(broken), *QUICK]) == 2
    assert f"{broken}:1: score: expected a number from 0 to 1, got 2" in capsys.readouterr().err


def test_refuses_a_folder_before_it_works(table: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "file"
    file.touch()
    assert main(["eval", str(table), *QUICK, "--out", str(file)]) == 2
    said = capsys.readouterr().err
    assert f"--out: {file}: expected a folder to write into: File exists" in said
    assert f"read {table.name}" not in said
