"""Returns the labels of a corpus by text: the upper bound of any router. Evaluation only; `heads.load` refuses it."""

import hashlib
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from router.artefacts.artefact import Artefact
from router.heads.methods.labelled import log_odds, means
from router.heads.methods.rules import CHARACTERS_PER_TOKEN
from router.types import Segment

Floats = npt.NDArray[np.float32]


class OraclePredictor:
    """Each model's score on the text that counts most; of texts and models without a label, the model's mean."""

    def __init__(self, artefact: Artefact) -> None:
        """Raises ConfigError where the arrays do not fit."""
        keys = artefact.array("keys", np.uint64, (None,))
        scores = artefact.array("scores", np.float32, (len(keys), len(artefact.meta.models)))
        self._scores = dict(zip(keys.tolist(), scores, strict=True))
        self._means = means(artefact)

    def logits(self, queries: Sequence[Sequence[Segment]]) -> Floats:
        rows = [self._row(max(segments, key=lambda segment: segment[1])[0]) for segments in queries if segments]
        return log_odds(np.stack(rows)) if rows else np.zeros((0, len(self._means)), np.float32)

    def tokens(self, segments: Sequence[Segment]) -> int:
        return sum(-(-len(text) // CHARACTERS_PER_TOKEN) for text, _ in segments)

    def _row(self, text: str) -> Floats:
        found = self._scores.get(key_of(text))
        return self._means if found is None else np.where(found < 0, self._means, found)


def key_of(text: str) -> int:
    """64 bits of a text."""
    return int.from_bytes(hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8).digest(), "little")
