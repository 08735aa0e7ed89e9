"""The phases of a request: which may follow which."""

from itertools import product
from typing import TYPE_CHECKING

import pytest

from router.native.call import PHASES, Call

if TYPE_CHECKING:
    from router.native.call import Phase

ENDS = {"finished", "failed", "cancelled"}
ALLOWED = {
    ("new", "queued"), ("new", "scoring"), ("new", "waiting"), ("new", "failed"),
    ("queued", "scoring"), ("queued", "waiting"), ("queued", "failed"), ("queued", "cancelled"),
    ("scoring", "queued"), ("scoring", "waiting"), ("scoring", "failed"), ("scoring", "cancelled"),
    ("waiting", "waiting"), ("waiting", "answering"), ("waiting", "failed"), ("waiting", "cancelled"),
    ("answering", "finished"), ("answering", "failed"), ("answering", "cancelled"),
}  # fmt: skip
WAY: "dict[str, tuple[Phase, ...]]" = {
    "new": (),
    "queued": ("queued",),
    "scoring": ("scoring",),
    "waiting": ("waiting",),
    "answering": ("waiting", "answering"),
    "finished": ("waiting", "answering", "finished"),
    "failed": ("failed",),
    "cancelled": ("waiting", "cancelled"),
}


@pytest.mark.parametrize(("first", "then"), list(product(PHASES, PHASES)))
def test_a_request_enters_only_phases_that_may_follow_its_own(first: "Phase", then: "Phase") -> None:
    call = Call()
    for phase in WAY[first]:
        call.go(phase)
    if (first, then) in ALLOWED:
        call.go(then)
        assert (call.phase, call.started, call.ended) == (then, then == "answering", then in ENDS)
    else:
        with pytest.raises(RuntimeError, match=f"a request that is '{first}' cannot become '{then}'"):
            call.go(then)
        assert call.phase == first
