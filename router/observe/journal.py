"""The lines of the decision journal: JSONL, two kinds of line, told apart by `type`. Fields are appended; readers
ignore those they do not know. Knows neither who writes nor who reads. The server writes none yet: see docs/data.md.
"""

import msgspec

from router.types import Term


class DecisionLine(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, tag_field="type", tag="decision"):
    """A request that has ended: what was decided, and how it ended."""

    id: str  #: the decision's, as in `x-headgate-decision-id`
    time_s: float = 0.0  #: of the decision, since the epoch
    prompt: str | None = None  #: the conversation as the router saw it, where the config keeps prompts
    group: str = ""  #: equal for requests of one session, so that no fold parts them
    task: str = ""  #: a name for the traffic, where the key or the config gives one
    model: str  #: that answered
    reason: str = ""
    terms: tuple[Term, ...] = ()
    status: str = "finish"  #: finish, error or cancel
    prompt_tokens: int = 0
    completion_tokens: int = 0
    cost_usd: float | None = None  #: of the GPU seconds that the answer took


class FeedbackLine(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, tag_field="type", tag="feedback"):
    """What a client said of an answer. Comes after its decision's line, and may come again."""

    id: str  #: the decision's
    score: float  #: 0..1
    time_s: float = 0.0


Line = DecisionLine | FeedbackLine
