"""A member's load in a header of its answer, and `x-request-id` on every answer: as vLLM's server has them."""

import importlib.util
import re
import subprocess
import sys

import pytest

from router.config import Server
from router.frontend.orca import load_header
from router.frontend.server import Frontend
from router.observe.metrics import Metrics
from router.types import MemberState
from tests.frontend.conftest import Ask, House, ScriptedService, chat, get, post

LOAD = "endpoint-load-metrics"
TEXT = "TEXT named_metrics.num_requests_waiting=1.0, named_metrics.kv_cache_usage_perc=0.25"
JSON = 'JSON {"named_metrics": {"num_requests_waiting": 1.0, "kv_cache_usage_perc": 0.25}}'


@pytest.mark.parametrize(("format", "expected"), [("TEXT", TEXT), ("json", JSON), ("xml", None), ("", None)])
@pytest.mark.parametrize("body", ["chat", "completions"])
async def test_a_whole_answer_tells_its_members_load(ask: Ask, format: str, expected: str | None, body: str) -> None:
    header = f"endpoint-load-metrics-format: {format}"
    data = chat(header) if body == "chat" else post("/v1/completions", {"prompt": "x"}, header)
    response = await ask(data)
    assert response.status == 200
    assert response.headers.get(LOAD) == expected


async def test_other_answers_tell_none(ask: Ask) -> None:
    header = "Endpoint-Load-Metrics-Format: TEXT"
    for data in (
        chat(),
        chat(header, stream=True),
        post("/v1/responses", {"input": "x"}, header),
        get("/health", header),
    ):
        assert LOAD not in (await ask(data)).headers


@pytest.mark.engine
def test_the_text_is_vllms() -> None:
    if importlib.util.find_spec("vllm") is None:
        pytest.skip("vLLM is not installed")
    program = (
        "from vllm.entrypoints.serve.utils.orca_metrics import create_orca_header as made\n"
        "figures = [('num_requests_waiting', 3.0), ('kv_cache_usage_perc', 0.125)]\n"
        "for format in ('TEXT', 'json'): print('made', made(format, figures)['endpoint-load-metrics'])"
    )
    told = subprocess.run([sys.executable, "-P", "-c", program], capture_output=True, text=True, check=True).stdout
    state = MemberState(name="m", waiting=3, kv_use=0.125)
    for format, line in zip(("TEXT", "json"), re.findall("^made (.*)$", told, re.MULTILINE), strict=True):
        assert load_header(format, state) == f"{LOAD}: {line}\r\n"


@pytest.mark.parametrize("named", [False, True])
async def test_every_answer_carries_its_requests_id_where_that_is_asked_for(
    house: House, replying: ScriptedService, named: bool
) -> None:
    replying.metrics = Metrics(process=False)
    frontend = Frontend(Server(port=0, admin_port=0, request_id_headers=named), replying, replying.metrics)
    await frontend.start()
    house.frontends.append(frontend)
    for data in (
        get("/health", "x-request-id: mine"),
        get("/nowhere", "x-request-id: mine"),
        chat("x-request-id: mine"),
    ):
        client = await house.connect(frontend)
        client.send(data)
        response = await client.response()
        wanted = named or response.status == 404 or b"choices" in response.body
        assert response.headers.get("x-request-id") == ("mine" if wanted else None)
    client = await house.connect(frontend)
    client.send(get("/v1/models"))
    told = (await client.response()).headers.get("x-request-id")
    assert re.fullmatch("[0-9a-f]{32}", told or "") if named else told is None
