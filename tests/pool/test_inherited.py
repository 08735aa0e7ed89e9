"""What a frontend that takes an engine over learns of it."""

from router.pool.adapters import Adapters
from router.types import Adapter


def test_an_engine_that_was_taken_over_loads_again_what_its_config_does_not_name() -> None:
    adapters = Adapters((Adapter("a", "/a"),))
    adapters.found((Adapter("a", "/a"), Adapter("b", "/b")))
    assert adapters.told((Adapter("a", "/a"), Adapter("b", "/b"))) == []
    assert adapters.added == (Adapter("b", "/b"),)
