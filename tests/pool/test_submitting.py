"""What a host is sent depends on the verbs of its Hello."""

import pytest

from router.errors import NoEngine, OlderHost
from router.ipc.messages import Hello
from router.pool.base import Work
from router.pool.submitting import check_known, submit_of
from router.watched import Continued

GOES_ON = Work(kind="chat", body=b"{}", watch=b"{}", continue_text="One", continued=Continued(sent=3))


def test_a_host_is_sent_all_that_its_verbs_name() -> None:
    submit = submit_of(GOES_ON, 7, ("continue", "watch"))
    assert (submit.id, submit.watch, submit.continue_text, submit.continued) == (7, b"{}", "One", Continued(sent=3))


def test_a_host_that_cannot_watch_is_sent_no_watch() -> None:
    assert submit_of(GOES_ON, 7, ("continue",)).watch == b""


@pytest.mark.parametrize(
    ("work", "why"),
    [
        (GOES_ON, "'small' cannot go on with an answer that another engine began"),
        (Work(kind="chat", body=b"{}", warm=True), "'small' cannot only read a prompt"),
    ],
)
@pytest.mark.parametrize("hello", [None, Hello(role="host", verbs=("watch",))])
def test_what_a_host_cannot_do_is_refused_before_it_is_sent(work: Work, why: str, hello: Hello | None) -> None:
    with pytest.raises(NoEngine, match=why):
        check_known(work, hello, "small")


def test_a_kind_that_a_host_does_not_know_is_refused_with_what_to_do() -> None:
    with pytest.raises(OlderHost, match="restart it"):
        check_known(Work(kind="rerank", body=b"{}"), Hello(role="host"), "small")


def test_a_host_that_names_the_verbs_takes_it() -> None:
    check_known(GOES_ON, Hello(role="host", verbs=("continue",)), "small")
