"""Rules, cost and utility: pure functions from a query, scores and a snapshot to a decision.

No I/O, no clock, no randomness of its own. One piece of code decides live, in replays, in calibration and in
simulations: csrc/policy.hpp makes the numbers, this room puts them into words.
"""

from router.policy.decide import decide, decide_again
from router.policy.settings import RuleName, Settings

__all__ = ["RuleName", "Settings", "decide", "decide_again"]
