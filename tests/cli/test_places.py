"""What users are shown of where members live."""

from router.cli.places import places_of, places_text
from router.config import Config, DeviceSettings, Member
from router.pool.devices import DeviceList
from router.pool.environment import placed
from tests.pool.gpus import gpus, machine

POOL = (
    Member(name="small", model="org/small", devices=(0,)),
    Member(name="middle", model="org/middle", devices=(0,), engine_args={"gpu_memory_utilization": 0.25}),
    Member(name="large", model="org/large", devices=(1, 2)),
    Member(name="far", kind="openai", url="http://x"),
)


def test_the_table_has_devices_memory_and_price_of_each_member() -> None:
    here = machine(gpus(80, 80, 80))
    config = placed(Config(pool=POOL, devices={"0": DeviceSettings(usd_per_hour=4.0)}), here, None)
    places = places_of(config, here.devices)
    assert places_text(places).splitlines() == [
        "  member  devices     memory  USD/hour",
        "  small   0 (H100)    65.0 %      2.60",
        "  middle  0 (H100)    25.0 %      1.00",
        "  large   1,2 (H100)       -      4.00",
        "  far     elsewhere        -      2.00",
    ]
    assert places[0].devices == ("0",)


def test_on_a_cpu_and_where_devices_are_not_listed_it_says_so() -> None:
    for found, where in ((DeviceList(kind="cpu"), "cpu"), (DeviceList(kind="unlisted"), "all")):
        here = machine(found)
        config = placed(Config(pool=(Member(name="a", model="m"), Member(name="b", model="m"))), here, None)
        places = places_of(config, found)
        assert [(one.where, one.usd_per_hour) for one in places] == [(where, 1.0 if where == "cpu" else 0.9)] * 2
