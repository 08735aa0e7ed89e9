"""The LoRA adapters of a pool as model names, and how an operator adds and removes them while all serve."""

from collections.abc import Awaitable, Callable, Mapping, Sequence

import msgspec

from router.config import Member, adapters_of, fault_of_adapter
from router.errors import BadRequest
from router.ipc.spec import EngineCall
from router.pool.base import PoolMember
from router.pool.engine import EngineMember
from router.types import LOAD_ADAPTER, UNLOAD_ADAPTER, Adapter

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
            if isinstance(member, EngineMember) and name in member.adapters:
                return i
        return None

    def of(self, member: int) -> tuple[Adapter, ...]:
        pool = self._pool()
        found = pool[member] if member < len(pool) else None
        return found.adapters.there if isinstance(found, EngineMember) else ()

    def names(self) -> list[str]:
        return [adapter.name for i in range(len(self._pool())) for adapter in self.of(i)]

    async def change(self, member: EngineMember, call: EngineCall, ask: Ask) -> bytes:
        """Load or unload one. Raises `BadRequest` before the engine is asked where its name means something else."""
        if not member.takes_adapters:
            raise BadRequest(f"{member.name!r} takes no adapters: that needs `engine_args: {{enable_lora: true}}`")
        asked = _read(call.body)
        if call.path == UNLOAD_ADAPTER:
            answer = await ask(member, call)
            member.adapters.unloaded(asked.lora_name)
            return answer
        self._check(member, asked.lora_name)
        self._loading[asked.lora_name] = f"an adapter that {member.name!r} loads just now"
        try:
            answer = await ask(member, call)
        finally:
            self._loading.pop(asked.lora_name, None)  # vLLM judges those without a name, of which there may be two
        member.adapters.loaded(Adapter(asked.lora_name, asked.lora_path, asked.is_3d_lora_weight))
        return answer

    def _check(self, member: EngineMember, name: str) -> None:
        """Of an adapter that the member has itself vLLM says whether it may be loaded again."""
        taken = {**self._names(), **self._loading}
        for i, other in enumerate(self._pool()):
            if other is not member:
                owner = f"an adapter of member {other.status().name!r}"
                taken |= {adapter.name: owner for adapter in self.of(i)}
        if name and (why := fault_of_adapter(name, taken)):
            raise BadRequest(why, param="lora_name")


def is_change(call: EngineCall) -> bool:
    return call.path in (LOAD_ADAPTER, UNLOAD_ADAPTER)


def _read(body: str) -> _Asked:
    try:
        return _asked.decode(body)
    except msgspec.MsgspecError as error:
        raise BadRequest(f"the body: expected `lora_name` and, to load it, `lora_path`: {error}") from None
