"""Threads for work that takes too long for the event loop. The end of the process does not wait for them.

It would wait for those of asyncio's executor, which are joined at exit, however long they still compute.
"""

import asyncio
import contextlib
import os
import threading
from collections.abc import Callable
from queue import Empty, SimpleQueue
from typing import TypeVar

A = TypeVar("A")
R = TypeVar("R")

#: Reading and scoring bodies above this takes milliseconds, which are spent in a thread.
LARGE_BODY_BYTES = 256 * 1024
#: As many as asyncio's executor would start.
MOST_THREADS = min(32, (os.cpu_count() or 1) + 4)


class Threads:
    """Started when they are needed. Called from one event loop's thread."""

    def __init__(self, most: int = MOST_THREADS, name: str = "headgate-scoring") -> None:
        self._most = most
        self._name = name
        self._threads = 0
        self._jobs: SimpleQueue[Callable[[], None] | None] = SimpleQueue()
        self.unfinished = 0  #: that wait or are being done

    def run(self, function: Callable[[A], R], argument: A) -> "asyncio.Future[R]":
        """Call `function` in a thread; what it returns or raises. Raises `RuntimeError` where no thread can be had."""
        loop = asyncio.get_running_loop()
        future: asyncio.Future[R] = loop.create_future()
        waiting = [future]  # none once it is done

        def end(future: "asyncio.Future[R]", result: R | None, error: BaseException | None) -> None:
            self.unfinished -= 1
            if future.done():  # cancelled
                return
            if error is None:
                future.set_result(result)  # type: ignore[arg-type]
            else:
                future.set_exception(error)

        def job() -> None:
            try:
                result, error = function(argument), None
            except BaseException as caught:
                result, error = None, caught
            with contextlib.suppress(RuntimeError):  # the loop is closed: nobody waits any more
                loop.call_soon_threadsafe(end, waiting.pop(), result, error)
            # An error holds this frame. That one must hold neither it nor the future: they, and the bodies of megabytes
            # in the frames below, would wait for the cycle collector.
            error = None

        if self._threads < min(self.unfinished + 1, self._most):
            self._start_thread()
        self.unfinished += 1
        self._jobs.put(job)
        return future

    def stop(self) -> None:
        """Each thread ends after what it does now; what has not begun is not begun. Idempotent."""
        if not self._threads:
            return
        with contextlib.suppress(Empty):
            while True:
                self._jobs.get_nowait()
                self.unfinished -= 1
        for _ in range(self._threads):
            self._jobs.put(None)
        self._threads = 0

    def _start_thread(self) -> None:
        try:
            threading.Thread(target=self._work, name=self._name, daemon=True).start()
        except RuntimeError:  # the system has no more of them
            if not self._threads:
                raise
        else:
            self._threads += 1

    def _work(self) -> None:
        while (job := self._jobs.get()) is not None:
            job()
            job = None  # it holds a request's texts: not while the thread waits for the next
