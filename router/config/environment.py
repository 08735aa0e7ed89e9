"""All environment variables that Headgate reads. No other room reads the environment."""

import os
from collections.abc import Mapping
from pathlib import Path

from router.config import interpolation
from router.config.secrets import Expander
from router.config.tree import Config
from router.errors import ConfigError

API_KEY_VARIABLE = "HEADGATE_API_KEY"
#: vLLM's own; it counts where a model is served by vLLM's flags.
VLLM_API_KEY_VARIABLE = "VLLM_API_KEY"
#: systemd's, for the service itself.
NOTIFY_VARIABLE = "NOTIFY_SOCKET"


def from_environment(reference: str, at: str, env: Mapping[str, str] = os.environ) -> str:
    """What `${NAME}` stands for: of secrets that may not be given as such. Raises `ConfigError`."""
    try:
        parts = interpolation.parse(reference)
    except interpolation.Refused:
        parts = ()
    if len(parts) != 1 or interpolation.literals(parts):
        raise ConfigError(f"{at}: expected ${{NAME}} of an environment variable, so that the secret is kept nowhere")
    value: str = Expander(env, at).expand(reference, keys=("api_key",))
    return value


def wants_colour(env: Mapping[str, str] = os.environ) -> bool:
    """Whether text on a terminal may be coloured (no-color.org)."""
    return not env.get("NO_COLOR") and env.get("TERM", "") != "dumb"


def runtime_root(env: Mapping[str, str] = os.environ) -> Path:
    """Folder under which a private runtime folder is made."""
    return Path(env.get("XDG_RUNTIME_DIR") or env.get("TMPDIR") or "/tmp")


def notify_address(env: Mapping[str, str] = os.environ) -> str:
    """Of the socket by which systemd hears of a service, empty where nobody listens."""
    return env.get(NOTIFY_VARIABLE, "")


def cache_folder(env: Mapping[str, str] = os.environ) -> Path | None:
    """Where what can be found out again is kept between runs; None where there is no home folder."""
    if env.get("HEADGATE_CACHE_HOME", "").startswith("/"):
        return Path(env["HEADGATE_CACHE_HOME"])
    if env.get("XDG_CACHE_HOME", "").startswith("/"):
        return Path(env["XDG_CACHE_HOME"]) / "headgate"
    home = env.get("HOME", "")
    return Path(home) / ".cache" / "headgate" if home.startswith("/") else None


def hub_folder(env: Mapping[str, str] = os.environ) -> Path | None:
    """Where Hugging Face's library keeps the models that were downloaded."""
    if env.get("HF_HUB_CACHE"):
        return Path(env["HF_HUB_CACHE"])
    home = env.get("HF_HOME") or (env.get("XDG_CACHE_HOME") or env.get("HOME", "") + "/.cache") + "/huggingface"
    return Path(home) / "hub" if home.startswith("/") else None


def api_key_from_environment(env: Mapping[str, str] = os.environ) -> str | None:
    """`HEADGATE_API_KEY`; None where it is not set. Set but empty is not the same: it is a key that is missing."""
    return env.get(API_KEY_VARIABLE)


def key_from_environment(variable: str, at: str, env: Mapping[str, str] = os.environ) -> str:
    """A key under a name that the user gives. Raises ConfigError that names `at` where there is none."""
    key = env.get(variable, "")
    if not key:
        raise ConfigError(f"{at}: the variable {variable} is not set, or empty")
    return key


def vllm_api_key_from_environment(env: Mapping[str, str] = os.environ) -> str | None:
    """`VLLM_API_KEY`; None where it is not set."""
    return env.get(VLLM_API_KEY_VARIABLE)


def adapter_routes_from_environment(env: Mapping[str, str] = os.environ) -> bool:
    """Whether vLLM's server would take LoRA adapters while it serves."""
    return env.get("VLLM_ALLOW_RUNTIME_LORA_UPDATING", "").strip().lower() in ("1", "true")


def inherited_environment(config: Config, env: Mapping[str, str] = os.environ) -> dict[str, str]:
    """What engine hosts inherit: everything but our own API key, what the config reads its keys from, and systemd's
    socket."""
    secrets = {*(each.key for each in config.server.keys), *(member.api_key for member in config.pool)}
    secrets = (secrets | {config.supervision.host_secret}) - {""}
    ours = {API_KEY_VARIABLE, NOTIFY_VARIABLE, *config.secret_variables}
    return {name: value for name, value in env.items() if name not in ours and value not in secrets}


def hub_snapshot(model: str, hub: Path | None) -> Path | None:
    """Where `hub`, the folder of downloaded models, has the files of `model`, a hub id; None where it has none yet."""
    if hub is None:
        return None
    try:
        folder = hub / f"models--{model.replace('/', '--')}"
        revision = (folder / "refs" / "main").read_text().strip()
        snapshot = folder / "snapshots" / revision
        return snapshot if revision and snapshot.is_dir() else None
    except (OSError, ValueError):
        return None
