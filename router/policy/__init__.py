"""Rules, cost and utility: pure functions from a query, scores and a snapshot to a decision.

No I/O, no clock, no randomness of its own: one piece of code decides live, in replays and in simulations.
"""

from router.policy.decide import decide
from router.policy.settings import Rule, Settings

__all__ = ["Rule", "Settings", "decide"]
