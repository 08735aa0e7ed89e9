"""Segments to quality per member of the pool. The head that a file asks for is imported, and only that one."""

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

from router.artefacts.artefact import Artefact, read, write
from router.errors import ConfigError
from router.heads import plugin
from router.heads.base import Claim, Head, Placement, Predictor
from router.heads.checked import checked
from router.heads.curves import curves_of, uncurved
from router.heads.lengths import known_lengths

__all__ = ["Artefact", "Claim", "Head", "Placement", "Predictor", "load", "make", "names", "read", "write"]

DEFAULT = Path(__file__).parent.parent / "checkpoints" / "default.safetensors"
#: Methods that know the answers: evaluation makes them, a server is refused them.
NEVER_SERVED = frozenset({"oracle"})

Maker = Callable[[Artefact, Sequence[Claim]], Head]


def load(checkpoint: str | Path, claims: Sequence[Claim], *, kind: str | None = None) -> Head:
    """The head of a checkpoint (`default`, or a path) for the pool's members, in their order.

    Raises ConfigError where the file or a member's claim is refused.
    """
    return make(servable(checkpoint), claims, kind=kind)


def servable(checkpoint: str | Path) -> Artefact:
    """The artefact of a checkpoint (`default`, or a path). Raises ConfigError where it is refused."""
    artefact = read(DEFAULT if str(checkpoint) == "default" else checkpoint)
    if artefact.meta.router in NEVER_SERVED:
        raise ConfigError(
            f"{checkpoint}: router: {artefact.meta.router} knows the answers of its own prompts only; "
            "it is for evaluation and cannot be served"
        )
    return artefact


def make(artefact: Artefact, claims: Sequence[Claim], *, kind: str | None = None) -> Head:
    """The head of an artefact, trained a moment ago or read from a file. Raises ConfigError.

    `kind`: read it by another head than the one it names; `mf_numpy` is the native head's twin.
    """
    name = kind or artefact.meta.router
    if name in _MAKERS:
        return checked(_MAKERS[name]()(artefact, claims), artefact.path)
    maker = plugin.find(name)
    if maker is not None:
        return _curved(artefact, claims, partial(maker, uncurved(artefact)))
    raise ConfigError(f"{artefact.path}: router: expected one of {', '.join(names())}; got {name!r}")


def names() -> tuple[str, ...]:
    """All methods that can be served here, plug-ins included."""
    return (*_MAKERS, *sorted(plugin.names() - _MAKERS.keys()))


def _mf() -> Maker:
    from router.heads.checkpoint import of
    from router.heads.methods.mf import MfHead

    return lambda artefact, claims: _curved(artefact, claims, partial(MfHead, of(artefact)), known_lengths(artefact))


def _mf_numpy() -> Maker:
    from router.heads.checkpoint import of
    from router.heads.methods.mf_numpy import NumpyMfHead

    return lambda artefact, claims: _curved(
        artefact, claims, partial(NumpyMfHead, of(artefact)), known_lengths(artefact)
    )


def _knn() -> Maker:
    from router.heads.methods.knn import KnnPredictor

    return _placed(KnnPredictor)


def _sw_ranking() -> Maker:
    from router.heads.methods.sw_ranking import SwRankingPredictor

    return _placed(SwRankingPredictor)


def _mlp() -> Maker:
    from router.heads.methods.mlp import MlpPredictor

    return _placed(MlpPredictor)


def _rules() -> Maker:
    from router.heads.methods.rules import RulesPredictor

    return _placed(RulesPredictor)


def _random() -> Maker:
    from router.heads.methods.random import RandomPredictor

    return _placed(RandomPredictor)


def _oracle() -> Maker:
    from router.heads.methods.oracle import OraclePredictor

    return _placed(OraclePredictor)


def _ensemble() -> Maker:
    from router.heads.methods.ensemble import ensemble

    return partial(ensemble, make=make)


def _causal_llm() -> Maker:
    from router.heads.methods.causal_llm import causal_llm

    return causal_llm


def _placed(predictor: Callable[[Artefact], Predictor]) -> Maker:
    """The method's predictions of the reference models, calibrated and mixed for the pool's members."""
    from router.heads.placed import PlacedHead

    def head(artefact: Artefact, claims: Sequence[Claim]) -> Head:
        return PlacedHead(artefact.meta, predictor(artefact), claims, curves_of(artefact))

    return head


def _curved(
    artefact: Artefact, claims: Sequence[Claim], make: Callable[[Sequence[Claim]], Head], known: Sequence[bool] = ()
) -> Head:
    """What `make` says of the claims, through the artefact's curves where it has any. `known`: as of `CurvedHead`."""
    curves = curves_of(artefact)
    if curves is None:
        return make(claims)
    from router.heads.curved import CurvedHead

    return CurvedHead(artefact.meta, curves, claims, make, known)


def _classifier() -> Maker:
    from router.heads.methods.classifier import ClassifierPredictor

    return _placed(ClassifierPredictor)


_MAKERS: dict[str, Callable[[], Maker]] = {
    "mf": _mf,
    "mf_numpy": _mf_numpy,
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
