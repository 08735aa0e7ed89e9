"""The same requests to vLLM's own server and to Headgate, both of the same tiny model by the same flags.

Answers are equal but for what `allowed.py` lists, on the fast way and on vLLM's, and we keep what the APIs' documents
promise at least as often."""

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from router.host import fields
from router.types import API_PATHS, Kind
from tests.e2e.paired import chat_cases, completion_cases, http_cases, member_cases, message_cases, response_cases
from tests.e2e.paired.allowed import ALLOWED, rule_of
from tests.e2e.paired.asking import Answer, Headgate, Vllm, ask
from tests.e2e.paired.cases import Case
from tests.e2e.paired.comparing import Difference, broken_promises, differences

pytestmark = [pytest.mark.engine, pytest.mark.timeout(1200)]

CASES = [
    *chat_cases.CASES,
    *completion_cases.CASES,
    *response_cases.CASES,
    *message_cases.CASES,
    *member_cases.CASES,
    *http_cases.CASES,
]
TRIES = 20
_KINDS: dict[str, Kind] = {path: kind for kind, path in API_PATHS.items()}


def _goes_fast(case: Case) -> bool:
    return case.slowly is not None and fields.decode(_KINDS[case.path], case.body or b"") is not None


#: Those that the fast way takes are sent a second time, through vLLM's own serving classes in our host.
ON_VLLMS_WAY = [case for case in CASES if _goes_fast(case)]


@dataclass
class Pair:
    """Both servers; each is asked each thing once."""

    vllm: Vllm
    headgate: Headgate
    answers: dict[tuple[str, str], Answer] = field(default_factory=dict)

    def theirs(self, case: Case) -> Answer:
        return self._answer("vllm", case, self.vllm)

    def ours(self, case: Case) -> Answer:
        return self._answer("headgate", case, self.headgate)

    def unmeant(self, case: Case, sent: Case) -> list[Difference]:
        """What differs and is not allowed. On a busy machine either server may put the last tokens of a stream into the
        event that ends it: then both are asked again."""
        for _ in range(TRIES if b'"stream": true' in (case.body or b"") else 1):
            found = differences(self.theirs(case), self.ours(sent))
            unmeant = [each for each in found if rule_of(case, each) is None]
            if not unmeant:
                break
            self.answers.pop(("vllm", case.name))
            self.answers.pop(("headgate", sent.name))
        return unmeant

    def _answer(self, name: str, case: Case, server: Vllm | Headgate) -> Answer:
        if (name, case.name) not in self.answers:
            self.answers[name, case.name] = ask(server, case)
        return self.answers[name, case.name]


@pytest.fixture(scope="module")
def pair_of_servers(pair: Path, engine_env: dict[str, str]) -> Iterator[Pair]:
    env = {**engine_env, "PYTHONSAFEPATH": "1"}
    vllm, headgate = Vllm(pair / "small", env), Headgate(pair / "small", env)
    try:
        yield Pair(vllm.ready(), headgate.ready())
    finally:
        vllm.close()
        headgate.close()


@pytest.fixture
def said(capsys: pytest.CaptureFixture[str]) -> Callable[[str], None]:
    def say(text: str) -> None:
        with capsys.disabled():
            print(f"{os.linesep}{text}", flush=True)

    return say


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_the_answer_is_vllms(pair_of_servers: Pair, case: Case) -> None:
    found = pair_of_servers.unmeant(case, case)
    assert not found, "\n".join(map(str, found))


@pytest.mark.parametrize("case", ON_VLLMS_WAY, ids=lambda case: case.name)
def test_the_answer_on_vllms_way_is_vllms(pair_of_servers: Pair, case: Case) -> None:
    found = pair_of_servers.unmeant(case, case.on_vllms_way())
    assert not found, "\n".join(map(str, found))


def test_documented_expectations_hold_at_least_as_often_as_on_vllms_server(
    pair_of_servers: Pair, said: Callable[[str], None]
) -> None:
    """An expectation is one request: all that the documents promise of its answer."""
    kept = {
        name: {case.name for case in CASES if not broken_promises(case, answer(case))}
        for name, answer in (("vLLM", pair_of_servers.theirs), ("Headgate", pair_of_servers.ours))
    }
    promises = sum(len(case.holds) for case in CASES)
    said(
        f"{len(CASES)} requests with {promises} promises: all kept by vLLM for {len(kept['vLLM'])}, "
        f"by Headgate for {len(kept['Headgate'])}; {len(ON_VLLMS_WAY)} of them were sent on both of our ways"
    )
    assert kept["vLLM"] - kept["Headgate"] <= {"/v1/messages no model"}
    assert len(kept["Headgate"]) >= len(kept["vLLM"])
    assert len(CASES) >= 400


def test_each_allowed_difference_is_seen(pair_of_servers: Pair) -> None:
    """One that is not seen any more is to be taken out of the list, and of docs/compatibility.md."""
    seen = set()
    for case in CASES:
        for found in differences(pair_of_servers.theirs(case), pair_of_servers.ours(case)):
            if rule := rule_of(case, found):
                seen.add(rule.name)
    assert seen == {rule.name for rule in ALLOWED}
