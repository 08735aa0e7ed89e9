"""What an answer costs: as its table says, else tokens times prices. Knows no router.

A prompt has a token every four characters, and so has an answer whose tokens the table does not count; an answer of
unknown length has `ANSWER` tokens, and a caveat says so.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path

import msgspec
import numpy as np
import numpy.typing as npt

from router.errors import ConfigError
from router.learn import settings_text
from router.learn.data.corpus import Corpus
from router.learn.data.outcomes import CHARS, Outcomes, model_name
from router.learn.evaluate.predict import labelled, speaker
from router.learn.evaluate.splits import Split

ANSWER = 256.0
MOST = 1e9  #: dollars per million tokens
Doubles = npt.NDArray[np.float64]


class Price(msgspec.Struct, frozen=True):
    """Dollars per million tokens."""

    input: float
    output: float


def parsed(texts: Sequence[str], file: Path | None = None) -> dict[str, Price]:
    """`MODEL=USD` or `MODEL=INPUT/OUTPUT` each; a file (YAML or JSON) maps models to such numbers. Flags win."""
    found = _of_file(file) if file else {}
    for text in texts:
        name, equals, value = text.rpartition("=")
        if not equals or not name:
            raise ConfigError(f"--price: expected MODEL=USD or MODEL=INPUT/OUTPUT, got {text!r}")
        found[model_name(name)] = _price(value, f"--price {name}")
    return found


def of_cells(tables: Sequence[Outcomes], corpus: Corpus, prices: Mapping[str, Price]) -> Doubles:
    """Dollars of each answer [prompts, columns]; NaN where neither the table nor the prices tell."""
    out = np.full(corpus.scores.shape, np.nan)
    prompt_tokens = np.array([len(prompt.text) / CHARS for prompt in corpus.prompts])
    for i, column in enumerate(corpus.columns):
        table, rows = tables[column.table], corpus.table == column.table
        at = table.models.index(column.model)
        price = prices.get(column.model)
        if price is not None:
            usd = prompt_tokens[rows] * price.input + _output_tokens(table)[:, at] * price.output
            out[rows, i] = usd / 1e6
        if table.cost_usd is not None:
            told = table.cost_usd[:, at]
            out[rows, i] = np.where(np.isfinite(told), told, out[rows, i])
    return out


def guessed(tables: Sequence[Outcomes], prices: Mapping[str, Price]) -> tuple[str, ...]:
    """Tables whose costs rest on answers of unknown length."""
    out = []
    for table in tables:
        told = np.zeros(table.scores.shape, bool)
        for measure in (table.cost_usd, table.output_tokens, table.output_chars):
            told |= False if measure is None else np.isfinite(measure)
        if not told[np.isfinite(table.scores)].all() and set(table.models) <= prices.keys():
            out.append(table.name)
    return tuple(out)


def expected(cost_usd: Doubles, corpus: Corpus, splits: Sequence[Split]) -> Doubles:
    """[prompts, columns]: a model's mean cost over the training prompts, for the tested ones; NaN where unknown."""
    out = np.full(cost_usd.shape, np.nan)
    for split in splits:
        known = labelled(corpus, split.train)
        for column in range(len(corpus.columns)):
            spoken = speaker(corpus, known, column)
            if spoken is not None:
                told = cost_usd[split.train, spoken]
                out[split.test, column] = told[np.isfinite(told)].mean() if np.isfinite(told).any() else np.nan
    return out


def _output_tokens(table: Outcomes) -> Doubles:
    out = np.full(table.scores.shape, ANSWER)
    for measure, of_a_token in ((table.output_chars, CHARS), (table.output_tokens, 1.0)):
        if measure is not None:
            out = np.where(np.isfinite(measure), measure / of_a_token, out)
    return out


def _of_file(path: Path) -> dict[str, Price]:
    content = settings_text.of_file(path)
    if not isinstance(content, dict):
        raise ConfigError(f"{path}: expected models with their prices, got {type(content).__name__}")
    return {model_name(str(name)): _price(str(value), f"{path}: {name}") for name, value in content.items()}


def _price(text: str, where: str) -> Price:
    first, slash, second = text.partition("/")
    try:
        price = Price(float(first), float(second if slash else first))
    except ValueError:
        raise ConfigError(f"{where}: expected dollars per million tokens, or INPUT/OUTPUT; got {text!r}") from None
    if not (0 <= price.input <= MOST and 0 <= price.output <= MOST):
        raise ConfigError(f"{where}: expected a price of 0 or more, up to {MOST:g}, got {text!r}")
    return price
