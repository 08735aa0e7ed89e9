"""Anthropic's `POST /v1/messages` and `/v1/messages/count_tokens`."""

from typing import Any

from tests.e2e.paired.cases import ABSENT, MODEL, SUM, Case, either, is_text, post, whole

PATH = "/v1/messages"
COUNT = "/v1/messages/count_tokens"
BASE: dict[str, Any] = {"model": MODEL, "messages": SUM, "temperature": 0, "max_tokens": 8}
ADD = {
    "name": "add",
    "description": "adds",
    "input_schema": {"type": "object", "properties": {"a": {"type": "integer"}}, "required": ["a"]},
}
WHOLE: dict[str, Any] = {
    "id": is_text,
    "type": "message",
    "role": "assistant",
    "model": MODEL,
    "content__0__type": "text",
    "content__0__text": str,
    "stop_reason": either("end_turn", "max_tokens", "stop_sequence", "tool_use"),
    "usage__input_tokens": whole,
    "usage__output_tokens": whole,
}
STREAMED: dict[str, Any] = {
    "events__0__type": "message_start",
    "events__0__message__role": "assistant",
    "events__0__message__content": [],
    "events__0__message__usage__input_tokens": whole,
    "events__1__type": "content_block_start",
    "events__-2__type": "message_delta",
    "events__-2__usage__output_tokens": whole,
    "events__-1__type": "message_stop",
}
#: What every error of Anthropic's API has.
REFUSED: dict[str, Any] = {"type": "error", "error__type": is_text, "error__message": is_text}


def message(name: str, more: dict[str, Any], status: int = 200, **holds: Any) -> Case:
    usual = REFUSED if status >= 400 else STREAMED if more.get("stream") else WHOLE
    return post(name, PATH, {**BASE, **more}, status, **(usual | holds))


def counted(name: str, more: dict[str, Any], status: int = 200) -> Case:
    holds: dict[str, Any] = REFUSED if status >= 400 else {"input_tokens": whole}
    return post(name, COUNT, {"model": MODEL, "messages": SUM, **more}, status, **holds)


def without(field: str, path: str = PATH) -> Case:
    body = {key: value for key, value in BASE.items() if key != field}
    return post(f"no {field}", path, body, 400, **REFUSED)


def text(words: str, **more: Any) -> dict[str, Any]:
    return {"type": "text", "text": words, **more}


USED = {"role": "assistant", "content": [{"type": "tool_use", "id": "toolu_1", "name": "add", "input": {"a": 1}}]}


def result(content: Any) -> dict[str, Any]:
    return {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "toolu_1", "content": content}]}


CASES = [
    message("plain", {}),
    message("cut short", {"max_tokens": 1}, stop_reason="max_tokens"),
    message("a system's text", {"system": "Add."}),
    message("a system's parts", {"system": [text("Add.")]}),
    message("a system's part to be cached", {"system": [text("Add.", cache_control={"type": "ephemeral"})]}),
    message("parts", {"messages": [{"role": "user", "content": [text("What is"), text(" 1 + 1?")]}]}),
    message("three turns", {"messages": [*SUM, {"role": "assistant", "content": "42"}, *SUM]}),
    message("an assistant last", {"messages": [*SUM, {"role": "assistant", "content": "4"}]}),
    message("stop_sequences", {"stop_sequences": ["2"]}, stop_reason="stop_sequence", stop_sequence="2"),
    message("stop_sequences empty", {"stop_sequences": []}),
    message("top_p", {"top_p": 0.5}),
    message("top_k", {"top_k": 1, "temperature": 1.0}),
    message("metadata", {"metadata": {"user_id": "x"}}),
    message("tools", {"tools": [ADD]}),
    message("tools, choice auto", {"tools": [ADD], "tool_choice": {"type": "auto"}}),
    message("tools, choice none", {"tools": [ADD], "tool_choice": {"type": "none"}}),
    message(
        "tools, choice by name",
        {"tools": [ADD], "tool_choice": {"type": "tool", "name": "add"}, "max_tokens": 80},
        content__0__type="tool_use",
        content__0__name="add",
        content__0__text=ABSENT,
    ),
    message(
        "tools, choice any",
        {"tools": [ADD], "tool_choice": {"type": "any"}, "max_tokens": 80},
        content__0__type="tool_use",
        content__0__text=ABSENT,
    ),
    message("a tool's use and its result", {"messages": [*SUM, USED, result("42")], "tools": [ADD]}),
    message("a tool's result in parts", {"messages": [*SUM, USED, result([text("42")])], "tools": [ADD]}),
    message("a tool's result that is an error", {"messages": [*SUM, USED, result("no")], "tools": [ADD]}),
    message("thinking disabled", {"thinking": {"type": "disabled"}}),
    message("an unknown field", {"no_such_field": 1}),
    message("stream false", {"stream": False}),
    message("temperature null", {"temperature": None, "top_k": 1}),
    message("service_tier", {"service_tier": "auto"}),
    message("Unicode", {"messages": [{"role": "user", "content": "Größe 🙂 2 + 2?"}]}),
    message("streamed, plain", {"stream": True}),
    message(
        "streamed, cut short", {"stream": True, "max_tokens": 1}, **{"events__-2__delta__stop_reason": "max_tokens"}
    ),
    message("streamed, stop_sequences", {"stream": True, "stop_sequences": ["2"]}),
    message("streamed, tools", {"stream": True, "tools": [ADD]}, events__1__type=is_text),
    message(
        "streamed, tools, choice by name",
        {"stream": True, "tools": [ADD], "tool_choice": {"type": "tool", "name": "add"}, "max_tokens": 80},
        events__1__content_block__type="tool_use",
    ),
    message("streamed, a system's text", {"stream": True, "system": "Add."}),
    message("streamed, a prompt longer than the context", {"stream": True, "system": "1 + 1? " * 400}, 400),
    message("streamed, unknown model", {"stream": True, "model": "nobody"}, 404),
    message("a prompt longer than the context", {"system": "1 + 1? " * 400}, 400),
    message("unknown model", {"model": "nobody"}, 404),
    *(
        message(f"{field} {value!r}"[:120], {field: value}, 400)
        for field, value in [
            ("messages", "x"),
            ("messages", None),
            ("messages", []),
            ("messages", [{"role": "user"}]),
            ("messages", [{"role": "narrator", "content": "x"}]),
            ("messages", [{"content": "x"}]),
            ("messages", [{"role": "user", "content": 5}]),
            ("messages", [{"role": "user", "content": [{"type": "smell"}]}]),
            ("max_tokens", 0),
            ("max_tokens", -1),
            ("max_tokens", "x"),
            ("max_tokens", None),
            ("max_tokens", 600),
            ("temperature", -1),
            ("temperature", "x"),
            ("top_p", 5),
            ("top_k", "x"),
            ("stop_sequences", "x"),
            ("stop_sequences", [5]),
            ("system", 5),
            ("tools", "x"),
            ("tools", [{}]),
            ("tool_choice", "auto"),
            ("tool_choice", {"type": "smell"}),
            ("tool_choice", {"type": "tool"}),
            ("stream", "x"),
            ("metadata", "x"),
            ("thinking", {"type": "enabled", "budget_tokens": 5}),
            ("model", 5),
            ("model", ""),
        ]
    ),
    without("messages"),
    without("max_tokens"),
    without("model"),
    counted("plain", {}),
    counted("longer than the context", {"system": "1 + 1? " * 400}),
    counted("a system's text", {"system": "Add."}),
    counted("tools", {"tools": [ADD]}),
    counted("parts", {"messages": [{"role": "user", "content": [text("1 + 1?")]}]}),
    counted("unknown model", {"model": "nobody"}, 404),
    counted("messages a text", {"messages": "x"}, 400),
    counted("messages null", {"messages": None}, 400),
    without("messages", COUNT),
]
