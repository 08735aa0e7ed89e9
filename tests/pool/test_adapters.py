"""The adapters of one engine over the lives of its host."""

from router.pool.adapters import Adapters
from router.types import Adapter

SQL, NEW, MOVED = Adapter("sql", "/sql"), Adapter("new", "/new"), Adapter("sql", "/elsewhere")


def test_those_of_the_config_are_there_until_the_engine_has_told() -> None:
    adapters = Adapters([SQL])
    assert "sql" in adapters
    assert adapters.there == (SQL,)
    assert adapters.told([]) == []
    assert "sql" not in adapters


def test_what_was_loaded_is_to_be_loaded_again_and_what_was_unloaded_is_not() -> None:
    adapters = Adapters([SQL])
    adapters.loaded(NEW)
    assert (adapters.there, adapters.added) == ((SQL, NEW), (NEW,))
    adapters.unloaded("new")
    assert (adapters.there, adapters.added) == ((SQL,), ())


def test_one_that_could_not_be_loaded_again_is_named_once_and_forgotten() -> None:
    adapters = Adapters([SQL])
    adapters.loaded(NEW)
    assert adapters.told([SQL]) == ["new"]
    assert adapters.told([SQL]) == []
    assert adapters.added == ()


def test_one_of_the_config_that_was_loaded_from_elsewhere_is_loaded_from_there_again() -> None:
    adapters = Adapters([SQL])
    adapters.loaded(MOVED)
    assert (adapters.there, adapters.added) == ((MOVED,), (MOVED,))
    assert adapters.told([MOVED]) == []
    assert adapters.added == (MOVED,)


def test_one_that_another_frontend_had_loaded_is_loaded_again_too() -> None:
    adapters = Adapters([SQL])
    adapters.told([SQL, NEW])
    assert adapters.added == (NEW,)
