"""The list of paired requests and the list of differences that are meant, without an engine."""

import re
from collections import Counter
from pathlib import Path

from tests.e2e.paired.allowed import ALLOWED
from tests.e2e.paired.test_paired import CASES, ON_VLLMS_WAY


def test_no_two_requests_have_one_name() -> None:
    assert [name for name, count in Counter(case.name for case in CASES).items() if count > 1] == []


def test_there_are_four_hundred_requests_and_many_go_both_ways() -> None:
    assert len(CASES) >= 400
    assert len(ON_VLLMS_WAY) >= 100


def test_the_documents_table_has_a_line_for_each_difference_that_is_meant(root: Path) -> None:
    text = (root / "docs" / "compatibility.md").read_text()
    table = text.partition("## Differences that are meant")[2].partition("\n## ")[0]
    names = re.findall(r"^\| ([^|]+?) \|", table, re.MULTILINE)[1:]  # less the head
    assert names == [rule.name for rule in ALLOWED]
