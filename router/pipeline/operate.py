"""What an operator asks of one engine: vLLM's own routes that act on it, by the way that requests go.

An engine that sleeps gets no requests, from before it is told to until it is awake again.
"""

from collections.abc import Sequence

import msgspec

from router.errors import BadRequest, EngineFailed, ModelNotFound, RouterError
from router.ipc.spec import EngineCall
from router.pipeline.adapters import PoolAdapters, is_change
from router.pipeline.calls import ask
from router.pipeline.listed import listed
from router.pool.base import PoolMember
from router.pool.engine import EngineMember

#: Waking a large model takes seconds, its first sleep ten.
_LIMIT_S = 600.0


class _Status(msgspec.Struct):
    status: str = ""


async def operate(pool: Sequence[PoolMember], adapters: PoolAdapters, name: str, call: EngineCall) -> bytes:
    """vLLM's answer to `call` by the member called `name`. Raises `RouterError`, vLLM's own refusals among them."""
    member = next((member for member in pool if member.status().name == name), None)
    if member is None:
        there = listed([member.status().name for member in pool])
        raise ModelNotFound(f"no member {name[:200]!r}; there are {there}")
    if not isinstance(member, EngineMember):
        raise BadRequest(f"{name!r} is a URL: its engine is asked where it runs")
    if is_change(call):
        return await adapters.change(member, call, _asked)
    if call.path == "/sleep":
        return await _put_to_sleep(member, call)
    answer = await _asked(member, call)
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
