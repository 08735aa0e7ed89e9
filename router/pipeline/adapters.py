"""The LoRA adapters of a pool as model names, and how an operator adds and removes them while all serve."""

import contextlib
from collections.abc import Awaitable, Callable, Mapping, Sequence

import msgspec

from router.config import Member, adapters_of, fault_of_adapter
from router.errors import BadRequest, RouterError
from router.ipc.spec import LOAD_ADAPTER, UNLOAD_ADAPTER, EngineCall
from router.pool.base import PoolMember
from router.pool.engine import EngineMember
from router.pool.laned import ALIVE
from router.pool.replicas import engines_of
from router.types import Adapter

#: vLLM's answer to a call by one member. Raises `RouterError`.
Ask = Callable[[EngineMember, EngineCall], Awaitable[bytes]]


class _Asked(msgspec.Struct):
    """What is read of vLLM's body, all of which vLLM judges too."""

    lora_name: str = ""
    lora_path: str = ""
    is_3d_lora_weight: bool = False


_asked = msgspec.json.Decoder(_Asked, strict=False)


class ConfiguredAdapters:
    """Those that a config names, for who decides without engines."""

    def __init__(self, pool: Sequence[Member]) -> None:
        self._of = [adapters_of(member.engine_args) for member in pool]

    def at(self, name: str) -> int | None:
        """The index of the member that has the adapter called `name`."""
        return next((i for i in range(len(self._of)) if any(adapter.name == name for adapter in self.of(i))), None)

    def of(self, member: int) -> tuple[Adapter, ...]:
        return self._of[member] if member < len(self._of) else ()

    def names(self) -> list[str]:
        return [adapter.name for i in range(len(self._of)) for adapter in self.of(i)]


class PoolAdapters:
    """Those that the engines of a pool have now."""

    def __init__(self, pool: Callable[[], Sequence[PoolMember]], names: Callable[[], Mapping[str, str]]) -> None:
        """`names`: what has which of the other names, in words."""
        self._pool = pool
        self._names = names
        self._loading: dict[str, str] = {}

    def at(self, name: str) -> int | None:
        """The index of the member that has the adapter called `name`."""
        for i, member in enumerate(self._pool()):
            if any(name in engine.adapters for engine in _able(member)):
                return i
        return None

    def of(self, member: int) -> tuple[Adapter, ...]:
        pool = self._pool()
        engines = _able(pool[member]) if member < len(pool) else []
        return tuple({adapter.name: adapter for engine in engines for adapter in engine.adapters.there}.values())

    def names(self) -> list[str]:
        return [adapter.name for i in range(len(self._pool())) for adapter in self.of(i)]

    async def change(self, engines: Sequence[EngineMember], call: EngineCall, ask: Ask) -> bytes:
        """Load or unload one, in all engines of a model: those that run are asked, the others do so as they start.
        Raises `BadRequest` before one is asked where its name means something else; where one refuses to load it none
        has it."""
        first = engines[0]
        if not first.takes_adapters:
            raise BadRequest(f"{first.model!r} takes no adapters: that needs `engine_args: {{enable_lora: true}}`")
        asked = _read(call.body)
        adapter = Adapter(asked.lora_name, asked.lora_path, asked.is_3d_lora_weight)
        running = [engine for engine in engines if engine.phase in ALIVE] or [first]
        if call.path == UNLOAD_ADAPTER:
            answer = b""
            for engine in engines:
                answer = await ask(engine, call) if engine in running else answer
                engine.adapters.unloaded(adapter.name)
            return answer
        self._check(first, adapter.name)
        self._loading[adapter.name] = f"an adapter that {first.model!r} loads just now"
        try:
            answer = await _loaded(running, call, adapter, ask)
        finally:
            self._loading.pop(adapter.name, None)  # vLLM judges those without a name, of which there may be two
        for engine in engines:
            engine.adapters.loaded(adapter)
        return answer

    def _check(self, engine: EngineMember, name: str) -> None:
        """Of an adapter that the member has itself vLLM says whether it may be loaded again."""
        taken = {**self._names(), **self._loading}
        for i, other in enumerate(self._pool()):
            if engine not in engines_of(other):
                owner = f"an adapter of member {other.state().name!r}"
                taken |= {adapter.name: owner for adapter in self.of(i)}
        if name and (why := fault_of_adapter(name, taken)):
            raise BadRequest(why, param="lora_name")


def _able(member: PoolMember) -> list[EngineMember]:
    return [engine for engine in engines_of(member) if isinstance(engine, EngineMember)]


async def _loaded(engines: Sequence[EngineMember], call: EngineCall, adapter: Adapter, ask: Ask) -> bytes:
    """The last answer."""
    answer, having = b"", []
    try:
        for engine in engines:
            answer = await ask(engine, call)
            having.append(engine)
    except BaseException:
        again = EngineCall(path=UNLOAD_ADAPTER, body=msgspec.json.encode({"lora_name": adapter.name}).decode())
        for engine in having:
            with contextlib.suppress(RouterError):
                await ask(engine, again)
        raise
    return answer


def is_change(call: EngineCall) -> bool:
    return call.path in (LOAD_ADAPTER, UNLOAD_ADAPTER)


def _read(body: str) -> _Asked:
    try:
        return _asked.decode(body)
    except msgspec.MsgspecError as error:
        raise BadRequest(f"the body: expected `lora_name` and, to load it, `lora_path`: {error}") from None
