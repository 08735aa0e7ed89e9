"""An answer that ends with another engine's name on it: its frame, through the real server."""

import msgspec

from router.ipc.messages import Done, Handoff
from router.types import Usage
from router.watched import Continued, Figures


def handed(text="so far"):
    continued = Continued(id="chatcmpl-a", created=5, sent=3, wrote=(("tiny", 2),))
    figures = Figures(tokens=2, mean_logprob=-0.5)
    return Handoff(id=0, text=text, tokens=2, why="doubtful", usage=Usage(9, 2), figures=figures, continued=continued)


async def test_a_handoff_comes_behind_its_chunks_with_its_id_and_its_timings(host, wait_until):
    frontend = await host.join()
    frontend.submit(7, b"a")
    await wait_until(lambda: host.engine.answers)
    answer = host.engine.answers[b"a"]
    answer.chunk(b"so ")
    answer.handoff(handed())
    await wait_until(lambda: frontend.of(Handoff))
    (frame,) = frontend.of(Handoff)
    assert frontend.bytes_of(7) == b"so "
    assert msgspec.structs.replace(frame, id=0, timings=handed().timings) == handed()
    assert frame.id == 7
    assert 0 < frame.timings.first_token_s <= frame.timings.total_s


async def test_a_handoff_is_the_answers_end(host, wait_until):
    frontend = await host.join()
    frontend.submit(1, b"a")
    frontend.submit(2, b"b")
    await wait_until(lambda: len(host.engine.answers) == 2)
    first, second = host.engine.answers[b"a"], host.engine.answers[b"b"]
    first.handoff(handed())
    first.done(Usage(), "stop")
    first.handoff(handed("twice"))
    second.done(Usage(), "stop")
    second.handoff(handed("late"))
    await wait_until(lambda: frontend.of(Done))
    assert [frame.text for frame in frontend.of(Handoff)] == ["so far"]
    assert [frame.id for frame in frontend.of(Done)] == [2]
    assert host.engine.stopped == []


async def test_a_host_names_what_its_engine_can_beside_its_own(host):
    host.engine.facts = msgspec.structs.replace(host.engine.facts, verbs=("continue", "warm"))
    frontend = await host.join()
    assert {"continue", "warm", "metrics"} <= set(frontend.hello().verbs)
