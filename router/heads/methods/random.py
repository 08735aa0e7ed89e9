"""A random quality drawn from the text's hash: the same text gets the same one, so that decisions can be reproduced."""

import hashlib
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from router.artefacts.artefact import Artefact
from router.heads.methods.rules import CHARACTERS_PER_TOKEN
from router.types import Segment

Floats = npt.NDArray[np.float32]


class RandomPredictor:
    """Logits drawn from Gumbel's distribution: the difference of any two is logistic, so that the win rate of each
    pair is uniform in 0..1, as RouteLLM's random router has it, and every model is equally often the best.

    A conversation of nothing gets the models' mean scores: by it the pool's members are ordered.
    """

    def __init__(self, artefact: Artefact) -> None:
        """Raises ConfigError where the file does not fit."""
        self._rest = artefact.array("bias", np.float32, (len(artefact.meta.models),))
        self._seed = str(artefact.meta.options.get("seed", 0))

    def logits(self, queries: Sequence[Sequence[Segment]]) -> Floats:
        return np.array([self._draw(segments) for segments in queries], np.float32).reshape(-1, len(self._rest))

    def tokens(self, segments: Sequence[Segment]) -> int:
        return sum(-(-len(text) // CHARACTERS_PER_TOKEN) for text, _ in segments)

    def _draw(self, segments: Sequence[Segment]) -> Floats:
        if not any(text for text, _ in segments):
            return self._rest
        digest = hashlib.blake2b(self._seed.encode(), digest_size=16)
        for text, weight in segments:
            digest.update(f"{weight:.6g}:{len(text)}:{text}".encode("utf-8", "surrogatepass"))
        draw = np.random.Generator(np.random.Philox(key=int.from_bytes(digest.digest(), "big")))
        return draw.gumbel(size=len(self._rest)).astype(np.float32)
