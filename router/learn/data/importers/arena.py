"""Battles as Chatbot Arena publishes them: `model_a`, `model_b`, and who won, as `winner` (model_a, model_b, tie,
tie (bothbad)) or as `winner_model_a`, `winner_model_b`, `winner_tie`. The prompt is the user's first turn, of
`conversation_a` or of `prompt`.
"""

from collections.abc import Iterable, Mapping
from typing import Any, Literal

from router.learn.data.importers import cells
from router.learn.data.importers.base import Battle, Broken, Importer, Options, Row, Source, columns_of, outcome
from router.learn.data.importers.lists import listed
from router.learn.data.outcomes import model_name, prompt_id, question_group
from router.learn.data.records import Record, shown

ABOUT = "Chatbot-Arena battles: model_a, model_b, winner, and a conversation or a prompt"
Winner = Literal["a", "b", "tie", "bad"]
_SAID: dict[str, Winner] = {
    "model_a": "a", "model_b": "b", "a": "a", "b": "b", "tie": "tie",
    "tie (bothbad)": "bad", "tie(bothbad)": "bad", "both_bad": "bad", "bothbad": "bad",
}  # fmt: skip
_FLAGS: dict[str, Winner] = {"winner_model_a": "a", "winner_model_b": "b", "winner_tie": "tie"}
#: As plain scores: what is left of a battle when each answer is judged by itself.
SCORES: dict[Winner, tuple[float, float]] = {"a": (1, 0), "b": (0, 1), "tie": (0.5, 0.5), "bad": (0, 0)}


def takes(source: Source) -> bool:
    told = "winner" in source.values or columns_of(source.values, tuple(_FLAGS))
    return told and columns_of(source.values, ("model_a", "model_b"))


def importer(source: Source, options: Options) -> Importer:
    return _Arena(options)


class _Arena:
    def __init__(self, options: Options) -> None:
        self._task, self._scores = options.task, options.scores
        self._alike = 0

    def rows(self, record: Record) -> Iterable[Row]:
        values = record.values
        prompt, winner = _prompt(values), _winner(values)
        a, b = cells.text(values, "model_a"), cells.text(values, "model_b")
        task = self._task or cells.optional_text(values, "task") or "arena"
        if model_name(a) == model_name(b):
            self._alike += 1
        elif self._scores:
            for model, score in zip((a, b), SCORES[winner], strict=True):
                yield outcome(prompt, model, score, task=task)
        else:
            yield Battle(
                prompt_id=prompt_id(prompt), group=question_group(prompt), task=task, prompt=prompt, model_a=a,
                model_b=b, winner="tie" if winner == "bad" else winner,
            )  # fmt: skip

    def left_out(self) -> Mapping[str, int]:
        return {"a model against itself": self._alike} if self._alike else {}


def _winner(values: Mapping[str, Any]) -> Winner:
    if "winner" in values:
        said = cells.text(values, "winner").strip().lower()
        if said not in _SAID:
            raise Broken(f"winner: expected one of {', '.join(_SAID)}; got {shown(values['winner'])}")
        return _SAID[said]
    won = [winner for key, winner in _FLAGS.items() if cells.score(values, key) == 1]
    if len(won) != 1:
        raise Broken(f"{', '.join(_FLAGS)}: expected exactly one of them to be 1, got {len(won)}")
    return won[0]


def _prompt(values: Mapping[str, Any]) -> str:
    """The user's first turn. Both conversations open with it."""
    if "conversation_a" in values:
        turns = listed(values["conversation_a"], "conversation_a")
        return cells.text({"conversation_a": _opening(turns)}, "conversation_a")
    first = listed(values.get("prompt"), "prompt")
    if isinstance(first, list) and first and isinstance(first[0], dict):
        first = _opening(first)
    elif isinstance(first, list):
        first = next((turn for turn in first if isinstance(turn, str) and turn.strip()), None)
    return cells.text({"prompt": first}, "prompt")


def _opening(turns: object) -> str | None:
    if not isinstance(turns, list) or not all(isinstance(turn, dict) for turn in turns):
        raise Broken("conversation_a: expected a list of turns with `role` and `content`")
    content = next((turn.get("content") for turn in turns if turn.get("role") == "user"), None)
    if isinstance(content, list):
        return "\n".join(
            part["text"] for part in content if isinstance(part, dict) and isinstance(part.get("text"), str)
        )
    return content
