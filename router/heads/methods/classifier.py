"""A fine-tuned encoder as a head: pooled last layer, one linear layer to every reference model's log odds.

RouteLLM's BERT router (Ong et al., 2024) with N sigmoids in place of three classes of one pair, so that a
prompt needs no label of every model. The file holds encoder, tokenizer and weights: no hub and no path when it serves.

    encoder.*   the encoder's state, F16 or F32        tokenizer    U8, tokenizer.json
    head.weight [models, hidden] F32                   head.bias    [models] F32
    head.rest   [models] F32: the log odds of the mean score, for a conversation of nothing, which orders the pool
"""

import json
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from router.artefacts.artefact import Artefact
from router.errors import ConfigError
from router.types import Segment

try:
    import torch
    import transformers
    from tokenizers import Tokenizer

    from router.heads.methods.encoder import EncoderRecipe, TextEncoder, panics_as_errors
except ModuleNotFoundError as error:
    raise ConfigError(f"a classifier needs {error.name}: pip install torch transformers") from error

PREFIX = "encoder."
_SAMPLE = "The cat: 1 + 1? é 北"  #: a damaged tokenizer may fail at the first text alone

Floats = npt.NDArray[np.float32]


class ClassifierPredictor:
    """A query's vector is the mean of its texts' vectors, by their weights."""

    slow = True

    def __init__(self, artefact: Artefact) -> None:
        """Raises ConfigError naming the file, the tensor or option, and what was expected."""
        self._encoder, models = encoder_of(artefact), len(artefact.meta.models)
        self._weight = artefact.array("head.weight", np.float32, (models, self._encoder.hidden))
        self._bias = artefact.array("head.bias", np.float32, (models,))
        self._rest = artefact.array("head.rest", np.float32, (models,))

    def logits(self, queries: Sequence[Sequence[Segment]]) -> Floats:
        texts = [text for query in queries for text, _ in query]
        vectors = self._encoder.embed(self._encoder.ids(texts)).numpy()
        pooled = np.empty((len(queries), vectors.shape[1]), np.float32)
        first = 0
        for i, query in enumerate(queries):
            weights = np.array([weight for _, weight in query], np.float32)
            pooled[i] = weights @ vectors[first : first + len(query)] / weights.sum()
            first += len(query)
        logits = np.asarray(pooled @ self._weight.T + self._bias, np.float32)
        logits[[not any(text for text, _ in query) for query in queries]] = self._rest
        return logits

    def tokens(self, segments: Sequence[Segment]) -> int:
        return sum(self._encoder.count(text) for text, _ in segments)


def encoder_of(artefact: Artefact) -> TextEncoder:
    """The encoder, rebuilt from the artefact alone."""
    recipe = artefact.options_as(EncoderRecipe)
    model = _model(artefact, recipe.config)
    model.load_state_dict(_state(artefact, model))
    return TextEncoder(model.eval().requires_grad_(False), _tokenizer(artefact), recipe)


def arrays_of(encoder: TextEncoder, weight: Floats, bias: Floats, rest: Floats) -> dict[str, npt.NDArray[Any]]:
    """What an artefact holds of a trained classifier. Halves, where the encoder's numbers fit into them."""
    arrays: dict[str, npt.NDArray[Any]] = {"head.weight": weight, "head.bias": bias, "head.rest": rest}
    for name, value in encoder.model.state_dict().items():
        arrays[PREFIX + name] = _stored(value.detach().cpu())
    arrays["tokenizer"] = np.frombuffer(encoder.tokenizer.to_str().encode(), np.uint8)
    return arrays


def _stored(value: "torch.Tensor") -> npt.NDArray[Any]:
    if not value.is_floating_point():
        return value.numpy()
    full = value.float().numpy()
    fits = bool((np.abs(full) < np.finfo(np.float16).max).all())
    return full.astype(np.float16) if fits else full


def _model(artefact: Artefact, config: dict[str, Any]) -> Any:
    """An encoder of this shape; its numbers mean nothing yet."""
    try:
        made = transformers.AutoConfig.for_model(**config)
        with torch.random.fork_rng():
            return transformers.AutoModel.from_config(made).float()
    except Exception as error:  # whatever a config that we did not write makes transformers raise
        raise ConfigError(f"{artefact.path}: options.config: transformers builds no encoder of it: {error}") from error


def _state(artefact: Artefact, model: Any) -> dict[str, "torch.Tensor"]:
    wanted = model.state_dict()
    unknown = [n for n in artefact.arrays if n.startswith(PREFIX) and n.removeprefix(PREFIX) not in wanted]
    if unknown:
        raise ConfigError(
            f"{artefact.path}: {unknown[0]}: expected no such tensor in a {model.config.model_type} encoder"
        )
    out = {}
    for name, value in wanted.items():
        found = artefact.arrays.get(PREFIX + name)
        half = found is not None and found.dtype == np.float16
        dtype = np.float16 if half and value.is_floating_point() else value.numpy().dtype
        array = artefact.array(PREFIX + name, dtype, tuple(value.shape))
        out[name] = torch.from_numpy(array.astype(value.numpy().dtype))
    return out


def _tokenizer(artefact: Artefact) -> Tokenizer:
    text = artefact.array("tokenizer", np.uint8, (None,)).tobytes()
    try:
        json.loads(text)
        with panics_as_errors():
            tokenizer = Tokenizer.from_str(text.decode())
            tokenizer.encode(_SAMPLE)
        return tokenizer
    except Exception as error:  # tokenizers raises bare `Exception`
        raise ConfigError(f"{artefact.path}: tokenizer: expected a tokenizer.json: {error}") from error
