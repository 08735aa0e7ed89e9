"""vLLM's engine routes on the admin port, by member."""

import pytest

from router.errors import BadRequest, EngineFailed
from router.ipc.spec import EngineCall
from router.types import ENGINE_ROUTES
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
