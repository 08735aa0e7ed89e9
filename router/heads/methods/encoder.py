"""Texts to vectors through a transformer encoder: what the classifier is trained over and what serves it.

A text longer than `max_tokens` keeps its first and its last tokens, half each (Sun et al., 2019, "How to Fine-Tune
BERT for Text Classification", section 5.3.1). Needs torch and tokenizers; knows no model that is routed to.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Annotated, Any, Literal

import msgspec
import torch
from tokenizers import Tokenizer

#: Padded tokens of one forward pass; bounds its memory.
BATCH_TOKENS = 4096

Ids = list[int]


class EncoderRecipe(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How an encoder is built and read: kept in the artefact's options."""

    config: dict[str, Any]  #: transformers' own, with `model_type`
    pooling: Literal["mean", "cls"] = "mean"  #: of the last layer: the mean over the tokens, or the first one
    max_tokens: Annotated[int, msgspec.Meta(ge=4)] = 256  #: special tokens included


@contextmanager
def panics_as_errors() -> Iterator[None]:
    """Raises RuntimeError for a panic of Rust code, whose own class is no Exception and can be imported nowhere."""
    try:
        yield
    except BaseException as error:
        if type(error).__name__ != "PanicException":
            raise
        raise RuntimeError(f"tokenizers: {error}") from error


class TextEncoder:
    """One encoder and its tokenizer. Safe from many threads as long as nobody trains it."""

    def __init__(self, model: Any, tokenizer: Tokenizer, recipe: EncoderRecipe) -> None:
        """`model`: of transformers; gives `last_hidden_state` [texts, tokens, hidden]."""
        tokenizer.no_truncation()
        tokenizer.no_padding()
        self.model, self.recipe = model, recipe
        self.tokenizer = tokenizer
        self._pad = int(getattr(model.config, "pad_token_id", None) or 0)
        self._specials = int(tokenizer.num_special_tokens_to_add(False))

    @property
    def hidden(self) -> int:
        """Numbers in a vector."""
        return int(self.model.config.hidden_size)

    def count(self, text: str) -> int:
        """Tokens of the whole text, special ones left out."""
        with panics_as_errors():
            return len(self.tokenizer.encode(_clean(text)).ids) - self._specials

    def ids(self, texts: Sequence[str]) -> list[Ids]:
        """Each text's tokens, cut to `max_tokens`."""
        with panics_as_errors():
            encoded = self.tokenizer.encode_batch([_clean(text) for text in texts])
        return [self._cut(one.ids) or [self._pad] for one in encoded]

    def embed(self, texts: Sequence[Ids]) -> torch.Tensor:
        """[texts, hidden], float32, without gradients. Texts of like length share a pass."""
        out = torch.empty(len(texts), self.hidden)
        with torch.inference_mode():
            for chosen in _batches(texts):
                out[chosen] = self.forward([texts[i] for i in chosen])
        return out

    def forward(self, texts: Sequence[Ids]) -> torch.Tensor:
        """[texts, hidden], in one pass."""
        longest = max(map(len, texts))
        ids = torch.tensor([text + [self._pad] * (longest - len(text)) for text in texts])
        mask = torch.tensor([[1] * len(text) + [0] * (longest - len(text)) for text in texts])
        states: torch.Tensor = self.model(input_ids=ids, attention_mask=mask).last_hidden_state
        if self.recipe.pooling == "cls":
            return states[:, 0]
        seen = mask[:, :, None].to(states.dtype)
        return (states * seen).sum(1) / seen.sum(1)

    def _cut(self, ids: Ids) -> Ids:
        limit = self.recipe.max_tokens
        if len(ids) <= limit:
            return ids
        tail = limit // 2
        return ids[: limit - tail] + ids[len(ids) - tail :]


def _batches(texts: Sequence[Ids]) -> Iterator[list[int]]:
    """Indices of texts for one pass each, from short to long ones."""
    chosen: list[int] = []
    for i in sorted(range(len(texts)), key=lambda i: len(texts[i])):
        if chosen and (len(chosen) + 1) * len(texts[i]) > BATCH_TOKENS:
            yield chosen
            chosen = []
        chosen.append(i)
    if chosen:
        yield chosen


def _clean(text: str) -> str:
    """Lone surrogates, which JSON may hold, have no UTF-8 for the tokenizer."""
    return text.encode("utf-8", "replace").decode()
