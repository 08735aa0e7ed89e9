"""`headgate simulate` as a user types it: what it answers, and what it refuses by which words."""

import csv
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from router.cli.main import main
from router.config import Config, Member
from router.errors import ConfigError
from router.observe.record import SCHEMA_VERSION, Decided, Record
from router.pool.costs import Costs, KeptCost
from router.steps import StepModel
from router.types import DecisionNumbers

SMALL = "small,step_s=.004,running_s=2e-5,context_s=1e-8,prefill_s=5e-6,usd_per_hour=1,kv_tokens=300000"
LARGE = "large,step_s=.02,running_s=1e-4,context_s=4e-8,prefill_s=3e-5,usd_per_hour=4,kv_tokens=300000"
POOL = ["--engine", SMALL, "--engine", LARGE, "--quality", "small=.6,large=.9"]


@pytest.fixture
def ask(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Callable[..., Any]:
    def ask(*words: str, code: int = 0) -> Any:
        argv = ["simulate", *words, "--json", "--no-pictures", "--out", str(tmp_path / "out")]
        assert main(argv) == code
        return json.loads(capsys.readouterr().out)

    return ask


@pytest.fixture
def refusal(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Callable[..., str]:
    def refusal(*words: str) -> str:
        try:
            code = main(["simulate", *words, "--no-pictures", "--out", str(tmp_path / "out")])
        except SystemExit as error:  # of argparse
            code = error.code  # type: ignore[assignment]
        assert code == 2
        return capsys.readouterr().err

    return refusal


def value(point: dict[str, Any], name: str) -> float:
    return float(point["figures"][name]["value"])


def test_a_run_gives_the_figures_of_a_pool_and_the_same_again(ask: Callable[..., Any], tmp_path: Path) -> None:
    words = [*POOL, "--rate", "10", "--seconds", "100", "--slo", "ttft_ms=300"]
    found = ask(*words)
    (point,) = found["points"]
    assert 0.8 < value(point, "quality") < 1
    assert value(point, "requests_per_s") == pytest.approx(10, rel=0.15)
    assert value(point, "slo_share") > 0.9
    assert sum(member["share"] for member in point["members"]) == pytest.approx(1)
    assert point["devices"] == 2
    assert point["usd_per_hour"] == 5
    again = ask(*words)
    assert again["points"] == found["points"]
    assert ask(*words, "--seed", "1")["points"] != found["points"]
    with (tmp_path / "out" / "simulate.csv").open() as file:
        (row,) = csv.DictReader(file)
    assert row["label"] == "auto"
    assert json.loads((tmp_path / "out" / "simulate.json").read_text())["seed"] == 1


def test_a_sweep_has_a_point_a_policy_and_value_and_over_seeds_their_ends(ask: Callable[..., Any]) -> None:
    found = ask(
        *POOL, "--seconds", "60", "--sweep", "rate=2,20", "--policy", "auto", "--policy", "small", "--runs", "2"
    )
    assert [(point["label"], point["x"]) for point in found["points"]] == [
        ("auto", 2), ("auto", 20), ("small", 2), ("small", 20),
    ]  # fmt: skip
    low, high = (point["figures"]["ttft_p95_ms"] for point in found["points"][:2])
    assert low["low"] <= low["value"] <= low["high"] < high["value"]
    assert [member["share"] for member in found["points"][2]["members"]] == [1.0, 0.0]


def test_a_higher_lambda_gives_a_cheaper_and_worse_answer(ask: Callable[..., Any]) -> None:
    points = ask(*POOL, "--seconds", "60", "--rate", "5", "--sweep", "price=0,1000,100000")["points"]
    qualities = [value(point, "quality") for point in points]
    assert qualities[0] > qualities[2]
    assert qualities == sorted(qualities, reverse=True)
    assert points[2]["members"][0]["share"] > 0.95


def test_find_names_the_smallest_pool_that_holds_and_says_why_others_do_not(ask: Callable[..., Any]) -> None:
    words = [*POOL, "--rate", "40", "--seconds", "60", "--slo", "ttft_ms=300"]
    found = ask(*words, "--find", "--keep", ".97")
    small = next(one for one in found["candidates"] if one["name"] == "small")
    assert small["found"] is None
    assert re.fullmatch(r"its quality is 0\.6\d+ of the best member's", small["why"])
    (best,) = [one for one in found["candidates"] if one["best"]]
    assert value(best["found"], "quality_ratio") >= 0.97
    assert value(best["found"], "slo_share") >= 0.95
    # One engine of the group less, and it does not hold.
    alone = next(one for one in found["candidates"] if one["name"] == "large")["found"]["copies"]["large"]
    fewer = LARGE + f",copies={alone - 1}"
    (point,) = ask("--engine", SMALL, "--engine", fewer, *words[4:], "--policy", "large")["points"]
    assert value(point, "slo_share") < 0.95


def test_where_no_pool_holds_the_command_fails(ask: Callable[..., Any]) -> None:
    found = ask(*POOL, "--seconds", "20", "--find", "--slo", "ttft_ms=1", code=1)
    assert all(one["found"] is None for one in found["candidates"])
    assert {one["why"] for one in found["candidates"]} == {
        one["why"] for one in found["candidates"] if "SLO" in one["why"]
    }


def test_pictures_and_one_page_that_loads_nothing_are_written(tmp_path: Path) -> None:
    out = tmp_path / "out"
    words = ["simulate", *POOL, "--seconds", "30", "--out", str(out)]
    assert main([*words, "--sweep", "rate=2,5", "--slo", "ttft_ms=300"]) == 0
    assert (out / "sweep_ttft.png").read_bytes().startswith(b"\x89PNG")
    page = (out / "simulate.html").read_text()
    assert re.findall(r"""(?:src|href)=["'](?!data:)""", page) == []
    assert "Simulated, not measured" in page
    assert main([*words, "--find"]) == 0
    assert (out / "sizes.png").read_bytes().startswith(b"\x89PNG")


def test_a_folder_that_cannot_be_written_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    taken = tmp_path / "file"
    taken.write_text("")
    assert main(["simulate", *POOL, "--seconds", "5", "--no-pictures", "--out", str(taken)]) == 2
    assert f"--out: {taken}: cannot be written: File exists" in capsys.readouterr().err


@pytest.fixture
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Of engines that no test before it has kept costs of."""
    monkeypatch.setenv("HEADGATE_CACHE_HOME", str(tmp_path / "cache"))
    path = tmp_path / "headgate.yaml"
    path.write_text(
        "version: 1\npool:\n"
        "  - {name: small, model: s, strength: 0.4, devices: [0], engine_args: {max_num_seqs: 64}}\n"
        "  - {name: large, model: l, strength: 0.8, devices: [0], engine_args: {max_model_len: 4096}}\n"
        "routing: {price: 7}\n"
    )
    return path


def test_members_without_a_step_model_are_refused_with_the_command_that_finds_it(
    refusal: Callable[..., str], config: Path
) -> None:
    assert refusal(str(config)) == (
        "headgate: error: member 'small': it is not known what its steps take: run `headgate profile` on the running"
        " server, or tell it by --engine small,step_s=...,prefill_s=...\n"
    )


def test_step_models_are_those_that_the_server_kept(ask: Callable[..., Any], config: Path, tmp_path: Path) -> None:
    costs = Costs(tmp_path / "kept")
    model = StepModel(step_s=0.01, running_s=1e-4, prefill_s=2e-5, slowdown=0.3, error_first_token=0.4)
    costs.keep({name: KeptCost(member=name, model=model, numbers=[]) for name in ("small", "large")})
    found = ask(str(config), "--costs", str(tmp_path / "kept"), "--rate", "5", "--seconds", "30")
    assert found["laws"]["large"] == {
        "step_s": 0.01, "running_s": 1e-4, "context_s": 0.0, "prefill_s": 2e-5, "slowdown": 0.3,
    }  # fmt: skip
    (point,) = found["points"]
    assert point["copies"] == {"small+large": 1}, "they share a device"
    assert point["price"] == 7
    assert point["devices"] == 1
    assert "large: its step model was wrong by 40% in time to the first token (median)" in found["notes"]
    assert "small: max_num_seqs is not told: 256 is taken" not in found["notes"]


def test_a_member_that_only_flags_tell_of_is_what_they_say_whatever_an_engine_of_its_name_was(
    ask: Callable[..., Any], tmp_path: Path
) -> None:
    kept = KeptCost(member="small", model=StepModel(step_s=9.0, prefill_s=9.0, error_first_token=0.9), numbers=[])
    Costs(tmp_path / "kept").keep({"key": kept})
    found = ask("--engine", "small,step_s=.004", "--costs", str(tmp_path / "kept"), "--seconds", "5")
    assert found["laws"]["small"]["prefill_s"] == 0.0
    assert not any("was wrong" in note for note in found["notes"])


def test_what_profile_wrote_is_read_too(ask: Callable[..., Any], config: Path, tmp_path: Path) -> None:
    told = tmp_path / "profile.json"
    told.write_bytes(msgspec.json.encode({"members": {n: StepModel(step_s=0.02) for n in ("small", "large")}}))
    assert ask(str(config), "--costs", str(told), "--seconds", "5")["laws"]["small"]["step_s"] == 0.02


DECIDED = {"threshold": 0.3, "strong": 1, "weak": 0}


def record(
    at_s: float, *, asked: str = "auto", scores: tuple[float, ...] = (0.2, 0.9), estimate: int = 0,
    lengths: dict[str, Any] | None = None, **fields: Any
) -> Record:  # fmt: skip
    rule = {"auto": "utility", "small": "pinned"}.get(asked, "threshold")
    numbers = DecisionNumbers(
        models=("small", "large"), question={"prompt_tokens": estimate},
        settings={"rule": rule, "pinned": 0, **DECIDED}, members={},
        scores={"quality": scores} | (lengths or {}), terms={},
    )  # fmt: skip
    told: dict[str, Any] = {"prompt_tokens": 100, "completion_tokens": 20, "end": "finish", "status": 200, **fields}
    decided = Decided(model="large", member=1, reason="utility", numbers=numbers)
    return Record(
        version=SCHEMA_VERSION, id="d", request_id="r", time_s=at_s, kind="chat", asked=asked, decision=decided, **told
    )


def written(path: Path, lines: list[Record | bytes]) -> Path:
    path.write_bytes(b"".join((one if isinstance(one, bytes) else msgspec.json.encode(one)) + b"\n" for one in lines))
    return path


def test_a_journal_is_replayed_by_its_times_lengths_scores_and_rules(ask: Callable[..., Any], tmp_path: Path) -> None:
    lines: list[Record | bytes] = [
        record(1000.0 + i, asked=asked, scores=scores)
        for i in range(8)
        for asked, scores in (("auto", (0.9, 0.95)), ("small", (0.1, 0.9)), ("router-mf-0.3", (0.2, 0.9)))
    ]
    lines = [*lines[12:], *lines[:12], record(1009.0, completion_tokens=0, end="error", status=500)]
    path = written(tmp_path / "journal.jsonl", [*lines, b'{"type":"request","version":99}', b'{"type":"requ'])
    found = ask("--engine", SMALL, "--engine", LARGE, "--journal", str(path), "--price", "100000")
    assert found["requests"] == 24
    assert found["rate"] == pytest.approx(24 / 7)
    (point,) = found["points"]
    # By a high lambda `auto` goes to the small one, as what asks for it by name; the threshold's go to the large one.
    assert {member["name"]: member["share"] for member in point["members"]} == {
        "small": pytest.approx(2 / 3), "large": pytest.approx(1 / 3),
    }  # fmt: skip
    assert "left out: 1: without tokens: they were not answered" in found["notes"]
    assert "left out: 1: lines that are not whole" in found["notes"]
    assert any(note.startswith("left out: 1: lines of another kind, or of a later version") for note in found["notes"])


def test_a_replays_decisions_go_by_the_lengths_that_were_expected(ask: Callable[..., Any], tmp_path: Path) -> None:
    from router.learn.simulate.journal import of_journal

    dear = {"output_tokens": (20.0, 900.0), "output_log_sd": (0.2, 0.2)}
    cheap = {"output_tokens": (900.0, 1.0), "output_log_sd": (0.2, 0.2)}
    lines: list[Record | bytes] = [record(1000.0 + i, lengths=dear if i % 4 else cheap) for i in range(40)]
    path = written(tmp_path / "journal.jsonl", lines)
    found = of_journal(path, ("small", "large")).lengths
    assert found is not None
    assert found[0][:2].tolist() == [[900.0, 1.0], [20.0, 900.0]]
    assert found[1][0].tolist() == [0.2, 0.2]
    assert of_journal(written(tmp_path / "old.jsonl", [record(1.0)]), ("small", "large")).lengths is None
    ways = ("--engine", SMALL, "--engine", LARGE, "--price", "3000")
    (point,) = ask(*ways, "--journal", str(path))["points"]
    shares = {member["name"]: member["share"] for member in point["members"]}
    assert shares == {"small": pytest.approx(0.75), "large": pytest.approx(0.25)}


def test_a_replays_decisions_go_by_the_size_of_the_prompt_as_it_was_estimated(tmp_path: Path) -> None:
    from router.learn.simulate.journal import of_journal

    path = written(tmp_path / "journal.jsonl", [record(1.0, estimate=70), record(2.0)])
    found = of_journal(path, ("small", "large"))
    assert found.estimate is not None
    assert found.estimate.tolist() == [70, 100]
    assert found.prompt.tolist() == [100, 100]


def test_a_journal_of_which_nothing_can_be_replayed_is_refused_with_the_reasons(
    refusal: Callable[..., str], tmp_path: Path
) -> None:
    path = written(tmp_path / "journal.jsonl", [b'{"type":"request","version":99}', b"{", record(1.0, prompt_tokens=0)])
    told = refusal("--engine", SMALL, "--journal", str(path))
    assert "no request of it can be replayed" in told
    assert "1: lines that are not whole" in told
    assert "1: lines of another kind, or of a later version than this Headgate reads" in told
    assert "1: without tokens: they were not answered" in told


def test_a_trace_out_of_order_is_put_in_order_and_the_rows_are_counted(ask: Callable[..., Any], tmp_path: Path) -> None:
    rows = [{"at_s": at_s, "input_tokens": 50, "output_tokens": 5} for at_s in (3.0, 1.0, 2.0, 9.0, 4.0)]
    path = tmp_path / "trace.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    found = ask("--engine", SMALL, "--trace", str(path))
    assert found["requests"] == 5
    assert "2 rows of the trace stood behind a later one, and were put in order" in found["notes"]
    assert found["rate"] == pytest.approx(5 / 8)
    faster = ask("--engine", SMALL, "--trace", str(path), "--rate", "50")
    assert faster["rate"] == pytest.approx(50)


def test_a_labelled_table_gives_quality_and_lengths(ask: Callable[..., Any], tmp_path: Path) -> None:
    path = tmp_path / "outcomes.jsonl"
    rows = [
        {"prompt": f"q{i}", "model": model, "score": score, "output_tokens": tokens}
        for i in range(40)
        for model, score, tokens in (("small", float(i % 2), 10), ("large", 1.0, 30))
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    words = ["--engine", SMALL, "--engine", LARGE, "--outcomes", str(path), "--seconds", "100", "--rate", "3"]
    (point,) = ask(*words, "--price", "1")["points"]
    assert value(point, "quality") == 1.0  # the labels decide: the small one answers what it can
    assert point["members"][0]["share"] == pytest.approx(0.5, abs=0.1)
    (small,) = ask(*words, "--policy", "small")["points"]
    assert value(small, "quality_ratio") == pytest.approx(0.5, abs=0.1)
    assert value(small, "output_tokens_per_s") == pytest.approx(10 * value(small, "requests_per_s"))


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--rate", "nan"], "--rate: expected a number from 0, got 'nan'"),
        (["--rate", "-1"], "--rate: expected a number from 0, got '-1'"),
        (["--rate", "0"], "--rate: expected a number above 0, got '0'"),
        (["--seconds", "inf"], "--seconds: expected a number from 0, got 'inf'"),
        (["--ramp", "1"], "--ramp: expected two numbers above 0 as in 1,20, got '1'"),
        (["--ramp", "1,2", "--rate", "3"], "--ramp: expected it without --rate, --burst and --trace"),
        (["--prefix-hit", "2"], "--prefix-hit: expected a share from 0 to 1, got 2"),
        (["--sweep", "rate=1,x"], "--sweep: expected KEY=VALUE,VALUE,... of numbers from 0, KEY one of rate, price"),
        (["--sweep", "copies.middle=1"], "--sweep: expected copies.MEMBER, one of small, large; got 'copies.middle'"),
        (["--sweep", "rate.small=1"], "--sweep: rate: expected no member behind it, got 'rate.small'"),
        (["--sweep", "rate=0"], "--sweep: rate: expected numbers above 0, got 0"),
        (["--sweep", "copies.small=1.5"], "--sweep: copies: expected whole numbers from 1, got 1.5"),
        (["--policy", "middle"], "--policy: expected auto, small, large or router-mf-THRESHOLD"),
        (["--find", "--sweep", "rate=1"], "--find: expected it without --sweep"),
        (["--keep", ".9"], "--keep: expected it with --find"),
        (["--rate", "1e6", "--seconds", "1e6"], "--rate: expected at most 5000000 requests in a round"),
        (["--rate", "1e-6", "--seconds", "1"], "expected at least one request, got none at 1e-06 a second"),
    ],
)
def test_flags_that_make_no_sense_are_refused(refusal: Callable[..., str], words: list[str], message: str) -> None:
    assert message in refusal(*POOL, *words)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "expected a headgate.yaml, or --engine for each member"),
        (["--engine", "a"], "member 'a': it is not known what its steps take"),
        (["--engine", "a,step_s=0"], "member 'a': it is not known what its steps take"),
        (["--engine", "a,step_s=-1"], "engine 'a': step_s: expected 0 to 60, got -1"),
        (["--engine", "a,step_s=nan"], "engine 'a': step_s: expected 0 to 60, got nan"),
        (["--engine", "a,step_s=1,speed=2"], "Object contains unknown field `speed`; keys: step_s, running_s"),
        (["--engine", "a,step_s=fast"], "Expected `float | null`, got `str` - at `$.step_s`"),
        (["--engine", "a,step_s"], "--engine: expected NAME,KEY=VALUE,..., each key once; got 'step_s'"),
        (["--engine", "a,step_s=1,max_num_seqs=0"], "engine 'a': max_num_seqs: expected a whole number from 1, got 0"),
        (
            ["--engine", "a,step_s=1,max_num_seqs=99,max_num_batched_tokens=9"],
            "engine 'a': max_num_batched_tokens: expected at least max_num_seqs (99), as vLLM does, got 9",
        ),
        (["--engine", "a,step_s=1,kv_tokens=3"], "engine 'a': kv_tokens: expected room for two blocks, got 3"),
        (["--engine", "a,step_s=1,beside=b"], "--engine a: beside: expected one of a"),
        (["--engine", "a,step_s=1,copies=0"], "--engine: copies: expected one number from 1 to 4096 for a"),
        (
            ["--engine", "a,step_s=1", "--engine", "b,step_s=1"],
            "it is not known how good answers are: give --quality a=",
        ),
        (["--engine", "a,step_s=1", "--quality", "b=.5"], "--quality: expected some of a, got 'b'"),
        (["--engine", "a,step_s=1", "--quality", "a=1"], "--quality: a: expected a mean above 0 and below 1, got 1"),
        (["--engine", "a,step_s=1", "--trace", "none.jsonl"], "none.jsonl"),
        (["--engine", "a,step_s=1", "--journal", "none"], "none: cannot be read: No such file or directory"),
    ],
)
def test_pools_that_can_be_none_are_refused(refusal: Callable[..., str], words: list[str], message: str) -> None:
    assert message in refusal(*words)


def test_the_engines_of_a_model_are_its_copies() -> None:
    from router.learn.simulate.configured import EngineFlag, pool_of
    from router.policy import Settings

    members = (
        Member(name="a", model="a", replicas=3), Member(name="b", model="b", replicas=((0, 1), (2, 3))),
    )  # fmt: skip
    law = StepModel(step_s=0.01)
    pool = pool_of(Config(pool=members), [], lambda key, name: law, Settings())
    assert pool.names == ("a", "b")
    assert [(group.copies, group.devices) for group in pool.groups] == [(3, 1), (2, 2)]
    fewer = pool_of(Config(pool=members), [EngineFlag(name="a", copies=1)], lambda key, name: law, Settings())
    assert [group.copies for group in fewer.groups] == [1, 2]
    beside = (Member(name="a", model="a", devices=(0,)), Member(name="b", model="b", replicas=((0,), (1,))))
    with pytest.raises(ConfigError, match="copies: expected one number from 1 to 4096 for a, b, which share devices"):
        pool_of(Config(pool=beside), [], lambda key, name: law, Settings())


def test_the_members_of_a_config_are_grouped_by_their_devices() -> None:
    from router.learn.simulate.configured import EngineFlag, pool_of
    from router.policy import Settings

    members = tuple(
        Member(name=name, model=name, devices=devices) for name, devices in (("a", (0,)), ("b", (1, 2)), ("c", (2,)))
    )
    pool = pool_of(
        Config(pool=members), [EngineFlag(name="b", copies=2), EngineFlag(name="d", step_s=0.1, devices=4)],
        lambda key, name: StepModel(step_s=0.01), Settings(),
    )  # fmt: skip
    assert [(group.members, group.devices, group.copies) for group in pool.groups] == [
        (("a",), 1, 1), (("b", "c"), 2, 2), (("d",), 4, 1),
    ]  # fmt: skip
    assert pool.devices == 1 + 2 * 2 + 4
    engines = pool.engines()
    assert [engine.model for engine in engines] == [0, 1, 2, 1, 2, 3]
    assert [engine.beside for engine in engines] == [(), (2,), (1,), (4,), (3,), ()]
    assert engines[-1].law.step_s == 0.1
