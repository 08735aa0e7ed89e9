"""Tables of battles are read, or refused by file, row and key."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from router.errors import ConfigError
from router.learn.data import battles

LINE = '{"prompt": "%s", "model_a": "%s", "model_b": "%s", "winner": "%s"}\n'
GOOD = LINE % ("1 + 1?", "org/Tiny", "big", "tie")


def test_reads_who_met_whom(tmp_path: Path) -> None:
    path = tmp_path / "arena.jsonl"
    path.write_text(GOOD + LINE % ("2?", "big", "huge", "a") + LINE % ("1 + 1?", "big", "tiny", "b"))
    found = battles.read(path)
    assert found.models == ("tiny", "big", "huge")
    assert [prompt.text for prompt in found.prompts] == ["1 + 1?", "2?"]
    assert (found.prompt.tolist(), found.a.tolist(), found.b.tolist()) == ([0, 1, 0], [0, 1, 1], [1, 2, 0])
    np.testing.assert_array_equal(found.outcome, np.array([0.5, 1, 0], np.float32))


def test_parquet_is_the_same(tmp_path: Path) -> None:
    path = tmp_path / "arena.parquet"
    columns = {
        "prompt": ["a", "b"],
        "model_a": ["m", "m"],
        "model_b": ["n", "n"],
        "winner": ["a", "b"],
        "group": ["g"] * 2,
    }
    pq.write_table(pa.table(columns), path)
    found = battles.read(path)
    assert found.outcome.tolist() == [1, 0]
    assert {prompt.group for prompt in found.prompts} == {"g"}


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ('{"prompt": "a", "model_a": "m", "winner": "a"}\n', "model_b: expected a value, got none"),
        (LINE % ("a", "m", "n", "model_a"), "winner: expected one of a, b, tie; got 'model_a'"),
        (LINE % ("a", "m", "x/M", "a"), "model_b: expected another model than model_a, got 'x/M'"),
        (LINE % ("a", " ", "n", "a"), "model_a: expected a name, got an empty one"),
        ('{"prompt": 3, "model_a": "m", "model_b": "n", "winner": "a"}', "prompt: expected text, got 3"),
        ('{"prompt": "\\ud800"}', "expected text, got half of a surrogate pair"),
    ],
)
def test_broken_battles_are_refused_by_line(tmp_path: Path, line: str, message: str) -> None:
    path = tmp_path / "arena.jsonl"
    path.write_text(GOOD + line)
    with pytest.raises(ConfigError) as caught:
        battles.read(path)
    assert str(caught.value) == f"{path}:2: {message}"


def test_other_files_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "arena.csv"
    path.write_text("prompt,model_a,model_b,winner\na,m,n,a\n")
    with pytest.raises(ConfigError, match=r"expected battles as .parquet or .jsonl; `headgate data import` makes such"):
        battles.read(path)
