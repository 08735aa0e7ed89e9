"""Ten thousand clients that say nothing cost little, and nobody else notices."""

import asyncio
import gc
import resource
import sys
import time
from pathlib import Path

import pytest

from router.frontend.server import raise_file_limit
from tests.conftest import patience, until
from tests.frontend.conftest import House, ScriptedService, chat

WANTED = 10_000
#: A connection that has served a request and waits: transport, protocol, parser.
MOST_BYTES_EACH = 4_096

#: Opens argv[2] connections to port argv[1], serves one request on each of the first argv[3], says so, and waits.
_CROWD = """
import resource, socket, sys
port, count, talking = map(int, sys.argv[1:])
hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
crowd = []
for number in range(count):
    crowd.append(socket.create_connection(("127.0.0.1", port)))
    if number < talking:
        crowd[-1].sendall(b"GET /health HTTP/1.1\\r\\nHost: h\\r\\n\\r\\n")
        assert b"200 OK" in crowd[-1].recv(4096)
print("here", flush=True)
sys.stdin.read()
"""


def rss_bytes() -> int:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize()


@pytest.mark.asyncio(loop_factories=["uvloop"])
@pytest.mark.parametrize("talked", [False, True], ids=["silent", "having talked"])
async def test_ten_thousand_idle_connections(house: House, replying: ScriptedService, talked: bool) -> None:
    count = min(WANTED, raise_file_limit(WANTED + 1000) - 1000)
    frontend = await house.start(replying)
    client = await house.connect(frontend)
    client.send(chat())
    await client.response()
    gc.collect()
    before = rss_bytes()
    crowd = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", _CROWD, str(frontend.port), str(count), str(count if talked else 0)),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
    )
    assert crowd.stdout is not None
    assert crowd.stdin is not None
    try:
        async with patience():
            assert await crowd.stdout.readline() == b"here\n"
        await until(lambda: frontend.connections == count + 1, lambda: frontend.connections)
        each = (rss_bytes() - before) / count
        print(f"{count} connections, {each:.0f} bytes each")
        assert each < MOST_BYTES_EACH
        begun = time.thread_time()
        frontend._public.sweep(frontend._public.now)
        assert time.thread_time() - begun < 0.05, "a sweep of all connections"
        client.send(chat())
        assert (await client.response()).status == 200
    finally:
        crowd.stdin.close()
        await crowd.wait()
    await until(lambda: frontend.connections <= 1, lambda: frontend.connections)
