"""vLLM's own server tests, unchanged, against vLLM's server and against Headgate.

    python bench/vllm_suite.py --archive vllm-0.32.0.tar.gz --model FOLDER --work DIR [FILE ...]

The archive is the release's source on the package index. Its tests start `vllm serve MODEL --flag ...`: a command of
that name, made here and put first in `PATH`, starts the one server or the other. Whatever model a test names is FOLDER,
by links in a Hugging Face cache of DIR: any small chat model will do, for what counts is which of the tests that pass
on vLLM's server pass on Headgate too. What each file gave is kept in DIR/results; `--again` runs it anew. The tests'
own needs beside vLLM's and pytest's: `tblib`, `anthropic`, `jsonschema`, `openai`.
"""

import argparse
import json
import os
import re
import stat
import subprocess
import sys
import tarfile
import time
import xml.etree.ElementTree as xml
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import vllm_server

ROOT = Path(__file__).resolve().parent.parent
SERVERS = ("vllm", "headgate")
#: Of the release's tests, those that start a server of a model that writes text, and can on a CPU.
FILES = {
    "openai/chat_completion": [
        "chat",
        "chat_completion",
        "chat_echo",
        "chat_logit_bias_validation",
        "logprob_token_ids",
        "root_path",
        "batched_chat_completions",
        "enable_force_include_usage",
        "extra_content_fields",
        "completion_with_function_calling",
        "include_reasoning",
        "chat_completion_with_prompt_embeds",
    ],
    "openai/completion": ["completion", "completion_with_prompt_embeds", "prompt_validation", "token_in_token_out"],
    "openai/models": ["models"],
    "openai": ["chunked_prompt", "return_token_ids", "return_tokens_as_ids"],
    "openai/responses": ["simple", "basic", "stateful", "structured_output", "function_call", "parsable_context"],
    "anthropic": ["messages"],
    "serve/instrumentator": ["basic", "metrics", "orca_metrics", "uds"],
    "serve/tokenize": ["tokenization"],
    "serve/lora": ["lora_adapters"],
    "serve/middleware": ["optional_middleware"],
    "serve/sagemaker": [
        "sagemaker_handler_overrides",
        "sagemaker_lora_adapters",
        "sagemaker_middleware_integration",
    ],
    "generate/generative_scoring": ["generative_scoring_e2e"],
    "scale_out/token_in_token_out": ["serving_tokens"],
}
#: Where they name further models.
CONFTESTS = ("conftest.py", "serve/sagemaker/conftest.py")
ENGINE_ENV = {**vllm_server.CPU_ENV, "VLLM_ALLOW_LONG_MAX_MODEL_LEN": "1"}
#: Behind the tests' own flags.
FLAGS = ["--kv-cache-memory-bytes", "512M", "--block-size", "32", "--distributed-executor-backend", "uni"]
_SHIM = """#!/bin/sh
exec {python} {this} "$@"
"""


def main() -> None:
    if sys.argv[1:2] == ["serve"]:
        command = command_of(os.environ["SUITE_SERVER"], sys.argv[2:], os.environ["SUITE_DROP"].split())
        os.environ["PYTHONPATH"] = str(ROOT)
        os.execv(sys.executable, [sys.executable, *command])
    words, begun = _words(), time.monotonic()
    tests = _unpacked(words.archive, words.work)
    _link_models(tests, words.model.resolve(), words.work / "hf")
    _write_shim(words.work / "bin" / "vllm")
    servers = SERVERS if words.server == "both" else (words.server,)
    with ThreadPoolExecutor(len(servers)) as pool:  # a file at a time, on both servers side by side
        for file in words.files or _files():
            if time.monotonic() - begun > words.budget:
                break
            for server, line in zip(servers, pool.map(lambda server: _run(server, file, words), servers), strict=True):
                print(f"{file} {server}: {line}", flush=True)
    _report(words.work / "results")


def command_of(server: str, words: list[str], drop: list[str]) -> list[str]:
    """What Python runs for `vllm serve` with `words` behind it."""
    words = [*words, *FLAGS]
    if "--model" in words:  # both want it first, and one of them without its name
        at = words.index("--model")
        words = [words[at + 1], *words[:at], *words[at + 2 :]]
    if server == "vllm":
        return ["-m", "vllm.entrypoints.openai.api_server", "--model", *words]
    words = [word for word in words if word not in drop]
    return ["-P", "-m", "router.cli.main", "serve", *words, "--admin-port", "0"]


def _words() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--archive", type=Path, required=True, help="the source archive of vLLM's release")
    parser.add_argument("--model", type=Path, required=True, help="the folder of a small chat model")
    parser.add_argument("--work", type=Path, required=True, help="a folder for tests, links and results")
    parser.add_argument("--server", choices=(*SERVERS, "both"), default="both")
    parser.add_argument("--again", action="store_true", help="run what has results already")
    parser.add_argument(
        "--drop", action="append", default=[], help="a switch of the tests that Headgate is started without"
    )
    parser.add_argument("--limit", type=int, default=900, help="seconds a file may take")
    parser.add_argument("--budget", type=float, default=float("inf"), help="seconds after which no file is begun")
    parser.add_argument("files", nargs="*", metavar="FILE", help="below tests/entrypoints; all of FILES without any")
    return parser.parse_args()


def _files() -> list[str]:
    return [f"{folder}/test_{name}.py" for folder, names in FILES.items() for name in names]


def _unpacked(archive: Path, work: Path) -> Path:
    tests = work / archive.name.removesuffix(".tar.gz") / "tests"
    if not tests.is_dir():
        work.mkdir(parents=True, exist_ok=True)
        with tarfile.open(archive) as tar:
            tar.extractall(work, [each for each in tar if "/tests/" in each.name], filter="data")
    return tests


def _link_models(tests: Path, model: Path, home: Path) -> None:
    """A cache of the hub in which every model that the tests name is `model`, and every LoRA adapter one for it."""
    texts = [(tests / "entrypoints" / file) for file in (*_files(), *CONFTESTS)]
    named = re.compile(r'"([\w.-]+/[\w.-]+)"')
    for name in {name for file in texts if file.exists() for name in named.findall(file.read_text())}:
        folder = home / "hub" / f"models--{name.replace('/', '--')}"
        snapshot = folder / "snapshots" / "main"
        if snapshot.is_dir():
            continue
        snapshot.mkdir(parents=True)
        (folder / "refs").mkdir()
        (folder / "refs" / "main").write_text("main")
        if re.search("lora|self_cognition", name, re.IGNORECASE):
            _write_adapter(snapshot, model)
        else:
            for file in model.iterdir():
                (snapshot / file.name).symlink_to(file)


def _write_adapter(folder: Path, model: Path) -> None:
    """Of small random weights, for the queries of every layer of a model of Llama's kind."""
    import numpy as np
    from safetensors.numpy import save_file

    shape = json.loads((model / "config.json").read_text())
    hidden, heads = shape["hidden_size"], shape["num_attention_heads"]
    width = heads * shape.get("head_dim", hidden // heads)
    random = np.random.default_rng(0)
    weights = {}
    for layer in range(shape["num_hidden_layers"]):
        at = f"base_model.model.model.layers.{layer}.self_attn.q_proj"
        weights[f"{at}.lora_A.weight"] = random.normal(0, 0.02, (8, hidden)).astype(np.float32)
        weights[f"{at}.lora_B.weight"] = random.normal(0, 0.02, (width, 8)).astype(np.float32)
    save_file(weights, folder / "adapter_model.safetensors")
    card = {"peft_type": "LORA", "r": 8, "lora_alpha": 8, "target_modules": ["q_proj"], "bias": "none"}
    (folder / "adapter_config.json").write_text(json.dumps(card))


def _write_shim(path: Path) -> None:
    path.parent.mkdir(exist_ok=True)
    path.write_text(_SHIM.format(python=sys.executable, this=Path(__file__).resolve()))
    path.chmod(path.stat().st_mode | stat.S_IXUSR)


def _run(server: str, file: str, words: argparse.Namespace) -> str:
    """A file's tests against one server. What they gave goes to `results`."""
    work: Path = words.work.resolve()
    tests = work / words.archive.name.removesuffix(".tar.gz") / "tests"
    result = work / "results" / server / f"{file.replace('/', '.')}.json"
    if not result.exists() or words.again:
        result.parent.mkdir(parents=True, exist_ok=True)
        report = result.with_suffix(".xml")
        report.unlink(missing_ok=True)
        path = f"{work / 'bin'}:{os.environ['PATH']}"
        python_path = f"{tests.parent}:{os.environ.get('PYTHONPATH', '')}"
        env = os.environ | ENGINE_ENV | {"SUITE_SERVER": server, "PATH": path, "PYTHONPATH": python_path}
        env["SUITE_DROP"] = " ".join(words.drop)
        env["HF_HOME"] = str(work / "hf")
        command = [sys.executable, "-m", "pytest", f"entrypoints/{file}", "-q", f"--junitxml={report}", "--timeout=300"]
        command += ["-c", os.devnull, "--rootdir", str(tests), "-p", "no:cacheprovider", "-o", "asyncio_mode=strict"]
        with result.with_suffix(".log").open("w") as log:
            process = subprocess.Popen(command, cwd=tests, env=env, stdout=log, stderr=log)
            try:
                process.wait(words.limit)
            except subprocess.TimeoutExpired:
                process.terminate()  # the tests end their servers then
                try:
                    process.wait(60)
                except subprocess.TimeoutExpired:
                    process.kill()
        if not report.exists():
            return "no result: see its log"
        result.write_text(json.dumps(_outcomes(report)))
    outcomes = json.loads(result.read_text())
    counts = Counter(each["outcome"] for each in outcomes.values())
    return ", ".join(f"{counts[word]} {word}" for word in ("passed", "failed", "skipped"))


def _outcomes(report: Path) -> dict[str, dict[str, str]]:
    found = {}
    for case in xml.parse(report).iter("testcase"):
        bad = next((child for child in case if child.tag in ("failure", "error", "skipped")), None)
        outcome = "passed" if bad is None else "skipped" if bad.tag == "skipped" else "failed"
        why = "" if bad is None else (bad.get("message") or "")[:2000]
        found[f"{case.get('classname')}::{case.get('name')}"] = {"outcome": outcome, "why": why}
    return found


def _report(results: Path) -> None:
    """Of the tests that pass on vLLM's server, how many pass on Headgate; each other one with its reason."""
    theirs: dict[str, dict[str, str]] = {}
    ours: dict[str, dict[str, str]] = {}
    for server, found in (("vllm", theirs), ("headgate", ours)):
        for file in sorted((results / server).glob("*.json")):
            found |= json.loads(file.read_text())
    both = [name for name, each in theirs.items() if each["outcome"] == "passed" and name in ours]
    kept = [name for name in both if ours[name]["outcome"] == "passed"]
    for name in sorted(set(both) - set(kept)):
        print(f"\nonly on vLLM's: {name}\n    {ours[name]['why'][:400]}")
    if both:
        share = len(kept) / len(both)
        print(f"\nof {len(both)} tests that pass on vLLM's server {len(kept)} pass on Headgate: {share:.1%}")


if __name__ == "__main__":
    main()
