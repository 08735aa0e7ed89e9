"""Figures of pairs and of many models, and their costs, against cases worked by hand."""

from pathlib import Path

import msgspec
import numpy as np
import pytest

from router.errors import ConfigError
from router.learn.data.corpus import Column, Corpus
from router.learn.data.outcomes import Outcomes, Prompt
from router.learn.evaluate import chosen, costs, many, pairs
from router.learn.evaluate.costs import Price
from router.learn.evaluate.evaluation import pair
from router.learn.evaluate.pairs import Asked
from router.learn.evaluate.predict import Predicted
from router.learn.evaluate.splits import Split

TASKS = ("a", "a", "b", "b")


def corpus_of(scores: list[list[float]], models: tuple[str, ...]) -> Corpus:
    prompts = tuple(Prompt(str(i), str(i), TASKS[i % 4], "four" * (i + 1)) for i in range(len(scores)))
    columns = tuple(Column(0, model) for model in models)
    return Corpus(prompts, columns, np.array(scores, np.float32), np.zeros(len(scores), np.int64))


def said(name: str, quality: list[list[float]]) -> Predicted:
    return Predicted(name=name, kind="trained", quality=np.array(quality, np.float32))


def test_a_pair_by_hand() -> None:
    corpus = corpus_of([[0, 1], [1, 1], [0, 1], [1, 0]], ("weak", "strong"))
    at = pair(corpus, "weak", "strong")
    # gains 1, 0, 1, -1; the router prefers prompts 0, 1, 2, 3 in this order
    quality = [[0.1, 0.9], [0.2, 0.8], [0.5, 0.9], [0.9, 0.5]]
    routers = [said("mine", quality), said("none", [[0, 0], [0, 0], [0, 0], [0, float("nan")]])]
    preferred = pairs.preferences(routers, at)
    assert list(preferred) == ["mine"]  # who does not speak of all prompts is left out
    folds = np.array([0, 1, 0, 1])
    asked = Asked(reaches=(0.5, 1.0), draws=20)
    found = pairs.measured(corpus, "t", at, preferred, routers, folds, asked)
    (one,) = found.routers
    assert (found.weak_score, found.strong_score, found.against) == (0.5, 0.75, "")
    assert one.apgr == pytest.approx((0 / 2 + 1 + 1 + 2 + 1 / 2) / 4)
    assert [(cpt.reach, cpt.share) for cpt in one.cpt] == [(0.5, 0.25), (1.0, 0.25)]
    assert one.pgr[0] == 0
    assert one.pgr[25] == pytest.approx(1)
    assert one.pgr[100] == pytest.approx(1)
    assert one.brier == pytest.approx(np.mean([(0.01 + 0.64 + 0.25 + 0.01) / 4, (0.01 + 0.04 + 0.01 + 0.25) / 4]))
    # two prompts gain, so two are sent: 0 rightly, 1 needlessly; 2 is missed
    assert {task.task: (task.missed, task.needless) for task in one.tasks} == {"a": (0, 0.5), "b": (0.5, 0)}


def test_leads_are_paired() -> None:
    rng = np.random.default_rng(0)
    scores = np.stack([rng.integers(0, 2, 300), np.ones(300)], axis=1).astype(float)
    corpus = corpus_of(scores.tolist(), ("weak", "strong"))
    at = pair(corpus, "weak", "strong")
    good = np.stack([scores[:, 0] + rng.normal(0, 0.5, 300), np.ones(300)], axis=1)
    routers = [said("good", good.tolist()), said("same", good.tolist()), said("bad", (-good).tolist())]
    folds = rng.integers(0, 2, 300)
    asked = Asked(against="good", draws=50, seed=1)
    found = pairs.measured(corpus, "t", at, pairs.preferences(routers, at), routers, folds, asked)
    by_name = {one.router: one for one in found.routers}
    assert found.against == "good"
    assert by_name["good"].lead is None
    assert by_name["same"].lead == 0
    same = by_name["same"].lead_95
    assert same is not None
    assert (same.low, same.high) == (0, 0)
    bad = by_name["bad"].lead_95
    assert bad is not None
    assert bad.high < 0
    again = pairs.measured(corpus, "t", at, pairs.preferences(routers, at), routers, folds, asked)
    assert again == found
    assert max(abs(sent.asked - sent.sent) for sent in by_name["good"].sent) == by_name["good"].share_error


def cells(scores: list[list[float]], usd: list[float]) -> many.Cells:
    corpus = corpus_of(scores, ("cheap", "middle", "dear"))
    cost = np.tile(np.array(usd), (len(scores), 1))
    return many.cells(corpus, 0, "t", cost, cost)


SCORES = [[1, 1, 1], [0, 1, 1], [0, 0, 1], [0, 1, 0]]


def test_many_models_by_hand() -> None:
    found = cells(SCORES, [1.0, 2.0, 4.0])
    # knows which answer well but for prompt 3; middle and dear tie at .75 alone, and the first of them counts
    quality = [[0.9, 0.8, 0.7], [0.1, 0.9, 0.8], [0.1, 0.2, 0.9], [0.1, 0.4, 0.5]]
    measured = many.measured(found, [said("mine", quality)], Asked(draws=20))
    (one,) = measured.routers
    assert (measured.best_single, measured.against) == ("middle", "best single")
    assert [(model.name, model.score, model.cost_usd) for model in measured.models] == [
        ("cheap", 0.25, 1.0), ("middle", 0.75, 2.0), ("dear", 0.75, 4.0),
    ]  # fmt: skip
    assert one.accuracy == 0.75
    assert one.lead == 0
    assert one.of_gap == 0
    assert one.curve[0].cost_usd == (1 + 2 + 4 + 4) / 4
    assert (one.curve[-1].price, one.curve[-1].cost_usd, one.curve[-1].score) == (None, 1.0, 0.25)
    # at a price of .06 prompt 3 goes to the middle model: all four are right, for 1 + 2 + 4 + 2 = 9 / 4
    best = max(one.curve, key=lambda point: point.score)
    assert (best.score, best.cost_usd) == (1.0, 2.25)
    # .8 / 3 < price < .3: cheap, middle, cheap, middle have .75 for 6 / 4, where the best single model takes 2
    assert one.saving == pytest.approx(1 - 1.5 / 2)
    # hull (1, .25), (1.5, .75), (2.25, 1), then level to 4
    assert one.aiq == pytest.approx((0.5 * 0.5 + 0.75 * 0.875 + 1.75 * 1) / 3)
    assert measured.single_aiq == pytest.approx((1 * 0.5 + 2 * 0.75) / 3)
    assert {task.task: task.regret for task in one.tasks} == {"a": 0, "b": 0.5}


def test_without_costs_there_is_no_cost_figure() -> None:
    measured = many.measured(cells(SCORES, [1.0, float("nan"), 4.0]), [said("mine", SCORES)], Asked(draws=5))
    assert measured.single_aiq is None
    assert measured.routers[0].aiq is None
    assert measured.routers[0].saving is None
    assert measured.routers[0].curve == ()
    equal = many.measured(cells(SCORES, [1.0, 1.0, 1.0]), [said("mine", SCORES)], Asked(draws=5))
    assert equal.routers[0].aiq is None


def test_prompts_that_a_model_has_not_answered_are_left_out() -> None:
    assert cells([*SCORES, [1, float("nan"), 1]], [1.0, 2.0, 4.0]).rows.tolist() == [0, 1, 2, 3]


def test_costs_by_hand() -> None:
    """Told costs win, then told tokens, then characters, then 256 tokens; prompts are 4, 8 and 12 characters long."""
    nan = float("nan")
    corpus = corpus_of([[0, 1], [1, 1], [0, 1]], ("weak", "strong"))
    table = Outcomes(
        name="t", sha256="", rows=6, prompts=corpus.prompts, models=("weak", "strong"), scores=corpus.scores,
        cost_usd=np.array([[nan, 0.5], [nan, nan], [nan, nan]]),
        output_tokens=np.array([[nan, 9], [nan, 100], [nan, nan]]),
        output_chars=np.array([[nan, 9], [nan, 9], [nan, 40]]),
    )  # fmt: skip
    prices = {"weak": Price(1, 2), "strong": Price(10, 20)}
    found = costs.of_cells([table], corpus, prices)
    assert found[:, 0] * 1e6 == pytest.approx([1 + 512, 2 + 512, 3 + 512])
    assert found[0, 1] == 0.5
    assert found[1:, 1] * 1e6 == pytest.approx([20 + 2000, 30 + 200])
    assert costs.guessed([table], prices) == ("t",)
    assert costs.guessed([msgspec.structs.replace(table, output_chars=np.ones((3, 2)))], prices) == ()
    assert np.isnan(costs.of_cells([table], corpus, {})).sum() == 5
    assert costs.guessed([table], {}) == ()


def test_a_decision_knows_training_costs_only() -> None:
    corpus = corpus_of([[0, 1], [1, 1], [0, 1], [0, 1]], ("weak", "strong"))
    cost = np.array([[1.0, 2], [3, 4], [5, float("nan")], [100, 100]])
    test = np.array([False, False, False, True])
    found = costs.expected(cost, corpus, [Split(~test, test)])
    assert found[3].tolist() == [3.0, 3.0]
    assert np.isnan(found[:3]).all()


def test_prices_are_read(tmp_path: Path) -> None:
    file = tmp_path / "prices.yaml"
    file.write_text("meta-llama/Meta-Llama-3_1-8B: 0.2\nbig: 1/4\n")
    found = costs.parsed(["big=3", "small=0.1/0.4"], file)
    assert found == {"llama-3.1-8b": Price(0.2, 0.2), "big": Price(3, 3), "small": Price(0.1, 0.4)}


@pytest.mark.parametrize(
    ("texts", "content", "message"),
    [
        (["big"], "", "--price: expected MODEL=USD or MODEL=INPUT/OUTPUT, got 'big'"),
        (["big=dear"], "", "--price big: expected dollars per million tokens, or INPUT/OUTPUT; got 'dear'"),
        (["big=-1"], "", r"--price big: expected a price of 0 or more, up to 1e\+09, got '-1'"),
        ([], "- 1", r"prices\.yaml: expected models with their prices, got list"),
        ([], "big: [1]", r"prices\.yaml: big: expected dollars per million tokens"),
        ([], "big: {", r"prices\.yaml: expected YAML or JSON"),
    ],
)
def test_prices_that_are_refused(tmp_path: Path, texts: list[str], content: str, message: str) -> None:
    file = tmp_path / "prices.yaml"
    file.write_text(content)
    with pytest.raises(ConfigError, match=message):
        costs.parsed(texts, file if content else None)
    with pytest.raises(ConfigError, match="cannot be read"):
        costs.parsed([], tmp_path / "none.yaml")


def test_a_pair_is_measured_in_every_table_that_has_both() -> None:
    columns = (Column(0, "a"), Column(0, "b"), Column(1, "a"), Column(1, "b"), Column(2, "a"))
    scores = np.full((6, 5), np.nan, np.float32)
    scores[:2, :2], scores[2:4, 2:4], scores[4:, 4] = [0, 1], [0, 1], 1
    prompts = tuple(Prompt(str(i), str(i), "", str(i)) for i in range(6))
    corpus = Corpus(prompts, columns, scores, np.array([0, 0, 1, 1, 2, 2]))
    names, tested = ["x", "y", "z"], np.array([True, True, True, False, False, False])
    found = chosen.duels(chosen.measured(corpus, tested, ()), names, [("a", "b")])
    assert [(duel.table, duel.at.rows.tolist()) for duel in found] == [
        (0, [True, True, False, False, False, False]),
        (1, [False, False, True, False, False, False]),
    ]
    for rows, asked, message in (
        (tested, [("a", "d")], r"--pair: expected two of a, b; got 'd'"),
        (tested, [("b", "a")], r"a scores no higher than b on their common prompts; expected weak, then strong"),
        (corpus.table == 2, [("a", "b")], r"--pair: no tested table has both a and b"),
    ):
        with pytest.raises(ConfigError, match=message):
            chosen.duels(chosen.measured(corpus, rows, ()), names, asked)
    seen = chosen.measured(corpus, np.ones(6, bool), ())
    widest = chosen.duels(seen, names, ())
    assert [duel.table for duel in widest] == [0, 1]
    assert chosen.unpaired(seen, names, widest) == ("z: expected at least two models to route between, got 'a' only",)


def test_some_models_are_measured() -> None:
    corpus = corpus_of([[0, 1, 1, 0], [0, 1, 0, 0]], ("a", "b", "c", "d"))
    seen = chosen.measured(corpus, np.array([True, True]), ("a", "c", "d"))
    found = many.cells(seen, 0, "t", np.ones((2, 4)), np.ones((2, 4)))
    assert found.models == ("a", "c", "d")
    assert found.rows.tolist() == [0, 1]
    assert corpus.scores[:, 1].tolist() == [1, 1]  # which may still be trained on
    with pytest.raises(ConfigError, match=r"--models: expected some of a, b, c, d; got 'e'"):
        chosen.measured(corpus, np.array([True, True]), ("a", "e"))
