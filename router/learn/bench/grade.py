"""Whether an answer is right: by exact text, number, letter of a choice, regular expression, or a user's command.

A pattern or a command may run for ever, so both run in a process that is ended at its time limit. A grader that fails
gives no grade: it is counted and told, and ends no run.
"""

import contextlib
import os
import re
import select
import shlex
import signal
import subprocess
import sys
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import msgspec

from router.learn.bench.workload import NUMBER, Grader, Item

_SAID = re.compile(r"\banswer\b[^A-Za-z]{0,5}(?:is|:)?[^A-Za-z]{0,5}\(?([A-Za-z])\)?(?![A-Za-z])", re.IGNORECASE)
_LETTER = re.compile(r"(?<![A-Za-z'])\(?([A-J])\)?(?![A-Za-z'])")
_WORKER = Path(__file__).parent / "pattern_worker.py"
_MOST_ANSWER = 1 << 20
_AT_ONCE = 2  #: commands


class Asked(msgspec.Struct, frozen=True, kw_only=True):
    """One answer to be graded; what a command reads as one JSON object on standard input."""

    id: str
    prompt: str
    expected: str
    answer: str


class Grade(msgspec.Struct, frozen=True):
    score: float | None  #: 0..1; None: the grader failed
    why: str = ""


class Graders:
    """All graders of a run. `command`: as a shell would split it; `limit_s`: for one answer."""

    def __init__(self, command: str = "", limit_s: float = 10.0) -> None:
        self._command, self._limit_s = shlex.split(command), limit_s
        self._patterns = _Patterns(limit_s)

    def grade(self, asked: Sequence[tuple[Grader, Asked]], step: Callable[[], None] = lambda: None) -> list[Grade]:
        """In order. `step` is called after each."""
        out: list[Grade] = []
        with ThreadPoolExecutor(_AT_ONCE) as pool:
            commands = [pool.submit(self._run, one) if grader == "command" else None for grader, one in asked]
            try:
                for (grader, one), running in zip(asked, commands, strict=True):
                    out.append(running.result() if running is not None else self._own(grader, one))
                    step()
            except BaseException:
                pool.shutdown(cancel_futures=True)
                raise
        return out

    def close(self) -> None:
        self._patterns.close()

    def _own(self, grader: Grader, one: Asked) -> Grade:
        if grader == "regex":
            return self._patterns.search(one.expected, one.answer[:_MOST_ANSWER])
        right = {"exact": exact, "number": number, "choice": choice}[grader](one.expected, one.answer)
        return Grade(float(right))

    def _run(self, one: Asked) -> Grade:
        """A command reads the question and writes a score, 0 to 1, as the last line of standard output."""
        try:
            process = subprocess.Popen(
                self._command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, process_group=0
            )
        except OSError as error:
            return Grade(None, f"{self._command[0]}: {error.strerror}")
        with process:
            try:
                out, err = process.communicate(msgspec.json.encode(one), timeout=self._limit_s)
            except subprocess.TimeoutExpired:
                return Grade(None, f"no grade within {self._limit_s:g} s")
            finally:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)  # and what it has started
        if process.returncode:
            last = err.decode("utf-8", "replace").strip().rpartition("\n")[2][:200]
            return Grade(None, f"exit code {process.returncode}: {last}")
        return _score(out)


def questioned(item: Item, answer: str) -> tuple[Grader, Asked]:
    """What `Graders.grade` takes of an item that has a grader."""
    assert item.grader is not None
    return item.grader, Asked(id=item.id, prompt=item.prompt, expected=item.expected, answer=answer)


def _score(out: bytes) -> Grade:
    text = out.decode("utf-8", "replace").strip().rpartition("\n")[2]
    try:
        score = float(text)
    except ValueError:
        score = -1.0
    if not 0.0 <= score <= 1.0:
        return Grade(None, f"expected a score from 0 to 1, got {text[:80]!r}")
    return Grade(score)


def exact(expected: str, answer: str) -> bool:
    """But for white space around it, and how much of it is within."""
    return expected.split() == answer.split()


def number(expected: str, answer: str) -> bool:
    """The last number of the answer is that of the expected one."""
    wanted, got = NUMBER.findall(expected), NUMBER.findall(answer)
    return bool(wanted and got) and _value(wanted[-1]) == _value(got[-1])


def choice(expected: str, answer: str) -> bool:
    """The letter after the last "answer is", else the last letter A to J that stands alone."""
    letters = _SAID.findall(answer) or _LETTER.findall(answer) or re.findall(r"^\s*\(?([a-j])\)?\W*$", answer)
    return bool(letters) and letters[-1].upper() == expected.strip().strip("().").upper()


def _value(text: str) -> float:
    return float(text.replace(",", ""))


class _Patterns:
    """Searches in a process of its own, started with the first search and anew after one that hung."""

    def __init__(self, limit_s: float) -> None:
        self._limit_s = limit_s
        self._process: subprocess.Popen[bytes] | None = None

    def search(self, pattern: str, text: str) -> Grade:
        """1 where `pattern` is found in `text`."""
        process = self._process or self._start()
        assert process.stdin is not None
        try:
            process.stdin.write(msgspec.json.encode((pattern, text)) + b"\n")
            process.stdin.flush()
            found = self._line(process)
        except OSError as error:
            found, why = b"", f"the pattern's process ended: {error}"
        else:
            why = f"no grade within {self._limit_s:g} s"
        if found not in (b"0", b"1"):
            self.close()
            return Grade(None, why)
        return Grade(float(found))

    def close(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.communicate()
            self._process = None

    def _start(self) -> "subprocess.Popen[bytes]":
        self._process = subprocess.Popen(
            [sys.executable, "-I", str(_WORKER)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, process_group=0
        )
        assert self._process.stdout is not None
        self._process.stdout.readline()  # it says that it has begun: its start counts in no limit
        return self._process

    def _line(self, process: "subprocess.Popen[bytes]") -> bytes:
        assert process.stdout is not None
        ready, _, _ = select.select([process.stdout], [], [], self._limit_s)
        return process.stdout.readline().strip() if ready else b""
