"""What is seen of an answer while its engine makes it, and when it is to be stopped there: the words of the watch
(docs/moments.md). Logarithms are natural."""

from typing import Literal

import msgspec

#: Statistics of an answer by which it can be stopped: recent means (see `Figures`), or its tokens alone.
Statistic = Literal["logprob", "entropy", "margin", "tokens"]

#: Of `WatchSettings.knots`.
MOST_KNOTS = 8


class Figures(msgspec.Struct, frozen=True, array_like=True, gc=False, kw_only=True):
    """Statistics of the model's own distribution at each token of an answer, before sampling changes it."""

    tokens: int = 0  #: so many are in all that follows; 0: nothing was watched
    mean_logprob: float = 0.0  #: of the likeliest token
    least_logprob: float = 0.0
    recent_logprob: float = 0.0  #: moving mean, the latest token weighing 1/16
    mean_entropy: float = 0.0  #: in nats
    recent_entropy: float = 0.0
    mean_margin: float = 0.0  #: log-probability of the likeliest token less that of the second
    least_margin: float = 0.0
    recent_margin: float = 0.0
    first_logprob: float = 0.0  #: of the first token
    first_entropy: float = 0.0


class WatchSettings(msgspec.Struct, frozen=True, omit_defaults=True, kw_only=True):
    """How one answer is watched: `Submit.watch`, as JSON. The defaults only look."""

    statistic: Statistic = "logprob"
    #: (tokens, bound), tokens rising, at most `MOST_KNOTS`: the answer is stopped at the first safe place where the
    #: statistic is on the doubtful side of the bound (`logprob`, `margin`: below it; `entropy`: above it; `tokens`:
    #: there are as many as the first knot says). Straight between knots; before the first one it goes on, behind the
    #: last one its bound stays. Empty: it is never stopped.
    knots: tuple[tuple[float, float], ...] = ()
    #: Stopped before its first token is told, where the estimate from the first token's logits is below this log odds.
    first_bound: float | None = None
    #: Of the model's own estimate: weights of the normalised logits kept, in their order, and what is added.
    first_weights: tuple[float, ...] = ()
    first_bias: float = 0.0
    keep_first: bool = False  #: tell the first token's logits at the end


class Continued(msgspec.Struct, frozen=True, array_like=True, gc=False, kw_only=True):
    """What another engine has told the client of an answer that this one goes on with: the client sees one answer."""

    id: str = ""  #: of the answer; empty: nothing was told
    created: int = 0
    opened: bool = False  #: of a stream: the event with the role was sent
    prompt_tokens: int = 0  #: as the first engine counted them; 0: it did not say
    completion_tokens: int = 0  #: of all engines before
    cached_tokens: int = 0
    #: Characters of `Submit.continue_text` that the client was sent; the rest of it is told first. All, where it is
    #: more than there are; of a whole answer none.
    sent: int = 0
    #: Text that the first engine would have put next: not part of the answer, only read to cut it as its reader would.
    look: str = ""
    model: str = ""  #: by which the answer goes; empty: the engine's own
    #: (model, tokens) of each engine before, in order: `usage.headgate` of the client tells their sums
    wrote: tuple[tuple[str, int], ...] = ()
    #: The first event of each model's part says whose it is: `"headgate":{"model":...}`. Alone it asks for no more.
    told: bool = False
