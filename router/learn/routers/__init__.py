"""The methods that can be trained, by name. The one that is asked for is imported, and only that one."""

from collections.abc import Callable
from importlib.metadata import entry_points

from router.errors import ConfigError
from router.learn.corpus import Corpus
from router.learn.recipe import Recipe
from router.learn.routers.base import Trainer

#: Where other distributions put methods of their own: an entry point is a `Maker`.
ENTRY_POINTS = "headgate.trainers"

Maker = Callable[[Corpus, Recipe], Trainer]


def make(name: str, corpus: Corpus, recipe: Recipe) -> Trainer:
    """Raises ConfigError where there is no such method."""
    if name in _MAKERS:
        return _MAKERS[name]()(corpus, recipe)
    for point in entry_points(group=ENTRY_POINTS, name=name):
        maker: Maker = point.load()
        return maker(corpus, recipe)
    raise ConfigError(f"--router: expected one of {', '.join(names())}; got {name!r}")


def names() -> tuple[str, ...]:
    """Plug-ins included."""
    return (*_MAKERS, *sorted({point.name for point in entry_points(group=ENTRY_POINTS)} - _MAKERS.keys()))


def _mf() -> Maker:
    from router.learn.routers.mf import MfTrainer

    return MfTrainer


_MAKERS: dict[str, Callable[[], Maker]] = {"mf": _mf}
