"""One leg: whom its failure rules out."""

from router.errors import ContextTooLong, EngineFailed
from router.pipeline.leg import not_again
from router.pool.base import Failure
from router.types import MemberState


def test_a_prompt_too_long_for_one_rules_out_all_members_of_no_larger_context() -> None:
    members = [MemberState(name=str(size), context_tokens=size) for size in (100, 200, 50, 0, 100)]
    too_long = Failure(ContextTooLong("too long", param="messages"), retryable=True, context=True)
    assert not_again(0, too_long, members) == {0, 2, 4}
    assert not_again(0, Failure(EngineFailed("lost"), retryable=True), members) == {0}
