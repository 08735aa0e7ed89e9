"""How the bench of the journal counts what is missing after a kill, in ticks and in time."""

import json

import journal
import pytest
import ticking

RECORD = {"type": "request", "version": 1, "request_id": "r", "time_s": 1.0, "kind": "chat", "asked": "auto",
          "end": "finish", "status": 200}  # fmt: skip
#: Told in three ticks; `e` ended after the last one.
TICKS = [ticking.Tick(1.0, ("a", "b")), ticking.Tick(1.002, ("c",)), ticking.Tick(1.005, ("d",))]
ANSWERS = {"a": 0.9995, "b": 0.9996, "c": 1.001, "d": 1.004, "e": 1.0055}


@pytest.mark.parametrize(
    ("written", "missing", "ticks", "missing_ms"),
    [
        ("abcde", 0, 0, 0.0),
        ("abcd", 1, 1, 0.5),
        ("abc", 2, 1, 2.0),
        ("ab", 3, 2, 5.0),
        ("acde", 1, 3, 6.4),
        ("", 5, 3, 6.5),
    ],
)
def test_the_earliest_missing_record_says_how_many_ticks_before_the_kill(tmp_path, written, missing, ticks, missing_ms):
    path = tmp_path / "headgate-20260101T000000-000001.jsonl"
    lines = [json.dumps(RECORD | {"id": id}) + "\n" for id in written]
    path.write_text("".join(lines) + '{"type":"feedback","id":"a","score":1}\n' + '{"type":"request","id":"to')
    seen = journal.Acknowledged()
    seen.answers, seen.rated = dict(ANSWERS), {"a", "b"}
    found = journal.compare(seen, 1.006, [path], TICKS)
    assert (found.answers, found.missing, found.ticks) == (5, missing, ticks)
    assert found.missing_ms == pytest.approx(missing_ms, abs=1e-3)
    assert (found.feedback, found.feedback_missing, found.torn) == (2, 1, 1)
    assert found.tick_ms == pytest.approx(3.0)


def test_what_was_noted_is_read_back_as_far_as_it_was_noted(tmp_path):
    path = tmp_path / "ticks"
    notes = ticking.Notes(path)
    assert ticking.read(path) == []

    class Record:
        def __init__(self, id):
            self.id = id

    notes.note([Record("a"), Record("b")])
    notes.note([Record("c")])
    first, second = ticking.read(path)
    assert (first.ids, second.ids) == (("a", "b"), ("c",))
    assert 0 < first.at_s <= second.at_s
