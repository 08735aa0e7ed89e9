"""Expected output tokens of a checkpoint: the native head against the twin, members without any, refused tensors."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from router import heads
from router.artefacts import artefact as artefacts
from router.artefacts.artefact import Artefact
from router.errors import ConfigError
from router.heads import Claim, checkpoint
from router.heads.curves import X, Y
from router.heads.methods.mf import MfHead
from router.heads.methods.mf_numpy import NumpyMfHead
from router.native.scorer import Encoder, Scorer
from router.types import Scores

Arrays = dict[str, Any]
CLAIMS = [
    Claim(name="a", like="tiny-1b"),
    Claim(name="b", like="mid-9b"),
    Claim(name="c", strength=0.42),
    Claim(name="d", strength=0.9),
    Claim(name="e"),
]
SEGMENTS = [[("hello world ?", 1.0)], [("", 1.0)], [("a b c " * 40, 1.0), ("hello", 0.25)]]


@pytest.fixture
def made(make_parts: Callable[..., Any]) -> tuple[Any, Arrays]:
    meta, arrays = make_parts()
    draw = np.random.default_rng(5)
    models = len(meta.models)
    arrays |= {
        "lengths": draw.normal(0, 0.4, (models, 16)).astype(np.float32),
        "length_bias": np.linspace(3, 6, models).astype(np.float32),
        "length_sd": np.array([0.3, 0.5, 0.0, 0.4, 0.6], np.float32),  # of mid-9b nothing is known
        "length_range": np.tile(np.array([1.0, 6.5], np.float32), (models, 1)),
    }
    arrays["lengths"][2] = arrays["length_bias"][2] = arrays["length_range"][2] = 0
    return meta, arrays


def write(path: Path, made: tuple[Any, Arrays]) -> Path:
    artefacts.write(path, Artefact(meta=made[0], arrays=made[1]))
    return path


@pytest.mark.parametrize("segments", SEGMENTS, ids=["a question", "an empty text", "a conversation"])
def test_the_native_head_tells_the_tokens_that_the_twin_does(
    made: tuple[Any, Arrays], tmp_path: Path, segments: list[tuple[str, float]]
) -> None:
    artefact = heads.read(write(tmp_path / "x", made))
    read = checkpoint.of(artefact)
    native, twin = MfHead(read, CLAIMS).score(segments), NumpyMfHead(read, CLAIMS).score(segments)
    assert native.output_tokens == pytest.approx(twin.output_tokens, rel=3e-5)
    assert native.output_log_sd == twin.output_log_sd
    assert (native.output_tokens[1], native.output_log_sd[1]) == (0.0, 0.0), "of mid-9b nothing is known"
    known = [0, 2, 3, 4]
    assert all(np.exp(1.0) <= native.output_tokens[i] <= np.exp(6.5 + 0.6**2 / 2) * 1.001 for i in known)
    assert native.output_log_sd[0] == pytest.approx(0.3)
    assert native.output_log_sd[4] == pytest.approx((0.3 + 0.5 + 0.4 + 0.6) / 4), "the mean of the known ones"


def test_the_mean_of_a_model_is_its_median_raised_by_half_its_variance(
    made: tuple[Any, Arrays], tmp_path: Path
) -> None:
    made[1]["lengths"][:] = 0
    head = heads.load(write(tmp_path / "x", made), [Claim(name="a", like="small-4b")])
    assert head.score([("hello", 1.0)]).output_tokens[0] == pytest.approx(np.exp(3.75 + 0.5**2 / 2), rel=1e-5)


def test_a_checkpoint_with_lengths_tells_the_same_quality_to_the_bit(made: tuple[Any, Arrays], tmp_path: Path) -> None:
    with_them = heads.load(write(tmp_path / "x", made), CLAIMS)
    plain = made[0], {name: array for name, array in made[1].items() if not name.startswith("length")}
    without = heads.load(write(tmp_path / "y", plain), CLAIMS)
    for segments in SEGMENTS:
        mine, others = with_them.score(segments), without.score(segments)
        assert mine.quality == others.quality
        assert others == Scores(others.quality, mine.prompt_tokens)


def test_a_pool_of_models_without_lengths_is_told_none(made: tuple[Any, Arrays], tmp_path: Path) -> None:
    head = heads.load(write(tmp_path / "x", made), [Claim(name="b", like="mid-9b")])
    assert head.score(SEGMENTS[0]).output_tokens == ()


def test_calibration_curves_leave_the_lengths_as_they_are(made: tuple[Any, Arrays], tmp_path: Path) -> None:
    plain = heads.load(write(tmp_path / "x", made), CLAIMS)
    line = np.tile(np.linspace(-4, 4, 5, dtype=np.float32), (5, 1))
    curved = heads.load(write(tmp_path / "y", (made[0], made[1] | {X: line, Y: line * 2})), CLAIMS)
    for segments in SEGMENTS:
        assert curved.score(segments).quality != pytest.approx(plain.score(segments).quality, abs=1e-3)
        found, expected = curved.score(segments), plain.score(segments)
        # Clipped before they are mixed, not after: alike as long as no model's are.
        assert found.output_tokens[0] == pytest.approx(expected.output_tokens[0], rel=1e-5)
        assert found.output_tokens[1] == 0.0
        assert found.output_log_sd == pytest.approx(expected.output_log_sd, abs=0.05)


def nan(arrays: Arrays) -> None:
    arrays["length_bias"][1] = np.nan


def negative(arrays: Arrays) -> None:
    arrays["length_sd"][1] = -0.5


def huge(arrays: Arrays) -> None:
    arrays["length_bias"][1] = 700.0


def wide(arrays: Arrays) -> None:
    arrays["length_sd"][0] = 50.0


def turned(arrays: Arrays) -> None:
    arrays["length_range"][0] = [5.0, 2.0]


def narrow(arrays: Arrays) -> None:
    arrays["lengths"] = arrays["lengths"][:, :8].copy()


def missing(arrays: Arrays) -> None:
    del arrays["length_sd"]


def doubles(arrays: Arrays) -> None:
    arrays["length_sd"] = arrays["length_sd"].astype(np.float16)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (nan, "length_bias: expected finite numbers, got an infinity or NaN"),
        (negative, "length_sd: expected numbers from 0 to 4, got -0.5"),
        (huge, "length_bias: expected numbers from -20 to 20, got 700"),
        (wide, "length_sd: expected numbers from 0 to 4, got 50"),
        (turned, "length_range: expected the least before the most, got"),
        (narrow, r"lengths: expected shape \[5, 16\], got \[5, 8\]"),
        (missing, "length_sd: expected this tensor, got"),
        (doubles, "length_sd: expected float32, got float16"),
    ],
)
def test_a_file_whose_lengths_are_none_is_refused_with_its_path_and_the_tensor(
    made: tuple[Any, Arrays], tmp_path: Path, change: Callable[[Arrays], None], message: str
) -> None:
    change(made[1])
    with pytest.raises(ConfigError, match=message) as refused:
        heads.load(write(tmp_path / "x.safetensors", made), CLAIMS)
    if change is not nan:  # which `write` refuses
        assert "x.safetensors" in str(refused.value)


def test_lengths_of_other_sizes_are_refused_by_the_scorer(made: tuple[Any, Arrays]) -> None:
    from router.heads.lengths import Lengths

    meta, arrays = made
    encoder = Encoder(meta.encoder, arrays["vocab"])
    ends, sd = np.zeros(5, np.float32), np.zeros(5)
    for vectors, deviations, message in (
        (np.zeros((4, 16), np.float32), sd, r"lengths: expected vectors \[5, 16\], got \[4, 16\]"),
        (np.zeros((5, 16), np.float32), sd[:3], r"lengths: expected 5 numbers of each kind, got \(5, 5, 5, 3\)"),
    ):
        told = Lengths(vectors=vectors, bias=ends, least=ends, most=ends, log_sd=deviations)
        with pytest.raises(ValueError, match=message):
            Scorer(encoder, arrays["table"], arrays["vectors"], arrays["bias"], None, told)
