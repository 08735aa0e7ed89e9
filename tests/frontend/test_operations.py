"""vLLM's engine routes on the admin port, by member."""

import msgspec
import pytest

from router.config import Server
from router.errors import BadRequest, EngineFailed
from router.frontend.server import Frontend
from router.ipc.spec import ENGINE_ROUTES, LOAD_ADAPTER, UNLOAD_ADAPTER, EngineCall
from router.observe.metrics import Metrics
from tests.frontend.conftest import House, Response, ScriptedService, get, post


async def asked(house: House, service: ScriptedService, data: bytes, *, admin: bool = True) -> Response:
    frontend = house.frontends[0] if house.frontends else await house.start(service)
    client = await house.connect(frontend, admin=admin)
    client.send(data.replace(b"Host: h", b"Host: localhost"))
    return await client.response()


@pytest.mark.parametrize(("path", "method"), ENGINE_ROUTES.items())
async def test_each_route_is_asked_of_one_member_by_its_method(
    house: House, service: ScriptedService, path: str, method: str
) -> None:
    other = "GET" if method == "POST" else "POST"
    response = await asked(house, service, get(f"/members/org/m%20x{path}?level=2&a=%2F", method=method))
    assert (response.status, response.body) == (200, b'{"success":true}')
    assert service.calls == [("org/m x", EngineCall(path=path, query="level=2&a=%2F"))]
    response = await asked(house, service, get(f"/members/m{path}", method=other))
    assert response.status == 400
    assert f"/members/NAME{path} is asked by {method}" in str(response.error["message"])
    assert len(service.calls) == 1


async def test_a_body_goes_along(house: House, service: ScriptedService) -> None:
    await asked(house, service, post("/members/m/start_profile", b'{"a": 1}'))
    assert service.calls == [("m", EngineCall(path="/start_profile", body='{"a": 1}'))]
    assert (await asked(house, service, post("/members/m/start_profile", b"\xff"))).status == 400


@pytest.mark.parametrize(
    "path", ["/members/m/collective_rpc", "/members/sleep", "/members/m/sleep/x", "/members//sleep"]
)
async def test_no_other_route_of_vllms_is_reached(house: House, service: ScriptedService, path: str) -> None:
    response = await asked(house, service, get(path, method="POST"))
    assert (response.status, response.error["code"]) == (404, "unknown_route")
    assert "/members/NAME/reset_prefix_cache" in str(response.error["message"])
    assert service.calls == []


async def test_the_public_port_has_none_of_them(house: House, service: ScriptedService) -> None:
    response = await asked(house, service, get("/members/m/sleep", method="POST"), admin=False)
    assert response.status == 404
    assert service.calls == []


async def test_a_web_page_cannot_ask(house: House, service: ScriptedService) -> None:
    response = await asked(house, service, get("/members/m/sleep", "Origin: http://a.example", method="POST"))
    assert response.status == 400
    assert service.calls == []


@pytest.mark.parametrize("error", [BadRequest("sleep mode is not enabled"), EngineFailed("lost")])
async def test_a_refusal_reaches_the_operator(
    house: House, service: ScriptedService, error: BadRequest | EngineFailed
) -> None:
    service.refusal = error
    response = await asked(house, service, get("/members/m/sleep", method="POST"))
    assert (response.status, response.error["message"]) == (error.status, str(error))


async def adapters(house: House, service: ScriptedService, data: bytes, *, on: bool = True) -> Response:
    service.metrics = Metrics(process=False)
    config = Server(port=0, admin_port=0, adapter_routes=on, api_keys=("secret",))
    frontend = Frontend(config, service, service.metrics)
    await frontend.start()
    house.frontends.append(frontend)
    client = await house.connect(frontend)
    client.send(data)
    return await client.response()


@pytest.mark.parametrize("path", [LOAD_ADAPTER, UNLOAD_ADAPTER])
async def test_adapters_are_loaded_on_the_public_port_where_the_config_says_so(
    house: House, service: ScriptedService, path: str
) -> None:
    asking = post(path, {"lora_name": "x"}, "x-api-key: secret")
    assert (await adapters(house, service, asking, on=False)).status == 404
    assert (await adapters(house, service, post(path, {}))).status == 401
    assert service.calls == []
    assert (await adapters(house, service, asking)).status == 200
    assert service.calls == [("small", EngineCall(path=path, body='{"lora_name": "x"}'))]


async def test_of_several_engines_none_is_guessed(
    house: House, service: ScriptedService, monkeypatch: pytest.MonkeyPatch
) -> None:
    (small,) = service.members()
    monkeypatch.setattr(service, "members", lambda: (small, msgspec.structs.replace(small, name="large")))
    response = await adapters(house, service, post(LOAD_ADAPTER, {}, "x-api-key: secret"))
    expected = "expected a pool of one engine, there are small, large: ask the admin port, /members/NAME"
    assert (response.status, response.error["message"]) == (400, expected + LOAD_ADAPTER)
