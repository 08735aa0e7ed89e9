"""The fit finds a rule that was planted, and copes with what is missing."""

import msgspec
import numpy as np
import numpy.typing as npt
import pytest

from router.errors import ConfigError
from router.learn.verifier import fit
from router.learn.verifier.auroc import auc
from router.learn.verifier.fit import INNER
from router.verify.evidence import Evidence
from router.verify.verifier import NAMES, LinearVerifier

Floats = npt.NDArray[np.float32]


def folds(count: int) -> npt.NDArray[np.int64]:
    return np.arange(count) % INNER


def test_learns_that_wrong_sums_are_wrong_answers(evidence: list[Evidence], right: Floats) -> None:
    half = len(right) // 2
    made = fit(evidence[:half], right[:half], folds(half), ["tiny"])
    said = LinearVerifier(made).judge_many(evidence[half:])
    assert auc(right[half:], said) > 0.85
    assert made.arrays["weights"][0, NAMES.index("wrong")] < 0
    assert [model.name for model in made.meta.models] == ["tiny"]


def test_what_never_varies_has_no_weight(evidence: list[Evidence], right: Floats) -> None:
    made = fit(evidence, right, folds(len(right)), ["tiny"], ridge=1.0)
    for name in ("mean_logprob", "agreement", "second>100", "prior", "final"):
        assert made.arrays["weights"][0, NAMES.index(name)] == 0
        assert made.arrays["unknown"][0, NAMES.index(name)] == 0
    told = LinearVerifier(made)
    plain = told.judge(evidence[0])
    assert told.judge(msgspec.structs.replace(evidence[0], mean_logprob=-9.0, agreement=1.0)) == plain


def test_agreement_has_a_line_of_its_own(answers: list[dict[str, object]], right: Floats) -> None:
    seen = [Evidence(output_tokens=10, agreement=float(str(row["agreement"]))) for row in answers]
    verifier = LinearVerifier(fit(seen, right, folds(len(right)), ["tiny"]))
    alone, agree, differ = verifier.judge_many(
        [msgspec.structs.replace(seen[0], agreement=a) for a in (None, 1.0, 0.0)]
    )
    assert differ < alone < agree
    assert alone == pytest.approx(right.mean(), abs=0.02)
    agreed = np.array([one.agreement == 1 for one in seen])
    assert agree == pytest.approx(right[agreed].mean(), abs=0.05)


def test_missing_numbers_speak_through_their_absence(right: Floats) -> None:
    """Where a log-probability is missing exactly on wrong answers, its absence is the evidence."""
    seen = [Evidence(output_tokens=10, mean_logprob=-0.5 if label else None) for label in right]
    verifier = LinearVerifier(fit(seen, right, folds(len(right)), ["tiny"], ridge=1.0))
    known, unknown = verifier.judge_many([Evidence(output_tokens=10, mean_logprob=-0.5), Evidence(output_tokens=10)])
    assert unknown < 0.1 < 0.9 < known


@pytest.mark.parametrize(
    ("count", "share", "message"),
    [
        (10, 0.5, "expected at least 20 answers, right and wrong ones; got 10, 50% right"),
        (40, 1.0, "expected at least 20 answers, right and wrong ones; got 40, 100% right"),
    ],
)
def test_refuses_what_teaches_nothing(count: int, share: float, message: str) -> None:
    labels = np.array([float(i < count * share) for i in range(count)], np.float32)
    with pytest.raises(ConfigError, match=message):
        fit([Evidence(answer="x")] * count, labels, folds(count), ["tiny"])


def test_auc_by_hand() -> None:
    right = np.array([1, 1, 0, 0], np.float32)
    assert auc(right, np.array([0.9, 0.4, 0.4, 0.1], np.float32)) == pytest.approx((1 + 1 + 0.5 + 1) / 4)
    assert auc(right, np.array([0.1, 0.2, 0.3, 0.4], np.float32)) == 0
