"""Asks a judge about many prompts and appends each verdict to a file at once, so that an interrupted run can continue.

{"key": "16 hex digits", "verdict": 3.41}        null where the judge was asked and its answer held no score
"""

import asyncio
import hashlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import IO, Any

import msgspec
import numpy as np
import numpy.typing as npt

from router.config import Config, Member, from_environment
from router.errors import ConfigError, EngineStartError, NoEngine, Overloaded, RouterError
from router.heads.methods.causal_llm import TEMPLATE, Question, no_thinking, verdict
from router.pipeline.calls import ask
from router.pipeline.judge import last_part
from router.pipeline.router import Router
from router.pool.base import PoolMember

Floats = npt.NDArray[np.float32]


class JudgeOptions(msgspec.Struct, frozen=True, kw_only=True):
    """What `headgate train --router causal_llm` may be told."""

    judge: str = ""  #: an OpenAI-compatible URL, or weights (a folder or hub name) that an engine is started for
    model: str = ""  #: what to ask the URL for; empty: the first that it has
    api_key: str = ""  #: of the URL, as `${NAME}` of an environment variable: the checkpoint tells its options
    engine_args: dict[str, Any] = {}  #: vLLM's own, of an engine that is started
    cache: str = ""  #: the file of verdicts; empty: `verdicts-JUDGE.jsonl` in the working directory
    parallel: int = 32  #: questions under way
    limit_s: float = 120.0  #: of one answer
    template: str = TEMPLATE
    body: dict[str, Any] = msgspec.field(default_factory=no_thinking)
    max_chars: int = 6000


class _Line(msgspec.Struct, frozen=True):
    key: str
    verdict: float | None


def question_of(options: JudgeOptions, unasked: float = 3.0) -> Question:
    """Raises ConfigError."""
    if "{query}" not in options.template:
        raise ConfigError("--router causal_llm: option template: expected a text with {query} in it")
    return Question(
        judge=last_part(options.model or options.judge),
        template=options.template,
        body=options.body,
        max_chars=options.max_chars,
        unasked=unasked,
    )


def collect(texts: Sequence[str], options: JudgeOptions, on_verdict: Callable[[], None] = lambda: None) -> Floats:
    """[texts]: a verdict each, NaN where the judge gave none. Raises ConfigError where it cannot be reached; what it
    had said until then is kept."""
    question = question_of(options)
    path = Path(options.cache or f"verdicts-{question.judge.replace(':', '-') or 'judge'}.jsonl")
    bodies = [question.ask(text) for text in texts]
    keys = [_key(body) for body in bodies]
    found = _read(path)
    missing = {key: body for key, body in zip(keys, bodies, strict=True) if key not in found}
    for _ in range(len(texts) - len(missing)):
        on_verdict()
    if missing:
        try:
            with path.open("ab") as file:
                asyncio.run(_ask_all(missing, options, _Keeper(file, found, on_verdict)))
        except (OSError, EngineStartError, RouterError) as error:
            kept = f"{len(found)} verdicts are kept in {path}; the same command goes on from there"
            raise ConfigError(f"--router causal_llm: {options.judge}: {error}; {kept}") from error
    return np.array([np.nan if (value := found[key]) is None else value for key in keys], np.float32)


class _Keeper:
    """Where verdicts go: the file, and what is known."""

    def __init__(self, file: IO[bytes], found: dict[str, float | None], on_verdict: Callable[[], None]) -> None:
        self._file, self._found, self._on_verdict = file, found, on_verdict

    def keep(self, key: str, value: float | None) -> None:
        self._found[key] = value
        self._file.write(msgspec.json.encode(_Line(key, value)) + b"\n")
        self._file.flush()
        self._on_verdict()


async def _ask_all(bodies: dict[str, bytes], options: JudgeOptions, keeper: _Keeper) -> None:
    waiting = iter(bodies.items())
    async with Router(Config(pool=(_member(options),))) as router:

        async def work() -> None:
            for key, body in waiting:
                keeper.keep(key, await _verdict(router.pool[0], body, options.limit_s))

        tasks = [asyncio.create_task(work()) for _ in range(options.parallel)]
        try:
            await asyncio.gather(*tasks)
        finally:
            for task in tasks:
                task.cancel()


async def _verdict(judge: PoolMember, body: bytes, limit_s: float) -> float | None:
    """None where this question cannot be answered; raises `RouterError` where the judge is gone."""
    for attempt in range(_ATTEMPTS):
        try:
            return verdict(await ask(judge, body, limit_s))
        except (ValueError, TimeoutError):
            return None
        except (NoEngine, Overloaded):
            if attempt == _ATTEMPTS - 1:
                raise
            await asyncio.sleep(0.5 * 2**attempt)
        except RouterError as error:
            if error.status >= 500 or error.status in (401, 403, 404):
                raise
            return None  # refused for what it is: too long, most of all
    raise AssertionError("unreachable")


_ATTEMPTS = 5


def _member(options: JudgeOptions) -> Member:
    if options.judge.startswith(("http://", "https://")):
        key = options.api_key and from_environment(options.api_key, "--router causal_llm: option api_key")
        return Member(name="judge", kind="openai", url=options.judge, model=options.model, api_key=key)
    return Member(name="judge", model=options.judge, engine_args=options.engine_args)


def _key(body: bytes) -> str:
    return hashlib.blake2b(body, digest_size=8).hexdigest()


def _read(path: Path) -> dict[str, float | None]:
    """What was kept; an unfinished last line is dropped. Raises ConfigError naming the file and line."""
    if not path.exists():
        return {}
    data = path.read_bytes()
    if data and not data.endswith(b"\n"):
        data = data[: data.rfind(b"\n") + 1]
        path.write_bytes(data)
    found: dict[str, float | None] = {}
    for number, line in enumerate(data.splitlines(), 1):
        try:
            kept = msgspec.json.decode(line, type=_Line)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise ConfigError(f"{path}:{number}: expected a verdict: {error}") from error
        found[kept.key] = kept.verdict
    return found
