"""What a request holds is freed at its end, without the cycle collector, which comes late."""

import gc
from typing import Any

import pytest

from router.errors import NoEngine
from router.pipeline.request import Request
from tests.conftest import until


def requests() -> int:
    return sum(type(each) is Request for each in gc.get_objects())


@pytest.mark.parametrize("raises", ["score", "decision"])
async def test_a_request_whose_slow_score_or_late_decision_raised_is_freed(two: Any, raises: str) -> None:
    kit = two()
    decider = kit.router._decider

    def refuse(*arguments: Any, **options: Any) -> Any:
        raise NoEngine("nothing is left")

    decider.scoring.slow = True
    if raises == "score":
        decider.scoring.score = refuse
    else:
        decider.choose = refuse
    gc.collect()
    gc.disable()
    try:
        before = requests()
        kit.submit()
        await until(lambda: kit.sink.end is not None)
        assert str(kit.sink.end) == "nothing is left"
        kit.router.ledger.tell()
        await until(lambda: requests() == before)
    finally:
        gc.enable()
