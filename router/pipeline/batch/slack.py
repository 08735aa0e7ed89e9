"""How much of a member batches may have, so that requests that clients wait for do not wait for batches.

Three things make such a request wait in an engine, beyond the step that runs as it comes:

  no sequence is free     the engine runs as many as it can (`most_running`): a quarter of them is kept free of lines,
                          and of the rest the live ones are taken off
  no KV block is free     no line starts above 0.8 of the cache; above 0.95 the youngest are taken back
  prompts are read        a step reads a bounded number of prompt tokens, those of running requests first: lines whose
                          prompts are read at once have `prefill_tokens` at most, and while live requests come no more
                          than are read in the time of one step, since lines that began together end together and
                          would be followed by as many prompts in one long step. One whose prompt is longer than
                          `prefill_tokens` is taken back as soon as a live request comes, while it is still being read

Pure: numbers in, numbers out.
"""

import msgspec

KV_START = 0.8
KV_KEEP = 0.95
#: Of the sequences that an engine runs at once, the share that no line takes.
RESERVED = 0.25


#: How long a prompt is taken to be read where the engine's rate is not known yet.
_UNKNOWN_S = 1.0


class Seen(msgspec.Struct, frozen=True, kw_only=True):
    """A member, as it is now."""

    ready: bool = True
    own: int = 0  #: lines that run in it
    in_flight: int = 0  #: all requests that it has, the lines among them
    most_running: int = 0  #: sequences that its engine runs at once; 0: not known
    kv_use: float = 0.0  #: 0..1
    live_waits: bool = False  #: requests wait at the gate for a slot, or for room in this member


class Slack(msgspec.Struct, frozen=True):
    """What batches may have."""

    start: int  #: lines that may start now
    withdraw: int  #: lines that are to be taken back, the youngest first


def slack(seen: Seen, most: int) -> Slack:
    """`most`: lines that may run in a member at once."""
    if not seen.ready:
        return Slack(0, 0)
    room, live = most, max(seen.in_flight - seen.own, 0)
    if seen.most_running:
        reserved = max(1, int(seen.most_running * RESERVED)) if seen.most_running > 1 else 0
        room = max(0, min(most, seen.most_running - reserved - live))
    withdraw = max(seen.own - room, 0)
    if seen.kv_use > KV_KEEP and (seen.own > 1 or (seen.own and live)):
        withdraw = max(withdraw, (seen.own + 1) // 2)
    if withdraw or seen.live_waits or seen.kv_use > KV_START:
        return Slack(0, withdraw)
    return Slack(room - seen.own, 0)


def reads_s(prompt_tokens: int, prefill_tokens_per_s: float) -> float:
    """For how long a line's prompt is taken to be read: twice the estimate, as it shares the engine's steps."""
    return 2.0 * prompt_tokens / prefill_tokens_per_s if prefill_tokens_per_s > 0 else _UNKNOWN_S


def may_read(prompt_tokens: int, reading_tokens: int, most_tokens: int) -> bool:
    """Whether another prompt may be read while `reading_tokens` of others are."""
    return not reading_tokens or reading_tokens + prompt_tokens <= most_tokens


def reading_bound(most_tokens: int, prefill_tokens_per_s: float, step_s: float) -> int:
    """How many prompt tokens of lines may be read at once beside live requests: one step then takes twice its time.

    One line is always read (`may_read`), however long.
    """
    if prefill_tokens_per_s <= 0 or step_s <= 0:
        return 1
    return max(1, min(most_tokens, int(prefill_tokens_per_s * step_s)))
