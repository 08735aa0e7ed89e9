"""`/metrics` while engines are asked: other requests go on, a client that leaves is counted, nobody waits for ever."""

import asyncio

from router.observe.engine_metrics import EngineMetrics
from tests.conftest import patience, until
from tests.frontend.conftest import House, ScriptedService, get

PAGE = '# HELP vllm:running Now.\n# TYPE vllm:running gauge\nvllm:running{engine="0",member="small"} 2.0\n'


async def test_the_page_waits_for_the_engines_and_both_ports_show_it(house: House, replying: ScriptedService) -> None:
    frontend = await house.start(replying)
    go = asyncio.Event()

    async def answer() -> str:
        await go.wait()
        return PAGE

    frontend.metrics.watch_engines(EngineMetrics(lambda: {"small": answer()}, timeout_s=60))
    public, admin = await house.connect(frontend), await house.connect(frontend, admin=True)
    for client in (public, admin):
        client.send(get("/metrics").replace(b"Host: h", b"Host: localhost"))
    other = await house.connect(frontend)
    other.send(get("/health"))
    assert (await other.response()).status == 200
    go.set()
    for client in (public, admin):
        response = await client.response()
        assert response.status == 200
        assert response.headers["content-type"].startswith("text/plain")
        assert b'vllm:running{engine="0",member="small"} 2.0\n' in response.body
        assert b"headgate_connections" in response.body
    public.send(get("/metrics"))  # the connection lives on
    assert (await public.response()).status == 200


async def test_a_client_that_leaves_before_its_page_is_counted_and_the_next_one_gets_it(
    house: House, replying: ScriptedService
) -> None:
    frontend = await house.start(replying)
    go, asked = asyncio.Event(), asyncio.Event()

    async def answer() -> str:
        asked.set()
        await go.wait()
        return PAGE

    frontend.metrics.watch_engines(EngineMetrics(lambda: {"small": answer()}, timeout_s=60))
    leaving, staying = await house.connect(frontend), await house.connect(frontend)
    leaving.send(get("/metrics"))
    async with patience():
        await asked.wait()
    staying.send(get("/metrics"))
    await leaving.close()
    await until(lambda: b'type="client_gone"' in frontend.metrics.render() or frontend.connections == 1)
    go.set()
    assert b"vllm:running" in (await staying.response()).body
