"""One suite over every method: what it learns, what it writes, and that what is served is what was measured."""

import subprocess
import sys
import threading
from importlib.metadata import EntryPoint
from pathlib import Path

import msgspec
import numpy as np
import pytest
from baselines import oracle

from router import Router, heads
from router.config import Member
from router.errors import ConfigError
from router.heads import Artefact, Claim
from router.heads.methods import embedding, sw_ranking
from router.heads.methods.labelled import Group
from router.learn import routers
from router.learn.data import outcomes
from router.learn.data.corpus import Corpus, join
from router.learn.data.folds import by_group
from router.learn.evaluate import served
from router.learn.evaluate.evaluation import apgr_of, preference, widest_pair
from router.learn.fit.recipe import Recipe
from router.native.policy import win_rate

RECIPE = Recipe(word_rows=2048, vocabulary=512, static=0, steps=10)
OPTIONS: dict[str, dict[str, object]] = {
    "mf": {},
    "knn": {"dimensions": 32, "neighbours": 20},
    "sw_ranking": {"dimensions": 32, "base": 1e4},
    "mlp": {"dimensions": 32, "epochs": 30},
    "rules": {},
    "random": {"seed": 3},
    "oracle": {},
    "ensemble": {"parts": ["knn", "rules"], "weights": "fit", "options": {"knn": {"dimensions": 32}}},
}
LEARNED = [name for name in OPTIONS if name not in ("random", "oracle")]
SERVED = [name for name in OPTIONS if name != "oracle"]
ODD = ["", " ", "\0", "\ud800 北京", "🙂" * 50, "a" * 5000, "What is 3 + 4?", "\u202e\u0301x"]

Made = dict[str, Artefact]


@pytest.fixture(scope="module")
def corpus(table: Path) -> Corpus:
    return join([outcomes.read(table)])


@pytest.fixture(scope="module")
def trained(corpus: Corpus) -> Made:
    return {name: fit(name, corpus) for name in OPTIONS}


def fit(name: str, corpus: Corpus) -> Artefact:
    trainer = routers.make(name, corpus, RECIPE, OPTIONS[name])
    steps = 0

    def step() -> None:
        nonlocal steps
        steps += 1

    rows = np.ones(len(corpus.prompts), bool)
    made = served.fitted(trainer, rows, np.arange(len(corpus.columns)), step)
    assert steps == trainer.steps()
    return made


@pytest.fixture(params=list(OPTIONS))
def name(request: pytest.FixtureRequest) -> str:
    return request.param


# Learning


@pytest.mark.parametrize("name", LEARNED)
def test_learns_what_the_weak_model_fails_on(name: str, corpus: Corpus) -> None:
    logits = served.held_out(routers.make(name, corpus, RECIPE, OPTIONS[name]), corpus, by_group(corpus.prompts, 3))
    at = widest_pair(corpus, 0)
    assert apgr_of(corpus, at, preference(logits, at)) > 0.6


def test_the_oracle_knows_and_chance_does_not(corpus: Corpus) -> None:
    at = widest_pair(corpus, 0)
    apgr = {}
    for name in ("oracle", "random"):
        trainer = routers.make(name, corpus, RECIPE)
        logits = served.held_out(trainer, corpus, by_group(corpus.prompts, 3))
        apgr[name] = apgr_of(corpus, at, preference(logits, at))
    assert apgr["oracle"] == pytest.approx(apgr_of(corpus, at, oracle(corpus, at)), abs=1e-3)
    assert 0.35 < apgr["random"] < 0.65


def test_equal_input_gives_equal_bytes(name: str, corpus: Corpus, trained: Made, tmp_path: Path) -> None:
    for file, made in (("a", trained[name]), ("b", fit(name, corpus))):
        heads.write(tmp_path / file, made)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_labels_of_other_prompts_are_not_read(name: str, corpus: Corpus) -> None:
    """But by the oracle, which is there to read them."""
    rows = np.arange(len(corpus.prompts)) % 2 == 0
    changed = msgspec.structs.replace(corpus, scores=corpus.scores.copy())
    changed.scores[~rows] = 1 - changed.scores[~rows]
    texts = [prompt.text for prompt in corpus.prompts[:40]]
    made = [
        served.fitted(routers.make(name, of, RECIPE, OPTIONS[name]), rows, np.array([0, 1])) for of in (corpus, changed)
    ]
    told = [served.predict(one, texts) for one in made]
    assert np.array_equal(*told) == (name != "oracle")


# Heads


def test_a_batch_says_what_one_by_one_says(name: str, trained: Made) -> None:
    head = served.head_of(trained[name])
    texts = [*ODD, "Why is 12 like 34 in riddle 5?"]
    many = head.score_many(texts)
    assert many.shape == (len(texts), 2)
    assert many.dtype == np.float32
    one = np.array([head.score(((text, 1.0),)).quality for text in texts])
    np.testing.assert_allclose(many, one, rtol=2e-5, atol=1e-7)
    assert ((many >= 0) & (many <= 1)).all()


def test_no_text_at_all(name: str, trained: Made) -> None:
    head = served.head_of(trained[name])
    assert head.score_many([]).shape == (0, 2)


def test_whole_conversations(name: str, trained: Made) -> None:
    head = served.head_of(trained[name])
    segments = [("What is 12 + 34?", 1.0), ("You are a calculator.", 0.1), ("", 0.25)]
    scores = head.score(segments)
    assert head.score(segments) == scores
    assert 5 <= scores.prompt_tokens <= 30


def test_the_file_says_what_memory_says(name: str, trained: Made, tmp_path: Path) -> None:
    heads.write(tmp_path / "x", trained[name])
    found = heads.read(tmp_path / "x")
    assert found.meta == trained[name].meta
    texts = [*ODD, "What is 99 + 1?"]
    np.testing.assert_array_equal(served.predict(found, texts), served.predict(trained[name], texts))


def test_many_threads_say_what_one_says(name: str, trained: Made, corpus: Corpus) -> None:
    head = served.head_of(trained[name])
    texts = [prompt.text for prompt in corpus.prompts[:50]]
    expected = [head.score(((text, 1.0),)) for text in texts]
    found: dict[int, list[object]] = {}

    def ask(thread: int) -> None:
        found[thread] = [head.score(((text, 1.0),)) for text in texts]

    threads = [threading.Thread(target=ask, args=(i,)) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all(found[i] == expected for i in range(4))


@pytest.mark.parametrize("name", SERVED)
def test_the_served_decision_is_the_evaluated_one(name: str, trained: Made, corpus: Corpus, tmp_path: Path) -> None:
    path = tmp_path / "x.safetensors"
    heads.write(path, trained[name])
    pool = [Member(name=model.name, like=model.name) for model in trained[name].meta.models]
    decider = Router.decider(pool, checkpoint=str(path), price=0.0)
    texts = [prompt.text for prompt in corpus.prompts[:60]]
    evaluated = served.head_of(trained[name]).score_many(texts)
    chosen = [decider.decide(text) for text in texts]
    assert [decision.member for decision in chosen] == evaluated.argmax(1).tolist()
    qualities = np.array([[term.quality for term in decision.terms] for decision in chosen])
    np.testing.assert_allclose(qualities, evaluated, rtol=2e-5, atol=1e-7)


@pytest.mark.parametrize("name", SERVED)
def test_serving_loads_nothing_heavy(name: str, trained: Made, tmp_path: Path) -> None:
    heads.write(tmp_path / "x", trained[name])
    code = f"""
import sys
from router.heads import Claim, load
load({str(tmp_path / "x")!r}, [Claim(name="m", like="tiny")]).score([("hello", 1.0)])
heavy = {{"torch", "transformers", "vllm", "pyarrow", "scipy", "sklearn", "router.learn"}} & set(sys.modules)
assert not heavy, heavy
assert {name in ("knn", "ensemble")} or "usearch" not in sys.modules
"""
    subprocess.run([sys.executable, "-P", "-c", code], check=True)


def test_the_oracle_is_not_served(trained: Made, tmp_path: Path) -> None:
    heads.write(tmp_path / "x", trained["oracle"])
    with pytest.raises(ConfigError, match=r"oracle knows the answers .* cannot be served"):
        heads.load(tmp_path / "x", [Claim(name="m", like="tiny")])


def test_chance_sends_what_a_threshold_says(trained: Made, tmp_path: Path) -> None:
    """RouteLLM's random router: a win rate that is uniform, whatever the models."""
    heads.write(tmp_path / "x", trained["random"])
    pool = [Member(name="tiny"), Member(name="big")]
    decider = Router.decider(pool, checkpoint=str(tmp_path / "x"))
    texts = [f"prompt {i}" for i in range(2000)]
    for threshold in (0.3, 0.9):
        strong = [decider.decide(text, model=f"router-random-{threshold}").model == "big" for text in texts]
        assert np.mean(strong) == pytest.approx(1 - threshold, abs=0.04)


def test_ranking_is_routellms_arithmetic(corpus: Corpus, trained: Made) -> None:
    """The closed form against the fit that RouteLLM runs: a weighted logistic regression over doubled battles."""
    from sklearn.linear_model import LogisticRegression

    head, made = served.head_of(trained["sw_ranking"]), trained["sw_ranking"]
    text = "What is 123456 + 7?"
    points = made.arrays["0.points"].astype(np.float32)
    query = embedding.of(made)([((text, 1.0),)])[0]
    likeness = points @ query
    weights = 10 * OPTIONS["sw_ranking"]["base"] ** (likeness / likeness.max() - 1)  # type: ignore[operator]
    scores = corpus.scores
    tie = scores[:, 0] == scores[:, 1]
    x = np.tile([[np.log(10), -np.log(10)]], (2 * len(scores), 1))
    y = np.concatenate([(scores[:, 0] > scores[:, 1]) | tie, scores[:, 0] > scores[:, 1]])
    fitted = LogisticRegression(C=np.inf, fit_intercept=False, tol=1e-10).fit(x, y, np.tile(weights, 2))
    rating = 400 * fitted.coef_[0]
    expected = 1 / (1 + 10 ** ((rating[1] - rating[0]) / 400))
    assert set(np.unique(scores)) == {0, 1}
    weak, strong = head.score(((text, 1.0),)).quality
    assert win_rate(weak, strong) == pytest.approx(expected, abs=2e-3)


@pytest.mark.parametrize("known", [1.0, 0.9, 0.5])
def test_ranking_of_many_models_is_the_likeliest(known: float) -> None:
    """Whether all models answered all prompts, most, or some in most ways there are."""
    draw = np.random.default_rng(0)
    scores = (draw.random((300, 5)) < [0.2, 0.4, 0.5, 0.7, 0.9]).astype(np.float32)
    weights = draw.random((2, 300)).astype(np.float32)
    there = draw.random(scores.shape) < known
    group = Group("0.", np.arange(5, dtype=np.int32), np.where(there, scores, 0).astype(np.float32), there)
    battles = sw_ranking.Battles(group)
    found = battles.ranked(weights[:, battles.order])
    for row, weight in zip(found, weights, strict=True):
        rate = 1 / (1 + np.exp(row[None, :] - row[:, None]))
        for a in range(5):  # at the maximum, wins are what the rates expect
            both = there[:, [a]] & there
            won = (weight[:, None] * both * (1 + scores[:, [a]] - scores) / 2)[:, np.arange(5) != a].sum()
            told = (weight[:, None] * both * rate[a])[:, np.arange(5) != a].sum()
            assert won == pytest.approx(told, rel=2e-3)


# Refusals


def test_names_are_told() -> None:
    assert set(OPTIONS) < set(routers.names())
    assert all(routers.about(name) for name in routers.names())


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("knnn", {}, "--router: expected one of mf, knn, .*; got 'knnn'"),
        ("mf", {"a": 1}, "--router mf: option a: expected none"),
        ("knn", {"neighbors": 1}, "--router knn: option neighbors: expected one of neighbours, "),
        ("knn", {"neighbours": "x"}, r"--router knn: option Expected `int`, got `str` - at `\$.neighbours`"),
        ("knn", {"neighbours": 0}, "--router knn: options: expected neighbours and effort from 1"),
        ("knn", {"dimensions": 40}, "dimensions: expected a multiple of 16 up to 256, got 40"),
        ("mlp", {"epochs": 0}, "--router mlp: expected width and epochs from 1"),
        ("sw_ranking", {"base": 1}, "base: expected a number above 1, got 1"),
        ("rules", {"rules": []}, "--router rules: rules: expected at least one rule, got none"),
        ("rules", {"rules": [{"name": "x"}]}, r"rules\[0\] \(x\): expected one of words, pattern, longer, shorter"),
        ("rules", {"rules": [{"name": "x", "pattern": "("}]}, r"rules\[0\] \(x\): pattern: expected a regular"),
        ("rules", {"rules": [{"name": "x", "longer": 1}] * 2}, "rules: expected names that differ, got x, x"),
        ("rules", {"rules": [{"name": "x", "word": "a"}]}, "unknown field `word`"),
        ("ensemble", {"parts": ["oracle"]}, "parts: expected methods, neither ensemble nor oracle"),
        ("ensemble", {"parts": ["random"], "weights": [1, 1]}, "weights: expected 1 of at least 0, some above 0"),
        ("ensemble", {"parts": ["random"], "options": {"knn": {}}}, "options: expected a part of random; got 'knn'"),
        ("ensemble", {"parts": ["random", "random"]}, "parts: expected each method once"),
    ],
)
def test_refused_options(name: str, options: dict[str, object], message: str, corpus: Corpus) -> None:
    with pytest.raises(ConfigError, match=message):
        routers.make(name, corpus, RECIPE, options)


def test_arrays_that_do_not_fit(trained: Made) -> None:
    for name, array in (("knn", "0.index"), ("sw_ranking", "0.points"), ("mlp", "outer"), ("rules", "weights")):
        arrays = {key: value for key, value in trained[name].arrays.items() if key != array}
        broken = msgspec.structs.replace(trained[name], arrays=arrays, path="file")
        with pytest.raises(ConfigError, match=f"file: {array}: expected this tensor"):
            served.head_of(broken)


def test_an_index_of_something_else(trained: Made) -> None:
    arrays = {**trained["knn"].arrays, "0.index": np.zeros(1000, np.uint8)}
    with pytest.raises(ConfigError, match=r"0\.index: expected an index of usearch: "):
        served.head_of(msgspec.structs.replace(trained["knn"], arrays=arrays))


def test_without_usearch(trained: Made, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "usearch.index", None)
    with pytest.raises(ConfigError, match=r"a knn router needs usearch.*: pip install 'headgate-router\[knn\]'"):
        served.head_of(trained["knn"])


# Plug-ins


class Constant:
    """A head that says the same of every query."""

    def __init__(self, artefact: Artefact, claims: list[Claim], quality: object = 0.5) -> None:
        from router.heads.placement import mix

        self.turns = artefact.meta.turns
        self.placements = mix(artefact.meta.models, claims)[1]
        self._quality = quality

    def score(self, segments: object) -> object:
        from router.types import Scores

        return Scores((self._quality,) * len(self.placements), 1)

    def score_many(self, texts: list[str]) -> object:
        return np.full((len(texts), len(self.placements)), self._quality)


class ConstantTrainer:
    def __init__(self, corpus: Corpus, recipe: Recipe, options: dict[str, object]) -> None:
        self._corpus = corpus

    def steps(self) -> int:
        return 0

    def fit(self, rows: object, columns: object, on_step: object = None) -> Artefact:
        from router.artefacts.artefact import FORMAT, Metadata
        from router.learn.fit.export import records

        return Artefact(
            # type: ignore[arg-type]
            meta=Metadata(format=FORMAT, models=records(self._corpus, columns), router="constant"),
            arrays={"nothing": np.zeros(1, np.float32)},
        )


def nan_head(artefact: Artefact, claims: list[Claim]) -> Constant:
    return Constant(artefact, claims, float("nan"))


def no_head(artefact: Artefact, claims: list[Claim]) -> object:
    return object()


def no_trainer(corpus: Corpus, recipe: Recipe, options: object) -> object:
    return object()


class Wide(Constant):
    def score_many(self, texts: list[str]) -> object:
        return np.zeros((len(texts), 7))


@pytest.fixture
def plug(monkeypatch: pytest.MonkeyPatch):
    """Puts an object of this file, or a module's, behind an entry point."""
    from router.heads import plugin

    def put(target: object, group: str = plugin.ENTRY_POINTS) -> None:
        value = target if isinstance(target, str) else f"{__name__}:thing"

        class Point(EntryPoint):
            def load(self) -> object:
                return super().load() if isinstance(target, str) else target

        def found(*, group: str, name: str = "constant", wanted: str = group) -> list[EntryPoint]:
            return [Point("constant", value, group)] if group == wanted and name == "constant" else []

        module = plugin if group == plugin.ENTRY_POINTS else routers
        monkeypatch.setattr(module, "entry_points", found)

    return put


def test_a_plug_in_is_trained_and_served(plug, corpus: Corpus, tmp_path: Path) -> None:
    plug(ConstantTrainer, routers.ENTRY_POINTS)
    plug(Constant)
    assert "constant" in routers.names()
    assert "constant" in heads.names()
    assert "plug-in" in routers.about("constant")
    trainer = routers.make("constant", corpus, RECIPE)
    made = served.fitted(trainer, np.ones(len(corpus.prompts), bool), np.array([0, 1]))
    heads.write(tmp_path / "x", made)
    head = heads.load(tmp_path / "x", [Claim(name="m", like="tiny")])
    assert head.score((("a", 1.0),)).quality == (0.5,)
    assert head.score_many(["a", "b"]).tolist() == [[0.5], [0.5]]


@pytest.mark.parametrize(
    ("target", "message"),
    [
        ("nowhere.at.all:Head", "router constant: the plug-in nowhere.at.all:Head cannot be imported: No module named"),
        (no_head, "expected a Head, got object without turns, placements, score, score_many"),
        (nan_head, r"score: expected qualities from 0 to 1, got \(nan,"),
        (Wide, r"score_many: expected shape \[2, 2\], got \[2, 7\]"),
    ],
)
def test_a_plug_in_that_says_nonsense(plug, corpus: Corpus, target: object, message: str) -> None:
    plug(target)
    made = ConstantTrainer(corpus, RECIPE, {}).fit(None, np.array([0, 1]))
    with pytest.raises(ConfigError, match=message):
        served.head_of(made)


@pytest.mark.parametrize(
    ("target", "message"),
    [
        ("nowhere:Trainer", "--router constant: the plug-in nowhere:Trainer cannot be imported: No module named"),
        (no_trainer, "--router constant: expected a Trainer from .*, got object"),
    ],
)
def test_a_trainer_plug_in_that_is_none(plug, corpus: Corpus, target: object, message: str) -> None:
    plug(target, routers.ENTRY_POINTS)
    with pytest.raises(ConfigError, match=message):
        routers.make("constant", corpus, RECIPE)
