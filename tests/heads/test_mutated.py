"""A checkpoint with any bytes changed is refused by its path, or serves qualities from 0 to 1; nothing else."""

import json

import numpy as np
import pytest

from router import heads
from router.artefacts.artefact import write
from router.errors import ConfigError
from router.heads import Artefact, Claim, curves

SEED = 20
CLAIMS = (Claim(name="one", like="tiny-1b"), Claim(name="new", strength=0.5), Claim(name="other"))
TEXTS = ("", "the cat sat", "x" * 5000, "1 + 1 = ?", "\x00\ud83d", "naïve café " * 300, *heads.base.PLAIN)
NUMBERS = (0, 1, -1, 2, 16, 255, 2**31, 2**63, -(2**63), 1e308, -1e308, 1e-308, 0.5, "", "x", None, True, [], [1], {})
FLOATS = (np.finfo(np.float32).max, -np.finfo(np.float32).max, 1e30, 2e9, -2e9, 1e9, 1e-38, np.inf, np.nan, 0.0)


def tried(path, data):
    """Whether it was served."""
    broken = path.with_name("broken.safetensors")
    broken.write_bytes(data)
    try:
        head = heads.load(broken, CLAIMS)
    except ConfigError as error:
        said = str(error)
    else:
        said = ""
    if said:
        assert str(broken) in said or said.startswith(("one: ", "new: "))
        assert len(said) < 5000
        return False
    quality = head.score_many(TEXTS)
    assert ((quality >= 0) & (quality <= 1)).all()
    assert all(0 <= one <= 1 for one in head.score(((TEXTS[1], 1.0), (TEXTS[5], 0.25))).quality)
    return True


def parts(data):
    size = int.from_bytes(data[:8], "little")
    return json.loads(data[8 : 8 + size]), data[8 + size :]


def joined(header, body):
    text = json.dumps(header).encode()
    text += b" " * (-(8 + len(text)) % 64)
    return len(text).to_bytes(8, "little") + text + body


@pytest.fixture(params=["folded", "curves"])
def whole(request, path, make_parts):
    """A checkpoint without curves, and one with."""
    if request.param == "curves":
        meta, arrays = make_parts()
        models = len(meta.models)
        x = np.tile(np.array([-2, 0, 2], np.float32), (models, 1))
        write(path, Artefact(meta=meta, arrays={**arrays, curves.X: x, curves.Y: x * np.float32(1.5)}))
    return path.read_bytes()


def test_the_whole_file_is_served(path, whole):
    assert tried(path, whole)


def test_bytes_changed_anywhere(path, whole):
    rng = np.random.default_rng(SEED)
    served = 0
    for _ in range(150):
        data = bytearray(whole)
        end = len(data) if rng.random() < 0.5 else min(len(data), 3000)
        for at in rng.integers(0, end, rng.integers(1, 9)):
            data[at] = rng.choice([0, 0x7F, 0xFF, int(rng.integers(256))])
        served += tried(path, bytes(data))
    assert served > 0  # not all is noticed, nor has to be


def test_cut_doubled_and_swollen(path, whole):
    rng = np.random.default_rng(SEED)
    for cut in rng.integers(0, len(whole), 40):
        assert not tried(path, whole[:cut])
        tried(path, whole[:cut] + whole[:cut])
        tried(path, whole[:cut] + bytes(rng.integers(0, 256, 99, np.uint8)) + whole[cut:])


def test_any_value_anywhere_in_the_header(path, whole):
    rng = np.random.default_rng(SEED)
    header, body = parts(whole)
    for _ in range(300):
        made = json.loads(json.dumps(header))
        inside = rng.random() < 0.7
        at = json.loads(made["__metadata__"]["headgate"]) if inside else made
        root = at
        while True:  # walks down to some value, and puts another one there
            key = rng.choice(list(at)) if isinstance(at, dict) else int(rng.integers(len(at)))
            if isinstance(at[key], dict | list) and at[key] and rng.random() < 0.8:
                at = at[key]
                continue
            at[key] = NUMBERS[rng.integers(len(NUMBERS))]
            break
        if inside:
            made["__metadata__"]["headgate"] = json.dumps(root)
        tried(path, joined(made, body))


def test_any_number_as_a_weight(path, whole):
    rng = np.random.default_rng(SEED)
    header, body = parts(whole)
    names = [name for name in header if name != "__metadata__" and header[name]["dtype"] == "F32"]
    for value in FLOATS:
        for name in names:
            first, last = header[name]["data_offsets"]
            array = np.frombuffer(body[first:last], np.float32).copy()
            array[rng.integers(0, len(array), max(1, len(array) // 2))] = value
            tried(path, joined(header, body[:first] + array.tobytes() + body[last:]))
            array[:] = np.where(np.arange(len(array)) % 2, -value, value)
            tried(path, joined(header, body[:first] + array.tobytes() + body[last:]))


def test_two_tensors_of_the_same_bytes_are_refused(path, whole):
    header, body = parts(whole)
    header["again"] = header["table"]
    path.write_bytes(joined(header, body))
    with pytest.raises(ConfigError, match=r"(again|table): expected data behind that of (again|table), got offset"):
        heads.read(path)


@pytest.mark.parametrize("value", [1.01e9, -2e9, np.finfo(np.float32).max])
@pytest.mark.parametrize("name", ["vectors", "bias"])
def test_weights_beyond_all_sense_are_refused_by_name(path, make_parts, name, value):
    meta, arrays = make_parts()
    arrays[name].flat[0] = value
    with pytest.raises(ConfigError, match=rf"{name}: expected numbers from -1e\+09 to 1e\+09, got "):
        write(path, Artefact(meta=meta, arrays=arrays))


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("strength", 1.5, r"models: tiny-1b: strength: expected 0 to 1, got 1\.5"),
        ("strength", -0.1, r"models: tiny-1b: strength: expected 0 to 1, got -0\.1"),
        ("size_b", 0, r"models: tiny-1b: size_b: expected billions of parameters above 0 and up to 1e\+06, got 0"),
        ("size_b", 1e300, r"models: tiny-1b: size_b: expected billions of .* got 1e\+300"),
    ],
)
def test_facts_of_models_out_of_range_are_refused(path, whole, key, value, message):
    header, body = parts(whole)
    meta = json.loads(header["__metadata__"]["headgate"])
    meta["models"][0][key] = value
    header["__metadata__"]["headgate"] = json.dumps(meta)
    path.write_bytes(joined(header, body))
    with pytest.raises(ConfigError, match=message):
        heads.read(path)


def test_a_curve_that_ends_in_a_wall_is_refused(path, make_parts):
    meta, arrays = make_parts()
    models = len(meta.models)
    x = np.tile(np.array([0, 1e-30], np.float32), (models, 1))
    y = np.tile(np.array([0, 1], np.float32), (models, 1))
    write(path, Artefact(meta=meta, arrays={**arrays, curves.X: x, curves.Y: y}))
    with pytest.raises(
        ConfigError, match=r"calibration\.y: expected outermost lines of a slope up to 1e\+06, got 1e\+3"
    ):
        heads.load(path, [Claim(name="one", like="tiny-1b")])


def test_a_head_that_makes_no_quality_is_refused_by_its_question():
    class Bad:
        placements = (heads.Placement(name="m", by="like"),)

        def score_many(self, texts):
            return np.full((len(texts), 1), np.nan, np.float32)

    with pytest.raises(
        ConfigError, match=r"x: expected weights that make a quality from 0 to 1, got nan for 'm' on ''"
    ):
        heads.checked(Bad(), "x")


def test_a_header_nested_without_end_is_refused(path, whole):
    header, body = parts(whole)
    deep = '{"format": 1, "models": [{"name": "m"}], "options": {"x": ' + "[" * 100_000
    assert not tried(path, joined(header | {"__metadata__": {"headgate": deep}}, body))
    text = b'{"x": ' + b"[" * 100_000
    assert not tried(path, len(text).to_bytes(8, "little") + text + body)
