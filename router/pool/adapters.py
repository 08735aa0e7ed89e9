"""The LoRA adapters of one engine by name, over the lives of its host."""

from collections.abc import Sequence

from router.types import Adapter


class Adapters:
    """Until the engine has told which it has, those of its config. What an operator has loaded since is loaded again
    by the next engine; what one has unloaded is gone until the config's are loaded by a restart."""

    def __init__(self, configured: Sequence[Adapter]) -> None:
        self._configured = frozenset(configured)
        self._there = {adapter.name: adapter for adapter in configured}
        self._added: dict[str, Adapter] = {}

    def __contains__(self, name: str) -> bool:
        return name in self._there

    @property
    def there(self) -> tuple[Adapter, ...]:
        return tuple(self._there.values())

    @property
    def added(self) -> tuple[Adapter, ...]:
        """Those that the engine's arguments do not name."""
        return tuple(self._added.values())

    def found(self, adapters: Sequence[Adapter]) -> None:
        """An engine that we did not start has these: an operator has loaded those that its config does not name."""
        self._added |= {adapter.name: adapter for adapter in adapters if adapter.name not in self._there}

    def told(self, adapters: Sequence[Adapter]) -> list[str]:
        """The engine has these. The names of those that were loaded into the one before, and are not there."""
        self._there = {adapter.name: adapter for adapter in adapters}
        missing = [name for name in self._added if name not in self._there]
        # One that another frontend had loaded, before this one took the engine over, is as one of ours.
        self._added = {adapter.name: adapter for adapter in adapters if adapter not in self._configured}
        return missing

    def loaded(self, adapter: Adapter) -> None:
        self._there[adapter.name] = self._added[adapter.name] = adapter

    def unloaded(self, name: str) -> None:
        self._there.pop(name, None)
        self._added.pop(name, None)
