"""What `headgate profile` asks the engines: phases that vary one thing each, so that a fit can tell the coefficients of
a step apart. Pure."""

import random
from collections.abc import Sequence

import msgspec

_PROMPTS = (32, 128, 512, 2_048)  # words of one request at a time
_BATCHES = (1, 2, 4, 8, 16, 32)  # requests at a time
_BATCH_WORDS, _BATCH_TOKENS = 32, 32
_LONG_STREAMS, _LONG_TOKENS = 4, 48
_TOGETHER = (1, 4)  # requests at a time at each of several engines
#: A word is a few tokens in a small vocabulary: prompts have so many words at most for a context of that many tokens.
_TOKENS_A_WORD = 6
_WORDS = ("sun", "cat", "run", "map", "ten", "box", "red", "sea", "air", "dog", "cup", "hat")


class Target(msgspec.Struct, frozen=True):
    """An engine to profile."""

    name: str
    context_tokens: int = 0  #: 0: not known


class Phase(msgspec.Struct, frozen=True, kw_only=True):
    """For `seconds`, `streams` requests at a time at each of `members`."""

    about: str
    members: tuple[str, ...]
    streams: int
    words: int  #: of a prompt
    tokens: int  #: of an answer
    seconds: float


def plan(targets: Sequence[Target], seconds: float, most_streams: int) -> tuple[Phase, ...]:
    """Phases that take `seconds` together: each engine by itself, then all at once where there are several."""
    phases: list[Phase] = []
    for target in targets:
        phases += _alone(target, most_streams)
    if len(targets) > 1:
        words = min(_fitting(target, _BATCH_WORDS) for target in targets)
        names = tuple(target.name for target in targets)
        for streams in _TOGETHER:
            about = f"all at once, {streams} at a time"
            phases.append(_phase(about, names, min(streams, most_streams), words, _BATCH_TOKENS))
    each_s = seconds / max(1, len(phases))
    return tuple(msgspec.structs.replace(phase, seconds=each_s) for phase in phases)


def _alone(target: Target, most_streams: int) -> list[Phase]:
    name = (target.name,)
    prompts = sorted({_fitting(target, words) for words in _PROMPTS})
    found = [_phase(f"{target.name}: prompts of {words} words", name, 1, words, 2) for words in prompts]
    for streams in [streams for streams in _BATCHES if streams <= most_streams]:
        words = _fitting(target, _BATCH_WORDS)
        found.append(_phase(f"{target.name}: {streams} at a time", name, streams, words, _BATCH_TOKENS))
    long = f"{target.name}: long contexts"
    found.append(_phase(long, name, min(_LONG_STREAMS, most_streams), prompts[-1], _LONG_TOKENS))
    return found


def _phase(about: str, members: tuple[str, ...], streams: int, words: int, tokens: int) -> Phase:
    return Phase(about=about, members=members, streams=streams, words=words, tokens=tokens, seconds=0.0)


def _fitting(target: Target, words: int) -> int:
    """As many words as leave room for an answer in its context."""
    room = (target.context_tokens - 2 * _LONG_TOKENS) // _TOKENS_A_WORD if target.context_tokens else words
    return max(1, min(words, room))


def prompt(words: int, source: random.Random) -> str:
    """Begins like no other, so that no prefix of it is cached."""
    return " ".join([f"{source.randrange(10**6)}", *source.choices(_WORDS, k=words - 1)])
