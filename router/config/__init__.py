"""The config: one tree of structs (`tree`), read from a file (`loading`), checked (`checks`).

The only place that reads the environment. A bad file is refused with its name, the key and what was expected.
"""

from router.config.adapters import adapters_of, check_adapter_files, fault_of_adapter, taken_names, takes_adapters
from router.config.checks import check
from router.config.devices import CPU, VISIBLE_DEVICES, device_names, devices_needed
from router.config.engine_args import argument_name, by_argument_name, switched_on
from router.config.environment import (
    API_KEY_VARIABLE,
    VLLM_API_KEY_VARIABLE,
    adapter_routes_from_environment,
    api_key_from_environment,
    cache_folder,
    from_environment,
    hub_folder,
    hub_snapshot,
    inherited_environment,
    key_from_environment,
    notify_address,
    runtime_root,
    vllm_api_key_from_environment,
    wants_colour,
)
from router.config.loading import build, build_member, load, parse
from router.config.models import check_models
from router.config.names import RESERVED_NAMES
from router.config.objective import Objective, ObjectiveKind
from router.config.paths import home_expanded
from router.config.pooling import is_pooling
from router.config.presented import fault_of_api_key, fault_of_origin, key_id
from router.config.replicas import by_engine, engine_name, engines_of, expanded, groups, in_file, model_name, models
from router.config.rule_checks import barred_by
from router.config.rules import Intent, Personal, Rule, TextSignals, When
from router.config.tree import (
    CONFIG_VERSION,
    MPS_THREADS,
    ApiKey,
    Batches,
    Config,
    DeviceSettings,
    Gpu,
    Journal,
    Limits,
    Member,
    Planning,
    Routing,
    Server,
    Sleep,
    Supervision,
)

__all__ = [
    "API_KEY_VARIABLE",
    "CONFIG_VERSION",
    "CPU",
    "MPS_THREADS",
    "RESERVED_NAMES",
    "VISIBLE_DEVICES",
    "VLLM_API_KEY_VARIABLE",
    "ApiKey",
    "Batches",
    "Config",
    "DeviceSettings",
    "Gpu",
    "Intent",
    "Journal",
    "Limits",
    "Member",
    "Objective",
    "ObjectiveKind",
    "Personal",
    "Planning",
    "Routing",
    "Rule",
    "Server",
    "Sleep",
    "Supervision",
    "TextSignals",
    "When",
    "adapter_routes_from_environment",
    "adapters_of",
    "api_key_from_environment",
    "argument_name",
    "barred_by",
    "build",
    "build_member",
    "by_argument_name",
    "by_engine",
    "cache_folder",
    "check",
    "check_adapter_files",
    "check_models",
    "device_names",
    "devices_needed",
    "engine_name",
    "engines_of",
    "expanded",
    "fault_of_adapter",
    "fault_of_api_key",
    "fault_of_origin",
    "from_environment",
    "groups",
    "home_expanded",
    "hub_folder",
    "hub_snapshot",
    "in_file",
    "inherited_environment",
    "is_pooling",
    "key_from_environment",
    "key_id",
    "load",
    "model_name",
    "models",
    "notify_address",
    "parse",
    "runtime_root",
    "switched_on",
    "taken_names",
    "takes_adapters",
    "vllm_api_key_from_environment",
    "wants_colour",
]
