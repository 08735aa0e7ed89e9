"""Threads for slow scores: results and errors come back to the loop, and the end of the process waits for none."""

import asyncio
import gc
import subprocess
import sys
import threading
import time
import weakref

import pytest

from router.pipeline.threads import Threads
from tests.conftest import until


async def test_results_and_errors_come_back_and_threads_are_bounded() -> None:
    threads, names = Threads(most=3), set[str]()

    def work(number: int) -> int:
        names.add(str(threading.get_ident()))
        if number == 7:
            raise ValueError("seven")
        return number * 2

    results = await asyncio.gather(*(threads.run(work, n) for n in range(50)), return_exceptions=True)
    assert results[:3] == [0, 2, 4]
    assert str(results[7]) == "seven"
    assert len(names) <= 3
    assert threads.unfinished == 0
    threads.stop()


async def test_a_result_that_nobody_waits_for_any_more_is_dropped() -> None:
    threads, go = Threads(), threading.Event()
    future = threads.run(go.wait, 60)
    future.cancel()
    assert threads.unfinished == 1
    go.set()
    async with asyncio.timeout(60):
        while threads.unfinished:
            await asyncio.sleep(0.001)
    assert future.cancelled()
    threads.stop()


async def test_after_a_stop_threads_end_and_what_has_not_begun_is_not_begun() -> None:
    threads, go, begun = Threads(most=1), threading.Event(), list[int]()
    working = threading.Event()

    def work(seconds: float) -> bool:
        working.set()
        return go.wait(seconds)

    first = threads.run(work, 60)
    assert working.wait(60)
    second = threads.run(begun.append, 1)
    (thread,) = [each for each in threading.enumerate() if each.name == "headgate-scoring" and each.is_alive()][-1:]
    threads.stop()
    assert threads.unfinished == 1
    go.set()
    assert await first is True
    thread.join(60)
    assert not thread.is_alive()
    assert begun == []
    second.cancel()


async def test_where_the_system_has_no_more_threads_those_that_run_do_all_the_work(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def start(self: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    threads, go = Threads(most=3), threading.Event()
    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", start)
        with pytest.raises(RuntimeError, match="can't start new thread"):
            threads.run(go.wait, 60)
        assert threads.unfinished == 0
    first = threads.run(go.wait, 60)
    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", start)
        others = [threads.run(go.wait, 60) for _ in range(3)]
    go.set()
    async with asyncio.timeout(60):
        assert await asyncio.gather(first, *others) == [True] * 4
    assert threads.unfinished == 0
    threads.stop()


async def test_a_second_stop_changes_nothing() -> None:
    threads, go, working = Threads(most=1), threading.Event(), threading.Event()

    def work(seconds: float) -> bool:
        working.set()
        return go.wait(seconds)

    first = threads.run(work, 60)
    assert working.wait(60)
    (thread,) = [each for each in threading.enumerate() if each.name == "headgate-scoring" and each.is_alive()][-1:]
    threads.stop()
    threads.stop()
    assert threads.unfinished == 1
    go.set()
    assert await first is True
    thread.join(60)
    assert not thread.is_alive()


@pytest.mark.parametrize("work", ["time.sleep(600)", "while True: pass"])
def test_the_end_of_a_program_waits_for_no_thread(work: str) -> None:
    program = f"""
import asyncio, time
from router.pipeline.threads import Threads
from tests.conftest import until
def work(_):
    {work}
async def main():
    Threads().run(work, 0)
    await asyncio.sleep(0.2)
asyncio.run(main())
"""
    begun = time.monotonic()
    subprocess.run([sys.executable, "-c", program], check=True, timeout=120)
    assert time.monotonic() - begun < 100


async def test_a_thread_that_waits_holds_nothing_of_its_last_work() -> None:
    """Texts of many megabytes stayed until the thread's next work."""

    class Text:
        pass

    threads = Threads(most=1)
    text = Text()
    gone = weakref.ref(text)
    await threads.run(lambda _: None, text)
    del text
    await until(lambda: gone() is None)
    threads.stop()


async def test_an_error_and_what_it_was_made_of_are_freed_without_the_cycle_collector() -> None:
    class Body:
        """Of megabytes."""

    def refuse(body: Body) -> None:
        raise ValueError(f"a bad {type(body).__name__}")

    threads, body = Threads(most=1), Body()
    kept = weakref.ref(body)
    gc.disable()
    try:
        future = threads.run(refuse, body)
        del body
        with pytest.raises(ValueError, match="a bad Body"):
            await future
        del future
        await until(lambda: kept() is None)
    finally:
        gc.enable()
        threads.stop()
