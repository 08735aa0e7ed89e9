"""What an operator asks of one engine: vLLM's own routes that act on it, by the way that requests go.

An engine that sleeps gets no requests, from before it is told to until it is awake again.
"""

from collections.abc import Coroutine, Sequence

import msgspec

from router.errors import BadRequest, EngineFailed, ModelNotFound, RouterError
from router.ipc.spec import ENGINE_ROUTES, EngineCall
from router.pipeline.adapters import PoolAdapters, is_change
from router.pipeline.calls import ask
from router.pipeline.listed import listed
from router.pool.base import PoolMember
from router.pool.engine import EngineMember
from router.pool.laned import names_of

#: Waking a large model takes seconds, its first sleep ten.
_LIMIT_S = 600.0


class _Status(msgspec.Struct):
    status: str = ""


async def operate(pool: Sequence[PoolMember], adapters: PoolAdapters, name: str, call: EngineCall) -> bytes:
    """vLLM's answer to `call` by the engine called `name`, or of a model by each of its engines, one after another: the
    last answer. Raises `RouterError`, vLLM's own refusals among them."""
    engines = _called(pool, name)
    if is_change(call):
        return await adapters.change(_of_one_model(pool, engines, name), call, _asked)
    if len(engines) > 1 and ENGINE_ROUTES[call.path] == "GET":
        there = listed([engine.name for engine in engines])
        raise BadRequest(f"{name!r} has several engines, of which one can be asked this: {there}")
    for engine in engines[:-1]:
        await _told(engine, call)
    return await _told(engines[-1], call)


def metrics_of(pool: Sequence[PoolMember]) -> dict[str, Coroutine[None, None, str]]:
    """The engines' own, of each that tells them."""
    engines = [member for member in pool if isinstance(member, EngineMember) and member.tells_metrics]
    return {engine.name: engine.metrics() for engine in engines}


def _called(pool: Sequence[PoolMember], name: str) -> list[EngineMember]:
    """The engine of this name, or all engines of the model."""
    found = [member for member in pool if name in names_of(member)]
    if not found:
        there = listed([member.status().name for member in pool])
        raise ModelNotFound(f"no member {name[:200]!r}; there are {there}")
    engines = [member for member in found if isinstance(member, EngineMember)]
    if not engines:
        raise BadRequest(f"{name!r} is a URL: its engine is asked where it runs")
    return engines


def _of_one_model(pool: Sequence[PoolMember], engines: list[EngineMember], name: str) -> list[EngineMember]:
    """Raises `BadRequest` where they are not all that it has: an adapter is the model's."""
    model = engines[0].model
    if len(_called(pool, model)) > len(engines):
        raise BadRequest(f"{name!r} is one of several engines: an adapter is loaded into all of them, by {model!r}")
    return engines


async def _told(member: EngineMember, call: EngineCall) -> bytes:
    if call.path == "/sleep":
        return await _put_to_sleep(member, call)
    answer = await _asked(member, call)
    if call.path == "/reset_prefix_cache":
        member.lane.load.emptied()
    if call.path == "/wake_up" and _says_awake(answer):
        member.fall_asleep(False)
    return answer


async def _put_to_sleep(member: EngineMember, call: EngineCall) -> bytes:
    was_asleep = member.phase == "asleep"
    member.fall_asleep(True)
    try:
        return await _asked(member, call)
    except RouterError:
        member.fall_asleep(was_asleep)
        raise


async def _asked(member: EngineMember, call: EngineCall) -> bytes:
    try:
        return await ask(member, msgspec.json.encode(call), _LIMIT_S, "admin")
    except TimeoutError:
        raise EngineFailed(f"{member.name!r} did not answer within {_LIMIT_S:g} s") from None


def _says_awake(answer: bytes) -> bool:
    """Woken in part (`tags`) it still sleeps."""
    try:
        return msgspec.json.decode(answer, type=_Status).status != "sleeping"
    except msgspec.MsgspecError:
        return True
