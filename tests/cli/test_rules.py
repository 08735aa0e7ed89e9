"""Rules of the config in a running server: by HTTP, in headers, in the journal, and read again."""

import json
import signal
import urllib.error
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from router.observe.journal import Reader
from router.observe.record import Record
from tests.conftest import wait_until

CARD = "my card is 4111 1111 1111 1111"
REMOTE = {"name": "cloud", "kind": "openai", "url": "http://127.0.0.1:9", "strength": 0.9}
PII = {"name": "pii", "when": {"personal": ["card"]}, "local": True}
TEAM = {"name": "team", "when": {"headers": {"x-team": "law"}}, "pin": "small"}


def chat(text: str, model: str = "auto") -> dict[str, Any]:
    return {"model": model, "messages": [{"role": "user", "content": text}]}


def test_what_rules_did_is_told_in_headers_and_journal_and_they_are_read_again(
    serve: Any, config: Callable[..., Path], checkpoint: Path, tmp_path: Path
) -> None:
    small = {"name": "small", "model": "stub", "like": "llama-3.1-8b-instruct", "gpu_share": 0.1}

    def written(*rules: dict[str, Any]) -> Path:
        routing = {"checkpoint": str(checkpoint), "price": 0.0, "rules": rules}
        return config(pool=[small, REMOTE], routing=routing, journal={"path": str(tmp_path / "journal")})

    server = serve(written(PII, TEAM))
    with server.post(chat(CARD), {"x-headgate-debug": "true"}) as response:
        assert (response.headers["x-headgate-model"], response.headers["x-headgate-reason"]) == ("small", "rule; pii")
        terms = json.loads(response.headers["x-headgate-terms"])
        assert [term["excluded"] for term in terms] == [None, "rule"]
    with server.post(chat("hello"), {"x-team": "law"}) as response:
        assert response.headers["x-headgate-reason"] == "rule; team"
    with pytest.raises(urllib.error.HTTPError) as refused:
        server.post(chat(CARD, "cloud"))
    assert refused.value.code == 403
    error = json.load(refused.value)["error"]
    assert error["message"] == "rules of this server (pii) forbid model 'cloud' for this request"
    assert error["code"] == "rules"

    written(PII | {"name": "cards"})
    server.signal(signal.SIGHUP)
    wait_until(lambda: server.post(chat(CARD)).headers["x-headgate-reason"] == "rule; cards")
    written(TEAM | {"pin": "none"})
    server.signal(signal.SIGHUP)
    server.wait_said("expected a member, one of small, cloud, got 'none' - at `$.routing.rules[0].pin`")
    assert server.post(chat(CARD)).headers["x-headgate-reason"] == "rule; cards"
    server.signal(signal.SIGTERM)
    assert server.end()[0] == 0
    records = [line for line in Reader(tmp_path / "journal") if isinstance(line, Record)]
    reasons = [record.decision.reason for record in records if record.decision is not None]
    assert reasons[:2] == ["rule; pii", "rule; team"]
    assert reasons[-1] == "rule; cards"
