"""Folders that hold a model's description and the headers of its weights; the weights themselves are holes in a file.

Shapes and types are those of the public checkpoints of these architectures.
"""

import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

BITS = {"BF16": 16, "F16": 16, "F32": 32, "I32": 32, "F8_E4M3": 8, "U8": 8}
Tensors = Iterator[tuple[str, str, list[int]]]


def write(folder: Path, card: dict[str, Any], dtype: str = "BF16") -> Path:
    """A model of the Llama kind with all its tensors: dense or with experts, plain or AWQ."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(card))
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    at = 0
    for name, kind, shape in tensors(card, dtype):
        size = math.prod(shape) * BITS[kind] // 8
        header[name] = {"dtype": kind, "shape": shape, "data_offsets": [at, at + size]}
        at += size
    write_header(folder / "model.safetensors", header, at)
    return folder


def write_header(path: Path, header: dict[str, Any], size: int) -> None:
    text = json.dumps(header).encode()
    with path.open("wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        file.truncate(8 + len(text) + size)


def tensors(card: dict[str, Any], dtype: str) -> Tensors:
    hidden, words = card["hidden_size"], card["vocab_size"]
    yield "model.embed_tokens.weight", dtype, [words, hidden]
    if not card.get("tie_word_embeddings"):
        yield "lm_head.weight", dtype, [words, hidden]
    for i in range(card["num_hidden_layers"]):
        yield from layer(f"model.layers.{i}", card, dtype)


def layer(at: str, card: dict[str, Any], dtype: str) -> Tensors:
    hidden, dim = card["hidden_size"], card.get("head_dim") or card["hidden_size"] // card["num_attention_heads"]
    q, kv = card["num_attention_heads"] * dim, card["num_key_value_heads"] * dim
    yield f"{at}.input_layernorm.weight", dtype, [hidden]
    for name, rows, columns in (("q", q, hidden), ("k", kv, hidden), ("v", kv, hidden), ("o", hidden, q)):
        yield from linear(f"{at}.self_attn.{name}_proj", rows, columns, card, dtype)
    experts = card.get("num_experts", 0)
    wide = card["moe_intermediate_size"] if experts else card["intermediate_size"]
    for block in [f"{at}.mlp.experts.{n}" for n in range(experts)] or [f"{at}.mlp"]:
        yield from linear(f"{block}.gate_proj", wide, hidden, card, dtype)
        yield from linear(f"{block}.up_proj", wide, hidden, card, dtype)
        yield from linear(f"{block}.down_proj", hidden, wide, card, dtype)


def linear(at: str, rows: int, columns: int, card: dict[str, Any], dtype: str) -> Tensors:
    if not card.get("quantization_config"):
        yield f"{at}.weight", dtype, [rows, columns]
        return
    group = card["quantization_config"]["group_size"]
    yield f"{at}.qweight", "I32", [columns, rows // 8]
    yield f"{at}.qzeros", "I32", [columns // group, rows // 8]
    yield f"{at}.scales", "F16", [columns // group, rows]
