"""Routes that depend on the model or on a switch: batches of chats, renderings, tokens in and out, and those of models
of another kind."""

from typing import Any

from tests.e2e.paired.cases import MODEL, REFUSED, SUM, Case, either, get, is_text, longer, post, whole

BATCH = "/v1/chat/completions/batch"
TWO = [SUM, [{"role": "user", "content": "What is 1 + 1?"}]]
SCORED: dict[str, Any] = {"model": MODEL, "query": "1 + 1 = 2: ", "items": ["yes", "no"], "label_token_ids": [22, 23]}
IDS: dict[str, Any] = {
    "model": MODEL,
    "token_ids": [22, 16, 22],
    "sampling_params": {"max_tokens": 3, "temperature": 0},
}


def batch(name: str, more: dict[str, Any], status: int = 200, **holds: Any) -> Case:
    usual = (
        REFUSED
        if status >= 400
        else {"object": "chat.completion", "choices__1__index": 1, "usage__total_tokens": whole}
    )
    return post(
        name,
        BATCH,
        {"model": MODEL, "messages": TWO, "temperature": 0, "max_tokens": 4, **more},
        status,
        **usual | holds,
    )


def absent(path: str, body: dict[str, Any]) -> Case:
    """A route of models of another kind: vLLM's server does not have it then."""
    return post("of a chat model", path, {"model": MODEL, **body}, either(400, 404))


CASES = [
    batch("plain", {}),
    batch("max_tokens 1", {"max_tokens": 1}, choices__0__finish_reason="length"),
    batch("logprobs", {"logprobs": True, "top_logprobs": 1}, choices__0__logprobs__content=longer(0)),
    batch("json_object", {"response_format": {"type": "json_object"}}),
    batch("no model", {"model": None}),
    batch("unknown model", {"model": "nobody"}, 404),
    batch("one conversation", {"messages": SUM}, 400),
    batch("none", {"messages": []}, 400),
    batch("messages a text", {"messages": "x"}, 400),
    batch("streamed", {"stream": True}, 400),
    batch("n of two", {"n": 2}, 400),
    batch("temperature -1", {"temperature": -1}, 400),
    batch("tools", {"tools": [{"type": "function", "function": {"name": "add"}}]}, 400),
    post("plain", "/generative_scoring", SCORED, data__1__index=1),
    post("no labels", "/generative_scoring", {**SCORED, "label_token_ids": []}, 400, **REFUSED),
    post("labels beyond the vocabulary", "/generative_scoring", {**SCORED, "label_token_ids": [99999]}, 400, **REFUSED),
    post("no items", "/generative_scoring", {**SCORED, "items": []}, 400, **REFUSED),
    post("unknown model", "/generative_scoring", {**SCORED, "model": "nobody"}, 404, **REFUSED),
    get("", "/tokenizer_info", tokenizer_class=is_text),
    post("plain", "/v1/chat/completions/render", {"model": MODEL, "messages": SUM}, token_ids=longer(3)),
    post("messages a text", "/v1/chat/completions/render", {"model": MODEL, "messages": "x"}, 400, **REFUSED),
    post("plain", "/v1/completions/render", {"model": MODEL, "prompt": "1 + 1"}, **{"0__token_ids": longer(3)}),
    post("plain", "/inference/v1/generate", IDS, choices__0__token_ids=longer(0)),
    post("streamed", "/inference/v1/generate", {**IDS, "stream": True}),
    post("no ids", "/inference/v1/generate", {**IDS, "token_ids": []}, 400, **REFUSED),
    post("beyond the vocabulary", "/inference/v1/generate", {**IDS, "token_ids": [99999]}, 400, **REFUSED),
    absent("/v1/embeddings", {"input": "x"}),
    absent("/pooling", {"input": "x"}),
    absent("/score", {"text_1": "x", "text_2": "y"}),
    absent("/v1/rerank", {"query": "x", "documents": ["y"]}),
    absent("/classify", {"input": "x"}),
]
