"""Features of an answer's written working: do its sums hold, does it use all numbers of the prompt, its last word.

Knows no models and no weights. Answers may carry GSM8K's marks (Cobbe et al., 2021).
"""

import math
import re
from collections.abc import Sequence

import msgspec

from router.verify.arithmetic import Equation, Token, equations, numbers, tokens

READ = 2048  #: characters at either end of a text that are read

_FINAL = re.compile(
    r"(?:####|\\boxed\{|\banswer is|\banswer:)[\s$:*]{0,8}(?P<sign>-?)\$?(?P<digits>-?\d[\d,]{0,30}(?:\.\d{1,30})?)"
    r"(?P<tail>[^\n]{0,40})",
    re.IGNORECASE | re.ASCII,
)
#: Words that stand for a number, and units that bring one with them.
_WORDS = {
    word: float(number)
    for number, words in {
        0.5: "half halves", 0.25: "quarter quarters", 1: "one once",
        2: "two twice double pair couple", 3: "three thrice triple third thirds",
        4: "four fourth fourths", 5: "five fifth fifths", 6: "six", 7: "seven week weeks", 8: "eight", 9: "nine",
        10: "ten tenth", 11: "eleven", 12: "twelve dozen dozens year", 13: "thirteen", 14: "fourteen", 15: "fifteen",
        16: "sixteen", 17: "seventeen", 18: "eighteen", 19: "nineteen", 20: "twenty", 24: "day", 30: "thirty",
        40: "forty", 50: "fifty", 60: "sixty hour hours minute", 70: "seventy", 80: "eighty", 90: "ninety",
        100: "hundred",
    }.items()
    for word in words.split()
}  # fmt: skip
#: Numbers that need no source.
_FREE = frozenset(map(float, (0, 1, 2, 4, 7, 10, 12, 24, 30, 52, 60, 100, 365, 1000)))
_NAMES = (
    "sums", "no sum", "wrong", "wrong sums", "wrong by little", "rounded", "fractions", "negative sum", "sums a number",
    "plus", "minus", "times", "over", "unsourced", "any unsourced", "unused", "all used", "unworked", "dangling",
    "final", "final is last sum", "final is a sum", "final in prompt", "final fraction", "final negative",
    "final zero", "final tail", "final magnitude", "final distance", "cut short",
)  # fmt: skip


def working(prompt: str | None, told: Sequence[str], answer: str | None) -> dict[str, float]:
    """By name; all NaN without an answer, and without a prompt what needs its numbers. `told`: the prompt's words."""
    if answer is None:
        return dict.fromkeys(_NAMES, math.nan)
    head, tail = _ends(answer)
    read = tokens(head) + tokens(tail)
    sums = equations(read)
    final = _final(answer[-READ:], read)
    out = _sums(sums) | _last(final, sums, answer) | {"dangling": math.log1p(_dangling(sums, final.value))}
    out |= _against(prompt, told, read, sums, final.value)
    return {name: out[name] for name in _NAMES}


class _Final(msgspec.Struct, frozen=True):
    """The answer's last word: marked as such, or else its last number, or NaN."""

    value: float
    marked: bool = False
    negative: bool = False
    tail: bool = False  #: more stands behind it


def _ends(text: str) -> tuple[str, str]:
    return (text, "") if len(text) <= 2 * READ else (text[:READ], text[-READ:])


def _final(text: str, read: Sequence[Token]) -> _Final:
    last = next(reversed(list(_FINAL.finditer(text))), None)
    if last is None:
        seen = numbers(read)
        return _Final(seen[-1] if seen else math.nan)
    digits = last["digits"].replace(",", "")
    return _Final(
        float(digits), True, bool(last["sign"]) or digits.startswith("-"), bool(last["tail"].strip(" .$}*\\)"))
    )


def _sums(sums: Sequence[Equation]) -> dict[str, float]:
    wrong = [one for one in sums if not one.holds]
    signs = "".join(one.operators for one in sums)
    return {
        "sums": math.log1p(len(sums)),
        "no sum": float(not sums),
        "wrong": float(bool(wrong)),
        "wrong sums": math.log1p(len(wrong)),
        "wrong by little": float(any(abs(one.left - one.right) < 1 for one in wrong)),
        "rounded": float(any(one.decimals and not _same(one.left, one.right) for one in sums)),
        "fractions": math.log1p(sum(not _whole(one.right) for one in sums)),
        "negative sum": float(any(one.right < 0 for one in sums)),
        **{
            name: math.log1p(signs.count(sign))
            for name, sign in (("plus", "+"), ("minus", "-"), ("times", "*"), ("over", "/"))
        },
    }


def _last(final: _Final, sums: Sequence[Equation], answer: str) -> dict[str, float]:
    value = final.value
    ended = answer.rstrip().endswith((".", "!", ")", '"', "}", "]", "`", "*"))
    return {
        "final": float(final.marked),
        "final is last sum": float(bool(sums) and _same(value, sums[-1].right)),
        "final is a sum": float(any(_same(value, one.right) for one in sums)),
        "final fraction": float(value == value and not _whole(value)),
        "final negative": float(final.negative),
        "final zero": float(value == 0),
        "final tail": float(final.tail),
        "cut short": float(not ended and not final.marked),
    }


def _dangling(sums: Sequence[Equation], final: float) -> int:
    """Results that nothing after them uses, and that are not the final answer."""
    used: set[float] = set()
    out = 0
    for one in reversed(sums):
        out += _key(one.right) not in used and not _same(one.right, final)
        used |= {_key(operand) for operand in one.operands} | {_key(one.left)}
    return out


def _against(
    prompt: str | None, words: Sequence[str], read: Sequence[Token], sums: Sequence[Equation], final: float
) -> dict[str, float]:
    names = (
        "unsourced",
        "any unsourced",
        "unused",
        "all used",
        "unworked",
        "sums a number",
        "final in prompt",
        "final magnitude",
        "final distance",
    )
    if prompt is None:
        return dict.fromkeys(names, math.nan)
    asked = tokens(prompt[-READ:])
    given = {_key(value) for value in numbers(asked)}
    told = [_WORDS[word] for word in words if word in _WORDS]
    unsourced = _unsourced(sums, given | set(told) | _FREE)
    unused = _without(given, {_key(value) for value in numbers(read)})
    unworked = _without(given, {_key(operand) for one in sums for operand in one.operands})
    largest = max(map(abs, given), default=math.nan)
    magnitude = math.log10((abs(final) + 1) / (largest + 1)) if final == final and largest == largest else 0.0
    count = sum(token.kind == "number" for token in asked) + len(told)
    return dict(zip(names, (
        math.log1p(unsourced), float(unsourced > 0), math.log1p(unused), float(unused == 0), math.log1p(unworked),
        math.log((len(sums) + 1) / (count + 1)), float(_key(final) in given), magnitude, abs(magnitude),
    ), strict=True))  # fmt: skip


def _unsourced(sums: Sequence[Equation], known: set[float]) -> int:
    """Operands that neither the prompt nor an earlier result gave, as they stand or as a percentage."""
    known, out = set(known), 0
    for one in sums:
        out += sum(not _among(operand, known) for operand in one.operands)
        known |= {_key(one.left), _key(one.right)}
    return out


def _without(given: set[float], used: set[float]) -> int:
    return sum(not _among(value, used) for value in given)


def _among(value: float, keys: set[float]) -> bool:
    """As it stands or as a percentage: 20 % may be worked with as 0.2, 20, 0.8, 80 or 1.2."""
    if _key(value) in keys:
        return True
    forms = [100 * value, value / 100]
    if 0 < value < 2:
        forms += (1 - value, value - 1, 1 + value, 100 - 100 * value)
    elif value <= 100:
        forms += (100 - value,)
    return any(_key(form) in keys for form in forms)


def _key(value: float) -> float:
    return value if value.is_integer() else round(value, 6)


def _whole(value: float) -> bool:
    return _same(value, float(round(value)))


def _same(a: float, b: float) -> bool:
    """False where either is NaN."""
    return abs(a - b) <= 1e-6 * max(1.0, abs(a), abs(b))
