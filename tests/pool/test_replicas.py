"""Several engines of one model as one member of the pool."""

from pathlib import Path
from typing import Any, cast

import pytest

from router.config import Member, Supervision, engines_of
from router.ipc.messages import Load
from router.pool import PoolMember, replicas
from router.pool.base import Call, Work
from router.pool.engine import EngineMember
from router.pool.replicas import Replicas


def engines(count: int, **fields: Any) -> list[EngineMember]:
    """None of them runs."""
    made = engines_of(Member(name="small", model="x", replicas=count, **fields))
    return [EngineMember(member, Supervision(), Path("/nowhere"), gpu_share=1.0) for member in made]


def up(engine: EngineMember, **load: int) -> None:
    engine.phase = "ready"
    engine._load.reported(Load(**load))


def test_each_engine_has_a_name_and_a_host_of_its_own_and_answers_by_the_models_name() -> None:
    pair = engines(2)
    assert [(engine.name, engine.model, engine.answers_as) for engine in pair] == [
        ("small/0", "small", "small"), ("small/1", "small", "small")
    ]  # fmt: skip
    assert len({engine._spec.socket for engine in pair}) == len({engine.log_path for engine in pair}) == 2
    assert [engine.status().model for engine in pair] == ["small", "small"]
    assert [engine.state().name for engine in pair] == ["small", "small"]
    assert engines(1)[0].status().model == ""


def test_the_model_is_ready_while_one_engine_is_and_is_shown_by_the_one_with_least_to_do() -> None:
    model = Replicas("small", tuple(pair := engines(3)))
    assert not model.state().ready
    up(pair[1], running=5)
    assert (model.state().ready, model.state().running) == (True, 5)
    up(pair[2], running=2, waiting=1)
    assert model.state().running == 2
    assert (model.status().name, model.status().phase) == ("small", "ready")


def test_what_no_decision_was_made_for_goes_to_the_engine_with_least_to_do() -> None:
    model, asked = Replicas("small", tuple(pair := engines(2))), list[str]()
    up(pair[0], running=5)
    up(pair[1], running=4)
    for engine in pair:
        engine.submit = lambda work, call, name=engine.name: asked.append(name)  # type: ignore[method-assign, misc]
    model.submit(Work(kind="chat", body=b"{}"), cast(Call, None))
    assert asked == ["small/1"]


def test_members_are_one_a_model_in_the_order_of_their_first_engines_and_engines_in_that_of_their_names() -> None:
    config = [*engines_of(Member(name="small", model="x", replicas=12)), Member(name="large", model="y")]
    config.insert(0, config.pop(11))  # started later, and put before the others
    pool = [EngineMember(member, Supervision(), Path("/nowhere"), gpu_share=1.0) for member in config]
    made: tuple[PoolMember, ...] = replicas.by_model(config, pool)
    small, large = made
    assert isinstance(small, Replicas)
    assert [engine.name for engine in small.engines] == [f"small/{i}" for i in range(12)]
    assert large is pool[-1]
    lanes = replicas.lanes_of(made)
    assert lanes == [[engine.lane for engine in small.engines], [pool[-1].lane]]


async def test_it_starts_and_stops_all_of_them(monkeypatch: pytest.MonkeyPatch) -> None:
    model, done = Replicas("small", tuple(pair := engines(2))), list[tuple[str, str]]()

    async def note(engine: EngineMember, what: str) -> None:
        done.append((engine.name, what))

    for what in ("start", "stop"):
        monkeypatch.setattr(EngineMember, what, lambda engine, what=what: note(engine, what))
    await model.start()
    await model.stop()
    assert done == [(engine.name, what) for what in ("start", "stop") for engine in pair]
