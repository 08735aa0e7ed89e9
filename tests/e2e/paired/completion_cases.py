"""`POST /v1/completions`: parameters, forms of prompts, streams, and bad values."""

from typing import Any

from tests.e2e.paired.cases import MODEL, REFUSED, Case, begins, either, is_text, longer, post, whole

PATH = "/v1/completions"
BASE: dict[str, Any] = {"model": MODEL, "prompt": "12 + 30 =", "temperature": 0, "max_tokens": 6}
SLOWLY = {"add_special_tokens": True}
WHOLE: dict[str, Any] = {
    "id": begins("cmpl-"),
    "object": "text_completion",
    "created": whole,
    "model": MODEL,
    "choices__0__index": 0,
    "choices__0__text": str,
    "choices__0__finish_reason": either("stop", "length"),
    "usage__prompt_tokens": whole,
    "usage__total_tokens": whole,
}
STREAMED: dict[str, Any] = {
    "events__0__id": begins("cmpl-"),
    "events__0__object": "text_completion",
    "events__0__choices__0__text": str,
    "done": True,
}


def completion(name: str, more: dict[str, Any], status: int = 200, **holds: Any) -> Case:
    usual = REFUSED if status >= 400 else STREAMED if more.get("stream") else WHOLE
    return post(name, PATH, {**BASE, **more}, status, slowly=SLOWLY, **(usual | holds))


def stream(name: str, more: dict[str, Any], status: int = 200, **holds: Any) -> Case:
    return completion(f"streamed, {name}", {"stream": True, **more}, status, **holds)


GOOD: list[tuple[str, dict[str, Any], dict[str, Any]]] = [
    ("plain", {}, {"choices__0__logprobs": None}),
    ("a list of texts", {"prompt": ["1 + 1 =", "2 + 2 ="]}, {"choices__1__index": 1}),
    ("a list of one text", {"prompt": ["1 + 1 ="]}, {}),
    ("token ids", {"prompt": [22, 16, 22]}, {"usage__prompt_tokens": 3}),
    ("lists of token ids", {"prompt": [[22, 16, 22], [23]]}, {"choices__1__index": 1, "usage__prompt_tokens": 4}),
    ("a list of one list of token ids", {"prompt": [[22, 16]]}, {"usage__prompt_tokens": 2}),
    ("n of two", {"n": 2, "temperature": 1.0, "seed": 3}, {"choices__1__index": 1}),
    ("two prompts, n of two", {"prompt": ["1 +", "2 +"], "n": 2, "temperature": 1.0, "seed": 3},
     {"choices__3__index": 3}),
    ("max_tokens 1", {"max_tokens": 1}, {"choices__0__finish_reason": "length"}),
    ("max_tokens null", {"max_tokens": None}, {}),
    ("max_tokens zero with echo", {"max_tokens": 0, "echo": True}, {"choices__0__text": BASE["prompt"]}),
    ("echo", {"echo": True}, {"choices__0__text": begins(BASE["prompt"])}),
    ("echo false", {"echo": False}, {}),
    ("echo and logprobs", {"echo": True, "logprobs": 1, "max_tokens": 2},
     {"choices__0__logprobs__tokens": longer(4), "choices__0__logprobs__token_logprobs__0": None}),
    ("logprobs zero", {"logprobs": 0}, {"choices__0__logprobs__token_logprobs": longer(0)}),
    ("logprobs two", {"logprobs": 2}, {
        "choices__0__logprobs__tokens": longer(0), "choices__0__logprobs__top_logprobs": longer(0),
        "choices__0__logprobs__text_offset": longer(0)}),
    ("logprobs null", {"logprobs": None}, {}),
    ("logprobs true", {"logprobs": True}, {}),
    ("logprobs false", {"logprobs": False}, {}),
    ("prompt_logprobs", {"prompt_logprobs": 1}, {"choices__0__prompt_logprobs": longer(2)}),
    ("tokens as ids", {"logprobs": 1, "return_tokens_as_token_ids": True}, {}),
    ("return_token_ids", {"return_token_ids": True}, {"choices__0__token_ids": longer(0)}),
    ("stop", {"stop": "3"}, {"choices__0__stop_reason": "3"}),
    ("stop list", {"stop": ["\n", "2"]}, {}),
    ("stop included", {"stop": "2", "include_stop_str_in_output": True}, {}),
    ("seed", {"seed": 5, "temperature": 1.0}, {}),
    ("user", {"user": "x"}, {}),
    ("best_of null", {"best_of": None}, {}),
    ("suffix null", {"suffix": None}, {}),
    ("top_p", {"top_p": 0.9}, {}),
    ("penalties", {"frequency_penalty": 1, "presence_penalty": 1, "repetition_penalty": 1.1}, {}),
    ("logit_bias", {"logit_bias": {"22": 100}}, {}),
    ("ignore_eos", {"ignore_eos": True}, {"usage__completion_tokens": 6}),
    ("truncate_prompt_tokens", {"truncate_prompt_tokens": 2}, {"usage__prompt_tokens": 2}),
    ("truncation_side", {"truncate_prompt_tokens": 2, "truncation_side": "right"}, {"usage__prompt_tokens": 2}),
    ("a prompt longer than the context, cut", {"prompt": "1 + 1? " * 400, "truncate_prompt_tokens": 20},
     {"usage__prompt_tokens": 20}),
    ("json_object", {"response_format": {"type": "json_object"}, "max_tokens": 10}, {}),
    ("regex", {"structured_outputs": {"regex": "[0-9]{2}"}}, {}),
    ("beams", {"use_beam_search": True, "n": 2, "max_tokens": 2}, {"choices__1__index": 1}),
    ("an unknown field", {"no_such_field": 1}, {}),
    ("Unicode", {"prompt": "Größe 🙂"}, {}),
    ("allowed_token_ids", {"allowed_token_ids": [20, 21]}, {}),
    ("min_tokens", {"min_tokens": 3}, {}),
    ("skip_special_tokens", {"skip_special_tokens": False, "max_tokens": 12}, {}),
    ("model null", {"model": None}, {}),
    ("ids as texts", {"prompt": ["22", "16"]}, {}),
    ("request_id", {"request_id": "mine"}, {}),
    ("add_special_tokens false", {"add_special_tokens": False}, {}),
]  # fmt: skip

BAD: list[tuple[str, Any, int]] = [
    ("prompt", None, 400), ("prompt", "", 400), ("prompt", [], 400), ("prompt", 5, 400), ("prompt", {}, 400),
    ("prompt", [""], 400), ("prompt", [[]], 400), ("prompt", [-1], 400), ("prompt", [99999], 400),
    ("prompt", ["a", 5], 400), ("prompt", [[1], "a"], 400), ("prompt", [1.5], 400), ("prompt", True, 400),
    ("prompt", [[99999]], 400), ("prompt", "1 + 1? " * 400, 400), ("prompt", [22] * 600, 400),
    ("max_tokens", -1, 400), ("max_tokens", "x", 400), ("max_tokens", 0, 400), ("max_tokens", 600, 400),
    ("n", 0, 400), ("n", None, 400), ("n", "x", 400), ("temperature", -1, 400), ("temperature", 3, 400),
    ("top_p", 2, 400), ("logprobs", 30, 400), ("logprobs", -5, 400), ("logprobs", "x", 400), ("logprobs", 2.5, 400),
    ("echo", "x", 400), ("stop", ["a"] * 5, 400), ("stop", 5, 400), ("seed", 2**63, 400), ("seed", "x", 400),
    ("logit_bias", {"x": 1}, 400), ("suffix", "end", 400), ("stream", 7, 400),
    ("stream_options", {"include_usage": True}, 400), ("prompt_logprobs", -2, 400), ("best_of", 0, 200),
    ("response_format", {"type": "smell"}, 400), ("frequency_penalty", 3, 400), ("presence_penalty", -3, 400),
    ("model", "nobody", 404), ("model", 5, 400), ("prompt_embeds", "x", 400), ("prompt_embeds", [], 200),
    ("structured_outputs", {"regex": "["}, 400), ("min_tokens", 100, 400), ("truncate_prompt_tokens", -5, 400),
    ("stream_interval", 0, 400), ("user", 5, 400), ("cache_salt", "", 400),
]  # fmt: skip

STREAMS = [
    stream("plain", {}),
    stream("usage", {"stream_options": {"include_usage": True}}, **{
        "events__-1__choices": [], "events__-1__usage__total_tokens": whole}),
    stream("continuous usage", {"stream_options": {"include_usage": True, "continuous_usage_stats": True}}),
    stream("continuous usage alone", {"stream_options": {"continuous_usage_stats": True}}),
    stream("n of two", {"n": 2, "temperature": 1.0, "seed": 3}),
    stream("two prompts", {"prompt": ["1 + 1 =", "2 + 2 ="]}),
    stream("two prompts, usage", {"prompt": ["1 + 1 =", "2 + 2 ="], "stream_options": {"include_usage": True}}),
    stream("token ids", {"prompt": [22, 16, 22]}),
    stream("stop", {"stop": "2"}),
    stream("echo", {"echo": True}),
    stream("echo, max_tokens zero", {"echo": True, "max_tokens": 0}),
    stream("echo and logprobs", {"echo": True, "logprobs": 1, "max_tokens": 2}),
    stream("logprobs", {"logprobs": 1}, events__0__choices__0__logprobs__tokens=longer(0)),
    stream("return_token_ids", {"return_token_ids": True}),
    stream("max_tokens 1", {"max_tokens": 1}, events__0__choices__0__finish_reason="length"),
    stream("stream_interval", {"stream_interval": 2}),
    stream("logprobs too many", {"logprobs": 1000}, 400),
    stream("logprobs 30", {"logprobs": 30}, 400),
    stream("bad regex", {"structured_outputs": {"regex": "["}}, 400),
    stream("prompt empty", {"prompt": ""}, 400),
    stream("prompt_logprobs", {"prompt_logprobs": 1}, 400),
    stream("a prompt longer than the context", {"prompt": "1 + 1? " * 400}, 400),
    stream("an id beyond the vocabulary", {"prompt": [99999]}, 400),
    stream("unknown model", {"model": "nobody"}, 404),
]  # fmt: skip

CASES = [
    *(completion(name, more, **holds) for name, more, holds in GOOD),
    *STREAMS,
    *(completion(f"{field} {value!r}"[:120], {field: value}, status) for field, value, status in BAD),
    post("no prompt", PATH, {"model": MODEL}, 400, **REFUSED),
    post("an embedding for a prompt", PATH, {"model": MODEL, "prompt_embeds": "AAAA", "max_tokens": 2}, 400, **REFUSED),
    post("no model", PATH, {"prompt": "1 +", "max_tokens": 2, "temperature": 0}, 200, choices__0__text=is_text),
]
