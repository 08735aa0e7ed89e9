"""Tokens, models, probes, and what HTTP itself says: methods, content types, paths, broken bodies."""

from typing import Any

from tests.e2e.paired.cases import JSON_TYPE, MODEL, REFUSED, SUM, Case, get, is_text, longer, post, whole

CHAT = "/v1/chat/completions"
BODY: dict[str, Any] = {"model": MODEL, "messages": SUM, "temperature": 0, "max_tokens": 4}
TOKENIZED = {"count": whole, "tokens": longer(0), "max_model_len": 512}

TOKENS = [
    post("a text", "/tokenize", {"model": MODEL, "prompt": "1 + 1"}, token_strs=None, **TOKENIZED),
    post("no model", "/tokenize", {"prompt": "1 + 1"}, **TOKENIZED),
    post("with texts", "/tokenize", {"prompt": "1 + 1", "return_token_strs": True}, **TOKENIZED | {"token_strs": list}),
    post("without specials", "/tokenize", {"prompt": "1 + 1", "add_special_tokens": False}, **TOKENIZED),
    post("empty", "/tokenize", {"prompt": ""}, count=0, tokens=[]),
    post("a conversation", "/tokenize", {"messages": SUM}, **TOKENIZED),
    post("no generation prompt", "/tokenize", {"messages": SUM, "add_generation_prompt": False}, **TOKENIZED),
    post("a conversation with tools", "/tokenize", {"messages": SUM, "tools": []}, **TOKENIZED),
    post("longer than the context", "/tokenize", {"prompt": "1 + 1? " * 400}, count=whole),
    post("prompt a list", "/tokenize", {"prompt": ["a"]}, 400, **REFUSED),
    post("prompt null", "/tokenize", {"prompt": None}, 400, **REFUSED),
    post("nothing", "/tokenize", {}, 400, **REFUSED),
    post("messages a text", "/tokenize", {"messages": "x"}, 400, **REFUSED),
    post("unknown model", "/tokenize", {"model": "nobody", "prompt": "x"}, 404, **REFUSED),
    post("plain", "/detokenize", {"model": MODEL, "tokens": [22, 16, 22]}, prompt=is_text),
    post("no model", "/detokenize", {"tokens": [22, 16, 22]}, prompt=is_text),
    post("none", "/detokenize", {"tokens": []}, prompt=""),
    post("beyond the vocabulary", "/detokenize", {"tokens": [99999]}, prompt=str),
    post("a negative one", "/detokenize", {"tokens": [-1]}, 400, **REFUSED),
    post("texts", "/detokenize", {"tokens": ["a"]}, 400, **REFUSED),
    post("ids as texts", "/detokenize", {"tokens": ["22"]}, prompt=is_text),
    post("nothing", "/detokenize", {}, 400, **REFUSED),
    post("unknown model", "/detokenize", {"model": "nobody", "tokens": [1]}, 404, **REFUSED),
]

PROBES = [
    get(
        "the list",
        "/v1/models",
        object="list",
        **{
            "data__-1__id": MODEL,
            "data__-1__object": "model",
            "data__-1__max_model_len": 512,
            "data__-1__root": is_text,
            "data__-1__permission": longer(0),
            "data__-1__parent": None,
        },
    ),
    get("one", "/v1/models/tiny", id=MODEL, object="model"),
    get("an unknown one", "/v1/models/nobody", 404, **REFUSED),
    get("", "/version", version=is_text),
    get("", "/health"),
    get("", "/ping"),
    post("by POST", "/ping", None),
    get("", "/load", server_load=whole),
    get("", "/metrics"),
    get("", "/openapi.json", openapi=is_text),
    get("", "/docs"),
    get("", "/nowhere", 404),
    get("", "/v1/nowhere", 404),
    get("GET of a chat", CHAT, 405),
    get("DELETE of a chat", CHAT, 405, method="DELETE"),
    get("PUT of a completion", "/v1/completions", 405, method="PUT"),
    get("GET of messages", "/v1/messages", 405),
    post("POST of models", "/v1/models", {}, 405),
    post("POST of health", "/health", {}, 405),
    get("GET of tokenize", "/tokenize", 405),
    get("HEAD of models", "/v1/models", method="HEAD"),
    post("chat", "/invocations", BODY, object="chat.completion"),
    post("completion", "/invocations", {"prompt": "1 +", "max_tokens": 2, "temperature": 0}, object="text_completion"),
    post("a streamed chat", "/invocations", {**BODY, "stream": True}, done=True),
    post("neither", "/invocations", {"inputs": "x"}, 400, **REFUSED),
    post("broken", "/invocations", "{", 400, **REFUSED),
    post("unknown response", "/v1/responses/resp_nobody/cancel", {}, 404, error__param="response_id"),
    get("unknown response", "/v1/responses/resp_nobody", 404, error__param="response_id"),
]


def typed(name: str, type: str | None, status: int = 200) -> Case:
    headers = {} if type is None else {"content-type": type}
    return post(f"content-type {name}", CHAT, BODY, status, headers=headers)


def sent(name: str, body: Any, status: int = 400, **holds: Any) -> Case:
    return post(f"body {name}", CHAT, body, status, **(REFUSED if status == 400 else {}), **holds)


def headed(name: str, status: int = 200, **headers: str) -> Case:
    lines = {key.replace("_", "-"): value for key, value in headers.items()}
    return post(name, CHAT, BODY, status, headers={**JSON_TYPE, **lines})


HTTP = [
    typed("none", None, 400),
    typed("text/plain", "text/plain", 400),
    typed("of a form", "application/x-www-form-urlencoded", 400),
    typed("multipart", "multipart/form-data; boundary=x", 400),
    typed("of JSON with a charset", "application/json; charset=utf-8"),
    typed("in capitals", "Application/JSON"),
    typed("text/json", "text/json", 400),
    typed("of octets", "application/octet-stream", 400),
    sent("empty", b""),
    sent("an open brace", "{"),
    sent("a list", []),
    sent("a text", '"x"'),
    sent("null", "null"),
    sent("a number", "5"),
    sent("not UTF-8", b'{"messages": "\xff"}'),
    sent("with a comma too many", '{"messages": [],}'),
    sent("with NaN", '{"model": "tiny", "messages": [], "temperature": NaN}'),
    sent("with single quotes", "{'messages': []}"),
    sent("with half of a pair", '{"model": "tiny", "messages": [{"role": "user", "content": "\\ud83d"}]}'),
    sent("with a byte order mark", b"\xef\xbb\xbf" + str(BODY).replace("'", '"').encode(), 200),
    sent("with white space around", b" \n" + str(BODY).replace("'", '"').encode() + b"\n ", 200),
    sent("with a key twice", str(BODY).replace("'", '"')[:-1] + ', "max_tokens": 1}', 200, usage__completion_tokens=1),
    sent("an object of nothing", {}),
    sent("nested deeply", "[" * 5000),
    headed("x-request-id", x_request_id="abc"),
    headed("x-request-id of 300", x_request_id="a" * 300),
    headed("x-request-id with blanks", x_request_id="a b"),
    headed("authorization though none is asked", authorization="Bearer x"),
    headed("accept of a stream", accept="text/event-stream"),
    headed("accept of HTML", accept="text/html"),
    headed("accept-encoding", accept_encoding="gzip, br"),
    headed("openai-organization", openai_organization="x", openai_beta="y"),
    headed("anthropic-version", anthropic_version="2023-06-01"),
    post("a query behind the path", CHAT + "?api-version=1", BODY),
    post("a letter percent-encoded", "/v1/chat/completion%73", BODY),
    post("two slashes", "//v1/chat/completions", BODY, 404),
    post("in capitals", "/V1/CHAT/COMPLETIONS", BODY, 404),
]

CASES = [*TOKENS, *PROBES, *HTTP]
