"""One row of logits read natively against float64 NumPy, in each instruction set of this machine."""

import numpy as np
import pytest

from router.native.row_statistics import isas, row_statistics

SIZES = [1, 2, 15, 16, 17, 31, 512, 2047, 2048, 2049, 4096 + 5, 49_152, 151_936]


@pytest.fixture(params=isas())
def isa(request):
    return request.param


def reference(logits):
    """float64 [rows, 5]."""
    out = []
    for row in logits.astype(np.float64):
        top = row.max()
        log_sum = top + np.log(np.exp(row - top).sum())
        logp = row[np.isfinite(row)] - log_sum
        ranked = np.sort(row)[::-1]
        margin = min(top - ranked[1], 87.0) if len(row) > 1 else 87.0
        out.append((top - log_sum, -(np.exp(logp) * logp).sum(), margin, log_sum, row.argmax()))
    return np.array(out)


def bits(logits, kind):
    """The 16-bit values nearest to `logits`, and their bits."""
    if kind == "float16":
        halves = logits.astype(np.float16)
        return halves.astype(np.float32), halves.view(np.uint16)
    raised = (logits.view(np.uint32) + 0x8000) >> 16
    return (raised << 16).astype(np.uint32).view(np.float32), raised.astype(np.uint16)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("scale", [0.1, 3.0, 30.0])
def test_equals_float64(isa, size, scale):
    logits = (np.random.default_rng(size).normal(0, scale, (3, size))).astype(np.float32)
    found, wanted = row_statistics(logits, isa=isa), reference(logits)
    np.testing.assert_allclose(found[:, :4], wanted[:, :4], rtol=3e-6, atol=3e-6)
    assert found[:, 4].tolist() == wanted[:, 4].tolist()


@pytest.mark.parametrize("kind", ["bfloat16", "float16"])
@pytest.mark.parametrize("size", [1, 17, 2049, 49_152])
def test_sixteen_bits_equal_float64_of_the_same_values(isa, kind, size):
    values, raw = bits(np.random.default_rng(size).normal(0, 4, (2, size)).astype(np.float32), kind)
    found, wanted = row_statistics(raw, kind=kind, isa=isa), reference(values)
    np.testing.assert_allclose(found[:, :4], wanted[:, :4], rtol=3e-6, atol=3e-6)
    assert (values[[0, 1], found[:, 4].astype(int)] == values.max(axis=1)).all()


@pytest.mark.parametrize("kind", ["float32", "bfloat16", "float16"])
def test_masked_tokens_count_for_nothing(isa, kind):
    logits = np.random.default_rng(3).normal(0, 3, (1, 5000)).astype(np.float32)
    logits[0, :4200] = -np.inf  # whole blocks at the start, and a part of one
    logits[0, 4800:] = -np.inf
    values, raw = (logits, logits) if kind == "float32" else bits(logits, kind)
    found, wanted = row_statistics(raw, kind=kind, isa=isa), reference(values)
    np.testing.assert_allclose(found[:, :4], wanted[:, :4], rtol=3e-6, atol=3e-6)


def test_one_token_left_has_no_entropy_and_the_widest_margin(isa):
    logits = np.full((1, 3000), -np.inf, np.float32)
    logits[0, 2500] = -3.5
    found = row_statistics(logits, isa=isa)
    np.testing.assert_allclose(found, [[0.0, 0.0, 87.0, -3.5, 2500.0]], atol=1e-30)


@pytest.mark.parametrize("order", ["rising", "falling"])
def test_sorted_rows_equal_float64(isa, order):
    logits = np.linspace(-40, 40, 10_001, dtype=np.float32)[None, :]
    logits = np.ascontiguousarray(logits if order == "rising" else logits[:, ::-1])
    found, wanted = row_statistics(logits, isa=isa), reference(logits)
    np.testing.assert_allclose(found[:, :4], wanted[:, :4], rtol=3e-6, atol=3e-6)
    assert found[0, 4] == wanted[0, 4]


def test_equal_largest_values_have_no_margin(isa):
    logits = np.zeros((1, 100), np.float32)
    logits[0, [3, 90]] = 2.0
    found = row_statistics(logits, isa=isa)[0]
    assert (found[2], found[4]) == (0.0, 3.0)


@pytest.mark.parametrize(
    "spoil",
    [
        lambda row: row.fill(np.nan),
        lambda row: row.__setitem__(4321, np.nan),
        lambda row: row.__setitem__(0, np.inf),
        lambda row: row.fill(-np.inf),
    ],
    ids=["all NaN", "one NaN", "+inf", "all masked"],
)
@pytest.mark.parametrize("kind", ["float32", "bfloat16", "float16"])
def test_a_row_that_is_no_distribution_gives_nan_and_spoils_no_other(isa, kind, spoil):
    logits = np.random.default_rng(1).normal(0, 1, (3, 5000)).astype(np.float32)
    spoil(logits[1])
    raw = logits
    if kind == "float16":
        raw = logits.astype(np.float16).view(np.uint16)
    elif kind == "bfloat16":
        raw = (logits.view(np.uint32) >> 16).astype(np.uint16)
    found = row_statistics(raw, kind=kind, isa=isa)
    assert np.isnan(found[1, :4]).all()
    assert found[1, 4] == -1
    assert np.isfinite(found[[0, 2]]).all()


def test_rows_may_be_apart():
    wide = np.random.default_rng(5).normal(0, 1, (4, 600)).astype(np.float32)
    found = row_statistics(wide[:, :500])
    np.testing.assert_allclose(found[:, :4], reference(wide[:, :500])[:, :4], rtol=3e-6, atol=3e-6)


def test_nothing_gives_nothing():
    assert row_statistics(np.zeros((0, 5), np.float32)).shape == (0, 5)
    assert np.isnan(row_statistics(np.zeros((2, 0), np.float32))).all()


@pytest.mark.parametrize(
    ("logits", "more", "message"),
    [
        (np.zeros(5, np.float32), {}, r"logits: expected rows of neighbouring values, got shape \[5\]"),
        (np.zeros((2, 6), np.float32)[:, ::2], {}, r"logits: expected rows of neighbouring values, got shape \[2, 3\]"),
        (np.zeros((2, 6)), {}, "logits: expected the bits of float32, got float64"),
        (np.zeros((2, 6), np.float32), {"kind": "float16"}, "logits: expected the bits of float16, got float32"),
        (
            np.zeros((2, 6), np.float32),
            {"kind": "int8"},
            "kind: expected one of float32, bfloat16, float16, got 'int8'",
        ),
        (np.zeros((2, 6), np.float32), {"isa": "mmx"}, "isa: this machine can run .*portable, got 'mmx'"),
    ],
)
def test_refused(logits, more, message):
    with pytest.raises(ValueError, match=message):
        row_statistics(logits, **more)
