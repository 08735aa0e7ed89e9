"""csrc/lengths.hpp again in plain Python: what a member's level is learnt to be."""

import math

MOST_OUTPUT, MOST_LOG_SD = 2.0**30, 4.0


class Level:
    def __init__(self) -> None:
        self.bias, self.told = 0.0, 0

    @property
    def surplus(self) -> float:
        return math.expm1(self.bias)

    def learn(self, tokens: float, log_sd: float, real: int, *, cut: bool) -> None:
        if not 1e-2 <= tokens <= MOST_OUTPUT or real <= 0:
            return
        sd = min(log_sd, MOST_LOG_SD) if log_sd >= 0 else 0.0
        unit = max(sd, 0.05)
        off = (math.log(real) - (math.log(tokens) - sd * sd / 2 + self.bias)) / unit
        if cut:
            off = mean_above(off)
        self.told += 1
        self.bias += max(0.05, 1 / (4 + self.told)) * unit * min(max(off, -2.0), 2.0)
        self.bias = min(max(self.bias, -3.0), 3.0)


def mean_above(z: float) -> float:
    """Of a standard normal number that is above z."""
    if z > 8:
        return z + 1 / z
    return math.exp(-z * z / 2) / math.sqrt(2 * math.pi) / (math.erfc(z / math.sqrt(2)) / 2)
