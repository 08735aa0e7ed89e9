"""Which members are pooling models (embedding, score, rerank, classify), as far as it can be told before one runs: by
its `capabilities`, by vLLM's `runner` and `convert`, else by what the model's folder says of it, or the hub's cache.

An engine that runs tells it itself; until then a model that was never loaded here is taken to generate text.
"""

import json
import os
from pathlib import Path
from typing import Final

from router.config.engine_args import by_argument_name
from router.config.environment import hub_folder, hub_snapshot
from router.config.tree import Member
from router.types import GENERATING

#: Of sentence-transformers, whose models pool.
_MODULES = "modules.json"
#: Ends of an architecture's name, and whether such a model generates text: the first that fits, as in vLLM.
_ENDS: Final[tuple[tuple[str, bool], ...]] = (
    *((end, True) for end in ("ForCausalLM", "ForConditionalGeneration", "ChatModel", "LMHeadModel")),
    *((end, False) for end in ("Classification", "ForTextEncoding", "ForRewardModeling", "Model")),
)


def is_pooling(member: Member) -> bool:
    """Whether `member` generates no text."""
    if member.kind != "engine":
        return member.capabilities is not None and GENERATING.isdisjoint(member.capabilities)
    given = by_argument_name(member.engine_args)
    runner, convert = given.get("runner", "auto"), given.get("convert", "auto")
    if runner != "auto":
        return bool(runner == "pooling")
    if convert not in ("auto", "none"):
        return True
    folder = Path(member.model)
    return _folder_pools(folder if os.path.isdir(folder) else hub_snapshot(member.model, hub_folder()) or folder)


def _folder_pools(folder: Path) -> bool:
    try:
        if (folder / _MODULES).is_file():
            return True
        said = json.loads((folder / "config.json").read_bytes())
        architectures = said.get("architectures") or []
        names = [name for name in architectures if isinstance(name, str)]
    except (OSError, ValueError, RecursionError, AttributeError, TypeError):
        return False  # whoever starts it says what is wrong with it
    for name in names:
        for end, generates in _ENDS:
            if name.endswith(end):
                return not generates
    return False
