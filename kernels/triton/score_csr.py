"""Quality of many texts on a GPU, from features already made: gather, sum, project, sigmoid in one kernel.

For offline work (evaluation, relabelling); serving scores on the CPU, where a query costs microseconds. Knows no text.
"""

import torch

import triton
import triton.language as tl

_BLOCK = 64  # rows gathered at a time


@triton.jit
def _score_csr(
    indptr, rows, weights, table, vectors, bias, out, models, k: tl.constexpr, block: tl.constexpr, m: tl.constexpr
):
    """One program a text; the hidden vector stays in registers."""
    text = tl.program_id(0)
    first, last = tl.load(indptr + text), tl.load(indptr + text + 1)
    columns = tl.arange(0, k)
    hidden = tl.zeros((k,), tl.float32)
    for start in range(first, last, block):
        entry = start + tl.arange(0, block)
        inside = entry < last
        row = tl.load(rows + entry, mask=inside, other=0).to(tl.int64)
        weight = tl.load(weights + entry, mask=inside, other=0.0)
        tile = tl.load(table + row[:, None] * k + columns[None, :], mask=inside[:, None], other=0.0).to(tl.float32)
        hidden += tl.sum(tile * weight[:, None], axis=0)
    for start in range(0, models, m):
        model = start + tl.arange(0, m)
        real = model < models
        vector = tl.load(vectors + model[:, None] * k + columns[None, :], mask=real[:, None], other=0.0)
        logit = tl.load(bias + model, mask=real, other=0.0) + tl.sum(vector * hidden[None, :], axis=1)
        tl.store(out + text.to(tl.int64) * models + model, 1.0 / (1.0 + tl.exp(-logit)), mask=real)


def score_csr(
    indptr: torch.Tensor,
    rows: torch.Tensor,
    weights: torch.Tensor,
    table: torch.Tensor,
    vectors: torch.Tensor,
    bias: torch.Tensor,
) -> torch.Tensor:
    """Quality float32 [texts, models] of CSR features as `Encoder.featurise` makes them.

    `indptr` int64 [texts + 1], `rows` int32 [entries], each below `table`'s rows (not checked: that would wait for the
    device), `weights` float32 [entries], `table` float16 [rows, K], `vectors` float32 [models, K], `bias` float32
    [models]; K a power of two of at least 16; all contiguous and on one device. Raises ValueError naming the argument.
    """
    k = table.shape[-1]
    texts, entries, models = indptr.shape[0] - 1, rows.shape[0], vectors.shape[0]
    _check("indptr", indptr, torch.int64, (texts + 1,), table.device)
    _check("rows", rows, torch.int32, (entries,), table.device)
    _check("weights", weights, torch.float32, (entries,), table.device)
    _check("table", table, torch.float16, (table.shape[0], k), table.device)
    _check("vectors", vectors, torch.float32, (models, k), table.device)
    _check("bias", bias, torch.float32, (models,), table.device)
    if k < 16 or k & (k - 1):
        raise ValueError(f"table: expected a power of two of at least 16 columns, got {k}")
    out = torch.empty((max(texts, 0), models), dtype=torch.float32, device=table.device)
    if out.numel():
        m = min(32, triton.next_power_of_2(models))
        _score_csr[(texts,)](indptr, rows, weights, table, vectors, bias, out, models, k, _BLOCK, m)
    return out


def _check(name: str, tensor: torch.Tensor, dtype: torch.dtype, shape: tuple[int, ...], device: torch.device) -> None:
    if tensor.dtype != dtype or tuple(tensor.shape) != shape:
        raise ValueError(f"{name}: expected {dtype} {list(shape)}, got {tensor.dtype} {list(tensor.shape)}")
    if tensor.device != device or not tensor.is_contiguous():
        raise ValueError(f"{name}: expected contiguous memory on {device}, got {tensor.device}")
