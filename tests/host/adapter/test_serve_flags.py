"""No flag of `vllm serve` is unknown: each is taken, or refused with the place where it goes."""

import json
import subprocess
import sys
from importlib.util import find_spec

import pytest

from router.config.engine_args import OURS
from router.config.serve_flags import ANYWAY, SERVER_KEYS

#: Gives each flag of vLLM's parser, in each spelling, with a value of its kind, and tells what became of it.
EACH = """
import json, os, sys
out = os.dup(1)
os.dup2(2, 1)
from router.host.adapter import arguments, serve_flags

def sample(action):
    if action.nargs == 0:
        return []
    if action.choices:
        return [str(list(action.choices)[0])]
    if action.dest == "lora_modules":
        return ["a=b"]
    for text in ("1", "{}", "a=b", "[]", "1,2"):
        try:
            action.type and action.type(text)
        except Exception:
            continue
        return [text]
    return ["x"]

actions = [each for each in arguments.parser()._actions if each.dest not in ("help", "config", "model_tag")]
told = {}
for number in range(max(len(action.option_strings) for action in actions)):
    spelled = [(action.option_strings[number], action) for action in actions if number < len(action.option_strings)]
    found = serve_flags.given(["org/m", *(word for option, each in spelled for word in (option, *sample(each)))])
    for option, action in spelled:
        told[option] = [action.dest in found, action.dest, serve_flags.place(action.dest)]
os.write(out, json.dumps(told).encode())
"""


def test_what_is_set_by_the_server_is_no_engine_argument() -> None:
    assert SERVER_KEYS.keys() | ANYWAY <= OURS.keys()
    assert not SERVER_KEYS.keys() & ANYWAY


@pytest.mark.engine
@pytest.mark.skipif(find_spec("vllm") is None, reason="vLLM is not installed")
def test_each_flag_of_vllms_parser_is_taken_or_refused_with_its_place() -> None:
    done = subprocess.run([sys.executable, "-P", "-c", EACH], capture_output=True, text=True, check=True)
    told = json.loads(done.stdout)
    assert len(told) > 200
    for option, (found, name, place) in told.items():
        assert found, f"{option} was given, and is not found"
        if name in ("model", "served_model_name"):
            assert place == "model", option
        elif name in SERVER_KEYS:
            assert place == "server", option
        elif name in ANYWAY:
            assert place == "anyway", option
        elif name in OURS:
            assert place.startswith(("is set by ", "has no effect: ")), option
        else:
            assert place == "engine_args", f"{option}: {place}"
