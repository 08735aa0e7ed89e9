"""Lines and curves by hand, and on probabilities that were bent on purpose; served as fitted."""

from pathlib import Path

import msgspec
import numpy as np
import numpy.typing as npt
import pytest

from router.artefacts.artefact import FORMAT, Metadata, ModelRecord
from router.cli.main import main
from router.errors import ConfigError
from router.heads import Artefact, Claim, make, read, write
from router.heads.curves import Curves, curves_of, uncurved
from router.learn.fit import calibration
from router.learn.fit.calibration import calibrated, isotonic, knots, lines, platt, pooled
from router.native.spec import EncoderSpec
from router.native.vocab import build_vocab

Floats = npt.NDArray[np.float32]


def sigmoid(z: npt.NDArray[np.floating]) -> Floats:
    return np.asarray(1 / (1 + np.exp(-z)), np.float32)


def bent(n: int, seed: int = 0) -> tuple[Floats, Floats]:
    """Logits whose truth is no line in them: sure below, flat above."""
    rng = np.random.default_rng(seed)
    z = rng.normal(0, 2, n)
    truth = np.where(z < 0, 3 * z, 0.2 * z)
    return z[:, None].astype(np.float32), (rng.random(n) < sigmoid(truth)).astype(np.float32)[:, None]


def ece(quality: Floats, score: Floats, bins: int = 15) -> float:
    """Expected calibration error, bins of equally many (Naeini et al., 2015)."""
    parts = np.array_split(np.argsort(quality), bins)
    return float(sum(len(p) * abs(quality[p].mean() - score[p].mean()) for p in parts) / len(quality))


def test_pools_by_hand() -> None:
    """3 > 2 are pooled to 2.5, which 4, of weight 1, and 1, of weight 3, then undercut."""
    x, y, weight = pooled(np.arange(5.0), np.array([1.0, 3, 2, 4, 1]), np.array([1.0, 1, 1, 1, 3]))
    assert y == pytest.approx([1, (3 + 2 + 4 + 3) / 6])
    assert x == pytest.approx([0, (1 + 2 + 3 + 4 * 3) / 6])
    assert weight == pytest.approx([1, 6])


def test_pools_of_what_rises_are_its_points() -> None:
    x, y, weight = pooled(np.array([1.0, 2, 4]), np.array([0.1, 0.2, 0.3]), np.ones(3))
    assert (x.tolist(), y.tolist(), weight.tolist()) == ([1, 2, 4], [0.1, 0.2, 0.3], [1, 1, 1])


def test_a_line_is_found_again() -> None:
    rng = np.random.default_rng(0)
    z = rng.normal(0, 2, 20_000)
    a, c = platt(z, (rng.random(20_000) < sigmoid(0.5 * z - 1)).astype(np.float32))
    assert (a, c) == pytest.approx((0.5, -1), abs=0.05)


@pytest.mark.parametrize("centre", [-10, -4, 4])
def test_a_line_is_found_far_from_nought(centre: int) -> None:
    """Whole steps of Newton's method run away from there."""
    rng = np.random.default_rng(0)
    z = rng.normal(centre, 1, 4000)
    slope, offset = platt(z, sigmoid(0.7 * (z - centre)))
    assert slope == pytest.approx(0.7, abs=0.02)
    assert slope * centre + offset == pytest.approx(0, abs=0.02)


def test_no_line_turns_a_ranking_round() -> None:
    z = np.linspace(-4, 4, 400, dtype=np.float32)
    a, c = platt(z, (z < 0).astype(np.float32))
    assert a == calibration.LEAST_SLOPE
    assert sigmoid(np.float64(c)) == pytest.approx(0.5, abs=0.01)


def test_nothing_known_changes_nothing() -> None:
    unknown = np.full((5, 2), np.nan, np.float32)
    assert lines(np.zeros((5, 2), np.float32), unknown).tolist() == [[1, 0], [1, 0]]
    x, y = knots(np.zeros((5, 2), np.float32), unknown, "isotonic")
    z = np.array([[-7.0, 0.5], [3.0, 90.0]])
    assert Curves(x, y)(z) == pytest.approx(z)


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("n", [3, 40, 3000])
def test_curves_rise_everywhere(n: int, seed: int) -> None:
    z, y = bent(n, seed)
    curve = Curves(*knots(z, y, "isotonic"))
    grid = np.linspace(-12, 12, 2000)[:, None]
    assert (np.diff(curve(grid), axis=0) > 0).all()
    assert len(knots(z, y, "isotonic")[0][0]) <= calibration.BINS + 2


def test_ties_and_certainties_are_taken() -> None:
    z = np.repeat(np.array([-1.0, 0.0, 30.0]), 50)
    curve = Curves(*(k[None] for k in isotonic(z, np.repeat([0.0, 0.0, 1.0], 50), np.array([1.0, 0.0], np.float32))))
    out = sigmoid(curve(np.array([[-1.0], [0.0], [30.0]])))[:, 0]
    assert out[0] <= out[1] < 0.12
    assert 0.99 < out[2] < 1


@pytest.mark.parametrize("seed", range(3))
def test_bent_probabilities_mean_more_on_new_prompts(seed: int) -> None:
    logits, scores = bent(4000, seed)
    new, truth = bent(8000, seed + 100)
    raw = sigmoid(new[:, 0])
    line = sigmoid(Curves(*knots(logits, scores, "platt"))(new))[:, 0]
    curve = sigmoid(Curves(*knots(logits, scores, "isotonic"))(new))[:, 0]
    label = truth[:, 0]
    brier = [float(((q - label) ** 2).mean()) for q in (raw, line, curve)]
    assert brier[2] < brier[1] < brier[0]
    assert ece(curve, label) < 0.5 * ece(line, label)
    assert ece(curve, label) < 0.03


# Through the artefact and the served head


TEXTS = ["hello world", "abc abc ?", "", "world " * 40, "xyz hello"]


def uncalibrated() -> Artefact:
    vocab, longest = build_vocab(["[UNK]", *"abcdefghijklmnopqrstuvwxyz", "hello", "world", "?"])
    spec = EncoderSpec(pieces=30, unk=0, max_piece=longest, word_rows=64, word_cap=16.0)
    draw = np.random.default_rng(3)
    models = tuple(ModelRecord(name=f"m{i}", strength=0.3 + 0.1 * i) for i in range(4))
    arrays: dict[str, npt.NDArray[np.generic]] = {
        "table": draw.normal(0, 0.5, (spec.rows, 16)).astype(np.float16),
        "vocab": vocab,
        "vectors": draw.normal(0, 0.5, (4, 16)).astype(np.float32),
        "bias": np.linspace(-1, 1, 4).astype(np.float32),
    }
    return Artefact(meta=Metadata(format=FORMAT, encoder=spec, models=models), arrays=arrays)


def held_out(models: int = 4) -> tuple[Floats, Floats]:
    parts = [bent(800, seed) for seed in range(models)]
    scores = np.hstack([y for _, y in parts])
    scores[::7, 0] = np.nan
    return np.hstack([z for z, _ in parts]), scores


CLAIMS = [Claim(name="a", like="m2"), Claim(name="b", strength=0.47), Claim(name="c", like="m0")]


def logit(q: npt.NDArray[np.floating]) -> npt.NDArray[np.float64]:
    q = np.asarray(q, np.float64)
    return np.log(q / (1 - q))


@pytest.mark.parametrize("kind", ["mf", "mf_numpy"])
@pytest.mark.parametrize("method", ["platt", "isotonic", "none"])
def test_served_is_what_was_fitted(method: calibration.Method, kind: str, tmp_path) -> None:
    artefact = uncalibrated()
    logits, scores = held_out()
    path = tmp_path / "router.safetensors"
    write(path, calibrated(artefact, logits, scores, method))
    assert read(path).meta.calibration == method
    raw = logit(make(artefact, [Claim(name=m.name, like=m.name) for m in artefact.meta.models]).score_many(TEXTS))
    line = lines(logits, scores)
    expected = {
        "none": raw,
        "platt": raw * line[:, 0] + line[:, 1],
        "isotonic": Curves(*knots(logits, scores, "isotonic"))(raw),
    }[method]
    head = make(read(path), CLAIMS, kind=kind)
    served = head.score_many(TEXTS)
    assert served[:, [0, 2]] == pytest.approx(sigmoid(expected[:, [2, 0]]), abs=2e-6)
    for text, row in zip(TEXTS, served, strict=True):
        assert head.score(((text, 1.0),)).quality == pytest.approx(tuple(row), abs=1e-6)
    assert [one.name for one in head.placements] == ["a", "b", "c"]


def test_a_line_as_a_curve_places_as_one_folded_in() -> None:
    """Members between references mix calibrated log odds, whether in vectors or after curves."""
    artefact, (logits, scores) = uncalibrated(), held_out()
    folded = make(calibrated(artefact, logits, scores, "platt"), CLAIMS).score_many(TEXTS)
    x, y = knots(logits, scores, "platt")
    curved = {**artefact.arrays, "calibration.x": x, "calibration.y": y}
    assert make(msgspec.structs.replace(artefact, arrays=curved), CLAIMS).score_many(TEXTS) == pytest.approx(
        folded, abs=1e-5
    )


def test_a_plug_in_need_not_know_of_curves(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is asked for its reference models without them, and what it says goes through them once."""
    native, (logits, scores) = uncalibrated(), held_out()
    theirs = msgspec.structs.replace(native, meta=msgspec.structs.replace(native.meta, router="theirs"))
    monkeypatch.setattr("router.heads.plugin.find", lambda name: lambda a, claims: make(a, claims, kind="mf"))
    expected = make(calibrated(native, logits, scores, "isotonic"), CLAIMS).score_many(TEXTS)
    assert make(calibrated(theirs, logits, scores, "isotonic"), CLAIMS).score_many(TEXTS) == pytest.approx(expected)


def test_refuses_what_cannot_be_meant() -> None:
    artefact, (logits, scores) = uncalibrated(), held_out()
    with pytest.raises(ConfigError, match="--calibration: expected one of platt, isotonic, none; got 'beta'"):
        calibrated(artefact, logits, scores, "beta")  # type: ignore[arg-type]
    once = calibrated(artefact, logits, scores, "isotonic")
    with pytest.raises(ConfigError, match="expected an uncalibrated router, got one calibrated before"):
        calibrated(once, logits, scores, "platt")


@pytest.mark.parametrize(
    ("x", "y", "message"),
    [
        ([[0, 1]] * 4, [[1, 1]] * 4, "calibration.y: expected knots that rise for every model"),
        ([[0]] * 4, [[1]] * 4, "calibration.x: expected two knots or more, got 1"),
        ([[0, 1]] * 3, [[0, 1]] * 3, r"calibration.x: expected shape \[4, any\], got \[3, 2\]"),
        ([[0, 1]] * 4, None, "calibration.y: expected this tensor"),
    ],
)
def test_refuses_broken_curves(x, y, message: str) -> None:
    artefact = uncalibrated()
    arrays = {**artefact.arrays, "calibration.x": np.array(x, np.float32)}
    if y is not None:
        arrays["calibration.y"] = np.array(y, np.float32)
    with pytest.raises(ConfigError, match=message):
        make(msgspec.structs.replace(artefact, arrays=arrays), CLAIMS)


@pytest.mark.parametrize("router", ["mf", "rules", "knn"])
def test_every_method_is_calibrated_and_served_so(router: str, table: Path, tmp_path: Path) -> None:
    """`headgate train --calibration isotonic`, whatever the router: what is served is the curve of what it says."""
    out = tmp_path / "router.safetensors"
    asked = ["train", str(table), "--router", router, "--out", str(out), "--size", "small", "--folds", "2", "--json"]
    assert main([*asked, "--calibration", "isotonic"]) == 0
    artefact, claims = read(out), [Claim(name="big"), Claim(name="tiny")]
    curves = curves_of(artefact)
    assert curves is not None
    texts = ["What is 1 + 2?", "Why is 3 like 4 in riddle 9?", "What is 12345 + 99?"]
    raw = make(uncurved(artefact), claims).score_many(texts)
    order = [[model.name for model in artefact.meta.models].index(claim.name) for claim in claims]
    expected = sigmoid(curves.of_models(np.array(order))(logit(np.clip(raw, 1e-7, 1 - 1e-7))))
    served = make(artefact, claims)
    assert served.score_many(texts) == pytest.approx(expected, abs=2e-6)
    assert served.score(((texts[2], 1.0),)).quality == pytest.approx(tuple(expected[2]), abs=2e-6)
