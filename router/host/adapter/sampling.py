"""A request's sampling parameters, as vLLM's `to_sampling_params` makes them of its own request objects."""

from typing import Any

from vllm.sampling_params import RequestOutputKind, SamplingParams

from router.host.fields import Body
from router.host.watch.requests import Watch

#: OpenAI's defaults where neither the request nor the model says otherwise.
_NEUTRAL = {
    "repetition_penalty": 1.0,
    "presence_penalty": 0.0,
    "frequency_penalty": 0.0,
    "temperature": 1.0,
    "top_p": 1.0,
    "top_k": 0,
    "min_p": 0.0,
}


class Defaults:
    """A model's own sampling parameters, for what a request leaves open."""

    def __init__(self, of_model: dict[str, Any]) -> None:
        self._values = {key: of_model.get(key, value) for key, value in _NEUTRAL.items()}
        self._stop_token_ids = list(of_model.get("stop_token_ids") or [])

    def sampling(self, fields: Body, max_tokens: int, spent: int, watch: Watch | None = None) -> SamplingParams:
        """`spent`: tokens of the answer that other engines made, which count for `min_tokens`. `watch`: of it."""
        chosen = {}
        for key, default in self._values.items():
            value = getattr(fields, key)
            chosen[key] = default if value is None else value
        stop_token_ids = fields.stop_token_ids
        if self._stop_token_ids:
            stop_token_ids = list(dict.fromkeys([*(stop_token_ids or []), *self._stop_token_ids]))
        if watch is not None:
            stop_token_ids = [*(stop_token_ids or []), watch.stop]
        return SamplingParams.from_optional(
            n=fields.n,
            **chosen,
            seed=fields.seed,
            stop=fields.stop,
            stop_token_ids=stop_token_ids,
            ignore_eos=fields.ignore_eos,
            max_tokens=max_tokens,
            min_tokens=max(0, fields.min_tokens - spent) if spent else fields.min_tokens,
            skip_special_tokens=fields.skip_special_tokens,
            spaces_between_special_tokens=fields.spaces_between_special_tokens,
            include_stop_str_in_output=fields.include_stop_str_in_output,
            output_kind=RequestOutputKind.DELTA if fields.stream else RequestOutputKind.FINAL_ONLY,
            logit_bias=fields.logit_bias,
            skip_clone=True,
            extra_args=None if watch is None else watch.extra_args,
        )
