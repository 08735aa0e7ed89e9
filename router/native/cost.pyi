"""What an engine's steps did and cost: the sums (csrc/step_sums.hpp) and the model fitted to them (csrc/cost.hpp).

Pure, and without a clock. Seconds, tokens.
"""

from typing import NamedTuple

from router.steps import StepSums

class Coefficients(NamedTuple):
    """Of the seconds of a step, `(1 + others * busy share of the others) * (step + running * sequences + context *
    tokens held + prefill * prompt tokens)`. None is negative."""

    step: float  #: seconds of a step
    running: float  #: and of each sequence that gets a token in it
    context: float  #: and of each token that these hold
    prefill: float  #: and of each prompt token that is computed
    others: float  #: slower by this factor while one other engine of the same devices is busy

class StepMeter:
    """Sums up the steps of one engine, in its host. The times are the engine's own."""

    def outputs(
        self, now_s: float, rows: float, fresh: float, context: float, prefill: float, scheduled_s: float
    ) -> None:
        """`rows` sequences got a token each at `now_s`, `fresh` of them their first; they held `context` tokens before
        it. `prefill` tokens of the prompts of the fresh ones were computed, from `scheduled_s` on, the earliest; 0: not
        known."""

    def stepped(self, reading: bool) -> None:
        """A step has ended; `reading`: a prompt is half read."""

    def sums(self) -> StepSums: ...

class StepCost:
    """Recursive least squares over windows of step sums."""

    def learn(self, before: StepSums, now: StepSums, others: float = 0.0) -> bool:
        """From the window between two sums of one engine, in which other engines of its devices were busy for `others`
        of the time, summed over them. False where there is nothing to learn from."""

    def predict(self, steps: float, running: float, context: float, prefill: float, others: float = 0.0) -> float:
        """Seconds of so many steps that did so much together."""

    @property
    def coefficients(self) -> Coefficients: ...
    @property
    def windows(self) -> int:
        """That were looked at."""

    @property
    def cut(self) -> int:
        """Of these, those too far from what was expected to be learnt from."""

    @property
    def error(self) -> float:
        """Median of `|predicted - real| / real` of the seconds of the latest 128 windows, each predicted before it was
        learnt from; 0: unknown."""

    def kept(self) -> list[float]:
        """All that is known, for `restore`."""

    def restore(self, kept: list[float], windows: int, cut: int, error: float) -> bool:
        """False, and no change, where these are no such numbers."""
