"""LLMRouterBench's results (ynulihao/LLMRouterBench): one JSON a model and dataset, its answers under `records`, at
`<dataset>/<split>/<model>/<time>.json`; or the same records as JSONL that name their `model` and `dataset` themselves.
"""

from collections.abc import Iterable, Mapping
from typing import Any

from router.learn.data.importers import cells
from router.learn.data.importers.base import Broken, Importer, Options, Outcome, Source, columns_of, outcome
from router.learn.data.records import Record, told

ABOUT = "LLMRouterBench's results: records with origin_query, prompt, prediction, score"
_MODEL, _DATASET = ("model", "model_name"), ("dataset", "dataset_name", "dataset_id")


def takes(source: Source) -> bool:
    return columns_of(source.values, ("score", "prompt", "prediction")) or columns_of(
        source.values, ("score", "origin_query")
    )


def importer(source: Source, options: Options) -> Importer:
    return _LlmRouterBench(source, options.task)


class _LlmRouterBench:
    def __init__(self, source: Source, task: str) -> None:
        folders = tuple(map(told, source.path.resolve().parts[:-1]))
        deep = source.kind == "json" and len(folders) > 3
        self._dataset, self._split, self._model = folders[-3:] if deep else ("", "", "")
        self._task = task

    def rows(self, record: Record) -> Iterable[Outcome]:
        values = record.values
        question = cells.optional_text(values, "origin_query") or ""
        asked = cells.optional_text(values, "prompt") or question
        response = cells.optional_text(values, "raw_output") or cells.optional_text(values, "prediction")
        yield outcome(
            cells.text({"prompt": asked}, "prompt"), self._named(values), cells.score(values, "score"),
            question=question, task=self._task or _said(values, _DATASET) or self._dataset,
            output_tokens=cells.measure(values, "completion_tokens"), cost_usd=cells.measure(values, "cost"),
            response=response, output_chars=None if response is None else len(response),
            split=_said(values, ("split",)) or self._split or None,
        )  # fmt: skip

    def left_out(self) -> Mapping[str, int]:
        return {}

    def _named(self, values: Mapping[str, Any]) -> str:
        name = _said(values, _MODEL) or self._model
        if not name:
            raise Broken("model: expected a name, here or in the path as <dataset>/<split>/<model>/<file>.json")
        return name


def _said(values: Mapping[str, Any], keys: Iterable[str]) -> str:
    """By the record itself, or by the object around it."""
    told = (cells.optional_text(values, key) for name in keys for key in (name, f"/{name}"))
    return next((value for value in told if value), "")
