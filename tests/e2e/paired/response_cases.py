"""`POST /v1/responses`: forms of input, parameters, events, tools and bad values. Nothing is stored."""

from typing import Any

from tests.e2e.paired.cases import ABSENT, MODEL, REFUSED, Case, begins, either, is_text, longer, post, whole

PATH = "/v1/responses"
BASE: dict[str, Any] = {
    "model": MODEL,
    "input": "What is 12 + 30?",
    "temperature": 0,
    "max_output_tokens": 8,
    "store": False,
}
ADD = {
    "type": "function",
    "name": "add",
    "description": "adds",
    "parameters": {"type": "object", "properties": {"a": {"type": "integer"}}, "required": ["a"]},
}
SCHEMA = {
    "type": "object",
    "properties": {"sum": {"type": "integer", "minimum": 0, "maximum": 9}},
    "required": ["sum"],
    "additionalProperties": False,
}
WHOLE: dict[str, Any] = {
    "id": begins("resp_"),
    "object": "response",
    "created_at": whole,
    "model": MODEL,
    "status": "completed",
    "output__0__type": "message",
    "output__0__role": "assistant",
    "output__0__content__0__type": "output_text",
    "output__0__content__0__annotations": [],
    "usage__input_tokens": whole,
    "usage__output_tokens": whole,
    "usage__input_tokens_details__cached_tokens": whole,
    "usage__output_tokens_details__reasoning_tokens": whole,
}
STREAMED: dict[str, Any] = {
    "events__0__type": "response.created",
    "events__0__sequence_number": 0,
    "events__1__type": "response.in_progress",
    "events__2__type": "response.output_item.added",
    "events__-1__type": either("response.completed", "response.incomplete"),
    "events__-1__response__usage__output_tokens": whole,
}


def response(name: str, more: dict[str, Any], code: int = 200, **holds: Any) -> Case:
    """`code`: the HTTP status; the answer has a `status` of its own."""
    usual = REFUSED if code >= 400 else STREAMED if more.get("stream") else WHOLE
    holds = {"body__status" if key == "status" else key: value for key, value in (usual | holds).items()}
    return post(name, PATH, {**BASE, **more}, code, **holds)


def said(role: str, content: Any, **more: Any) -> dict[str, Any]:
    return {"role": role, "content": content, **more}


NO_MESSAGE = {f"output__0__{field}": ABSENT for field in ("role", "content__0__type", "content__0__annotations")}
CUT = {"status": "incomplete", "incomplete_details__reason": "max_output_tokens"}
CASES = [
    response("plain", {}, error=None),
    response("a list of messages", {"input": [said("user", "1 + 1?")]}),
    response("a message with its type", {"input": [said("user", "1 + 1?", type="message")]}),
    response("parts", {"input": [said("user", [{"type": "input_text", "text": "1 + 1?"}])]}),
    response("instructions", {"instructions": "Add."}),
    response("a developer's message", {"input": [said("developer", "Add."), said("user", "1 + 1?")]}),
    response("a system's message", {"input": [said("system", "Add."), said("user", "1 + 1?")]}),
    response("an assistant's message", {"input": [said("user", "1 + 1?"), said("assistant", "2"), said("user", "?")]}),
    response(
        "an earlier output",
        {
            "input": [
                said("user", "1 + 1?"),
                {
                    "type": "message",
                    "id": "msg_1",
                    "status": "completed",
                    "role": "assistant",
                    "content": [{"type": "output_text", "text": "2", "annotations": []}],
                },
                said("user", "And 2 + 2?"),
            ]
        },
    ),
    response(
        "a function's call and its output",
        {
            "input": [
                said("user", "1 + 1?"),
                {"type": "function_call", "call_id": "call_1", "name": "add", "arguments": '{"a": 1}'},
                {"type": "function_call_output", "call_id": "call_1", "output": "2"},
            ]
        },
    ),
    response("cut short", {"max_output_tokens": 1}, **CUT),
    response("max_output_tokens null", {"max_output_tokens": None}),
    response("top_p", {"top_p": 0.5, "temperature": 1.0, "seed": 4}, top_p=0.5),
    response("metadata", {"metadata": {"a": "b"}}, metadata={"a": "b"}),
    response("user", {"user": "x"}, user="x"),
    response("truncation auto", {"truncation": "auto"}, truncation="auto"),
    response("parallel_tool_calls", {"parallel_tool_calls": False}, parallel_tool_calls=False),
    response("service_tier", {"service_tier": "default"}, service_tier="default"),
    response("include nothing", {"include": []}),
    response(
        "top_logprobs",
        {"top_logprobs": 2, "include": ["message.output_text.logprobs"]},
        output__0__content__0__logprobs=longer(0),
    ),
    response("tools", {"tools": [ADD]}, status=is_text, tools__0__name="add", tool_choice="auto"),
    response("tools, choice none", {"tools": [ADD], "tool_choice": "none"}, status=is_text, tool_choice="none"),
    response(
        "tools, choice required",
        {"tools": [ADD], "tool_choice": "required", "max_output_tokens": 80},
        output__0__type="function_call",
        output__0__name="add",
        output__0__arguments=str,
        **NO_MESSAGE,
    ),
    response("text format text", {"text": {"format": {"type": "text"}}}, text__format__type="text"),
    response(
        "text format json_schema",
        {
            "text": {"format": {"type": "json_schema", "name": "s", "schema": SCHEMA, "strict": True}},
            "max_output_tokens": 40,
        },
        output__0__content__0__text=begins("{"),
    ),
    response("text format json_object", {"text": {"format": {"type": "json_object"}}}, status=is_text),
    response("structured choice", {"structured_outputs": {"choice": ["yes", "no"]}}),
    response("reasoning effort", {"reasoning": {"effort": "low"}}),
    response("reasoning null", {"reasoning": None}),
    response("seed", {"seed": 4, "temperature": 1.0}),
    response("stop", {"stop": ["2"]}),
    response("an unknown field", {"no_such_field": 1}),
    response("prompt_cache_key", {"prompt_cache_key": "k"}),
    response("stream false", {"stream": False}),
    response("request_id", {"request_id": "resp_mine"}),
    response("model null", {"model": None}),
    response("streamed, plain", {"stream": True}),
    response("streamed, cut short", {"stream": True, "max_output_tokens": 1}),
    response("streamed, instructions", {"stream": True, "instructions": "Add."}),
    response("streamed, tools", {"stream": True, "tools": [ADD]}, events__2__type=is_text),
    response(
        "streamed, tools, choice required",
        {"stream": True, "tools": [ADD], "tool_choice": "required", "max_output_tokens": 80},
    ),
    response(
        "streamed, json_schema",
        {
            "stream": True,
            "max_output_tokens": 40,
            "text": {"format": {"type": "json_schema", "name": "s", "schema": SCHEMA}},
        },
    ),
    response(
        "streamed, top_logprobs", {"stream": True, "top_logprobs": 2, "include": ["message.output_text.logprobs"]}
    ),
    response("streamed, messages", {"stream": True, "input": [said("user", "1 + 1?")]}),
    response("streamed, bad regex", {"stream": True, "structured_outputs": {"regex": "["}}, 400),
    response("streamed, unknown model", {"stream": True, "model": "nobody"}, 404),
    response("streamed, a prompt longer than the context", {"stream": True, "input": "1 + 1? " * 400}, 400),
    response("a prompt longer than the context", {"input": "1 + 1? " * 400}, 400),
    response("a prompt longer than the context, cut", {"input": "1 + 1? " * 400, "truncation": "auto"}),
    response("unknown model", {"model": "nobody"}, 404),
    response("unknown previous_response_id", {"previous_response_id": "resp_nobody", "store": True}, 404),
    response("input empty", {"input": ""}, status=is_text, output__0__type=ABSENT, **NO_MESSAGE),
    response("background that is not stored", {"background": True}, 400),
    *(
        response(f"{field} {value!r}"[:120], {field: value}, 400)
        for field, value in [
            ("input", None),
            ("input", 5),
            ("input", {}),
            ("input", [5]),
            ("input", [{"role": "user"}]),
            ("input", [{"type": "smell"}]),
            ("temperature", -1),
            ("temperature", "hot"),
            ("top_p", 5),
            ("max_output_tokens", "x"),
            ("max_output_tokens", 0),
            ("max_output_tokens", -1),
            ("metadata", "x"),
            ("tools", "x"),
            ("tools", [{"type": "smell"}]),
            ("tools", [{"type": "function"}]),
            ("tool_choice", "x"),
            ("text", "x"),
            ("text", {"format": {"type": "smell"}}),
            ("text", {"format": {"type": "json_schema"}}),
            ("truncation", "x"),
            ("include", ["smell"]),
            ("include", "x"),
            ("top_logprobs", "x"),
            ("top_logprobs", 10000),
            ("service_tier", "gold"),
            ("instructions", 5),
            ("stream", "x"),
            ("reasoning", "x"),
            ("reasoning", {"effort": "huge"}),
            ("previous_response_id", 5),
            ("model", 5),
            ("prompt", {"id": "x"}),
            ("user", 5),
            ("store", "x"),
            ("structured_outputs", {"regex": "["}),
            ("seed", 2**63),
            ("stop", ["a"] * 5),
        ]
    ),
    post("no input", PATH, {"model": MODEL, "store": False}, 400, **REFUSED),
]
