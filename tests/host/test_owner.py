"""One owner and any number of clients of a host: who is let in, what each may do, and what the end of one changes."""

import asyncio
import os

import msgspec
import pytest

from router.host import server as server_module
from router.ipc.channel import Channel
from router.ipc.messages import PROTOCOL_VERSION, Chunks, Control, Fail, Hello, Load, Submit
from router.types import Adapter, Usage


@pytest.mark.parametrize("op", ["drain", "sleep", "wake", "stop", "hand_over", "give_up"])
@pytest.mark.parametrize("owned", [True, False])
async def test_a_client_that_asks_for_what_only_the_owner_may_is_refused_and_nothing_changes(
    host, wait_until, op, owned
):
    owner = await host.join() if owned else await host.join("client")
    client = await host.join("client")
    client.send(Control(op))
    client.send(Control("ping"))
    await wait_until(lambda: len(client.controls()) == 2)
    refusal = f"{op}: only the owner of this engine host may ask for it"
    assert client.controls() == [Control("refused", refusal), Control("pong")]
    assert (host.engine.controls, host.stops, host.server.draining) == ([], 0, False)
    owner.submit(1, b"a")
    client.submit(1, b"b")
    await wait_until(lambda: len(host.engine.answers) == 2)
    assert owner.ends() == client.ends() == []


async def test_an_operators_call_is_the_owners_alone(host, wait_until):
    owner, client = await host.join(), await host.join("client")
    call = Submit(id=1, kind="admin", body=b'{"path":"/sleep"}')
    client.send(call)
    await wait_until(client.ends)
    (refused,) = client.of(Fail)
    assert (refused.status, refused.code, refused.retryable) == (403, "not_owner", False)
    assert len(host.engine.answers) == 0
    owner.send(call)
    await wait_until(lambda: len(host.engine.answers) == 1)


async def test_stop_from_the_owner_stops_the_host(host, wait_until):
    owner = await host.join()
    owner.send(Control("stop"))
    await wait_until(lambda: host.stops == 1)


async def test_the_end_of_the_owners_connection_stops_the_host_and_that_of_a_client_does_not(host, wait_until):
    owner, client = await host.join(), await host.join("client")
    client.channel.close()
    await wait_until(lambda: client.lost_error)
    owner.send(Control("ping"))
    await wait_until(owner.controls)
    assert host.stops == 0
    owner.channel.close()
    await wait_until(lambda: host.stops == 1)


async def test_a_second_owner_is_refused_and_the_first_stays(host, wait_until):
    owner = await host.join()
    second = await host.connect(Hello(role="owner"))
    await wait_until(lambda: second.lost_error)
    assert second.frames == [Control("refused", "this engine host has an owner; join it as a client")]
    owner.send(Control("drain"))
    await wait_until(owner.controls)
    assert owner.controls() == [Control("drained")]
    assert host.stops == 0


async def test_the_process_that_started_the_host_becomes_its_owner_and_the_former_owner_a_client(
    host, wait_until, monkeypatch
):
    former = await host.join()
    monkeypatch.setattr("os.getppid", os.getpid)
    starter = await host.join()
    former.send(Control("drain"))
    await wait_until(former.controls)
    assert former.controls()[0].op == "refused"
    former.channel.close()
    await wait_until(lambda: former.lost_error)
    starter.send(Control("drain"))
    await wait_until(starter.controls)
    assert starter.controls() == [Control("drained")]
    assert host.stops == 0


async def test_two_clients_with_equal_ids_get_their_own_answers_and_one_may_abort_its_own_only(host, wait_until):
    first, second = await host.join("client"), await host.join("client")
    first.submit(1, b"a")
    second.submit(1, b"b")
    await wait_until(lambda: len(host.engine.answers) == 2)
    host.engine.answers[b"a"].chunk(b"of a")
    host.engine.answers[b"b"].chunk(b"of b")
    await wait_until(lambda: first.bytes_of(1) and second.bytes_of(1))
    assert (first.bytes_of(1), second.bytes_of(1)) == (b"of a", b"of b")
    first.abort(1)
    await wait_until(lambda: host.engine.stopped)
    assert host.engine.stopped == [b"a"]
    host.engine.answers[b"b"].done(Usage(), "stop")
    await wait_until(second.ends)
    assert (first.ends(), second.ends()) == ([], [(1, "stop")])


# Who is let in


@pytest.mark.parametrize("shown", [b"", b"wron", b"wrong", b"right and more"], ids=bytes.decode)
async def test_a_peer_without_the_right_secret_is_refused(host, wait_until, shown):
    host.server._secret = b"right"
    peer = await host.connect(Hello(role="client", secret=shown))
    await wait_until(lambda: peer.lost_error)
    assert peer.frames == [Control("refused", "the secret is missing or wrong")]


async def test_a_peer_with_the_right_secret_is_let_in(host, wait_until):
    host.server._secret = b"right"
    peer = await host.connect(Hello(role="client", secret=b"right"))
    await wait_until(lambda: len(peer.frames) == 2)
    assert peer.hello().role == "host"


async def test_what_is_sent_behind_a_wrong_secret_reaches_no_engine(host, wait_until):
    host.server._secret = b"right"
    peer = await host.connect(Hello(role="owner", secret=b"wrong"))
    peer.submit(1, b"a")
    peer.send(Control("stop"))
    await wait_until(lambda: peer.lost_error)
    assert (host.engine.answers, host.stops) == ({}, 0)


@pytest.mark.parametrize("version", [1, 3, 99])
async def test_another_protocol_version_is_refused_by_name(host, wait_until, version):
    peer = await host.connect(Hello(role="client", version=version))
    await wait_until(lambda: peer.lost_error)
    (refused,) = peer.frames
    assert refused.op == "refused"
    assert f"expected protocol version {PROTOCOL_VERSION}, got {version}" in refused.argument


@pytest.mark.parametrize("role", ["frontend", "host", ""])
async def test_a_role_that_is_neither_owner_nor_client_is_refused(host, wait_until, role):
    peer = await host.connect(Hello(role=role))
    await wait_until(lambda: peer.lost_error)
    assert peer.frames == [Control("refused", f"expected the role owner or client, got {role!r}")]


async def test_a_request_before_hello_is_refused(host, wait_until):
    peer = await host.connect(None)
    peer.submit(1, b"a")
    await wait_until(lambda: peer.lost_error)
    assert peer.frames == [Control("refused", "expected Hello first, got Submit")]
    assert host.engine.answers == {}


async def test_a_peer_that_says_nothing_is_refused(host, wait_until, monkeypatch):
    monkeypatch.setattr(server_module, "GREETING_S", 0.05)
    peer = await host.connect(None)
    await wait_until(lambda: peer.lost_error)
    assert peer.frames == [Control("refused", "it said nothing for 0.05 s")]


async def test_a_client_above_the_bound_is_refused(host, wait_until, monkeypatch):
    monkeypatch.setattr(server_module, "MOST_CLIENTS", 1)
    await host.join()
    await host.join("client")
    peer = await host.connect(Hello(role="client"))
    await wait_until(lambda: peer.lost_error)
    assert peer.frames == [Control("refused", "this engine host has 1 clients, as many as it takes")]


# Bounds of one client


async def test_requests_above_a_clients_bound_are_refused_and_its_others_and_the_owners_are_not(
    host, wait_until, monkeypatch
):
    monkeypatch.setattr(server_module, "CLIENT_REQUESTS", 2)
    owner, client = await host.join(), await host.join("client")
    for id in range(3):
        client.submit(id, b"c%d" % id)
        owner.submit(id, b"o%d" % id)
    await wait_until(lambda: len(host.engine.answers) == 5)
    await wait_until(client.ends)
    assert (client.ends(), owner.ends()) == ([(2, "429 client_limit")], [])


async def test_a_slow_client_does_not_hold_up_the_owner_or_another_client(host, wait_until):
    owner, slow, other = await host.join(), await host.join("client"), await host.join("client")
    for peer, body in ((owner, b"o"), (slow, b"s"), (other, b"c")):
        peer.submit(1, body)
    await wait_until(lambda: len(host.engine.answers) == 3)
    slow.channel._transport.pause_reading()
    for _ in range(60):
        host.engine.answers[b"s"].chunk(b"x" * 500_000)
        await asyncio.sleep(0)
    assert host.engine.stopped == [b"s"]
    for name, peer in ((b"o", owner), (b"c", other)):
        host.engine.answers[name].chunk(b"answer")
        host.engine.answers[name].done(Usage(), "stop")
        await wait_until(peer.ends)
        assert (peer.bytes_of(1), peer.ends()) == (b"answer", [(1, "stop")])


async def test_a_client_that_asks_and_never_reads_is_cut_at_its_bound(host, wait_until, monkeypatch):
    monkeypatch.setattr(server_module, "CLIENT_UNSENT_BYTES", 1_000_000)
    owner, slow = await host.join(), await host.join("client")
    slow.submit(1, b"s")
    await wait_until(lambda: host.engine.answers)
    slow.channel._transport.pause_reading()
    for _ in range(30):
        host.engine.answers[b"s"].chunk(b"x" * 500_000)
        await asyncio.sleep(0)
    slow.submit(2, b"more")
    slow.channel._transport.resume_reading()
    await wait_until(lambda: slow.lost_error)
    assert b"more" not in host.engine.answers
    owner.submit(1, b"o")
    await wait_until(lambda: b"o" in host.engine.answers)


async def test_load_waits_for_a_client_that_reads_too_slowly_and_is_then_the_latest(host, wait_until):
    client = await host.join("client")
    (connection,) = host.server._connections
    connection.writable(False)
    for running in (1, 2, 3):
        host.engine.now = Load(running=running)
        host.server._send_load()
    client.submit(1, b"a")
    await wait_until(lambda: host.engine.answers)
    connection.writable(True)
    host.engine.answers[b"a"].chunk(b"a")
    await wait_until(lambda: client.of(Chunks))
    assert client.of(Load)[1:] == [Load(running=3)]


async def test_hello_names_the_adapters_that_the_engine_has_now(host):
    host.engine.facts = msgspec.structs.replace(host.engine.facts, adapters=(Adapter("sql", "/sql"),))
    assert (await host.join()).hello().adapters == (Adapter("sql", "/sql"),)
    host.engine.facts = msgspec.structs.replace(host.engine.facts, adapters=())
    assert (await host.join("client")).hello().adapters == ()


async def joined_by_another_process(host, monkeypatch, pid):
    """A frontend whose process the host takes for `pid`."""
    real = Channel.peer_pid
    monkeypatch.setattr(Channel, "peer_pid", pid)
    peer = await host.join("owner")
    monkeypatch.setattr(Channel, "peer_pid", real)
    return peer


async def test_a_process_that_the_owner_named_joins_as_a_second_owner_and_the_host_outlives_the_first(
    host, wait_until, monkeypatch
):
    old = await host.join()
    old.send(Control("hand_over", "4711"))
    await wait_until(lambda: old.controls() == [Control("hand_over", "4711")])
    new = await joined_by_another_process(host, monkeypatch, 4711)
    for owner in (old, new):
        owner.send(Control("sleep", "1"))
    await wait_until(lambda: host.engine.controls == [("sleep", "1")] * 2)
    old.channel.close()
    await wait_until(lambda: len(host.server._connections) == 1)
    assert host.stops == 0
    new.channel.close()
    await wait_until(lambda: host.stops == 1)


async def test_an_owner_that_gave_up_is_a_client_whose_requests_go_on(host, wait_until, monkeypatch):
    old = await host.join()
    old.submit(1, b"a")
    old.send(Control("hand_over", "4711"))
    await wait_until(old.controls)
    new = await joined_by_another_process(host, monkeypatch, 4711)
    old.send(Control("give_up"))
    old.send(Control("stop"))
    await wait_until(lambda: len(old.controls()) == 3)
    refusal = "stop: only the owner of this engine host may ask for it"
    assert old.controls()[1:] == [Control("give_up"), Control("refused", refusal)]
    host.engine.answers[b"a"].done(Usage(), "stop")
    await wait_until(lambda: old.ends() == [(1, "stop")])
    new.channel.close()
    await wait_until(lambda: host.stops == 1)


async def test_a_process_that_was_to_join_may_no_longer_once_the_owner_says_so(host, wait_until, monkeypatch):
    old = await host.join()
    for pid in ("4711", "0"):
        old.send(Control("hand_over", pid))
    await wait_until(lambda: len(old.controls()) == 2)
    monkeypatch.setattr(Channel, "peer_pid", 4711)
    refused = await host.connect(Hello(role="owner"))
    await wait_until(lambda: refused.lost_error)
    assert refused.controls() == [Control("refused", "this engine host has an owner; join it as a client")]


async def test_the_only_owner_cannot_give_up_and_a_hand_over_needs_a_process_id(host, wait_until):
    owner = await host.join()
    owner.send(Control("give_up"))
    owner.send(Control("hand_over", "you"))
    await wait_until(lambda: len(owner.controls()) == 2)
    assert owner.controls() == [
        Control("refused", "give_up: this is the only owner; another must have joined"),
        Control("refused", "hand_over: expected a process id, got 'you'"),
    ]
    owner.channel.close()
    await wait_until(lambda: host.stops == 1)


async def test_one_process_was_named_and_two_come_the_second_is_refused(host, wait_until, monkeypatch):
    old = await host.join()
    old.send(Control("hand_over", "4711"))
    await wait_until(old.controls)
    await joined_by_another_process(host, monkeypatch, 4711)
    monkeypatch.setattr(Channel, "peer_pid", 4711)
    second = await host.connect(Hello(role="owner"))
    await wait_until(lambda: second.lost_error)
    assert second.controls() == [Control("refused", "this engine host has an owner; join it as a client")]
