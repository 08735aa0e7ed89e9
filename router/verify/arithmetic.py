"""Finds the equations that a text writes out (`3 packs * 30 = 90`) and evaluates them. Knows no models.

Time is linear in the text's length. A word after a number counts as its unit. What does not parse is skipped.
"""

import re
from collections.abc import Iterator, Sequence

import msgspec

LONGEST_SIDE = 64  #: tokens of one side of an equation that are read
LONGEST_NUMBER = 24  #: characters; longer ones are no quantity

_TOKEN = re.compile(
    r"(?P<number>[0-9][0-9,]{0,30}(?:\.[0-9]{1,30})?|\.[0-9]{1,30})(?P<percent>\s?\\?%)?"
    r"|(?P<operator>\\?\*|\\times|\\cdot|\\div|[-+/×·÷−–∗])"
    r"|(?P<equals>=|≈|\\approx)"
    r"|(?P<open>[(\[{])|(?P<close>[)\]}])"
    r"|(?P<word>[^\W\d_]+(?: [^\W\d_]+)*)"
    r"|(?P<end>[\n<>;:!?#,.])"
)
_TIMES = frozenset(("\\*", "\\times", "\\cdot", "×", "·", "∗"))
_SIGN = {"−": "-", "–": "-", "÷": "/", "\\div": "/"}
_RANK = {"+": 1, "-": 1, "*": 2, "/": 2}


class Token(msgspec.Struct, frozen=True, gc=False):
    """`kind`: number, operator, equals, open, close, word (a run of them), end."""

    kind: str
    text: str
    value: float = 0.0
    decimals: int = 0


_TIMES_SIGN = Token("operator", "*")


class Equation(msgspec.Struct, frozen=True, gc=False):
    """`left = right` as written, both sides worked out. `operands` are the left side's numbers."""

    left: float
    right: float
    operands: tuple[float, ...]
    operators: str
    decimals: int  #: of the right side as written

    @property
    def holds(self) -> bool:
        """Exactly, or rounded to the decimals that are written; percents may be read either way."""
        return any(self._near(self.left * scale) for scale in (1.0, 100.0, 0.01))

    def _near(self, left: float) -> bool:
        return abs(left - self.right) <= 0.501 * 10.0**-self.decimals * (self.decimals > 0) + 1e-6 * abs(left) + 1e-9


def tokens(text: str) -> list[Token]:
    """What matters for sums; all else is left out."""
    out: list[Token] = []
    for found in _TOKEN.finditer(text):
        kind, word = found.lastgroup or "", found[0]
        if kind == "word":
            out += _words(word) if word[0] in "xX" or word[-1] in "xX" else (Token(kind, word),)
        elif kind in ("number", "percent"):
            digits = found["number"].rstrip(",").replace(",", "")
            if len(digits) <= LONGEST_NUMBER:
                scale, more = (0.01, 2) if kind == "percent" else (1.0, 0)
                out.append(Token("number", digits, float(digits) * scale, len(digits.partition(".")[2]) + more))
        elif kind == "operator":
            out.append(Token(kind, "*" if word in _TIMES else _SIGN.get(word, word)))
        else:
            out.append(Token(kind, word))
    return out


def numbers(read: Sequence[Token]) -> list[float]:
    return [token.value for token in read if token.kind == "number"]


def equations(read: Sequence[Token]) -> list[Equation]:
    """Every `=` with a value on both sides and an operator on the left, in order."""
    out = []
    for at, token in enumerate(read):
        if token.kind == "equals":
            left, right = _before(read, at), _after(read, at)
            operators = "".join(t.text for t in left if t.kind == "operator")
            a, b = evaluate(left), evaluate(right)
            if operators and a is not None and b is not None:
                decimals = right[0].decimals if len(right) == 1 else 0
                operands = tuple(t.value for t in left if t.kind == "number")
                out.append(Equation(a, b, operands, operators, decimals))
    return out


def evaluate(side: Sequence[Token]) -> float | None:
    """The value of numbers, operators and brackets; None where it has none."""
    values: list[float] = []
    waiting: list[str] = []
    operand = False  # the last token ended one
    for token in side:
        if token.kind == "number":
            values.append(token.value)
            operand = True
        elif token.kind == "open":
            waiting.append("(")
            operand = False
        elif token.kind == "close":
            while waiting and waiting[-1] != "(":
                if not _apply(values, waiting.pop()):
                    return None
            if not waiting:
                return None
            waiting.pop()
            operand = True
        else:
            if not operand:
                if token.text != "-":
                    return None
                values.append(0.0)
            while waiting and waiting[-1] != "(" and _RANK[waiting[-1]] >= _RANK[token.text]:
                if not _apply(values, waiting.pop()):
                    return None
            waiting.append(token.text)
            operand = False
    while waiting:
        if not _apply(values, waiting.pop()):
            return None
    return values[0] if len(values) == 1 else None


def _apply(values: list[float], operator: str) -> bool:
    if operator == "(" or len(values) < 2:
        return False
    b, a = values.pop(), values.pop()
    if operator == "/" and b == 0:
        return False
    values.append(a + b if operator == "+" else a - b if operator == "-" else a * b if operator == "*" else a / b)
    return True


def _words(run: str) -> Iterator[Token]:
    """A run of words is one token, but for an `x` at either end, which multiplies."""
    first, last = run[:2] in ("x ", "X ") or run in ("x", "X"), run[-2:] in (" x", " X")
    if first:
        yield _TIMES_SIGN
    if middle := run[2 * first : len(run) - 2 * last]:
        yield Token("word", middle)
    if last and len(run) > 3 * first:
        yield _TIMES_SIGN


def _before(read: Sequence[Token], at: int) -> list[Token]:
    """The longest sum that ends where the `=` at `at` stands, units left out."""
    out: list[Token] = []
    depth, start, operand = 0, 0, False  # `operand`: what was read last (to its right) was one
    for token in reversed(read[max(0, at - LONGEST_SIDE) : at]):
        if token.kind == "word":
            if operand:  # a word before an operand ends the sum
                break
            if len(token.text) == 1:
                return []
            continue
        if token.kind in ("number", "close"):
            if operand:
                break
            depth += token.kind == "close"
            operand = token.kind == "number"
        elif token.kind == "open":
            if not operand or depth == 0:
                break
            depth -= 1
        elif token.kind == "operator":
            if not operand:
                break
            operand = False
        else:
            break
        out.append(token)
        if operand and depth == 0:
            start = len(out)
    if start < len(out) and out[start].kind == "operator":  # of something that is no number
        if out[start].text != "-" or start + 1 < len(out):
            return []
        start += 1
    return out[:start][::-1]


def _after(read: Sequence[Token], at: int) -> list[Token]:
    """The longest sum that begins right after the `=` at `at`, units left out."""
    out: list[Token] = []
    depth, end, operand = 0, 0, False
    for token in read[at + 1 : at + 1 + LONGEST_SIDE]:
        if token.kind == "word":
            if not out:
                break
            if len(token.text) == 1:
                return []
            continue
        if token.kind in ("number", "open"):
            if operand:
                break
            depth += token.kind == "open"
            operand = token.kind == "number"
        elif token.kind == "close":
            if not operand or depth == 0:
                break
            depth -= 1
        elif token.kind == "operator":
            if not operand and token.text != "-":
                break
            operand = False
        else:
            break
        out.append(token)
        if operand and depth == 0:
            end = len(out)
    return [] if end < len(out) and out[end].kind == "operator" and end else out[:end]
