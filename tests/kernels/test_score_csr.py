"""The Triton kernel against float64: compiled where there is a GPU, in Triton's interpreter on any machine."""

import itertools

import numpy as np
import pytest

from tests.kernels import interpreted

torch = pytest.importorskip("torch")
pytest.importorskip("triton")


@pytest.fixture(params=["cpu"] if interpreted.INTERPRETED else [pytest.param("cuda", marks=pytest.mark.gpu)])
def kernel(request):
    """The wrapper and its device."""
    if request.param == "cuda" and not torch.cuda.is_available():
        pytest.skip("no CUDA GPU")
    from router.kernels.score_csr import score_csr

    return score_csr, request.param


def test_in_the_interpreter():
    interpreted.run(__file__)


def features(lengths, rows=500, k=32, models=5, seed=0):
    """CSR features, table and vectors as NumPy arrays, in the wrapper's order."""
    draw = np.random.default_rng(seed)
    indptr = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    return [
        indptr,
        draw.integers(0, rows, indptr[-1]).astype(np.int32),
        draw.random(indptr[-1]).astype(np.float32) / 8,
        draw.normal(0, 0.5, (rows, k)).astype(np.float16),
        draw.normal(0, 0.5, (models, k)).astype(np.float32),
        draw.normal(0, 0.5, models).astype(np.float32),
    ]


def reference(indptr, rows, weights, table, vectors, bias):
    """In float64."""
    weighted = weights[:, None].astype(np.float64) * table[rows]
    hidden = np.array([weighted[a:b].sum(axis=0) for a, b in itertools.pairwise(indptr)])
    hidden = hidden.reshape(len(indptr) - 1, table.shape[1])
    return 1 / (1 + np.exp(-(hidden @ vectors.T.astype(np.float64) + bias)))


def on(device, arrays):
    return [torch.from_numpy(array).to(device) for array in arrays]


@pytest.mark.parametrize(
    ("lengths", "k", "models"),
    [([3, 0, 64, 65, 200], 32, 5), ([1], 16, 1), ([7, 130], 64, 33), ([0, 0], 32, 2)],
)
def test_equals_float64(kernel, lengths, k, models):
    score_csr, device = kernel
    arrays = features(lengths, k=k, models=models)
    found = score_csr(*on(device, arrays)).cpu().numpy()
    assert found.shape == (len(lengths), models)
    np.testing.assert_allclose(found, reference(*arrays), rtol=2e-5, atol=1e-7)


def test_no_texts(kernel):
    score_csr, device = kernel
    assert score_csr(*on(device, features([]))).shape == (0, 5)


@pytest.mark.parametrize(
    ("at", "change", "message"),
    [
        (0, lambda a: a.astype(np.int32), r"indptr: expected torch.int64 \[3\], got torch.int32 \[3\]"),
        (1, lambda a: a.astype(np.int64), r"rows: expected torch.int32 \[5\], got torch.int64"),
        (2, lambda a: a[:-1], r"weights: expected torch.float32 \[5\], got torch.float32 \[4\]"),
        (3, lambda a: a.astype(np.float32), r"table: expected torch.float16 \[500, 32\], got torch.float32"),
        (4, lambda a: a[:, :16].copy(), r"vectors: expected torch.float32 \[5, 32\], got torch.float32 \[5, 16\]"),
        (5, lambda a: a[None], r"bias: expected torch.float32 \[5\], got torch.float32 \[1, 5\]"),
        (4, lambda a: np.asfortranarray(a), "vectors: expected contiguous memory on cpu"),
    ],
)
def test_refused(kernel, at, change, message):
    score_csr, device = kernel
    if device != "cpu":
        pytest.skip("what is refused before a launch is tested in the interpreter, whatever the device")
    arrays = features([2, 3])
    arrays[at] = change(arrays[at])
    with pytest.raises(ValueError, match=message):
        score_csr(*on(device, arrays))


def test_refused_columns(kernel):
    score_csr, device = kernel
    with pytest.raises(ValueError, match="table: expected a power of two of at least 16 columns, got 48"):
        score_csr(*on(device, features([2], k=48)))


def test_equals_the_native_scorer(kernel):
    """The same features, the same table: the CPU's and the kernel's numbers agree."""
    from router.native.scorer import Encoder, Scorer
    from router.native.spec import EncoderSpec
    from router.native.vocab import build_vocab

    score_csr, device = kernel
    vocab, longest = build_vocab(["[UNK]", "hello", "world", *"abc", *(f"##{c}" for c in "abc")])
    encoder = Encoder(EncoderSpec(pieces=9, unk=0, max_piece=longest, word_rows=256, char_rows=256), vocab)
    draw = np.random.default_rng(2)
    table = draw.normal(0, 0.2, (encoder.spec.rows, 32)).astype(np.float16)
    vectors, bias = draw.normal(0, 0.5, (3, 32)).astype(np.float32), np.zeros(3, np.float32)
    texts = ["hello world", "", "abc cab, 12!", "hello " * 300]
    indptr, rows, weights, _ = encoder.featurise(texts)
    found = score_csr(*on(device, [indptr, rows, weights, table, vectors, bias])).cpu().numpy()
    np.testing.assert_allclose(found, Scorer(encoder, table, vectors, bias).score_batch(texts), rtol=3e-5, atol=1e-7)


def test_the_package_itself_loads_nothing():
    import router.kernels

    assert {name for name in vars(router.kernels) if not name.startswith("__")} <= {"score_csr", "watch"}
