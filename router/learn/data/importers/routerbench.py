"""RouterBench's wide tables (withmartian/routerbench), exported from their pickles: `sample_id`, `prompt`, `eval_name`,
and a model's score under its name, its answer and its dollars under `<model>|model_response` and `<model>|total_cost`.
"""

from collections.abc import Iterable, Mapping
from typing import Any

from router.learn.data.importers import cells
from router.learn.data.importers.base import Broken, Importer, Options, Outcome, Source, outcome
from router.learn.data.importers.lists import listed
from router.learn.data.records import Record

ABOUT = "RouterBench's wide tables: sample_id, prompt, eval_name, and three columns a model"
RESPONSE, COST = "|model_response", "|total_cost"


def takes(source: Source) -> bool:
    return "prompt" in source.values and bool(models_of(source.values))


def importer(source: Source, options: Options) -> Importer:
    return _RouterBench(options.task)


def models_of(values: Mapping[str, object]) -> list[str]:
    named = (key.removesuffix(RESPONSE).removesuffix(COST) for key in values if key.endswith((RESPONSE, COST)))
    return [name for name in dict.fromkeys(named) if name in values]


class _RouterBench:
    def __init__(self, task: str) -> None:
        self._task = task
        self._missing = 0

    def rows(self, record: Record) -> Iterable[Outcome]:
        values = record.values
        prompt = _prompt(values)
        task = self._task or cells.optional_text(values, "eval_name") or ""
        for model in models_of(values):
            score = cells.optional_score(values, model)
            if score is None:
                self._missing += 1
                continue
            response = cells.optional_text(values, model + RESPONSE)
            yield outcome(
                prompt, model, score, task=task, cost_usd=cells.measure(values, model + COST), response=response,
                output_chars=None if response is None else len(response),
            )  # fmt: skip

    def left_out(self) -> Mapping[str, int]:
        return {"no score of this model": self._missing} if self._missing else {}


def _prompt(values: Mapping[str, Any]) -> str:
    """Some of the source's prompts are lists of texts, some such lists written out."""
    value = listed(values.get("prompt"), "prompt")
    if not isinstance(value, list):
        return cells.text(values, "prompt")
    if not value or not all(isinstance(part, str) for part in value):
        raise Broken("prompt: expected text or a list of texts")
    return cells.text({"prompt": "\n".join(value)}, "prompt")
