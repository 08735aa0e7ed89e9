"""Headgate's own tables: outcomes and battles, as JSONL, CSV or Parquet. Merges and rewrites them."""

from collections.abc import Iterable, Mapping

from router.learn.data.importers import cells
from router.learn.data.importers.base import Battle, Broken, Importer, Options, Outcome, Row, Source, columns_of
from router.learn.data.importers.lists import begins
from router.learn.data.outcomes import prompt_id
from router.learn.data.records import Record, shown

ABOUT = "Headgate's own outcomes (prompt, model, score) and battles (prompt, model_a, model_b, winner)"
_WINNERS = ("a", "b", "tie")


def takes(source: Source) -> bool:
    values = source.values
    if columns_of(values, ("prompt", "model_a", "model_b")):
        arena = "conversation_a" in values or begins(values["prompt"])  # whose prompts are lists, winners may be alike
        return values.get("winner") in _WINNERS and not arena
    return columns_of(values, ("prompt", "model", "score")) and "prediction" not in values


def importer(source: Source, options: Options) -> Importer:
    return _Own(options)


class _Own:
    def __init__(self, options: Options) -> None:
        self._options = options

    def rows(self, record: Record) -> Iterable[Row]:
        if "winner" not in record.values:
            yield self._outcome(record.values)
            return
        battle = self._battle(record.values)
        if not self._options.scores:
            yield battle
            return
        won = {"a": 1.0, "b": 0.0, "tie": 0.5}[battle.winner]
        for model, score in ((battle.model_a, won), (battle.model_b, 1 - won)):
            yield Outcome(
                prompt_id=battle.prompt_id, group=battle.group, task=battle.task, prompt=battle.prompt, model=model,
                score=score,
            )  # fmt: skip

    def left_out(self) -> Mapping[str, int]:
        return {}

    def _outcome(self, values: Mapping[str, object]) -> Outcome:
        prompt, id_, group, task = self._prompt(values)
        return Outcome(
            prompt_id=id_, group=group, task=task, prompt=prompt, model=cells.text(values, "model"),
            score=cells.score(values, "score"), output_tokens=cells.measure(values, "output_tokens"),
            output_chars=cells.measure(values, "output_chars"), cost_usd=cells.measure(values, "cost_usd"),
            response=cells.optional_text(values, "response"), split=cells.optional_text(values, "split"),
        )  # fmt: skip

    def _battle(self, values: Mapping[str, object]) -> Battle:
        winner = values["winner"]
        if winner not in _WINNERS:
            raise Broken(f"winner: expected one of {', '.join(_WINNERS)}; got {shown(winner)}")
        prompt, id_, group, task = self._prompt(values)
        a, b = cells.text(values, "model_a"), cells.text(values, "model_b")
        return Battle(
            prompt_id=id_, group=group, task=task, prompt=prompt, model_a=a, model_b=b,
            winner=winner,  # type: ignore[arg-type]
        )  # fmt: skip

    def _prompt(self, values: Mapping[str, object]) -> tuple[str, str, str, str]:
        """Prompt, id, group and task."""
        prompt = cells.text(values, "prompt")
        id_, group, task = (cells.optional_text(values, key) or "" for key in ("prompt_id", "group", "task"))
        own = prompt_id(prompt)
        return prompt, id_ or own, group or own, self._options.task or task
