"""RouteLLM's benchmark CSVs (lm-sys/RouteLLM, `routellm/evals`): `prompt`, a True/False column a model, and for GSM8K a
column `<model>_response` a model. The task is the file's name.
"""

from collections.abc import Iterable, Mapping
from pathlib import Path

from router.learn.importers import cells
from router.learn.importers.base import Importer, Options, Outcome, Source, outcome
from router.learn.records import Record

ABOUT = "RouteLLM's CSVs: prompt, and a True/False column a model"
RESPONSE = "_response"


def takes(source: Source) -> bool:
    if source.kind != "csv" or "prompt" not in source.values:
        return False
    models = models_of(source.values)
    return bool(models) and all(str(source.values[model]).lower() in ("true", "false") for model in models)


def importer(source: Source, options: Options) -> Importer:
    return _RouteLlm(options.task or task_of(source.path))


def models_of(values: Mapping[str, object]) -> list[str]:
    """Every column but the prompt, the answers and a nameless row number."""
    return [key for key in values if key not in ("prompt", "") and not key.endswith(RESPONSE)]


def task_of(path: Path) -> str:
    """`mmlu_anatomy.csv` -> `mmlu/anatomy`, `gsm8k_responses.csv` -> `gsm8k`."""
    name = path.stem.removesuffix("_responses")
    return name.replace("mmlu_", "mmlu/", 1) if name.startswith("mmlu_") else name


class _RouteLlm:
    def __init__(self, task: str) -> None:
        self._task = task

    def rows(self, record: Record) -> Iterable[Outcome]:
        prompt = cells.text(record.values, "prompt")
        for model in models_of(record.values):
            response = cells.optional_text(record.values, model + RESPONSE)
            yield outcome(
                prompt, model, cells.score(record.values, model), task=self._task, response=response,
                output_chars=None if response is None else len(response),
            )  # fmt: skip

    def left_out(self) -> Mapping[str, int]:
        return {}
