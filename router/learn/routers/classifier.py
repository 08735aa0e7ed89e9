"""Trains the classifier: first its linear layer over the frozen encoder, then both, or the upper layers only.

Training the linear layer first keeps the encoder's features intact: Kumar et al. (2022), "Fine-Tuning can Distort
Pretrained Features and Underperform Out-of-Distribution", algorithm LP-FT.
"""

import copy
import json
from typing import Any, Literal

import msgspec
import numpy as np
import numpy.typing as npt
import torch
import transformers
from scipy import sparse
from tokenizers import Tokenizer
from transformers.utils import logging

from router.artefacts.artefact import FORMAT, Artefact, Metadata
from router.errors import ConfigError
from router.heads.methods.classifier import arrays_of
from router.heads.methods.encoder import EncoderRecipe, Ids, TextEncoder
from router.learn.data.corpus import Corpus, family_weights, label_weights, strengths
from router.learn.fit.design import Matrix
from router.learn.fit.export import records
from router.learn.fit.logistic import fit, ties
from router.learn.fit.recipe import Recipe
from router.learn.fit.static_table import model_folder
from router.learn.routers.base import NONE, Columns, OnStep, Options, Rows
from router.learn.routers.options import options_of
from router.learn.routers.ticks import TICKS, Ticks

WARM_UP = 0.1  #: share of the steps in which the learning rate rises
HEAD_RATE = 10.0  #: the linear layer learns this many times faster than the encoder
SORTED_TOGETHER = 16  #: batches' worth of prompts that are sorted by length, so that little is padded
CHUNK = 256  #: prompts embedded between two signs of progress

Floats = npt.NDArray[np.float32]


class ClassifierOptions(msgspec.Struct, frozen=True, kw_only=True):
    """What `headgate train --router classifier` may be told."""

    encoder: str = ""  #: a folder, or a name of the Hugging Face hub; empty: all-MiniLM-L6-v2, which training brings
    pooling: Literal["mean", "cls"] = "mean"
    max_tokens: int = 256  #: of a text; longer ones keep their first and last half of it
    epochs: int = 1  #: of fine-tuning; 0: only the linear layer is trained, over embeddings made once
    batch: int = 16
    learning_rate: float = 3e-5
    freeze: int = 0  #: this many lower layers, and the embeddings below them, stay as they are
    ridge: float = 4.0  #: of the linear layer, before fine-tuning
    seed: int = 0


class Linear(msgspec.Struct, frozen=True):
    """`logits = vectors @ weight.T + bias`: [models, hidden], [models]."""

    weight: Floats
    bias: Floats


class ClassifierTrainer:
    """See `Trainer`. Embeddings of the encoder as it came are kept over all fits."""

    def __init__(self, corpus: Corpus, recipe: Recipe, options: Options = NONE) -> None:
        self._corpus, self._recipe = corpus, recipe
        self._options = options_of(ClassifierOptions, "classifier", options)
        self._encoder = pretrained(self._options)
        self._ids = self._encoder.ids([prompt.text for prompt in corpus.prompts])
        self._vectors: Floats = np.full((len(self._ids), self._encoder.hidden), np.nan, np.float32)

    def steps(self) -> int:
        return TICKS

    def fit(self, rows: Rows, columns: Columns, on_step: OnStep = lambda: None) -> Artefact:
        chosen = np.flatnonzero(rows)
        epochs = 0 if self._options.freeze >= len(_layers(self._encoder.model)) else self._options.epochs
        # A step of training costs about three of embedding.
        ticks = Ticks(len(chosen) * (1 + 3 * epochs), on_step)
        self._embed(chosen, ticks)
        scores = self._corpus.scores[np.ix_(chosen, columns)]
        weights = label_weights(scores, self._recipe.alike)
        weights *= family_weights(self._corpus.tasks[chosen], self._recipe.balance)[:, None]
        known = np.nan_to_num(scores)
        linear = self._linear(self._vectors[chosen], known, weights, strengths(self._corpus, rows)[columns])
        encoder = self._encoder
        if epochs:
            tuner = _Tuner(encoder, linear, self._options)
            tuner.run([self._ids[i] for i in chosen], known, weights, epochs, ticks)
            encoder, linear = tuner.encoder, tuner.linear()
        ticks.finish()
        meta = Metadata(
            format=FORMAT,
            models=records(self._corpus, columns),
            router="classifier",
            options=msgspec.to_builtins(encoder.recipe),
        )
        hits, misses = (weights * known).sum(0), (weights * (1 - known)).sum(0)
        rest = np.asarray(np.log((hits + 1) / (misses + 1)), np.float32)
        return Artefact(meta=meta, arrays=arrays_of(encoder, linear.weight, linear.bias, rest))

    def _embed(self, chosen: npt.NDArray[np.int64], ticks: Ticks) -> None:
        """Fills in the vectors of these prompts."""
        missing = chosen[np.isnan(self._vectors[chosen, 0])]
        missing = missing[np.argsort([len(self._ids[i]) for i in missing], kind="stable")]
        for first in range(0, len(missing), CHUNK):
            some = missing[first : first + CHUNK]
            self._vectors[some] = self._encoder.embed([self._ids[i] for i in some]).numpy()
            ticks.add(len(some))
        ticks.add(len(chosen) - len(missing))

    def _linear(self, vectors: Floats, scores: Floats, weights: Floats, strength: npt.NDArray[np.float64]) -> Linear:
        """Newton's method over standardised vectors, with the prior that ties the models to one another."""
        centre = vectors.mean(0)
        spread = float(np.sqrt(((vectors - centre) ** 2).sum(1).mean())) or 1.0
        dense = (vectors - centre) / spread
        x = Matrix(sparse.csr_matrix((len(dense), 0), dtype=np.float32), dense)
        recipe, options = self._recipe, self._options
        found = fit(x, scores, weights, ties(strength, recipe.tie), options.ridge, recipe.steps, newtons=4)
        weight = np.asarray((found.hidden @ found.ties.T).T / spread, np.float32)
        return Linear(weight, np.asarray(found.bias - weight @ centre, np.float32))


def pretrained(options: ClassifierOptions) -> TextEncoder:
    """The encoder that fine-tuning starts from. Raises ConfigError where it cannot be had."""
    logging.disable_progress_bar()  # ours is shown
    where = options.encoder or str(model_folder())
    try:
        model = transformers.AutoModel.from_pretrained(where).float().eval()
        loaded = transformers.AutoTokenizer.from_pretrained(where)
    except (OSError, ValueError, KeyError) as error:
        raise ConfigError(f"--router classifier: option encoder: {where} cannot be loaded: {error}") from error
    tokenizer = getattr(loaded, "backend_tokenizer", None)
    if tokenizer is None:
        raise ConfigError(f"--router classifier: option encoder: {where} has no tokenizer.json, nor one is made of it")
    longest = min(int(getattr(model.config, "max_position_embeddings", 1 << 30)), int(loaded.model_max_length))
    if not 4 <= options.max_tokens <= longest:
        raise ConfigError(f"--router classifier: option max_tokens: expected 4 to {longest}, got {options.max_tokens}")
    recipe = EncoderRecipe(
        config=json.loads(model.config.to_json_string()), pooling=options.pooling, max_tokens=options.max_tokens
    )
    return TextEncoder(model, Tokenizer.from_str(tokenizer.to_str()), recipe)


class _Tuner:
    """One fine-tuning, of a copy of the encoder."""

    def __init__(self, encoder: TextEncoder, linear: Linear, options: ClassifierOptions) -> None:
        model = copy.deepcopy(encoder.model)
        self.encoder = TextEncoder(model, encoder.tokenizer, encoder.recipe)
        self._options = options
        self._weight = torch.tensor(linear.weight, requires_grad=True)
        self._bias = torch.tensor(linear.bias, requires_grad=True)
        self._moving = _unfrozen(model, options.freeze)
        self._optimiser = torch.optim.AdamW(
            [
                {"params": self._moving, "lr": options.learning_rate},
                {"params": [self._weight, self._bias], "lr": options.learning_rate * HEAD_RATE},
            ],
            weight_decay=0.01,
        )

    def run(self, texts: list[Ids], scores: Floats, weights: Floats, epochs: int, ticks: Ticks) -> None:
        total = epochs * -(-len(texts) // self._options.batch)
        schedule = torch.optim.lr_scheduler.LambdaLR(self._optimiser, lambda step: _rate((step + 1) / (total + 1)))
        draw = np.random.default_rng(self._options.seed)
        scale = float(weights.sum() / len(weights)) or 1.0
        model = self.encoder.model
        with torch.random.fork_rng():
            torch.manual_seed(self._options.seed)
            model.train()
            for _ in range(epochs):
                for some in _batches(texts, self._options.batch, draw):
                    self._step([texts[i] for i in some], scores[some], weights[some] / scale)
                    schedule.step()
                    ticks.add(3 * len(some))
        model.eval()

    def linear(self) -> Linear:
        return Linear(self._weight.detach().numpy(), self._bias.detach().numpy())

    def _step(self, texts: list[Ids], scores: Floats, weights: Floats) -> None:
        logits = self.encoder.forward(texts) @ self._weight.T + self._bias
        loss = torch.nn.functional.binary_cross_entropy_with_logits(
            logits, torch.from_numpy(scores), torch.from_numpy(weights), reduction="sum"
        )
        (loss / len(texts)).backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(self._moving, 1.0)
        self._optimiser.step()
        self._optimiser.zero_grad()


def _unfrozen(model: Any, freeze: int) -> list[torch.nn.Parameter]:
    """Marks and returns what may move: everything, or the layers from `freeze` on."""
    if freeze:
        model.requires_grad_(False)
        for layer in _layers(model)[freeze:]:
            layer.requires_grad_(True)
    return [parameter for parameter in model.parameters() if parameter.requires_grad]


def _layers(model: Any) -> list[Any]:
    """The encoder's layers, from the lowest: the longest list of modules in it."""
    lists = [list(module) for module in model.modules() if isinstance(module, torch.nn.ModuleList)]
    return max(lists, key=len, default=[])


def _rate(share: float) -> float:
    """Of the highest learning rate, after this share of the steps: up, then down to nothing."""
    return min(share / WARM_UP, (1 - share) / (1 - WARM_UP))


def _batches(texts: list[Ids], size: int, draw: np.random.Generator) -> list[npt.NDArray[np.int64]]:
    """All texts once, in random batches of like length."""
    order = draw.permutation(len(texts))
    length = np.array([len(text) for text in texts])
    out: list[npt.NDArray[np.int64]] = []
    for first in range(0, len(order), size * SORTED_TOGETHER):
        some = order[first : first + size * SORTED_TOGETHER]
        some = some[np.argsort(length[some], kind="stable")]
        out += [some[i : i + size] for i in range(0, len(some), size)]
    return [out[i] for i in draw.permutation(len(out))]
