"""Segments to quality per member of the pool. `load` imports the head that is asked for, and only that one."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Literal

from router.heads.base import Claim, Head, Placement

__all__ = ["Claim", "Head", "HeadKind", "Placement", "load"]

HeadKind = Literal["mf", "mf_numpy"]
DEFAULT = Path(__file__).parent.parent / "checkpoints" / "default.safetensors"


def load(checkpoint: str | Path, claims: Sequence[Claim], *, kind: HeadKind = "mf") -> Head:
    """The head of a checkpoint (`default`, or a path) for the pool's members, in their order.

    Raises ConfigError where the file or a member's claim is refused.
    """
    from router.heads.checkpoint import read

    path = DEFAULT if str(checkpoint) == "default" else Path(checkpoint)
    return _MAKERS[kind]()(read(path), claims)


def _mf() -> Callable[..., Head]:
    from router.heads.mf import MfHead

    return MfHead


def _mf_numpy() -> Callable[..., Head]:
    from router.heads.mf_numpy import NumpyMfHead

    return NumpyMfHead


_MAKERS: dict[HeadKind, Callable[[], Callable[..., Head]]] = {"mf": _mf, "mf_numpy": _mf_numpy}
