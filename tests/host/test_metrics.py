"""The engine's own metrics over the socket: for everybody, one answer at a time, empty where they cannot be had."""

import asyncio

from router.ipc.messages import Control


async def test_owner_and_client_may_ask_for_the_engines_metrics_and_hello_says_so(host, wait_until):
    owner, client = await host.join(), await host.join("client")
    verbs = ("metrics", "admin", "stored", "hand_over", "give_up")
    assert owner.hello().verbs == client.hello().verbs == verbs
    host.engine.metrics_page = "# HELP a b\n"
    for peer in (owner, client):
        peer.send(Control("metrics"))
        await wait_until(peer.controls)
        assert peer.controls() == [Control("metrics", "# HELP a b\n")]


async def test_an_engine_whose_metrics_cannot_be_collected_answers_with_none_and_serves_on(host, wait_until):
    told = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: told.append(context["message"]))
    peer = await host.join("client")
    host.engine.broken = RuntimeError("no registry")
    peer.send(Control("metrics"))
    await wait_until(peer.controls)
    assert peer.controls() == [Control("metrics", "")]
    assert told == ["the metrics could not be collected"]
    host.engine.broken = None
    peer.send(Control("metrics"))
    peer.send(Control("ping"))
    await wait_until(lambda: len(peer.controls()) == 3)


async def test_a_peer_that_asks_again_before_the_answer_gets_one_answer(host, wait_until):
    peer, asked, go = await host.join("client"), [], asyncio.Event()

    async def slow():
        asked.append(1)
        await go.wait()
        return "page"

    host.engine.metrics = slow
    for _ in range(1000):
        peer.send(Control("metrics"))
    peer.send(Control("ping"))
    await wait_until(peer.controls)  # all of them are read
    go.set()
    await wait_until(lambda: Control("metrics", "page") in peer.controls())
    assert peer.controls() == [Control("pong"), Control("metrics", "page")]
    assert asked == [1]
