"""The work whose instructions are counted runs, and two dumps make a figure."""

import os
import subprocess
import sys

import instructions


def test_every_kind_of_work_of_a_frontend_and_a_host_is_done_and_named(root):
    command = [sys.executable, str(root / "bench" / "instruction_work.py"), "chat_plain"]
    env = {**os.environ, "PYTHONPATH": str(root)}
    done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=240, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    assert [line.split()[0] for line in done.stdout.splitlines()] == ["chat_plain", "chat_plain_with_key"]


def test_a_figure_is_the_difference_of_two_counts_and_a_ratio_that_of_two_figures(tmp_path):
    for number, total in ((2, 1_000), (4, 1_600)):
        (tmp_path / f"counts.{number}").write_text(f"events: Ir\nsummary: {total}\n", encoding="utf-8")
    echo = subprocess.Popen(
        [sys.executable, "-c", "print('work 100')"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    found = instructions.end(echo, tmp_path, tmp_path)
    assert found == {"work": 6.0}
    assert instructions.figures(found, {"work": 5.0})["largest_ratio"] == 1.2
