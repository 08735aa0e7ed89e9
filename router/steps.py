"""What an engine's steps did, and what is known of what they take: the words of the step model (docs/price.md)."""

import msgspec


class StepSums(msgspec.Struct, array_like=True, frozen=True, gc=False, kw_only=True):
    """What the engine's steps did since the host started: all that a least-squares fit of their seconds needs
    (csrc/step_sums.hpp)."""

    rows: float = 0.0  #: of steps: one each, or several where a prompt was half read between them
    cut: float = 0.0  #: rows that took no time, less, or longer than ten minutes: in none of the other sums
    steps: float = 0.0
    running: float = 0.0  #: sequences that got a token
    context: float = 0.0  #: tokens that these held before it
    prefill: float = 0.0  #: prompt tokens that were computed
    seconds: float = 0.0
    steps_steps: float = 0.0  #: of products of two of the above, row by row
    steps_running: float = 0.0
    steps_context: float = 0.0
    steps_prefill: float = 0.0
    running_running: float = 0.0
    running_context: float = 0.0
    running_prefill: float = 0.0
    context_context: float = 0.0
    context_prefill: float = 0.0
    prefill_prefill: float = 0.0
    steps_seconds: float = 0.0
    running_seconds: float = 0.0
    context_seconds: float = 0.0
    prefill_seconds: float = 0.0
    seconds_seconds: float = 0.0


class StepModel(msgspec.Struct, frozen=True, kw_only=True):
    """What is known of an engine's steps: `(1 + slowdown * others) * (step_s + running_s * sequences + context_s *
    tokens held + prefill_s * prompt tokens)` seconds each. docs/price.md tells how it is learnt, and what follows."""

    windows: int = 0  #: of step sums that were looked at
    cut: int = 0  #: of these, outliers, which were not learnt from
    answers: int = 0  #: whose first token was predicted
    step_s: float = 0.0
    running_s: float = 0.0
    context_s: float = 0.0
    prefill_s: float = 0.0
    slowdown: float = 0.0  #: by one other engine of the same devices that is always busy
    overhead_s: float = 0.0  #: of a first token beyond the steps that lead to it
    #: Medians of `|predicted - real| / real`, the latest 128: of a window's engine seconds, of the time to the first
    #: token and of the time per token after it.
    error_window: float = 0.0
    error_first_token: float = 0.0
    error_output_token: float = 0.0
    cost_trust: float = 0.0  #: how far decisions go by it, 0..1: in the engine seconds of a request
    wait_trust: float = 0.0  #: and in the wait for its first token
    busy: float = 0.0  #: share of the time in which the engines of its devices worked lately, 0..1
    others: float = 0.0  #: and the others of them, summed
    lengths: int = 0  #: whole answers whose length the head had predicted
    error_length: float = 0.0  #: median of `|predicted median - real| / real` of the latest 128
    output_surplus: float = 0.0  #: by which answers were lately longer than predicted, as a share: it is corrected so
