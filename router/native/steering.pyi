"""What the decisions of a pool chose, in sums for the controllers, and the share of one member.

A decision that was acted upon is noted natively, in a fraction of a microsecond. From one event loop's thread.
The sums and the running quantile: csrc/steering.hpp.
"""

from typing import TypedDict

class Sums(TypedDict):
    """Since the start; all but the last two only where `Steering.adds` is set. Dollars are at bought prices, qualities
    as predicted."""

    decided: float  #: requests of the rule with several candidates; of these are the qualities
    all: float  #: and those without a choice; of these are the dollars
    spent_usd: float  #: of what was chosen
    least_usd: float  #: had the cheapest candidate been chosen each time
    best_usd: float  #: had the candidate of highest quality been
    quality: float  #: of what was chosen
    least_quality: float  #: of the cheapest
    best_quality: float  #: of the best
    strong_quality: float  #: of the pool's strongest member
    given: float  #: requests, or tokens, that the share's member got
    offered: float  #: and that it could have got

class Steering:
    member: int  #: index of the share's member; -1: no share is held
    by_tokens: bool
    adds: bool  #: dollars and qualities too, which takes a look at each member; False at first
    favour: float  #: quality points that its utility is raised by at the next decision
    owed: float  #: requests, or tokens, that it got too little
    def __init__(self) -> None: ...
    def hold(self, member: int, share: float = 0.0, by_tokens: bool = False) -> None:
        """Give the member of this index a share of the requests, or tokens, that it could get; -1: hold none. What is
        owed and the latest margins stay. Raises ValueError for a share that is none."""

    def sums(self) -> Sums: ...
