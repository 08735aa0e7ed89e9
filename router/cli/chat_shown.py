"""An answer on a terminal: a colour for each model that writes, then one line of how it went."""

import sys
from typing import TextIO

import msgspec

from router.cli.chat_answer import Ended, Piece

#: Of the models, as they first write: cyan, yellow, magenta, green.
_COLOURS = (36, 33, 35, 32)
_DIM, _ITALIC, _OFF = "\x1b[2m", "\x1b[3m", "\x1b[0m"
#: Control characters, which could drive the terminal; a line's end and a tab stay.
_CONTROLS = {code: None for code in (*range(0x20), *range(0x7F, 0xA0)) if chr(code) not in "\n\t"}


class _Term(msgspec.Struct):
    model: str = ""
    quality: float | None = None
    cost_usd: float | None = None


class Screen:
    """Where answers are written. `coloured`: by escapes; else the model's name stands before what it writes, where
    several do."""

    def __init__(self, out: TextIO | None = None, *, coloured: bool) -> None:
        self._out = sys.stdout if out is None else out
        self._coloured = coloured
        self._colours: dict[str, int] = {}
        self._last: tuple[str, bool] | None = None

    def begin(self) -> None:
        """An answer comes."""
        self._last = None

    def piece(self, piece: Piece) -> None:
        now = piece.model, piece.reasoning
        if now != self._last:
            self._turn(piece, first=self._last is None)
            self._last = now
        self._write(piece.text.translate(_CONTROLS))

    def end(self, ended: Ended, seconds: float) -> None:
        line = told(ended, seconds)
        if self._coloured:
            for model, colour in self._colours.items():
                line = line.replace(f"{model} ", f"{_OFF}\x1b[{colour}m{model}{_OFF}{_DIM} ", 1)
            line = f"{_OFF}{_DIM}{line}{_OFF}"
        self._write(f"\n{line}\n\n")

    def cut(self) -> None:
        """The answer ends here."""
        self._write(f"{_OFF if self._coloured else ''}\n")

    def _turn(self, piece: Piece, *, first: bool) -> None:
        """Another one writes now."""
        if self._coloured:
            colour = self._colours.setdefault(piece.model, _COLOURS[len(self._colours) % len(_COLOURS)])
            self._write(f"{_OFF}\x1b[{colour}m{_ITALIC + _DIM if piece.reasoning else ''}")
        elif not first:
            self._write(f"\n[{piece.model}{', reasoning' if piece.reasoning else ''}] ")

    def _write(self, text: str) -> None:
        self._out.write(text)
        self._out.flush()


def told(ended: Ended, seconds: float) -> str:
    """Who wrote how many tokens, why, its quality and cost as predicted, legs, time."""
    said, usage = ended.said, ended.usage
    wrote = usage.headgate or {ended.model or "?": usage.completion_tokens}
    parts = [" + ".join(f"{model} {tokens:,}" for model, tokens in wrote.items()) + " tokens"]
    parts.append(f"{usage.prompt_tokens:,} read")
    if reason := said.get("reason"):
        parts.append(reason)
    term = term_of(said.get("terms", ""), ended.model)
    if term.quality is not None:
        parts.append(f"quality {term.quality:.2f}")
    if term.cost_usd is not None:
        parts.append(f"${term.cost_usd:.2g} predicted")
    if legs := said.get("legs"):
        parts.append(f"legs {legs}")
    if ended.finish_reason not in ("", "stop"):
        parts.append(f"ended by {ended.finish_reason}")
    parts.append(f"{seconds:.1f} s")
    return " · ".join(parts).translate(_CONTROLS)


def term_of(terms: str, model: str) -> _Term:
    """What the decision says of `model`."""
    try:
        found = msgspec.json.decode(terms, type=list[_Term])
    except msgspec.MsgspecError:
        return _Term()
    return next((term for term in found if term.model == model), _Term())
