"""Segments to quality per member of the pool. The head that a file asks for is imported, and only that one."""

from collections.abc import Callable, Sequence
from functools import partial
from importlib.metadata import entry_points
from pathlib import Path

from router.errors import ConfigError
from router.heads.artefact import Artefact, read, write
from router.heads.base import Claim, Head, Placement, Predictor
from router.heads.curves import curves_of

__all__ = ["Artefact", "Claim", "Head", "Placement", "Predictor", "load", "make", "names", "read", "write"]

DEFAULT = Path(__file__).parent.parent / "checkpoints" / "default.safetensors"
#: Where other distributions put heads of their own: an entry point is a `Maker` under the name that files ask for.
ENTRY_POINTS = "headgate.heads"

Maker = Callable[[Artefact, Sequence[Claim]], Head]


def load(checkpoint: str | Path, claims: Sequence[Claim], *, kind: str | None = None) -> Head:
    """The head of a checkpoint (`default`, or a path) for the pool's members, in their order.

    Raises ConfigError where the file or a member's claim is refused.
    """
    return make(read(DEFAULT if str(checkpoint) == "default" else checkpoint), claims, kind=kind)


def make(artefact: Artefact, claims: Sequence[Claim], *, kind: str | None = None) -> Head:
    """The head of an artefact, trained a moment ago or read from a file. Raises ConfigError.

    `kind`: read it by another head than the one it names; `mf_numpy` is the native head's twin.
    """
    name = kind or artefact.meta.router
    if name in _MAKERS:
        return _MAKERS[name]()(artefact, claims)
    for point in entry_points(group=ENTRY_POINTS, name=name):
        maker: Maker = point.load()
        return maker(artefact, claims)
    raise ConfigError(f"{artefact.path}: router: expected one of {', '.join(names())}; got {name!r}")


def names() -> tuple[str, ...]:
    """All methods that can be served here, plug-ins included."""
    return (*_MAKERS, *sorted({point.name for point in entry_points(group=ENTRY_POINTS)} - _MAKERS.keys()))


def _mf() -> Maker:
    from router.heads.checkpoint import of
    from router.heads.mf import MfHead

    return lambda artefact, claims: _curved(artefact, claims, partial(MfHead, of(artefact)))


def _mf_numpy() -> Maker:
    from router.heads.checkpoint import of
    from router.heads.mf_numpy import NumpyMfHead

    return lambda artefact, claims: _curved(artefact, claims, partial(NumpyMfHead, of(artefact)))


def _curved(artefact: Artefact, claims: Sequence[Claim], make: Callable[[Sequence[Claim]], Head]) -> Head:
    """What `make` says of the claims, through the artefact's curves where it has any."""
    curves = curves_of(artefact)
    if curves is None:
        return make(claims)
    from router.heads.curved import CurvedHead

    return CurvedHead(artefact.meta, curves, claims, make)


def _classifier() -> Maker:
    from router.heads.classifier import head

    return head


_MAKERS: dict[str, Callable[[], Maker]] = {"mf": _mf, "mf_numpy": _mf_numpy, "classifier": _classifier}
