"""`headgate chat`: talk to a running server, and see which model wrote what, why, and at which cost."""

import argparse
import sys
import time
from collections.abc import Callable, Iterator
from typing import get_args

import msgspec

from router import config as configuration
from router.cli.chat_answer import Ended, Message, Piece, ask
from router.cli.chat_shown import Screen, term_of
from router.cli.door import DEFAULT, Door, door_of
from router.cli.numbers import whole
from router.cli.paths import home_path
from router.errors import HeadgateError
from router.types import Choice

_ABOUT = """\
/model NAME    ask this one; auto: the server chooses
/choice WORD   when models are chosen: auto, before, cascade or handoff
/system TEXT   what the model is told of its task; empty: nothing
/clear         forget the conversation
/quit          end; so does the end of the input. Ctrl-C cuts an answer"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.epilog = f"Within:\n{_ABOUT}"
    server = parser.add_mutually_exclusive_group()
    server.add_argument("config", nargs="?", type=home_path, metavar="headgate.yaml", help="of the running server")
    server.add_argument("--url", help=f"the running server (default: {DEFAULT})")
    parser.add_argument("--model", default="auto", metavar="NAME", help="who is asked (default: %(default)s)")
    parser.add_argument("--choice", choices=get_args(Choice), default="", help="when models are chosen")
    parser.add_argument("--system", default="", metavar="TEXT", help="what the model is told of its task")
    parser.add_argument("--max-tokens", type=whole(1, 1_000_000), metavar="N", help="of an answer")
    parser.add_argument("--once", metavar="PROMPT", help="ask this, show the answer, end")
    parser.add_argument("--json", action="store_true", help="each answer as one JSON line")


def run(args: argparse.Namespace) -> int:
    door = door_of("chat", args.config, args.url)
    coloured = not args.json and sys.stdout.isatty() and configuration.wants_colour()
    chat = Chat(door, Screen(coloured=coloured), model=args.model, choice=args.choice, max_tokens=args.max_tokens)
    chat.system, chat.json = args.system, args.json
    if args.once is not None:
        chat.ask(args.once)
        return 0
    return _converse(chat, door, tty=sys.stdin.isatty() and not args.json)


class Told(msgspec.Struct, omit_defaults=True):
    """An answer as `--json` tells it."""

    model: str
    text: str
    segments: list[tuple[str, str]]  #: model and text, in their order
    reason: str = ""
    decision_id: str = ""
    legs: str = ""
    finish_reason: str = ""
    prompt_tokens: int = 0
    completion_tokens: int = 0
    tokens: dict[str, int] = {}  #: by model, where several wrote
    quality: float | None = None  #: predicted of `model`, as is the next
    cost_usd: float | None = None
    seconds: float = 0.0


class Chat:
    """One conversation with one server."""

    def __init__(
        self, door: Door, screen: Screen, *, model: str = "auto", choice: str = "", max_tokens: int | None = None
    ) -> None:
        self._door, self._screen = door, screen
        self.model, self.choice, self._max_tokens = model, choice, max_tokens
        self.system = ""
        self.json = False
        self.turns: list[Message] = []

    def ask(self, prompt: str) -> None:
        """Show the answer and keep both. Raises `HeadgateError`; then nothing is kept."""
        turns = [*self.turns, Message("user", prompt)]
        system = [Message("system", self.system)] if self.system else []
        begun = time.monotonic()
        answer = ask(self._door, [*system, *turns], self.model, self.choice, self._max_tokens)
        segments, ended = self._follow(answer)
        seconds = time.monotonic() - begun
        text = "".join(text for _, text in segments)
        self.turns = [*turns, Message("assistant", text)]
        if ended is None:
            return
        if self.json:
            print(msgspec.json.encode(_told(ended, segments, text, seconds)).decode(), flush=True)
        else:
            self._screen.end(ended, seconds)

    def _follow(self, answer: Iterator[Piece | Ended]) -> tuple[list[tuple[str, str]], Ended | None]:
        """The answer's text by who wrote it, shown as it comes; no end where Ctrl-C cut it."""
        segments: list[tuple[str, str]] = []
        self._screen.begin()
        try:
            for piece in answer:
                if isinstance(piece, Ended):
                    return segments, piece
                if not self.json:
                    self._screen.piece(piece)
                if not piece.reasoning:
                    _add(segments, piece)
        except KeyboardInterrupt:
            if self.json or not segments:
                raise
            self._screen.cut()
        except HeadgateError:
            if segments and not self.json:
                self._screen.cut()
            raise
        return segments, None


def _add(segments: list[tuple[str, str]], piece: Piece) -> None:
    if segments and segments[-1][0] == piece.model:
        segments[-1] = piece.model, segments[-1][1] + piece.text
    else:
        segments.append((piece.model, piece.text))


def _told(ended: Ended, segments: list[tuple[str, str]], text: str, seconds: float) -> Told:
    said, usage = ended.said, ended.usage
    term = term_of(said.get("terms", ""), ended.model)
    return Told(
        model=ended.model,
        text=text,
        segments=segments,
        reason=said.get("reason", ""),
        decision_id=said.get("decision-id", ""),
        legs=said.get("legs", ""),
        finish_reason=ended.finish_reason,
        prompt_tokens=usage.prompt_tokens,
        completion_tokens=usage.completion_tokens,
        tokens=usage.headgate,
        quality=term.quality,
        cost_usd=term.cost_usd,
        seconds=round(seconds, 3),
    )


def _converse(chat: Chat, door: Door, *, tty: bool) -> int:
    """Prompts from standard input, one a line. 1: one of them, in a script, had no answer."""
    if tty:
        import readline  # noqa: F401  lines can be edited, and those before called back

        print(f"{door.url}, model {chat.model}; /help tells what else there is")
    failed = 0
    while True:
        try:
            line = input("> " if tty else "").strip()
        except EOFError:
            return failed
        except KeyboardInterrupt:
            print()
            return 130
        if line in ("/quit", "/exit"):
            return failed
        try:
            if line.startswith("/"):
                print(command(chat, line), file=sys.stderr if chat.json else sys.stdout)
            elif line:
                chat.ask(line)
        except HeadgateError as error:
            failed = 0 if tty else 1
            print(f"headgate: error: {error}", file=sys.stderr)
        except KeyboardInterrupt:
            print()


def command(chat: Chat, line: str) -> str:
    """Do what a line that begins with `/` says; what is told of it."""
    word, _, rest = line.partition(" ")
    act = _COMMANDS.get(word)
    return f"no {word}; there are:\n{_ABOUT}" if act is None else act(chat, rest.strip())


def _model(chat: Chat, name: str) -> str:
    chat.model = name or "auto"
    return f"model {chat.model}"


def _choice(chat: Chat, word: str) -> str:
    if word and word not in get_args(Choice):
        return f"expected one of {', '.join(get_args(Choice))}, got {word!r}"
    chat.choice = word
    return f"choice {word or 'as the server says'}"


def _system(chat: Chat, text: str) -> str:
    chat.system = text
    return "a system prompt is sent" if text else "no system prompt is sent"


def _clear(chat: Chat, _: str) -> str:
    chat.turns = []
    return "the conversation is forgotten"


_COMMANDS: dict[str, Callable[[Chat, str], str]] = {
    "/model": _model,
    "/choice": _choice,
    "/system": _system,
    "/clear": _clear,
    "/help": lambda *_: _ABOUT,
}
