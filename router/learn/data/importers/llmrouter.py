"""LLMRouter's routing data (ulab-uiuc/LLMRouter): a row per query and model, with `task_name`, `query`, `model_name`
and `performance`; also `output_tokens`, `cost`, `response`. `token_num` counts the prompt too and is left.
"""

from collections.abc import Iterable, Mapping

from router.learn.data.importers import cells
from router.learn.data.importers.base import Importer, Options, Outcome, Source, columns_of, outcome
from router.learn.data.records import Record

ABOUT = "LLMRouter's rows: task_name, query, model_name, performance"


def takes(source: Source) -> bool:
    return columns_of(source.values, ("query", "model_name", "performance"))


def importer(source: Source, options: Options) -> Importer:
    split = next((name for name in ("train", "test") if name in source.path.stem.lower().split("_")), None)
    return _LlmRouter(options.task, split)


class _LlmRouter:
    def __init__(self, task: str, split: str | None) -> None:
        self._task, self._split = task, split

    def rows(self, record: Record) -> Iterable[Outcome]:
        values = record.values
        response = cells.optional_text(values, "response")
        yield outcome(
            cells.text(values, "query"), cells.text(values, "model_name"), cells.score(values, "performance"),
            task=self._task or cells.optional_text(values, "task_name") or "",
            output_tokens=cells.measure(values, "output_tokens"), cost_usd=cells.measure(values, "cost"),
            response=response, output_chars=None if response is None else len(response),
            split=cells.optional_text(values, "split") or self._split,
        )  # fmt: skip

    def left_out(self) -> Mapping[str, int]:
        return {}
