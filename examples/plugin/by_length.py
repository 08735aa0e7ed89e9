"""A routing method of one's own: longer prompts are harder, by a line per model. See docs/routers.md, plug-ins."""

import numpy as np

from router.artefacts.artefact import FORMAT, Metadata
from router.heads import Artefact
from router.heads.placed import PlacedHead
from router.learn.fit.calibration import platt
from router.learn.fit.export import records


def length(text):
    return np.log1p(len(text)) - 5  # about 0 in the middle, where the fit begins


class LengthPredictor:
    def __init__(self, artefact):
        self.line = artefact.array("line", np.float32, (len(artefact.meta.models), 2))

    def logits(self, queries):  # [queries, models]: log odds of an acceptable answer
        sizes = [sum(weight * length(text) for text, weight in query) for query in queries]
        return np.asarray(np.outer(sizes, self.line[:, 0]) + self.line[:, 1], np.float32)

    def tokens(self, segments):  # the query's size
        return sum(len(text) // 4 for text, _ in segments)


def head(artefact, claims):
    return PlacedHead(artefact.meta, LengthPredictor(artefact), claims)


class LengthTrainer:
    def __init__(self, corpus, recipe, options):
        self.corpus = corpus
        self.sizes = np.array([length(prompt.text) for prompt in corpus.prompts])

    def steps(self):
        return 1

    def fit(self, rows, columns, on_step=lambda: None):
        scores = self.corpus.scores[:, columns]
        known = [rows & np.isfinite(scores[:, i]) for i in range(len(columns))]
        line = [platt(-self.sizes[of], scores[of, i]) for i, of in enumerate(known)]
        on_step()
        meta = Metadata(format=FORMAT, models=records(self.corpus, columns), router="by_length")
        return Artefact(meta=meta, arrays={"line": np.array(line, np.float32) * np.float32([-1, 1])})
