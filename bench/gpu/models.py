"""Writes models of real shapes without weights: a config, and the pair's tokenizer grown to the shape's vocabulary.

vLLM fills the weights itself (`load_format: dummy`): the arithmetic is real, the text is not. Needs no download.
"""

import json
import shutil
from pathlib import Path
from typing import Any, NamedTuple


class Shape(NamedTuple):
    """A Qwen3 model. https://huggingface.co/Qwen/Qwen3-0.6B and -8B."""

    hidden: int
    intermediate: int
    layers: int
    heads: int
    tied: bool  #: embedding and output share their weights
    kv_heads: int = 8
    head_dim: int = 128
    vocabulary: int = 151_936
    context: int = 40_960

    def parameters(self) -> int:
        """All weights but the norms'."""
        attention = self.hidden * self.head_dim * (2 * self.heads + 2 * self.kv_heads)
        embeddings = self.vocabulary * self.hidden * (1 if self.tied else 2)
        return embeddings + self.layers * (attention + 3 * self.hidden * self.intermediate)


SHAPES = {
    "small": Shape(hidden=1024, intermediate=3072, layers=28, heads=16, tied=True),
    "large": Shape(hidden=4096, intermediate=12_288, layers=36, heads=32, tied=False),
}


def write(shape: Shape, folder: Path, tokenizer: Path) -> Path:
    """A model folder that vLLM loads with `load_format: dummy`. `tokenizer`: folder with the tokenizer to grow."""
    folder.mkdir(parents=True, exist_ok=True)
    _write_json(folder / "config.json", _config(shape))
    _write_json(folder / "generation_config.json", {"eos_token_id": 1, "pad_token_id": 0})
    _write_json(folder / "tokenizer.json", _grown(tokenizer / "tokenizer.json", shape.vocabulary))
    for name in ("tokenizer_config.json", "chat_template.jinja"):
        if (tokenizer / name).exists():
            shutil.copy(tokenizer / name, folder / name)
    said = json.loads((folder / "tokenizer_config.json").read_text(encoding="utf-8"))
    _write_json(folder / "tokenizer_config.json", {**said, "model_max_length": shape.context})
    return folder


def _config(shape: Shape) -> dict[str, Any]:
    return {
        "architectures": ["Qwen3ForCausalLM"],
        "model_type": "qwen3",
        "torch_dtype": "bfloat16",
        "vocab_size": shape.vocabulary,
        "hidden_size": shape.hidden,
        "intermediate_size": shape.intermediate,
        "num_hidden_layers": shape.layers,
        "num_attention_heads": shape.heads,
        "num_key_value_heads": shape.kv_heads,
        "head_dim": shape.head_dim,
        "max_position_embeddings": shape.context,
        "tie_word_embeddings": shape.tied,
        "hidden_act": "silu",
        "rms_norm_eps": 1e-6,
        "rope_theta": 1_000_000,
        "attention_bias": False,
        "attention_dropout": 0.0,
        "initializer_range": 0.02,
        "use_cache": True,
        "bos_token_id": None,
        "eos_token_id": 1,
        "pad_token_id": 0,
    }


def _grown(path: Path, vocabulary: int) -> dict[str, Any]:
    """The tokenizer with an entry for every id that the model can sample: what it says must decode to text.

    The new entries belong to no merge, so the text of a prompt still becomes the old tokens.
    """
    tokenizer: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    entries: dict[str, int] = tokenizer["model"]["vocab"]
    for id in range(max(entries.values()) + 1, vocabulary):
        entries[f"\u0120w{id}"] = id  # U+0120 is a leading blank in byte-level BPE
    return tokenizer


def _write_json(path: Path, tree: Any) -> None:
    path.write_text(json.dumps(tree, ensure_ascii=False), encoding="utf-8")
