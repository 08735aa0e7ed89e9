"""Objectives over scripted hosts: a share that is held, an SLO that sheds, prices that are seen."""

import json
import signal
import subprocess
import sys
import urllib.error
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.cli.conftest import Serve
from tests.conftest import WORK_S, wait_until

QUEUE = {"running": 1, "waiting": 500, "prefill_tokens_per_s": 1000.0, "time_per_output_token_s": 0.01}
IDLE = {**QUEUE, "running": 0, "waiting": 0}
POOL = [
    {"name": "small", "model": "stub", "like": "llama-3.1-8b-instruct", "gpu_share": 0.1},
    {"name": "large", "model": "stub", "strength": 0.6, "gpu_share": 0.9},
]


def ask(server: Serve, model: str = "auto", *script: list[Any], **headers: str) -> tuple[int, dict[str, str], str]:
    """Status, headers, and the model that answered or the error's message."""
    user = {"user": json.dumps([*script, ["echo"], ["done"]])} if script else {}
    body = {"model": model, "messages": [{"role": "user", "content": "x"}], **user}
    try:
        with server.post(body, headers) as response:
            told = {name.lower(): value for name, value in response.headers.items()}
            return response.status, told, str(json.loads(response.read())["model"])
    except urllib.error.HTTPError as error:
        with error:
            told = {name.lower(): value for name, value in error.headers.items()}
            return error.code, told, str(json.loads(error.read())["error"]["message"])


def prices(server: Serve) -> dict[str, Any]:
    with server.open("/members", admin=True) as response:
        found: dict[str, Any] = json.loads(response.read())["prices"]
        return found


def page(server: Serve) -> str:
    with server.open("/metrics", admin=True) as response:
        return str(response.read().decode())


def test_a_share_is_held_whichever_way_requests_take_and_is_seen(
    serve: Callable[..., Serve], config: Callable[..., Path], checkpoint: Path
) -> None:
    objective = {"kind": "share", "member": "large", "share": 0.3}
    server = serve(config(pool=POOL, objective=objective))
    answered = Counter(ask(server)[2] for _ in range(100))
    explained = [ask(server, **{"x-headgate-debug": "true"}) for _ in range(100)]
    answered += Counter(model for _, _, model in explained)
    assert abs(answered["large"] - 60) <= 22, answered  # by any traffic: (1 / gain + 1) requests
    terms = json.loads(explained[-1][1]["x-headgate-terms"])
    assert [term["favour"] == 0 for term in terms] == [True, False]
    told = wait_until(lambda: (found := prices(server))["reached"] is not None and found, lambda: prices(server))
    assert (told["objective"], told["aim"], told["price"]) == ("share", 0.3, 0.0)
    wait_until(lambda: abs(prices(server)["reached"] - 0.3) < 0.1, lambda: prices(server))
    wait_until(lambda: "headgate_objective_share_reached" in page(server), lambda: page(server))
    config(pool=POOL, objective={"kind": "price"})  # in the same place
    server.process.send_signal(signal.SIGHUP)
    wait_until(lambda: prices(server)["objective"] == "price", lambda: server.errors)
    assert {ask(server)[2] for _ in range(20)} == {"large"}  # lambda is 0, and the large one is the better


def test_an_slo_refuses_what_no_member_would_begin_in_time_and_says_when_to_come_again(
    serve: Callable[..., Serve], config: Callable[..., Path], checkpoint: Path
) -> None:
    path = config(
        pool=POOL,
        routing={"checkpoint": str(checkpoint), "price": 100.0},
        objective={"kind": "slo", "ttft_ms": 1_000, "attainment": 0.9},
    )
    server = serve(path)
    assert ask(server)[0] == 200
    for name in ("small", "large"):
        assert ask(server, name, ["load", QUEUE])[0] == 200
    wait_until(lambda: ask(server)[0] == 429, lambda: server.errors)
    status, headers, message = ask(server)
    assert (status, "first token within 1 s" in message) == (429, True)
    # 500 requests of some tokens each wait: the refusal tells how long it takes until one fewer than the limit does.
    assert float(headers["retry-after-ms"]) / 1e3 > 1
    assert ask(server, "small")[0] == 200  # whoever names a member is not refused
    told = wait_until(lambda: (found := prices(server))["devices"][0]["factor"] > 2 and found, lambda: prices(server))
    assert told["devices"][0]["cause"] == "slo_ttft"
    assert told["devices"][0]["wait_s"] > 0.5
    shown = ask(server, "small", **{"x-headgate-debug": "1"})[1]
    assert json.loads(shown["x-headgate-terms"])[0]["surcharge_of"] == "slo_ttft"
    assert json.loads(shown["x-headgate-terms"])[0]["surcharge"] > 1
    assert shown["x-headgate-price"] == "100.0"
    assert 'headgate_device_price_ratio{device="machine"}' in page(server)
    for name in ("small", "large"):
        assert ask(server, name, ["load", IDLE])[0] == 200
    wait_until(lambda: ask(server)[0] == 200, lambda: server.errors)
    wait_until(lambda: prices(server)["devices"][0]["factor"] == 1.0, lambda: prices(server))
    assert prices(server)["devices"][0]["cause"] == ""


def test_a_budget_that_cannot_be_held_is_told_with_what_the_cheapest_members_take(
    serve: Callable[..., Serve], config: Callable[..., Path], checkpoint: Path
) -> None:
    """Four cents a year: whatever lambda does, the small model's answers cost more."""
    pool = [{**member, "mean_output_tokens": 5} for member in POOL]  # as many as all answers have
    routing = {"checkpoint": str(checkpoint), "price": 3_000.0}
    server = serve(config(pool=pool, routing=routing, objective={"kind": "budget", "usd_per_day": 0.0001}))
    assert ask(server)[2] == "large"  # lambda begins low, and the large one is the better

    def told() -> dict[str, Any]:
        for _ in range(5):
            ask(server)
        return prices(server)

    found = wait_until(lambda: (now := told())["broken"] and now, lambda: (prices(server), server.errors))
    assert found["broken"].startswith("a budget of $0.0001 a day cannot be held: the cheapest members take $")
    assert (found["price_of"], found["price"] > 3_000.0, found["reached"] > 0.0001) == ("budget", True, True)
    assert ask(server)[2] == "small"
    shown = ask(server, **{"x-headgate-debug": "true"})[1]["x-headgate-price"]
    assert shown.endswith("; budget")
    wait_until(lambda: "objective: a budget of $0.0001 a day cannot be held" in server.errors, lambda: server.errors)
    assert "headgate_objective_broken 1.0" in page(server)


def test_members_shows_prices_and_what_the_objective_reaches(
    serve: Callable[..., Serve], config: Callable[..., Path], checkpoint: Path
) -> None:
    path = config(pool=POOL, objective={"kind": "share", "member": "large", "share": 0.3})
    server = serve(path)
    for _ in range(20):
        ask(server)
    ask(server, "small", ["load", QUEUE])
    wait_until(lambda: prices(server)["devices"][0]["factor"] > 1.5, lambda: prices(server))
    shown = members(server, "--prices")
    assert "objective share; lambda 0; aim 0.3 of the requests, reached 0." in shown
    assert [line.split()[0] for line in shown.splitlines()[1:]] == ["device", "machine"]
    assert "queue" in shown
    told = json.loads(members(server, "--prices", "--json"))
    assert (told["objective"], told["devices"][0]["cause"]) == ("share", "queue")
    assert " x " in members(server)


def members(server: Serve, *flags: str) -> str:
    admin = server.admin.removeprefix("http://")
    command = [sys.executable, "-m", "router.cli.main", "members", "--admin", admin, *flags]
    done = subprocess.run(command, capture_output=True, text=True, timeout=WORK_S, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout
