"""Held-out figures of escalating on evidence: GSM8K with the weak answer in hand, MMLU-Pro with a second one beside it.

    gain of escalating = q_strong(prompt), by the head  -  P(weak answer is right | evidence), by the verifier

Every prompt pays the weak answer, as a share of 0 does in APGR; the share counts strong calls. What the second model's
answers cost is added to it, in strong calls. docs/verifier.md.
"""

import hashlib
from collections.abc import Callable, Sequence
from pathlib import Path

import msgspec
import numpy as np
import numpy.typing as npt
import second_opinion
from second_opinion import Choices, Gains

from router.errors import ConfigError
from router.learn.data.corpus import Corpus, join
from router.learn.data.folds import by_group
from router.learn.data.outcomes import Outcomes, read
from router.learn.evaluate import metrics, served
from router.learn.evaluate.evaluation import Pair, labels, pair, preference
from router.learn.evaluate.metrics import Curve
from router.learn.fit.logistic import sigmoid
from router.learn.fit.recipe import SIZES, Recipe
from router.learn.routers import make
from router.learn.verifier import answered, fit, held_out, judged_by
from router.learn.verifier.fit import INNER
from router.verify.evidence import CHARS_A_TOKEN, Evidence
from router.verify.verifier import LinearVerifier

Floats = npt.NDArray[np.float32]
Folds = npt.NDArray[np.int64]
OnStage = Callable[[str], None]

GSM8K = ("mixtral-8x7b-instruct-v0.1", "gpt-4-1106-preview")
MMLU_PRO = ("llama-3.1-8b-instruct", "llama-3.1-70b-instruct")
SECOND = "phi-3-mini-4k-instruct"
SIZES_B = {SECOND: 3.8, MMLU_PRO[1]: 70.6}  #: billions of parameters, as the models' cards give them
#: Of the MMLU-Pro questions that both llama-3.1-8b-instruct and phi-3-mini-4k-instruct get wrong, the share on which
#: they choose the same option: 1,127 of 4,044, by their published answers (docs/verifier.md). Labels do not tell it.
SAME_MISTAKE = 0.28
DRAWN = 3  #: draws of which mistakes are the same; figures are of their mean curve


def figures(
    data: Path,
    recipe: Recipe = SIZES["default"],
    *,
    folds: int = 5,
    draws: int = 200,
    on_stage: OnStage = lambda name: None,
) -> dict[str, float]:
    """Of both tests, by name: `gsm8k_answer_apgr`, `mmlu_pro_agree_cpt50` and so on. Raises ConfigError."""
    return {
        **gsm8k_answer(data, recipe, folds, draws, on_stage),
        **mmlu_pro_agree(data, recipe, folds, draws, on_stage),
    }


def gsm8k_answer(data: Path, recipe: Recipe, folds: int, draws: int, on_stage: OnStage) -> dict[str, float]:
    """The verifier reads prompt and answer; it learns from GSM8K's training folds alone."""
    on_stage("gsm8k_answer: held-out fits of the head")
    table, responses = data / "routellm_pairs.parquet", data / "gsm8k_weak_responses.parquet"
    corpus = join([read(table)])
    at = pair(corpus, *GSM8K)
    known = answered([table], [responses], GSM8K[:1])
    row = {prompt.id: i for i, prompt in enumerate(corpus.prompts)}
    rows = np.array([row[prompt.id] for prompt in known.prompts])
    trainer = make("mf", corpus, recipe)
    logits = served.held_out(trainer, corpus, by_group(corpus.prompts, folds))[rows]
    on_stage("gsm8k_answer: held-out fits of the verifier")
    dealt = by_group(known.prompts, folds)
    said = held_out(known.evidence, known.right, known.prompts, known.models, dealt)
    lengths = tuple(Evidence(output_tokens=len(one.answer or "") // CHARS_A_TOKEN) for one in known.evidence)
    by_length = held_out(lengths, known.right, known.prompts, known.models, dealt)
    weak, strong = corpus.scores[rows, at.weak], corpus.scores[rows, at.strong]
    expected = sigmoid(logits[:, at.strong])
    ours, plain = expected - said, expected - sigmoid(logits[:, at.weak])
    beside = {"prompt": plain, "length": expected - by_length, "known_weak": expected - weak}
    paired = metrics.bootstrap(weak, strong, [ours, plain], draws)
    judged = judged_by(said, weak, np.array([len(one.answer or "") for one in known.evidence], np.float32))
    return _named("gsm8k_answer", metrics.curve(weak, strong, ours), paired, weak, strong, beside) | {
        f"gsm8k_answer_{key}": round(value, 4) for key, value in msgspec.to_builtins(judged).items()
    }


def mmlu_pro_agree(data: Path, recipe: Recipe, folds: int, draws: int, on_stage: OnStage) -> dict[str, float]:
    """The verifier reads the prompt, what the head expected, the weak answer's length, whether a second model's answer
    agrees, and that answer's length; which prompts see the second model at all is chosen by what it is worth."""
    on_stage("mmlu_pro_agree: held-out fits of the head, two folds out at a time")
    table = read(data / "mmlu_pro.parquet")
    corpus = join([table])
    at = pair(corpus, *MMLU_PRO)
    chars = _chars(table)
    dealt = by_group(corpus.prompts, folds)
    logits = _unseen(corpus, recipe, dealt)
    on_stage("mmlu_pro_agree: held-out fits of the verifier")
    cost = second_cost(chars)
    weak, strong = labels(corpus, at)
    second = corpus.scores[at.rows, corpus.column(SECOND)]
    seen = _Seen(corpus, at, dealt, logits, chars)
    drawn = [seen.gains(agreement(seen.ids, weak, second, SAME_MISTAKE, draw)) for draw in range(DRAWN)]
    equal = seen.gains(agreement(seen.ids, weak, second, 1.0))
    chosen = [second_opinion.choose(gains, cost) for gains in drawn]
    curve = _mean([one.curve(weak, strong) for one in chosen])
    plain = seen.plain()
    out = _named(
        "mmlu_pro_agree", curve, _paired(chosen, weak, strong, plain, draws), weak, strong,
        {"prompt": plain, "length": drawn[0].alone, "known_weak": seen.expected() - weak},
    )  # fmt: skip
    free = _mean([metrics.curve(weak, strong, gains.told) for gains in drawn])
    others = {
        "free_apgr": free.apgr, "free_cpt50": free.cpt(0.5), "free_cpt80": free.cpt(0.8),
        "always_apgr": _mean([second_opinion.always(gains, cost).curve(weak, strong) for gains in drawn]).apgr,
        "equal_apgr": second_opinion.choose(equal, cost).curve(weak, strong).apgr,
        "second_cost": cost, "asked": float(np.mean([one.asked_at(curve.cpt(0.5)) for one in chosen])),
    }  # fmt: skip
    return out | {f"mmlu_pro_agree_{key}": round(value, 4) for key, value in others.items()}


def agreement(ids: Sequence[str], weak: Floats, second: Floats, same_mistake: float, draw: int = 0) -> Floats:
    """1 where the two answers agree, from labels that say only right or wrong: both right agree, one right and one
    wrong differ, and of two wrong ones `same_mistake` agree, drawn by the prompt's id. Same `draw`, same answer."""
    drawn = np.array([_uniform(f"{draw}:same mistake:{id_}") for id_ in ids])
    both_wrong = (weak < 0.5) & (second < 0.5)
    return np.asarray(np.where(both_wrong, drawn < same_mistake, (weak < 0.5) == (second < 0.5)), np.float32)


def second_cost(chars: dict[str, Floats]) -> float:
    """A second answer in strong calls: parameters times characters written, what decoding reads and how often."""
    asked, strong = ((SIZES_B[name] * float(np.nanmean(chars[name]))) for name in (SECOND, MMLU_PRO[1]))
    return asked / strong


class _Seen(msgspec.Struct, frozen=True):
    """MMLU-Pro as the verifier sees it. `logits` [folds, prompts, columns] are of fits that saw neither the fold nor
    the prompt's own: what a verifier trained without the fold may read."""

    corpus: Corpus
    at: Pair
    dealt: Folds
    logits: Floats
    chars: dict[str, Floats]

    @property
    def ids(self) -> list[str]:
        return [prompt.id for prompt, used in zip(self.corpus.prompts, self.at.rows, strict=True) if used]

    def expected(self) -> Floats:
        """q_strong [pair's prompts]."""
        return sigmoid(self._own()[:, self.at.strong])

    def plain(self) -> Floats:
        return preference(self._whole(self._own()), self.at)

    def gains(self, agree: Floats) -> Gains:
        rows = np.flatnonzero(self.at.rows)
        prompts = [self.corpus.prompts[i] for i in rows]
        right = self.corpus.scores[rows, self.at.weak]
        said = np.full((4, len(rows)), np.nan, np.float32)
        inner = by_group(prompts, INNER, 1)
        for fold in range(len(self.logits)):
            evidence = self._evidence(fold, rows, agree)
            train, test = np.flatnonzero(self.dealt[rows] != fold), np.flatnonzero(self.dealt[rows] == fold)
            made = fit([evidence[i] for i in train], right[train], inner[train], MMLU_PRO[:1])
            verifier = LinearVerifier(made)
            told = [evidence[i] for i in test]
            for kind, agreed in enumerate((None, 1.0, 0.0)):
                guessed = [msgspec.structs.replace(one, agreement=agreed, second_tokens=None) for one in told]
                said[kind, test] = verifier.judge_many(guessed)
            said[3, test] = verifier.judge_many(told)
        return Gains(*(self.expected() - said))

    def _evidence(self, fold: int, rows: npt.NDArray[np.int64], agree: Floats) -> list[Evidence]:
        quality = sigmoid(self.logits[fold, rows, self.at.weak])
        lengths = [_tokens(self.chars[name][rows]) for name in (MMLU_PRO[0], SECOND)]
        return [
            Evidence(
                prompt=self.corpus.prompts[i].text, output_tokens=a, second_tokens=b, agreement=float(c),
                quality=float(q),
            )
            for i, a, b, c, q in zip(rows, *lengths, agree, quality, strict=True)
        ]  # fmt: skip

    def _own(self) -> Floats:
        """[pair's prompts, columns]: by the fit that did not see the prompt's fold."""
        rows = np.flatnonzero(self.at.rows)
        return np.asarray(self.logits[self.dealt[rows], rows])

    def _whole(self, own: Floats) -> Floats:
        out = np.full(self.corpus.scores.shape, np.nan, np.float32)
        out[self.at.rows] = own
        return out


def _unseen(corpus: Corpus, recipe: Recipe, dealt: Folds) -> Floats:
    """[folds, prompts, columns]; see `_Seen.logits`."""
    trainer = make("mf", corpus, recipe)
    folds = int(dealt.max()) + 1
    out = np.full((folds, *corpus.scores.shape), np.nan, np.float32)
    for one in range(folds):
        for other in range(one, folds):
            outside = np.isin(dealt, (one, other))
            found = served.held_out(trainer, corpus, np.where(outside, 0, -1))
            out[one, dealt == other] = found[dealt == other]
            out[other, dealt == one] = found[dealt == one]
    return out


def _chars(table: Outcomes) -> dict[str, Floats]:
    """Characters of each model's answers, in the table's order of prompts. Raises ConfigError where it knows none."""
    if table.output_chars is None:
        raise ConfigError(f"{table.name}: output_chars: expected the answers' lengths, got none")
    columns = {name: table.output_chars[:, table.models.index(name)] for name in (*MMLU_PRO, SECOND)}
    return {name: column.astype(np.float32) for name, column in columns.items()}


def _tokens(chars: Floats) -> list[int | None]:
    return [round(n / CHARS_A_TOKEN) if np.isfinite(n) else None for n in chars.tolist()]


def _mean(curves: Sequence[Curve]) -> Curve:
    """Curves over the same shares as one."""
    return Curve(np.mean([one.pgr for one in curves], axis=0))


def _paired(
    chosen: Sequence[Choices], weak: Floats, strong: Floats, plain: Floats, draws: int
) -> npt.NDArray[np.float64]:
    """APGR of what is chosen and of the prompt's preference on the same resampled prompts, as `metrics.bootstrap`."""
    rng = np.random.default_rng(0)
    out = np.empty((draws, 2))
    for draw in range(draws):
        rows = rng.integers(0, len(weak), len(weak))
        counts = np.bincount(rows, minlength=len(weak)).astype(np.float32)
        ours = np.mean([one.curve(weak, strong, counts).apgr for one in chosen])
        out[draw] = ours, metrics.curve(weak[rows], strong[rows], plain[rows]).apgr
    return out


def _named(
    name: str,
    curve: Curve,
    paired: npt.NDArray[np.float64],
    weak: Floats,
    strong: Floats,
    beside: dict[str, Floats],
) -> dict[str, float]:
    """`paired` [draws, 2]: ours and the prompt's preference."""
    whole, lead = metrics.interval(paired[:, 0]), metrics.interval(paired[:, 0] - paired[:, 1])
    others = beside | {"random": np.random.default_rng(0).random(len(weak)), "oracle": metrics.oracle(weak, strong)}
    found = {
        "prompts": len(weak), "apgr": curve.apgr, "cpt50": curve.cpt(0.5), "cpt80": curve.cpt(0.8),
        "low": whole.low, "high": whole.high, "lead_low": lead.low, "lead_high": lead.high,
        **{f"{key}_apgr": metrics.curve(weak, strong, preferred).apgr for key, preferred in others.items()},
    }  # fmt: skip
    return {f"{name}_{key}": round(value, 4) for key, value in found.items()}


def _uniform(text: str) -> float:
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "big") / 2**64
