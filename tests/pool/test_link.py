"""What a frontend's end of a host's socket says of itself, and which hosts it refuses."""

import json
import os
from pathlib import Path
from typing import Any

import pytest

from router.config import Member, Supervision
from router.errors import EngineStartError
from router.ipc.messages import PROTOCOL_VERSION
from router.pool.base import Work
from router.pool.engine import EngineMember


def member_of(folder: Path, command: tuple[str, ...], secret: str = "", **engine_args: Any) -> EngineMember:
    member = Member(name="m0", model="scripted", engine_args=engine_args)
    settings = Supervision(stop_timeout_s=2.0, host_secret=secret)
    return EngineMember(member, settings, folder, gpu_share=1.0, env=dict(os.environ), command=command)


async def test_the_supervising_frontend_joins_as_owner_and_shows_the_configured_secret(
    folder: Path, host_command: tuple[str, ...], heard: Any
) -> None:
    member = member_of(folder, host_command, secret="of the hosts")
    try:
        await member.start()
        receiver = heard()
        member.submit(Work(kind="chat", body=b"{}"), receiver)
        await receiver.end()
        assert json.loads(b"".join(receiver.chunks))["hello"] == {"role": "owner", "secret": "of the hosts"}
    finally:
        await member.stop()


@pytest.mark.parametrize(
    ("claims", "why"),
    [
        ({"version": 1}, f"expected protocol version {PROTOCOL_VERSION}, got 1: this frontend and this engine host"),
        ({"version": 3}, f"expected protocol version {PROTOCOL_VERSION}, got 3: this frontend and this engine host"),
        ({"called": "m1"}, "expected the host of model 'm0', got that of 'm1'"),
        ({"refuses": "no room"}, "the engine host refused this frontend: no room"),
    ],
    ids=str,
)
async def test_a_host_that_claims_otherwise_or_refuses_does_not_start_and_why_is_told(
    folder: Path, host_command: tuple[str, ...], claims: dict[str, Any], why: str
) -> None:
    member = member_of(folder, host_command, **claims)
    with pytest.raises(EngineStartError, match=why):
        await member.start()
    assert member.phase == "failed"
    await member.stop()
