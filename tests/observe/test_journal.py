"""The journal's lines: what is written can be read, also by those who know fewer fields."""

from pathlib import Path

import msgspec
import pytest

from router.observe.journal import DecisionLine, FeedbackLine, Line
from router.types import Term

TERM = Term(model="small", quality=0.8, gpu_s=0.1, cost_usd=1e-5, wait_s=0.0, utility=0.79)


def test_lines_come_back_as_they_were() -> None:
    lines: list[Line] = [
        DecisionLine(id="d1", prompt="1 + 1?", model="small", reason="utility", terms=(TERM,), completion_tokens=3),
        FeedbackLine(id="d1", score=0.5),
    ]
    for line in lines:
        assert msgspec.json.decode(msgspec.json.encode(line), type=Line) == line


def test_lines_say_what_they_are_and_leave_out_what_is_not_told() -> None:
    assert msgspec.json.encode(FeedbackLine(id="d1", score=1)) == b'{"type":"feedback","id":"d1","score":1}'
    assert msgspec.json.encode(DecisionLine(id="d1", model="m")) == b'{"type":"decision","id":"d1","model":"m"}'


def test_later_fields_are_passed_over_and_other_lines_are_refused() -> None:
    line = b'{"type": "feedback", "id": "d1", "score": 1, "later": true}'
    assert msgspec.json.decode(line, type=Line) == FeedbackLine(id="d1", score=1)
    with pytest.raises(msgspec.ValidationError, match="Invalid value 'other'"):
        msgspec.json.decode(b'{"type": "other"}', type=Line)


def test_while_the_server_writes_none_the_documents_say_so(root: Path) -> None:
    own = {"journal.py"}
    sources = [path.read_text(encoding="utf-8") for path in (root / "router").rglob("*.py") if path.name not in own]
    written = any("observe.journal" in text or '"/v1/feedback"' in text for text in sources)
    said = "writes no journal yet, and has no `/v1/feedback`" in (root / "docs" / "data.md").read_text(encoding="utf-8")
    assert said is not written
