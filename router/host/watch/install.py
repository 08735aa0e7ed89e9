"""Puts the watch into an engine that is about to start, where its vLLM takes it and is no worse for it, and tells it of
the engine's vocabulary once it runs."""

import importlib.util
import logging
import os
from collections.abc import Callable
from typing import Any

from router.host.watch.requests import Watches
from router.host.watch.table import VARIABLE, WatchTable
from router.host.watch.vocabulary import BEGINS_WORD, BLANK, first_ids, places, reserved, token_bytes

logger = logging.getLogger("headgate.host")

#: By vLLM's model runner.
PROCESSORS = {
    1: "router.host.watch.first_runner:WatchProcessor",
    2: "router.host.watch.second_runner:WatchProcessor",
}
_SECOND_INTERFACE = "vllm.v1.worker.gpu.sample.logits_processor"


def install(config: Any, path: str) -> WatchTable | None:
    """Name our processor in vLLM's `config`, behind those that are there, with a table at `path`. None, and nothing is
    changed, where that cannot be: the log says why."""
    why = refusal(config)
    if why:
        logger.info("answers are not watched: %s", why)
        return None
    model = config.model_config
    try:
        table = WatchTable.create(path, model.get_vocab_size())
    except OSError as error:
        logger.warning("answers are not watched: %s: %s", path, error.strerror)
        return None
    os.environ[VARIABLE] = path
    model.logits_processors = [*(model.logits_processors or ()), PROCESSORS[_runner(config)]]
    return table


def refusal(config: Any) -> str:
    """Why this engine takes no processor, or empty."""
    model = config.model_config
    if getattr(model, "runner_type", "generate") != "generate":
        return "the model generates no text"
    if config.speculative_config is not None:
        return "the engine speculates, and vLLM's runners take no processor beside it or propose several tokens a step"
    if getattr(model, "return_sampling_mask", False):
        return "the engine returns its sampling masks, and vLLM takes no processor beside them"
    if _runner(config) == 2 and importlib.util.find_spec(_SECOND_INTERFACE) is None:
        return "this vLLM would fall back to its older model runner"  # 0.29 and 0.30
    return ""


def open_watches(table: WatchTable, engine: Any, template: str, stops: list[int]) -> Watches | None:
    """Before the first request; None where nothing can end an answer. `template`: of chat; `stops`: ids that end
    answers by the model's own settings."""
    tokenizer = engine.renderer.tokenizer
    backend = getattr(tokenizer, "backend_tokenizer", None)
    vocabulary = table.vocabulary
    unknown: list[bytes | None] = [None] * vocabulary
    tokens = token_bytes(backend.to_str(), vocabulary) if backend is not None else unknown
    own_end = getattr(tokenizer, "eos_token_id", None)
    ends = _ends(engine, own_end) | set(stops)
    special = dict(zip(tokenizer.all_special_ids, tokenizer.all_special_tokens, strict=False))
    special |= {at: str(token) for at, token in _added(tokenizer).items() if token.special}
    stop = reserved(vocabulary, set(tokenizer.get_vocab().values()), special, ends, template)
    stop_is_end = stop is None
    if stop is None:
        stop = min(ends, default=-1) if own_end is None else own_end
    if not 0 <= stop < vocabulary:
        logger.warning("answers are not watched: the model has no token that can end one")
        return None
    found = places(tokens)
    if not (found & (BEGINS_WORD | BLANK)).any():
        logger.warning("answers are not stopped behind their first token: no token is known to begin a word")
    table.describe(found, first_ids(vocabulary, table.firsts), stop=stop, hidden=-1 if stop_is_end else stop)
    return Watches(table, text_of=_text_of(tokens), stop_is_end=stop_is_end)


def _runner(config: Any) -> int:
    return 2 if getattr(config, "use_v2_model_runner", False) else 1


def _ends(engine: Any, own_end: int | None) -> set[int]:
    named = getattr(engine.model_config.hf_config, "eos_token_id", None)
    several = named if isinstance(named, list | tuple) else [named]
    return {int(at) for at in (*several, own_end) if at is not None}


def _added(tokenizer: Any) -> dict[int, Any]:
    return getattr(tokenizer, "added_tokens_decoder", None) or {}


def _text_of(tokens: list[bytes | None]) -> Callable[[int], str]:
    def text(at: int) -> str:
        token = tokens[at] if 0 <= at < len(tokens) else None
        return "" if token is None else token.decode(errors="ignore")

    return text
