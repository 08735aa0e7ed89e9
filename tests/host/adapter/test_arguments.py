"""vLLM's arguments: which are Headgate's own, which there are, and what is said of one that is refused."""

import argparse
import ast
import json
import os
import subprocess
import sys
from importlib.util import find_spec
from types import SimpleNamespace

import pytest

from router.config.engine_args import OURS, not_here, twice
from router.host.adapter import arguments, render_check
from router.host.adapter import names as names_of_vllm
from router.host.adapter.arguments import ArgumentRefused, look_at_names
from router.host.adapter.names import names
from router.host.check import first_refusal
from router.ipc.spec import HostSpec

#: What of vLLM's server is about the model and its answers, and so holds in a host too.
TAKEN = {
    "lora_modules", "chat_template", "chat_template_content_format", "trust_request_chat_template",
    "trust_request_mm_kwargs", "default_chat_template_kwargs", "response_role", "return_tokens_as_token_ids",
    "enable_auto_tool_choice", "exclude_tools_when_tool_choice_none", "tool_call_parser", "tool_parser_plugin",
    "tool_strict_level", "tool_server", "max_log_len", "enable_prompt_tokens_details", "enable_per_request_metrics",
    "enable_force_include_usage", "enable_log_outputs", "enable_log_deltas", "cohere_format",
    "anthropic_disabled_thinking_effort", "log_error_stack", "fingerprint_mode", "fingerprint_value",
    "enable_flash_late_interaction", "enable_scale_out", "enable_tokenizer_info_endpoint",
}  # fmt: skip

needs_vllm = pytest.mark.skipif(find_spec("vllm") is None, reason="vLLM is not installed")


def spec(**engine_args: object) -> HostSpec:
    return HostSpec(name="a", model="m", socket="", engine_args=engine_args)


def why_not(known: set[str], **engine_args: object) -> tuple[str, str]:
    with pytest.raises(ArgumentRefused) as refused:
        look_at_names(spec(**engine_args), known)
    return refused.value.key, refused.value.why


def fields_of(name: str) -> set[str]:
    """The fields of one of vLLM's argument classes."""
    nodes = [node for tree in names_of_vllm._trees() for node in ast.walk(tree) if isinstance(node, ast.ClassDef)]
    return {field for node in nodes if node.name == name for field in names_of_vllm._fields(node)}


@needs_vllm
def test_every_argument_of_vllms_http_server_is_taken_or_refused_on_purpose() -> None:
    fields = fields_of("FrontendArgs") | fields_of("BaseFrontendArgs")
    assert len(fields) > 30
    assert fields - OURS.keys() - TAKEN == set(), "a new one of vLLM's: does it hold behind Headgate's doors?"


@needs_vllm
def test_names_are_read_without_vllm() -> None:
    code = "import sys; from router.host.adapter.names import names; print(len(names()), 'vllm' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    count, imported = done.stdout.split()
    assert int(count) > 200
    assert imported == "False"
    assert {"max_model_len", "tool_call_parser", "config", "headless", "enable_log_requests"} <= names()


@pytest.mark.parametrize("name", sorted(OURS))
def test_what_headgate_answers_for_is_refused_with_its_place(name: str) -> None:
    for key in (name, name.replace("_", "-"), f"--{name}"):
        found = not_here(["dtype", key])
        assert found is not None
        assert found[0] == key
        assert found[1].startswith(("is set by ", "has no effect: "))


def test_an_argument_switched_off_is_the_same_argument() -> None:
    assert not_here(["no-enable-ssl-refresh"]) is not None
    assert not_here(["max_model_len", "dtype", "response_role"]) is None


def test_one_argument_in_two_spellings_is_found() -> None:
    assert twice(["max-model-len", "dtype", "--max_model_len"]) == "--max_model_len"
    assert twice(["a", "b"]) == ""


def test_an_unknown_name_is_refused_with_the_nearest() -> None:
    known = {"max_model_len", "dtype"}
    assert why_not(known, max_modle_len=3) == (
        "max_modle_len",
        "vLLM has no such argument; did you mean 'max_model_len'?",
    )
    assert why_not(known, xyzzy=3) == ("xyzzy", "vLLM has no such argument")
    assert why_not(known, port=3) == ("port", "is set by `server.port`, not here")


@pytest.mark.parametrize(
    ("message", "short"),
    [
        ("argument --x: invalid int value: '2.5'", "argument --x: invalid int value: '2.5'"),
        ("argument --x: invalid choice: 'c' (choose from 'a')", "argument --x: invalid choice: 'c' (choose from 'a')"),
        (
            f"argument --x: invalid choice: 'fp9' (choose from {', '.join(repr(f'fp{i}{i}') for i in range(30))})",
            "argument --x: invalid choice: 'fp9' (choose from fp99, fp2929, fp1919 and 27 more)",
        ),
    ],
)  # fmt: skip
def test_no_list_of_thirty_choices_is_shown(message: str, short: str) -> None:
    assert arguments._in_short(message) == short


class _RefusedByVllm(Exception):
    """As vLLM's own: no ValueError."""

    __module__ = "vllm.exceptions"


@pytest.mark.parametrize("error", [_RefusedByVllm, ValueError, TypeError])
def test_what_vllms_own_check_refuses_is_a_refusal_whatever_its_class(
    monkeypatch: pytest.MonkeyPatch, error: type[Exception]
) -> None:
    def validate(args: object) -> None:
        raise error("the template ./none.jinja is not there")

    monkeypatch.setattr(arguments, "_cli_args", lambda: SimpleNamespace(validate_parsed_serve_args=validate))
    with pytest.raises(arguments.ArgumentRefused, match=r"^engine_args: the template \./none\.jinja is not there$"):
        arguments._validate(argparse.Namespace())


@pytest.mark.parametrize(
    ("message", "key"),
    [
        ("--chat-template is not there", "chat-template"),
        ("the template (./none.jinja) is not there", "chat-template"),
        ("--dtype and ./none.jinja", "dtype"),
        ("something else", ""),
    ],
)
def test_the_argument_that_vllm_refuses_is_found_by_its_name_or_its_value(message: str, key: str) -> None:
    given = {"dtype": "half", "chat-template": "./none.jinja", "tokenizer": "", "max_model_len": 5}
    assert arguments._named_in(message, given) == key


@needs_vllm
def test_a_name_is_refused_before_vllm_is_imported() -> None:
    specs = [spec(dtype="float32"), spec(dtype="float32", **{"max-modle-len": 3})]
    refusal = first_refusal(specs)
    assert refusal is not None
    assert (refusal.index, refusal.key) == (1, "max-modle-len")


@pytest.mark.engine
@needs_vllm
def test_values_are_read_by_vllms_own_parser_in_a_process_of_its_own() -> None:
    def check(**engine_args: object) -> dict[str, object]:
        specs = json.dumps([{"name": "a", "model": "m", "socket": "", "engine_args": engine_args}])
        command = [sys.executable, "-P", "-m", "router.host.check"]
        done = subprocess.run(command, input=specs, capture_output=True, text=True, check=True, env=dict(os.environ))
        return json.loads(done.stdout)

    refusal = check(**{"tool-call-parser": "hermse"})
    assert refusal["key"] == "tool-call-parser"
    assert "vLLM has no 'hermse', but hermes, " in str(refusal["why"])
    refusal = check(chat_template="./none.jinja")
    assert refusal["key"] == "chat_template"
    assert "./none.jinja" in str(refusal["why"])
    assert check(dtype="float32", tool_call_parser="hermes", enable_auto_tool_choice=True) is None


async def test_answers_of_another_role_go_the_way_that_knows_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(render_check, "encoder", lambda engine: lambda text: [0])
    serving = SimpleNamespace(response_role="bot", parser_cls=None)
    assert await render_check.chat_renderer(None, SimpleNamespace(openai_serving_chat=serving), None, None) is None
