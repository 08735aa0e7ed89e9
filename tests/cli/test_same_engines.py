"""Which differences between a config and a running server a takeover lets pass."""

import contextlib
from typing import Any, Literal

import msgspec
import pytest

from router.cli.same_engines import as_running, check_same_devices, check_same_engines, check_same_mps, held
from router.config import Config, Gpu, Member
from router.errors import ConfigError
from router.ipc.handover import Daemon, Held

RUNNING = Member(name="m", model="x", engine_args={"dtype": "half", "block_size": 32, "limits": {"image": [1, 2]}})

DAEMON = Daemon(pipes="/run/mps/pipe", logs="", started=True)


@pytest.mark.parametrize(
    ("mps", "running", "why"),
    [
        ("on", None, "`gpu.mps` is off in the running server, on in this config: a takeover changes no engine; end"),
        ("off", DAEMON, "`gpu.mps` is on in the running server, off in this config"),
        ("on", DAEMON, ""),
        ("off", None, ""),
    ],
)
def test_engines_that_run_under_mps_go_on_under_it_and_others_without(
    mps: Literal["on", "off"], running: Daemon | None, why: str
) -> None:
    config = Config(pool=(RUNNING,), gpu=Gpu(mps=mps))
    with pytest.raises(ConfigError, match=why) if why else contextlib.nullcontext():
        check_same_mps(config, running)


def over_the_line(*pool: Member) -> tuple[Held, ...]:
    return msgspec.json.decode(msgspec.json.encode(held(pool)), type=tuple[Held, ...])


def changed(**fields: Any) -> Member:
    return msgspec.structs.replace(RUNNING, **fields)


@pytest.mark.parametrize(
    "member",
    [
        RUNNING,
        changed(also=("n",), like="o", strength=0.5, usd_per_hour=9.0, env={"A": "1"}, gpu_share=0.5),
        changed(engine_args={"dtype": "half", "limits": {"image": [1, 2]}}),
        changed(engine_args={"dtype": "half", "block-size": 32, "limits": {"image": [1, 2]}}),
    ],
    ids=["the same", "of the frontend's own", "without a default of ours", "spelt otherwise"],
)
def test_what_an_engine_does_not_notice_may_differ(member: Member) -> None:
    check_same_engines((member,), over_the_line(RUNNING))


@pytest.mark.parametrize(
    ("fields", "why"),
    [
        ({"model": "y"}, "engine 'm': `model` is 'x' in the running server, 'y' in this config: a takeover changes no"),
        ({"fast_path": False}, "engine 'm': `fast_path` is not set in the running server, False in this config"),
        (
            {"engine_args": {}},
            "engine 'm': `engine_args.dtype` is 'half' in the running server, not set in this config",
        ),
        ({"engine_args": {**RUNNING.engine_args, "block_size": 16}}, "`engine_args.block_size` is 32 in the running"),
        ({"name": "n"}, "the running server has an engine 'm', this config has none"),
    ],
)
def test_what_a_running_engine_cannot_change_is_refused(fields: dict[str, Any], why: str) -> None:
    with pytest.raises(ConfigError) as refused:
        check_same_engines((changed(**fields),), over_the_line(RUNNING))
    assert why in str(refused.value)


def test_members_by_url_come_go_and_change() -> None:
    url = Member(name="u", kind="openai", url="http://a/v1")
    check_same_engines((RUNNING, url), over_the_line(RUNNING))
    check_same_engines((RUNNING,), over_the_line(url, RUNNING))


def test_a_setting_that_the_other_release_does_not_have_counts_only_where_it_is_used() -> None:
    (engine,) = over_the_line(RUNNING)
    check_same_engines((RUNNING,), (engine,))
    other = msgspec.structs.replace(engine, settings={**engine.settings, "rows": [1]})
    with pytest.raises(ConfigError, match=r"`rows` is \[1\] in the running server, not set in this config"):
        check_same_engines((RUNNING,), (other,))


def test_an_engine_that_names_no_place_is_where_it_runs_and_has_the_arguments_that_it_was_given() -> None:
    placed = changed(devices=(1, "GPU-2"), engine_args={**RUNNING.engine_args, "gpu_memory_utilization": 0.4})
    running = over_the_line(placed)
    check_same_engines((RUNNING,), running)
    (member,) = as_running(Config(pool=(RUNNING,)), running).pool
    assert (member.devices, member.engine_args) == (placed.devices, placed.engine_args)
    check_same_devices((member,), running)


def test_an_engine_that_names_another_place_than_where_it_runs_is_refused() -> None:
    running = over_the_line(changed(devices=(0,)))
    member = changed(devices=(1,))
    assert as_running(Config(pool=(member,)), running).pool[0].devices == (1,)
    with pytest.raises(
        ConfigError, match=r"engine 'm': `devices` is \[0\] in the running server, \[1\] in this config"
    ):
        check_same_devices((member,), running)
