"""`headgate calibrate` as a user types it: the ask is met by the policy's own decisions, and the config says so."""

import hashlib
import json
import math
import random
import sys
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

from router import config as configuration
from router.cli.main import main
from router.errors import ConfigError
from router.heads import read
from router.heads import write as put
from router.heads.checkpoint import FORMAT, DataRecord, Metadata, ModelRecord, write
from router.learn.data import queries
from router.learn.tune.tuning import Ask, tune
from router.native.spec import EncoderSpec
from router.native.vocab import build_vocab
from router.pipeline.decider import Decider
from router.types import Snapshot

WORDS = ["sum", "riddle", "poem", "code", "law", "why", "prove", "list"]
CONFIG = """# a pool
pool:
  - {{name: small, model: a/small, like: m0, gpu_share: 0.1}} # cheap
  - {{name: middle, model: a/middle, like: m1, gpu_share: 0.2}}
  - {{name: large, model: a/large, like: m2, gpu_share: 0.7}}
routing:
  checkpoint: {checkpoint}
  price: 10 # was a guess
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A router whose three models differ by the words of a prompt, and 300 prompts."""
    folder = tmp_path_factory.mktemp("tuning")
    vocab, longest = build_vocab(["[UNK]", *map(chr, range(97, 123)), *(f"##{chr(c)}" for c in range(97, 123)), *WORDS])
    spec = EncoderSpec(pieces=53 + len(WORDS), unk=0, max_piece=longest, word_rows=64)
    draw = np.random.default_rng(4)  # one that expects more of the larger model, on plain questions too
    arrays = {
        "table": draw.normal(0, 0.8, (spec.rows, 16)).astype(np.float16),
        "vocab": vocab,
        "vectors": draw.normal(0, 0.3, (3, 16)).astype(np.float32),
        "bias": np.array([-0.5, 0.2, 0.8], np.float32),
    }
    arrays["table"][-128:] = 0  # the shape's rows: words decide alone
    models = tuple(ModelRecord(name=f"m{i}", strength=0.3 + 0.2 * i) for i in range(3))
    write(folder / "router.safetensors", Metadata(format=FORMAT, encoder=spec, models=models), arrays)
    rng = random.Random(0)
    (folder / "prompts.txt").write_text(
        "\n".join(" ".join(rng.choices(WORDS, k=rng.randint(1, 9))) for _ in range(300))
    )
    return folder


@pytest.fixture
def config(folder: Path, tmp_path: Path) -> Path:
    path = tmp_path / "headgate.yaml"
    path.write_text(CONFIG.format(checkpoint=folder / "router.safetensors"))
    return path


def counted(config: Path, prompts: Path) -> dict[str, float]:
    """What a fresh decider, as serving has it, does with the prompts."""
    decider = Decider(configuration.load(config))
    decisions = [decider.decide(line) for line in prompts.read_text().splitlines()]
    chosen = [decision.terms[decision.member] for decision in decisions]
    large = [decision.terms[2].quality for decision in decisions]
    return {
        "share": sum(term.model == "large" for term in chosen) / len(chosen),
        "usd": 1000 * sum(term.cost_usd for term in chosen) / len(chosen),
        "quality": sum(term.quality for term in chosen) / sum(large),
    }


def calibrate(capsys: pytest.CaptureFixture[str], *argv: object) -> dict[str, Any]:
    assert main(["calibrate", *map(str, argv), "--json"]) == 0
    found: dict[str, Any] = json.loads(capsys.readouterr().out)
    return found


@pytest.mark.parametrize("rule", ["price", "threshold"])
def test_the_config_then_does_what_was_asked(
    folder: Path, config: Path, capsys: pytest.CaptureFixture[str], rule: str
) -> None:
    on = ["--on", folder / "prompts.txt", *(["--threshold"] if rule == "threshold" else [])]
    for share in (0.1, 0.3, 0.5):
        found = calibrate(capsys, config, "--large-share", share, *on)
        done = counted(config, folder / "prompts.txt")
        assert done["share"] == pytest.approx(share, abs=0.01)
        assert found["realised"]["shares"][2] == pytest.approx(done["share"])
        assert getattr(configuration.load(config).routing, rule) == found["value"]
    budget = counted(config, folder / "prompts.txt")["usd"] * 0.8
    found = calibrate(capsys, config, "--budget", f"{budget:.6f}/1k", *on)
    assert budget * 0.97 < counted(config, folder / "prompts.txt")["usd"] <= budget
    assert found["realised"]["usd_per_1k"] == pytest.approx(counted(config, folder / "prompts.txt")["usd"])
    calibrate(capsys, config, "--quality", "95%", *on)
    assert 0.95 <= counted(config, folder / "prompts.txt")["quality"] < 0.96


def test_the_text_shows_the_curve_and_what_changed(
    folder: Path, config: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    plot = tmp_path / "curve.png"
    asked = ["calibrate", str(config), "--large-share", "30%", "--on", str(folder / "prompts.txt"), "--plot", str(plot)]
    assert main(asked) == 0
    said = capsys.readouterr().out
    assert "  30.0% go to large [25.1%, 35.4%]" in said
    assert [line[0] for line in said.splitlines()[1:16]].count(">") == 1
    assert f"{config}: routing.price is now " in said
    assert "(it was 10; until now " in said
    text = config.read_text()
    assert text.startswith("# a pool\n")
    assert text.endswith(" # was a guess\n")
    assert plot.read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize("prompts", [1, 2, 99, 100])
def test_few_prompts_are_told_and_their_intervals_are_bounded(
    folder: Path, config: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path, prompts: int
) -> None:
    lines = (folder / "prompts.txt").read_text().splitlines()[:prompts]
    (tmp_path / "few.txt").write_text("\n".join(lines))
    asked = [config, "--large-share", "0", "--on", tmp_path / "few.txt", "--dry-run"]
    found = calibrate(capsys, *asked)
    assert found["few"] == (prompts < 100)
    for name, most in (("share", 1), ("quality", 1), ("usd", math.inf)):
        interval = found[f"{name}_interval"]
        assert (interval is None) == (prompts == 1)
        assert interval is None or 0 <= interval[0] < interval[1] <= most
    assert main(["calibrate", *map(str, asked)]) == 0
    said = capsys.readouterr().out
    count = {1: "one prompt says", 2: "2 prompts say", 99: "99 prompts say"}.get(prompts)
    warning = f"Warning: {count} little of others; the setting may be far off. Expected 100 or more."
    assert (warning in said) == (prompts < 100)
    assert said.count("(of one prompt)") == (3 if prompts == 1 else 0)
    assert ("In brackets, " in said) == (prompts > 1)


def test_prompts_that_were_trained_on_are_told(
    folder: Path, config: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    made = read(folder / "router.safetensors")
    digest = hashlib.sha256((folder / "prompts.txt").read_bytes()).hexdigest()
    data = (DataRecord(name="prompts.txt", sha256=digest, rows=300),)
    put(
        tmp_path / "seen.safetensors", msgspec.structs.replace(made, meta=msgspec.structs.replace(made.meta, data=data))
    )
    asked = ["calibrate", str(config), "--large-share", "0.2", "--on", str(folder / "prompts.txt"), "--dry-run"]
    assert main(asked) == 0
    assert "was trained on" not in capsys.readouterr().out
    config.write_text(
        config.read_text().replace(str(folder / "router.safetensors"), str(tmp_path / "seen.safetensors"))
    )
    assert main(asked) == 0
    assert "The router was trained on these very prompts" in capsys.readouterr().out


def test_a_dry_run_leaves_the_config(folder: Path, config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = config.read_bytes()
    asked = ["calibrate", str(config), "--large-share", "0.2", "--on", str(folder / "prompts.txt"), "--dry-run"]
    assert main(asked) == 0
    assert config.read_bytes() == before
    assert "left as it is; routing.price would be " in capsys.readouterr().out


def test_what_is_not_installed_is_told(
    folder: Path, config: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """And the config stays, as the picture could not be drawn."""
    before = config.read_bytes()
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    asked = ["calibrate", str(config), "--large-share", "0.2", "--on", str(folder / "prompts.txt"), "--plot", "x.png"]
    assert main(asked) == 2
    assert "calibrating needs matplotlib: pip install 'headgate-router[train]'" in capsys.readouterr().err
    assert config.read_bytes() == before


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("no/such/folder.png", "--plot: expected a file in an existing folder, got "),
        ("curve.word", "--plot: expected a name in .png, .svg, .pdf, got 'curve.word'"),
        ("folder.png", "--plot: expected the name of a file, got the folder "),
        ("prompts.png", "--plot: expected another file than those that are read, got "),
    ],
)
def test_a_picture_that_cannot_be_written(
    folder: Path, config: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path, name: str, message: str
) -> None:
    (tmp_path / "folder.png").mkdir()
    (tmp_path / "prompts.png").symlink_to(folder / "prompts.txt")
    before = config.read_text()
    asked = ["calibrate", str(config), "--large-share", "0.2", "--on", str(folder / "prompts.txt")]
    assert main([*asked, "--plot", str(tmp_path / name)]) == 2
    said = capsys.readouterr().err
    assert message in said
    assert "score 300 prompts" not in said  # before the work
    assert config.read_text() == before


def test_a_running_servers_rates_count(
    folder: Path, config: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """A large model that is slower by half needs a lower price for the same share."""
    states = [
        msgspec.structs.replace(state, time_per_output_token_s=0.03 if state.name == "large" else 0.02)
        for state in Decider(configuration.load(config)).assumed.members
    ]
    load = tmp_path / "members.json"
    told = {"members": [{"name": s.name, "phase": "ready", "state": s, "in_flight": 3} for s in states]}
    load.write_bytes(msgspec.json.encode(told))
    on = ["--large-share", 0.3, "--on", folder / "prompts.txt", "--dry-run"]
    idle, loaded = calibrate(capsys, config, *on), calibrate(capsys, config, *on, "--load", load)
    assert loaded["value"] < 0.8 * idle["value"]
    assert loaded["realised"]["shares"][2] == pytest.approx(0.3, abs=0.01)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('{"members": [{"state": {"name": "b"}}]}', "members: expected small, middle, large as in the config, got b"),
        ("[]", "expected what the admin port's /members answers"),
        (None, "cannot be read: No such file"),
    ],
)  # fmt: skip
def test_refuses_another_pools_load(
    folder: Path, config: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path, content: str | None, message: str
) -> None:
    load = tmp_path / "members.json"
    if content is not None:
        load.write_text(content)
    asked = ["--large-share", "0.3", "--on", str(folder / "prompts.txt"), "--load", str(load)]
    assert main(["calibrate", str(config), *asked]) == 2
    assert message in capsys.readouterr().err


@pytest.mark.parametrize(
    ("ask", "message"),
    [
        (["--large-share", "1"], "a price of 0 or more sends it none where another"),
        (["--budget", "0.001/1k"], "--budget 0.001: these prompts cost $"),
        (["--quality", "1.9"], "--quality 1.9: at most 1."),
    ],
)
def test_what_cannot_be_reached_is_told(
    folder: Path, config: Path, capsys: pytest.CaptureFixture[str], ask: list[str], message: str
) -> None:
    before = config.read_bytes()
    assert main(["calibrate", str(config), *ask, "--on", str(folder / "prompts.txt")]) == 2
    assert message in capsys.readouterr().err
    assert config.read_bytes() == before


def test_the_threshold_reaches_every_share(folder: Path, config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for share in (0.0, 1.0):
        calibrate(capsys, config, "--large-share", share, "--threshold", "--on", folder / "prompts.txt")
        assert counted(config, folder / "prompts.txt")["share"] == share


def test_a_price_is_not_set_where_none_is_read(folder: Path, config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config.write_text(config.read_text() + "  threshold: 0.3\n")
    assert main(["calibrate", str(config), "--large-share", "0.3", "--on", str(folder / "prompts.txt")]) == 2
    assert "`routing.threshold` is set, so `auto` reads no price" in capsys.readouterr().err


def test_members_that_cost_the_same_are_told(folder: Path, config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = config.read_text()
    for share in ("0.1", "0.2", "0.7"):
        text = text.replace(f"gpu_share: {share}", "gpu_share: 0.3")
    config.write_text(text)
    assert main(["calibrate", str(config), "--large-share", "0.3", "--on", str(folder / "prompts.txt")]) == 2
    said = capsys.readouterr().err
    assert "nothing moves any of these prompts: at every setting they go" in said
    assert "All members cost the same here, as rates are learnt while serving" in said


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["--large-share", "1.2"], "argument --large-share: expected 0 to 1 or a percentage, got '1.2'"),
        (["--large-share", "few"], "argument --large-share: expected 0 to 1 or a percentage, got 'few'"),
        (["--budget", "2.50"], "--budget: expected dollars for a number of requests, as in 2.50/1k, got '2.50'"),
        (["--budget", "1/0k"], "--budget: expected dollars for a number of requests"),
        (["--budget", "1/1k", "--quality", "1"], "argument --quality: not allowed with argument --budget"),
        ([], "one of the arguments --large-share --budget --quality is required"),
    ],
)  # fmt: skip
def test_usage(capsys: pytest.CaptureFixture[str], argv: list[str], message: str) -> None:
    with pytest.raises(SystemExit) as exit:
        main(["calibrate", "x.yaml", *argv, "--on", "x.txt"])
    assert exit.value.code == 2
    assert message in capsys.readouterr().err


@pytest.mark.parametrize(("text", "usd"), [("2.50/1k", 2.5), ("$3/1k", 3), ("0.004/1", 4), ("5/2000", 2.5)])
def test_budgets_are_for_a_thousand(text: str, usd: float) -> None:
    from router.cli.calibrate import _budget

    assert _budget(text) == pytest.approx(usd)


# Rules


def test_prompts_that_none_may_serve_do_not_count(folder: Path, config: Path) -> None:
    decider = Decider(configuration.load(config))
    prompts = queries.read(folder / "prompts.txt")
    picky = [msgspec.structs.replace(q, needs=frozenset({"telepathy"})) if i % 3 else q for i, q in enumerate(prompts)]
    found = tune(decider, picky, Ask("share", 0.3))
    assert (found.prompts, found.refused) == (100, 200)
    assert found.realised.shares[2] == pytest.approx(0.3, abs=0.02)
    with pytest.raises(ConfigError, match="none of the 1 prompts can be served: no model of the pool can do what"):
        tune(decider, picky[1:2], Ask("share", 0.3))


@pytest.mark.parametrize("threshold", [True, False])
def test_a_member_that_is_ruled_out_gets_nothing(folder: Path, config: Path, threshold: bool) -> None:
    """Its share is asked of the rest: by price where the pair is broken."""
    decider = Decider(configuration.load(config))
    pool = list(decider.assumed.members)
    pool[0] = msgspec.structs.replace(pool[0], ready=False)
    prompts = queries.read(folder / "prompts.txt")
    if threshold:
        with pytest.raises(ConfigError, match="nothing moves any of these prompts"):
            tune(decider, prompts, Ask("share", 0.3), threshold=True, snapshot=Snapshot(tuple(pool)))
        return
    found = tune(decider, prompts, Ask("share", 0.3), snapshot=Snapshot(tuple(pool)))
    assert found.realised.shares == pytest.approx((0, 0.7, 0.3), abs=0.01)


def test_a_load_that_is_no_text_is_refused(
    folder: Path, config: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    load = tmp_path / "members.json"
    load.write_bytes(b'{"members": [{"state": {"name": "\xff"}}]}')
    asked = ["--large-share", "0.3", "--on", str(folder / "prompts.txt"), "--load", str(load)]
    assert main(["calibrate", str(config), *asked]) == 2
    assert f"{load}: expected what the admin port's /members answers" in capsys.readouterr().err
