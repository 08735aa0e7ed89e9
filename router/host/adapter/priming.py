"""Gives vLLM's detokenizer of a request the text that was answered before: stop strings that begin in it are found,
what may begin one stays held back, and its first delta is what the client has not been sent.

Depends on two attributes of `BaseIncrementalDetokenizer` that are the same from 0.25 to 0.33; `can_prime` tells at
start whether they are there.
"""

import logging
from types import SimpleNamespace
from typing import Any

from vllm.sampling_params import SamplingParams
from vllm.v1.engine.detokenizer import IncrementalDetokenizer

from router.host.segments import Segment

logger = logging.getLogger("headgate.host")


def prime(engine: Any, request_id: str, segment: Segment, whole: bool) -> None:
    """Before the first output of `request_id` is read. `whole`: all text is wanted at the end, not what is new."""
    state = engine.output_processor.request_states[request_id]
    if state.detokenizer.num_output_tokens():
        raise RuntimeError("a token came before the text that it continues was known")
    _prime(state.detokenizer, segment, whole)


def _prime(detokenizer: Any, segment: Segment, whole: bool) -> None:
    longest = max(map(len, detokenizer.stop), default=1)
    start = 0 if whole else max(0, min(segment.sent, len(segment.text) - longest + 1))
    detokenizer.output_text = segment.text[start:]
    detokenizer._last_output_text_offset = segment.sent - start


def can_prime(tokenizer: Any) -> bool:
    """Tried on a request that no engine gets."""
    sampling = SamplingParams(stop=["a stop"])
    request = SimpleNamespace(request_id="", sampling_params=sampling, prompt_token_ids=[0], prompt_embeds=None)
    try:
        made: Any = IncrementalDetokenizer.from_new_request(tokenizer, request)
        fresh = (made.output_text, made._last_output_text_offset) == ("", 0)
        _prime(made, Segment("before a st"), False)
        return fresh and str(made.get_next_output_text(True, True)) == "before a st"
    except Exception as error:  # whatever this version does otherwise
        logger.warning("answers of other engines are not continued here: %s: %s", type(error).__name__, error)
        return False
