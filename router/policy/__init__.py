"""Rules, cost and utility: pure functions from a query, scores and a snapshot to a decision.

No I/O, no clock, no randomness of its own: one piece of code decides live, replays a journal and drives a simulator.
"""

from router.policy.decide import decide
from router.policy.settings import Rule, Settings

__all__ = ["Rule", "Settings", "decide"]
