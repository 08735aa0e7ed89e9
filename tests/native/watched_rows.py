"""The watch's arrays in memory, with orders as a host writes them, and its figures in float64."""

import numpy as np

from router.native.row_statistics import ORDER_FLOATS, STATE_FLOATS

FIELDS = (
    "tokens",
    "mean_logprob",
    "least_logprob",
    "recent_logprob",
    "mean_entropy",
    "recent_entropy",
    "mean_margin",
    "least_margin",
    "recent_margin",
    "first_logprob",
    "first_entropy",
    "fired",
    "likeliest",
    "estimate",
    "generation",
    "broken",
)


class Table:
    """`make` gives the function of one step, called with logits, rows, slots, generations and made."""

    def __init__(self, make, *, slots=12, vocabulary=300, firsts=20):
        self._make = make
        self.orders = np.zeros((slots, ORDER_FLOATS), np.float32)
        self.states = np.zeros((slots, 2, STATE_FLOATS), np.float32)
        self.weights = np.zeros((slots, firsts), np.float32)
        self.kept = np.zeros((slots, firsts), np.float32)
        self.first_ids = np.random.default_rng(0).choice(vocabulary, firsts, replace=False).astype(np.int32)
        self.places = np.ones(vocabulary, np.uint8)
        self.stop, self.hidden = 7, -1
        self.logits = np.zeros((0, vocabulary), np.float32)

    @property
    def arrays(self):
        return self.orders, self.states, self.weights, self.kept, self.first_ids, self.places

    def begin(
        self, slot, *, statistic=0, knots=(), min_tokens=0, weights=None, bias=0, bound=-np.inf, keep_first=False
    ):
        order = np.zeros(ORDER_FLOATS, np.float32)
        firsts = 0 if weights is None else len(weights)
        order[:8] = self.orders[slot, 0] + 1, statistic, len(knots), min_tokens, bound, bias, firsts, keep_first
        order[8 : 8 + 2 * len(knots)] = np.ravel(knots)
        self.orders[slot] = order
        if weights is not None:
            self.weights[slot] = weights

    def step(self, asked):
        """`asked`: of each slot its row of logits and how many tokens its answer has. How many stop."""
        self.logits = np.array([row for row, _ in asked.values()], np.float32)
        slots = np.array(list(asked), np.int32)
        made = np.array([made for _, made in asked.values()], np.float32)
        rows = np.arange(len(asked), dtype=np.int32)
        return self._make(self)(self.logits, rows, slots, self.orders[slots, 0].copy(), made)

    def figures(self, slot, tokens):
        """Of the version with as many tokens; the estimate only where there is one."""
        found = dict(zip(FIELDS, self.states[slot, tokens % 2].tolist(), strict=True))
        assert found["tokens"] == tokens
        del found["generation"]
        if np.isnan(found["estimate"]):
            del found["estimate"]
        return found


def log_probabilities(row):
    row = np.asarray(row, np.float64)
    return row - row.max() - np.log(np.exp(row - row.max()).sum())


def figures_of(rows):
    """Of an answer that was not stopped, in float64."""
    logp = [log_probabilities(row) for row in rows]
    tops = [np.sort(each)[::-1] for each in logp]
    values = {
        "logprob": [each[0] for each in tops],
        "entropy": [-(np.exp(each) * each).sum() for each in logp],
        "margin": [min(each[0] - each[1], 87.0) for each in tops],
    }
    out = {"tokens": float(len(rows)), "fired": 0.0, "broken": 0.0, "likeliest": float(np.argmax(rows[-1]))}
    for name, numbers in values.items():
        out[f"mean_{name}"] = float(np.mean(numbers))
        recent = 0.0
        for n, value in enumerate(numbers, 1):
            recent += max(1 / 16, 1 / n) * (value - recent)
        out[f"recent_{name}"] = recent
        if name != "entropy":
            out[f"least_{name}"] = min(numbers)
        if name != "margin":
            out[f"first_{name}"] = numbers[0]
    return out
