"""csrc/cost.hpp again, in plain Python and one operation after another: what the native model is compared with."""

import itertools
import math
from collections.abc import Sequence

from router.steps import StepSums

SCALE = (1.0, 16.0, 8192.0, 512.0, 1.0)
Matrix = list[list[float]]


class Model:
    def __init__(self) -> None:
        self.coefficients = [0.0] * 5
        self.windows = self.cut = self.doubted = 0
        self.free = [0.0] * 5
        self.covariance: Matrix = [[0.0] * 5 for _ in range(5)]
        self.spread = 1.0

    def learn(self, w: StepSums, others: float) -> None:
        predicted = self.predict(w.steps, w.running, w.context, w.prefill, others)
        warm = self.windows >= 20 and predicted > 0
        if self.windows == 0:
            self._start(w.seconds / w.steps)
        self.windows += 1
        weight = self._trust(predicted, w.seconds, warm) if predicted > 0 else 1.0
        if warm and self.spread > 0.5 and self.windows - self.doubted > 100:
            self._start(predicted / w.steps)
        if weight == 0:
            self.cut += 1
            return
        expected = predicted if warm else w.seconds
        self._take(w, others, weight * (w.rows / expected) * (w.rows / expected))
        self._project()

    def predict(self, steps: float, running: float, context: float, prefill: float, others: float) -> float:
        a, b, c, d, f = self.coefficients
        return (1 + f * others) * (a * steps + b * running + c * context + d * prefill)

    def _start(self, step_s: float) -> None:
        deviation = 4.0 * min(max(step_s, 1e-4), 1.0)
        own = [deviation] * 4 + [1.0]
        self.covariance = [[own[i] * own[i] if i == j else 0.0 for j in range(5)] for i in range(5)]
        self.spread, self.doubted = 1.0, self.windows

    def _trust(self, predicted: float, real: float, warm: bool) -> float:
        off = real / predicted - 1 if real >= predicted else predicted / real - 1
        before = self.spread
        self.spread = max(0.02, before + 0.05 * (min(off, 2.5 * before) - before))
        if not warm or off <= 2.5 * before:
            return 1.0
        return 0.0 if off > 8.0 * before else 2.5 * before / off

    def _take(self, w: StepSums, others: float, weight: float) -> None:
        slower = 1 + self.coefficients[4] * others
        raw = (
            (w.steps_steps, w.steps_running, w.steps_context, w.steps_prefill),
            (w.steps_running, w.running_running, w.running_context, w.running_prefill),
            (w.steps_context, w.running_context, w.context_context, w.context_prefill),
            (w.steps_prefill, w.running_prefill, w.context_prefill, w.prefill_prefill),
        )
        products = (w.steps_seconds, w.running_seconds, w.context_seconds, w.prefill_seconds)
        m = [[raw[i][j] * weight / (SCALE[i] * SCALE[j]) for j in range(4)] for i in range(4)]
        y = [products[i] * weight / SCALE[i] for i in range(4)]
        own = [m[i][i] for i in range(4)]
        for k in range(4):
            if not m[k][k] > 1e-9 * own[k]:
                continue
            root = math.sqrt(m[k][k])
            row = [m[k][j] / root if j >= k else 0.0 for j in range(4)] + [0.0]
            target = y[k] / root
            for i in range(k + 1, 4):
                y[i] -= row[i] * target
                for j in range(k + 1, 4):
                    m[i][j] -= row[i] * row[j]
            known = 0.0
            for j in range(k, 4):
                known += row[j] * self.coefficients[j] * SCALE[j]
            for j in range(k, 4):
                row[j] *= slower
            row[4] = others * known
            self._update(row, target + row[4] * self.coefficients[4])

    def _update(self, row: Sequence[float], target: float) -> None:
        gain = [0.0] * 5
        for i, j in itertools.product(range(5), range(5)):
            gain[i] += self.covariance[i][j] * row[j]
        told, off = 0.0, target
        for i in range(5):
            told += row[i] * gain[i]
            off -= row[i] * self.free[i]
        if not told > 0:
            return
        more = told - min(1e-3, told)
        shrink = more / ((1 + more) * told)
        for i in range(5):
            self.free[i] += gain[i] / (1 + more) * off
            for j in range(i + 1):
                value = self.covariance[i][j] - shrink * gain[i] * gain[j]
                self.covariance[i][j] = self.covariance[j][i] = value

    def _project(self) -> None:
        best, found = -1.0, [0.0] * 5
        for zeros in range(32):
            at = [i for i in range(5) if zeros >> i & 1]
            inverse = inverted([[self.covariance[i][j] for j in at] for i in at])
            if inverse is None:
                continue
            pull, cost = [0.0] * len(at), 0.0
            for i in range(len(at)):
                for j in range(len(at)):
                    pull[i] += inverse[i][j] * self.free[at[j]]
                cost += pull[i] * self.free[at[i]]
            tried = list(self.free)
            for i in range(5):
                for j, zero in enumerate(at):
                    tried[i] -= self.covariance[i][zero] * pull[j]
                if i in at:
                    tried[i] = 0.0
            if min(tried) < 0 or (best >= 0 and cost >= best):
                continue
            best, found = cost, tried
            if zeros == 0:
                break
        self.coefficients = [found[i] / SCALE[i] for i in range(4)] + [min(found[4], 8.0)]


def inverted(matrix: Matrix) -> Matrix | None:
    """None where it is not positive definite."""
    n = len(matrix)
    work = [list(row) for row in matrix]
    out = [[1.0 if i == j else 0.0 for j in range(n)] for i in range(n)]
    for k in range(n):
        pivot = work[k][k]
        if not pivot > 0:
            return None
        for j in range(n):
            work[k][j] /= pivot
            out[k][j] /= pivot
        for i in range(n):
            if i == k:
                continue
            times = work[i][k]
            for j in range(n):
                work[i][j] -= times * work[k][j]
                out[i][j] -= times * out[k][j]
    return out
