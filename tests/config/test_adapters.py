"""LoRA adapters in a config: how they may be written, which names are refused, and files that hold none."""

import json
from pathlib import Path
from typing import Any

import pytest

from router import config
from router.config import adapters_of, check_adapter_files
from router.errors import ConfigError
from router.types import Adapter

ON: dict[str, Any] = {"enable_lora": True}


def pool(*modules: Any, others: tuple[dict[str, Any], ...] = (), **args: Any) -> dict[str, Any]:
    engine_args = {**ON, **args, "lora_modules": list(modules)}
    return {"pool": [{"name": "base", "model": "org/base", "also": ["b"], "engine_args": engine_args}, *others]}


@pytest.mark.parametrize(
    "modules",
    [
        "sql=/a/sql",
        ["sql=/a/sql"],
        ["", "sql=/a/sql", None],
        [{"name": "sql", "path": "/a/sql"}],
        '{"name": "sql", "path": "/a/sql", "base_model_name": "base"}',
    ],
)
def test_each_way_in_which_vllm_takes_an_adapter_is_understood(modules: Any) -> None:
    assert adapters_of({"lora-modules": modules}) == (Adapter("sql", "/a/sql"),)


def test_a_fused_layout_is_kept() -> None:
    modules = [{"name": "sql", "path": "/a/sql", "is_3d_lora_weight": True}]
    assert adapters_of({"lora_modules": modules}) == (Adapter("sql", "/a/sql", fused=True),)


@pytest.mark.parametrize(
    ("tree", "why"),
    [
        (pool("base=/a"), "the adapter's name 'base' is taken by member 'base'; names must differ"),
        (pool("b=/a"), "the adapter's name 'b' is taken by member 'base'"),
        (pool("org/base=/a"), "the adapter's name 'org/base' is taken by member 'base'"),
        (pool("auto=/a"), "'auto' cannot name an adapter: it is empty or means a route"),
        (pool("router-mf-0.1=/a"), "'router-mf-0.1' cannot name an adapter"),
        (pool(" x=/a"), "expected a name of up to 256 characters"),
        (pool("x=/a", "x=/b"), "the adapter's name 'x' is taken by an adapter of member 'base'"),
        (pool("other=/a", others=({"name": "other", "model": "m"},)), "'other' is taken by member 'other'"),
        (pool("x=/a", enable_lora=False), "needs `enable_lora: true` beside it"),
        (pool("x="), "adapter 'x' has no path"),
        (pool("/a/sql"), "expected `name=path`, or an object of `name` and `path`, got '/a/sql'"),
        (pool({"name": "x", "rank": 8}), "unknown field `rank`"),
    ],
)
def test_what_cannot_be_an_adapter_is_refused_with_its_place(tree: dict[str, Any], why: str) -> None:
    with pytest.raises(ConfigError) as refused:
        config.build(tree, source="headgate.yaml")
    assert why in str(refused.value)
    assert str(refused.value).endswith(" - at `$.pool[0].engine_args.lora_modules`")


def test_two_members_cannot_have_adapters_of_one_name() -> None:
    second = {"name": "second", "model": "m", "engine_args": {**ON, "lora_modules": ["x=/b"]}}
    with pytest.raises(ConfigError, match=r"'x' is taken by an adapter of member 'base'.*pool\[1\]"):
        config.build(pool("x=/a", others=(second,)))


def adapter(folder: Path, rank: int = 8, **card: Any) -> Path:
    folder.mkdir()
    (folder / "adapter_config.json").write_text(json.dumps({"r": rank, **card}))
    (folder / "adapter_model.safetensors").write_bytes(b"")
    return folder


def test_an_adapter_beside_the_config_is_found_from_there(tmp_path: Path) -> None:
    adapter(tmp_path / "sql")
    (tmp_path / "headgate.yaml").write_text(json.dumps(pool("sql=sql", {"name": "y", "path": "org/hub"})))
    loaded = config.load(tmp_path / "headgate.yaml")
    check_adapter_files(loaded, "headgate.yaml")
    found = adapters_of(loaded.pool[0].engine_args)
    assert found == (Adapter("sql", str(tmp_path / "sql")), Adapter("y", "org/hub"))


@pytest.mark.parametrize(
    ("args", "card", "why"),
    [
        ({}, {"rank": 17}, "has rank 17, above `max_lora_rank`, 16"),
        ({"max_lora_rank": 8}, {"rank": 8, "rank_pattern": {"q_proj": 9}}, "has rank 9, above `max_lora_rank`, 8"),
        ({}, {"rank": "x"}, "holds no adapter: its adapter_config.json cannot be read"),
    ],
)
def test_an_adapter_that_does_not_fit_is_refused_before_the_engine_starts(
    tmp_path: Path, args: dict[str, Any], card: dict[str, Any], why: str
) -> None:
    tree = pool(f"x={adapter(tmp_path / 'x', **card)}", **args)
    with pytest.raises(ConfigError) as refused:
        check_adapter_files(config.build(tree), "headgate.yaml")
    assert f"headgate.yaml: adapter 'x': '{tmp_path}/x' {why}" in str(refused.value)
    assert str(refused.value).endswith(" - at `$.pool[0].engine_args.lora_modules`")


def test_a_path_without_an_adapter_is_refused_before_the_engine_starts(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    weightless = adapter(tmp_path / "weightless")
    (weightless / "adapter_model.safetensors").unlink()
    for path, why in (
        ("/no/such", "is not a folder"),
        (tmp_path / "empty", "is a folder without an adapter: it has no adapter_config.json"),
        (weightless, "it has no adapter_model.safetensors"),
    ):
        with pytest.raises(ConfigError, match=why):
            check_adapter_files(config.build(pool(f"x={path}")), "headgate.yaml")
