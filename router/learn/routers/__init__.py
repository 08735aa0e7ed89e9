"""The methods that can be trained, by name. Only the one that is asked for is imported."""

from collections.abc import Callable
from importlib.metadata import entry_points

from router.errors import ConfigError
from router.learn.data.corpus import Corpus
from router.learn.fit.recipe import Recipe
from router.learn.routers.base import NONE, Maker, Options, Trainer

#: Where other distributions put methods of their own: an entry point is a `Maker`.
ENTRY_POINTS = "headgate.trainers"

#: What these say is what they mean to say: labels would only take it away.
UNCALIBRATED = frozenset({"random"})
#: What learns from battles as they are, not only from scores.
OF_BATTLES = frozenset({"mf"})


def make(name: str, corpus: Corpus, recipe: Recipe, options: Options = NONE) -> Trainer:
    """Raises ConfigError where there is no such method, or it refuses an option."""
    if name in _MAKERS:
        return _MAKERS[name]()(corpus, recipe, options)
    for point in entry_points(group=ENTRY_POINTS, name=name):
        try:
            maker: Maker = point.load()
        except Exception as error:
            raise ConfigError(f"--router {name}: the plug-in {point.value} cannot be imported: {error}") from error
        trainer = maker(corpus, recipe, options)
        if not all(callable(getattr(trainer, method, None)) for method in ("steps", "fit")):
            raise ConfigError(f"--router {name}: expected a Trainer from {point.value}, got {type(trainer).__name__}")
        return trainer
    raise ConfigError(f"--router: expected one of {', '.join(names())}; got {name!r}")


def names() -> tuple[str, ...]:
    """Plug-ins included."""
    return (*_MAKERS, *sorted({point.name for point in entry_points(group=ENTRY_POINTS)} - _MAKERS.keys()))


def about(name: str) -> str:
    """A line on a method: what `--list-routers` shows."""
    plugins = {point.name: point.value for point in entry_points(group=ENTRY_POINTS)}
    return _ABOUT.get(name) or f"plug-in {plugins.get(name, '')}".strip()


def _mf() -> Maker:
    from router.learn.routers.mf import MfTrainer

    return MfTrainer


def _classifier() -> Maker:
    from router.learn.routers.classifier import ClassifierTrainer

    return ClassifierTrainer


def _causal_llm() -> Maker:
    from router.learn.routers.causal_llm import CausalLlmTrainer

    return CausalLlmTrainer


def _knn() -> Maker:
    from router.learn.routers.knn import KnnTrainer

    return KnnTrainer


def _sw_ranking() -> Maker:
    from router.learn.routers.sw_ranking import SwRankingTrainer

    return SwRankingTrainer


def _mlp() -> Maker:
    from router.learn.routers.mlp import MlpTrainer

    return MlpTrainer


def _rules() -> Maker:
    from router.learn.routers.rules import RulesTrainer

    return RulesTrainer


def _random() -> Maker:
    from router.learn.routers.random import RandomTrainer

    return RandomTrainer


def _oracle() -> Maker:
    from router.learn.routers.oracle import OracleTrainer

    return OracleTrainer


def _ensemble() -> Maker:
    from router.learn.routers.ensemble import EnsembleTrainer

    return lambda corpus, recipe, options: EnsembleTrainer(corpus, recipe, options, make)


_MAKERS: dict[str, Callable[[], Maker]] = {
    "mf": _mf,
    "knn": _knn,
    "sw_ranking": _sw_ranking,
    "mlp": _mlp,
    "classifier": _classifier,
    "causal_llm": _causal_llm,
    "rules": _rules,
    "random": _random,
    "oracle": _oracle,
    "ensemble": _ensemble,
}

_ABOUT = {
    "mf": "matrix factorisation on the native scorer: the default",
    "knn": "mean score of the nearest training prompts, by an approximate index",
    "sw_ranking": "RouteLLM's similarity-weighted Bradley-Terry ranking",
    "mlp": "a small network over the embedding",
    "classifier": "a sentence encoder, fine-tuned: milliseconds a query",
    "causal_llm": "a language model's verdict, 1 to 5, read through its engine",
    "rules": "hand-written rules, of a file or the default ones",
    "random": "chance, the same for the same text",
    "oracle": "knows the labels: for evaluation only",
    "ensemble": "the weighted mean of several of these",
}
