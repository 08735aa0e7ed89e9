"""Medians, ratios, goals, and the one JSON line that ends every bench."""

import json
import shlex
import subprocess
import sys

import pytest
import report


def test_spread_is_the_median_with_its_quartiles_and_runs():
    assert report.spread([4.0, 1.0, 3.0, 2.0, 5.0]) == {
        "median": 3.0,
        "p25": 2.0,
        "p75": 4.0,
        "min": 1.0,
        "max": 5.0,
        "runs": [4.0, 1.0, 3.0, 2.0, 5.0],
    }


def test_spread_of_one_run_is_that_run():
    assert report.spread([2.5])["median"] == report.spread([2.5])["p75"] == 2.5


def test_ratios_are_paired():
    assert report.ratios([1.0, 9.0], [2.0, 3.0]) == [0.5, 3.0]
    with pytest.raises(ValueError, match="argument 2 is longer"):
        report.ratios([1.0], [1.0, 2.0])


@pytest.mark.parametrize(("share", "expected"), [(0.0, 1), (0.5, 3), (0.99, 5), (1.0, 5)])
def test_quantile_is_the_nearest_rank(share, expected):
    assert report.quantile([5, 4, 3, 2, 1], share) == expected


def test_a_goal_is_met_missed_or_not_measured():
    assert report.Goal("us", 50).met(50.0) is True
    assert report.Goal("us", 50).met(50.1) is False
    assert report.Goal("rps", 1.5, at_most=False).met(1.4) is False
    assert report.Goal("us", 50).met(None) is None


SCRIPT = """
import sys; sys.path.insert(0, {bench!r})
import report
args = report.parser("a bench").parse_args()
report.finish(args, "toy", {{"us": 3.5, "lost": 1}}, goals=(report.Goal("us", 5), report.Goal("lost", 0)))
"""


def run(tmp_path, root, *arguments):
    script = tmp_path / "toy.py"
    script.write_text(SCRIPT.format(bench=str(root / "bench")), encoding="utf-8")
    command = [sys.executable, str(script), *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()


def test_the_last_line_is_the_result_with_where_it_ran(tmp_path, root):
    lines = run(tmp_path, root)
    result = json.loads(lines[-1])
    assert result["bench"] == "toy"
    assert result["us"] == 3.5
    assert result["goals"] == {"us": {"goal": "<= 5", "met": True}, "lost": {"goal": "<= 0", "met": False}}
    assert result["machine"]["cores"] >= 1
    assert result["machine"]["cpu"]
    assert {"python", "headgate-router"} <= result["versions"].keys()
    assert {"commit", "command", "time"} <= result.keys()
    assert any("MISSED" in line for line in lines[:-1])


def test_the_command_names_no_path_of_this_machine(monkeypatch, root):
    given = ["--model", str(root / "examples" / "pair"), "--out", "/elsewhere/x.json", "--base=/elsewhere/built"]
    kept = ["--runs", "3", "--engine-args", '{"a": "/b"}', "--out=bench/results/x.json"]
    monkeypatch.setattr(sys, "argv", [str(root / "bench" / "toy.py"), *given, *kept])
    shown = shlex.split(report.command())
    assert shown[:2] == ["python", "bench/toy.py"]
    assert shown[2:7] == ["--model", "examples/pair", "--out", "x.json", "--base=built"]
    assert shown[7:] == kept


def test_json_alone_on_request_and_to_a_file(tmp_path, root):
    lines = run(tmp_path, root, "--json", "--out", str(tmp_path / "deep" / "result.json"))
    assert len(lines) == 1
    assert json.loads((tmp_path / "deep" / "result.json").read_text()) == json.loads(lines[0])


def test_a_quick_run_judges_no_goals(tmp_path, root):
    assert json.loads(run(tmp_path, root, "--quick")[-1])["goals"] == {}
