"""The watch on a GPU: each watched row of logits is read once, for its maximum, log-sum-exp, entropy and margin; then
the state of its answer is moved on, and where the answer is to stop, its row is overwritten. As csrc/watch.hpp.

One program a row; a program whose row is another's by now, or has ended, returns at once.
"""

import torch

import triton
import triton.language as tl

_BLOCK = 4096
_MOST_MARGIN = tl.constexpr(87.0)
_ORDER = tl.constexpr(32)  # numbers of an order
_STATE = tl.constexpr(16)  # of a state; two of them a slot
_KNOTS = tl.constexpr(8)
_NONE = tl.constexpr(2147483647)


@triton.jit
def _read_row(row, vocabulary, block: tl.constexpr):
    """log-probability of the likeliest, entropy, margin, log-sum-exp, the likeliest (-1: no distribution)."""
    lanes = tl.arange(0, block)
    first = tl.full((block,), float("-inf"), tl.float32)
    second = tl.full((block,), float("-inf"), tl.float32)
    where = tl.full((block,), 0, tl.int32)
    broken = tl.full((block,), 0, tl.int32)
    reference = float("-inf")
    total = 0.0
    weighted = 0.0
    for start in range(0, vocabulary, block):
        token = start + lanes
        x = tl.load(row + token, mask=token < vocabulary, other=float("-inf")).to(tl.float32)
        usable = (x == x) & (x < float("inf"))
        broken = broken | (~usable).to(tl.int32)
        x = tl.where(usable, x, float("-inf"))
        second = tl.maximum(second, tl.minimum(first, x))
        where = tl.where(x > first, token, where)
        first = tl.maximum(first, x)
        most = tl.maximum(reference, tl.max(x, axis=0))
        if most > float("-inf"):
            less = tl.where(total > 0.0, reference - most, 0.0)  # 0 or below
            shrink = tl.exp(less)
            weighted = shrink * (weighted + less * total)
            total = shrink * total
            reference = most
            y = tl.maximum(x - reference, -_MOST_MARGIN)
            e = tl.exp(y)
            total += tl.sum(e, axis=0)
            weighted += tl.sum(e * y, axis=0)
    top = tl.max(first, axis=0)
    best = tl.min(tl.where(first == top, where, _NONE), axis=0)
    following = tl.max(tl.where(where == best, second, first), axis=0)
    margin = tl.minimum(tl.where(top > float("-inf"), top, 0.0) - following, _MOST_MARGIN)
    valid = (tl.max(broken, axis=0) == 0) & (total > 0.0)
    total = tl.where(valid, total, 1.0)
    log_sum = tl.log(total)
    entropy = tl.maximum(log_sum - weighted / total, 0.0)
    return -log_sum, entropy, margin, reference + log_sum, tl.where(valid, best, -1)


@triton.jit
def _row_statistics(logits, stride, out, vocabulary, block: tl.constexpr):
    row = tl.program_id(0).to(tl.int64)
    logprob, entropy, margin, log_sum, best = _read_row(logits + row * stride, vocabulary, block)
    nan = float("nan")
    tl.store(out + row * 5, tl.where(best >= 0, logprob, nan))
    tl.store(out + row * 5 + 1, tl.where(best >= 0, entropy, nan))
    tl.store(out + row * 5 + 2, tl.where(best >= 0, margin, nan))
    tl.store(out + row * 5 + 3, tl.where(best >= 0, log_sum, nan))
    tl.store(out + row * 5 + 4, best.to(tl.float32))


@triton.jit
def _bound(order, tokens):
    """The boundary at `tokens`; NaN before its first knot."""
    n = tl.load(order + 2)
    at = float("nan")
    for k in tl.static_range(_KNOTS):
        from_, value = tl.load(order + 8 + 2 * k), tl.load(order + 9 + 2 * k)
        at = tl.where((k < n) & (tokens >= from_), value, at)
        if k + 1 < _KNOTS:
            to, next_ = tl.load(order + 10 + 2 * k), tl.load(order + 11 + 2 * k)
            between = (k + 1 < n) & (tokens >= from_) & (tokens < to)
            share = (tokens - from_) / tl.where(between, to - from_, 1.0)
            at = tl.where(between, value + share * (next_ - value), at)
    return at


@triton.jit
def _mean(before, value, weight):
    return before + weight * (value - before)


@triton.jit
def _watch(
    logits, stride, vocabulary, step, rows, orders, states, weights, kept, first_ids, places, firsts, stop, hidden,
    lanes: tl.constexpr, block: tl.constexpr
):  # fmt: skip
    at = tl.program_id(0)
    row = logits + tl.load(step + at).to(tl.int64) * stride
    slot = tl.load(step + rows + at).to(tl.int64)
    generation = tl.load(step + 2 * rows + at).to(tl.float32)
    made = tl.load(step + 3 * rows + at)
    order = orders + slot * _ORDER
    fresh = made == 0
    now = states + slot * 2 * _STATE + (made % 2) * _STATE
    after = states + slot * 2 * _STATE + ((made + 1) % 2) * _STATE
    mine = (tl.load(order) == generation) & (made >= 0)
    known = (tl.load(now + 14) == generation) & (tl.load(now) == made.to(tl.float32))
    running = (tl.load(now + 15) == 0.0) & (tl.load(now + 11) == 0.0)
    fires = False
    if mine & (fresh | (known & running)):
        logprob, entropy, margin, log_sum, best = _read_row(row, vocabulary, block)
        tokens = (made + 1).to(tl.float32)
        one = 1.0 / tokens
        recent = tl.maximum(one, 0.0625)
        recent_logprob = _mean(tl.where(fresh, 0.0, tl.load(now + 3)), logprob, recent)
        recent_entropy = _mean(tl.where(fresh, 0.0, tl.load(now + 5)), entropy, recent)
        recent_margin = _mean(tl.where(fresh, 0.0, tl.load(now + 8)), margin, recent)
        estimate = tl.where(fresh, float("nan"), tl.load(now + 13))
        fired = 0.0
        if best >= 0:
            minimum = tl.load(order + 3)
            if fresh:
                lane = tl.arange(0, lanes)
                inside = lane < firsts
                token = tl.load(first_ids + lane, mask=inside, other=0)
                value = tl.load(row + token, mask=inside, other=0.0).to(tl.float32) - log_sum
                weighs = tl.load(order + 6) == firsts
                if weighs | (tl.load(order + 7) != 0.0):
                    tl.store(kept + slot * firsts + lane, value, mask=inside)
                if weighs:
                    weight = tl.load(weights + slot * firsts + lane, mask=inside, other=0.0)
                    odds = tl.sum(tl.where(inside, weight * value, 0.0), axis=0)
                    estimate = tl.load(order + 5) + odds
                    if (minimum <= 0.0) & (estimate < tl.load(order + 4)):
                        fired = 2.0
            statistic = tl.load(order + 1).to(tl.int32)
            bound = _bound(order, tokens)
            low = tl.where(statistic == 0, recent_logprob, recent_margin) < bound
            high = recent_entropy > bound
            many = (tl.load(order + 2) > 0.0) & (made.to(tl.float32) >= tl.load(order + 8))
            doubtful = tl.where(statistic == 1, high, tl.where(statistic == 3, many, low))
            place = tl.load(places + best).to(tl.int32)
            last = tl.where(fresh, 0, tl.load(now + 12).to(tl.int32))
            spaced = (tl.load(places + last).to(tl.int32) & 4) != 0
            safe = fresh | ((place & 1) != 0) | (((place & 2) != 0) & ~spaced)
            if (fired == 0.0) & safe & doubtful & (made.to(tl.float32) >= minimum):
                fired = 1.0
            fires = fired != 0.0
        tl.store(after, tokens)
        tl.store(after + 1, _mean(tl.where(fresh, 0.0, tl.load(now + 1)), logprob, one))
        tl.store(after + 2, tl.where(fresh, logprob, tl.minimum(tl.load(now + 2), logprob)))
        tl.store(after + 3, recent_logprob)
        tl.store(after + 4, _mean(tl.where(fresh, 0.0, tl.load(now + 4)), entropy, one))
        tl.store(after + 5, recent_entropy)
        tl.store(after + 6, _mean(tl.where(fresh, 0.0, tl.load(now + 6)), margin, one))
        tl.store(after + 7, tl.where(fresh, margin, tl.minimum(tl.load(now + 7), margin)))
        tl.store(after + 8, recent_margin)
        tl.store(after + 9, tl.where(fresh, logprob, tl.load(now + 9)))
        tl.store(after + 10, tl.where(fresh, entropy, tl.load(now + 10)))
        tl.store(after + 11, fired)
        tl.store(after + 12, best.to(tl.float32))
        tl.store(after + 13, estimate)
        tl.store(after + 14, generation)
        tl.store(after + 15, tl.where(best >= 0, 0.0, 1.0))
    if fires:
        token = tl.arange(0, block)
        for start in range(0, vocabulary, block):
            inside = start + token < vocabulary
            tl.store(row + start + token, tl.where(start + token == stop, 0.0, float("-inf")), mask=inside)
    elif mine & (hidden >= 0):
        tl.store(row + hidden, float("-inf"))


def row_statistics(logits: torch.Tensor) -> torch.Tensor:
    """float32 [rows, 5] of `logits` [rows, vocabulary], float32, bfloat16 or float16: as
    `router.native.row_statistics`. Raises ValueError."""
    if logits.ndim != 2 or logits.stride(1) != 1 or logits.dtype not in (torch.float32, torch.bfloat16, torch.float16):
        raise ValueError(f"logits: expected rows of float32, bfloat16 or float16, got {logits.dtype} {logits.shape}")
    rows, vocabulary = logits.shape
    out = torch.empty((rows, 5), dtype=torch.float32, device=logits.device)
    if rows:
        block = min(_BLOCK, triton.next_power_of_2(vocabulary))
        _row_statistics[(rows,)](logits, logits.stride(0), out, vocabulary, block, num_warps=8)
    return out


def watch(
    logits: torch.Tensor,
    step: torch.Tensor,
    *,
    orders: torch.Tensor,
    states: torch.Tensor,
    weights: torch.Tensor,
    kept: torch.Tensor,
    first_ids: torch.Tensor,
    places: torch.Tensor,
    stop: int,
    hidden: int,
) -> None:
    """One step, as `router.native.row_statistics.Watcher.watch`: `step` int32 [4, rows] is each watched row, its slot,
    whose that is, and how many tokens its answer has; the others are the table's arrays, on one device. Raises
    ValueError."""
    if logits.ndim != 2 or logits.dtype != torch.float32 or logits.stride(1) != 1:
        raise ValueError(f"logits: expected rows of float32, got {logits.dtype} {list(logits.shape)}")
    if logits.shape[1] != places.shape[0]:
        raise ValueError(f"logits: expected {places.shape[0]} tokens, got {logits.shape[1]}")
    if step.dtype != torch.int32 or step.ndim != 2 or step.shape[0] != 4 or not step.is_contiguous():
        raise ValueError(f"step: expected torch.int32 [4, rows], got {step.dtype} {list(step.shape)}")
    vocabulary, firsts, rows = logits.shape[1], first_ids.shape[0], step.shape[1]
    if rows:
        block = min(_BLOCK, triton.next_power_of_2(vocabulary))
        lanes = triton.next_power_of_2(firsts)
        _watch[(rows,)](
            logits, logits.stride(0), vocabulary, step, rows, orders, states, weights, kept, first_ids, places, firsts,
            stop, hidden, lanes, block, num_warps=8,
        )  # fmt: skip
