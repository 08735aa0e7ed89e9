"""The branch `routing.rules`: signals, and what is done where they hold. One language with the learnt `rules` head
(`TextSignals`). Which of its keys contradict: `rule_checks`."""

from typing import Literal

import msgspec

from router.config.bounds import Tokens, Unit
from router.types import Choice

#: Of the conversation, which texts are read: the last one of the user, all of the user's, the system's, or all.
Texts = Literal["last", "user", "system", "all"]
#: Of data about persons; each is found by its form, and by its checksum where it has one.
Personal = Literal["email", "phone", "card", "iban", "ssn", "ip"]
Script = Literal[
    "latin", "cyrillic", "greek", "han", "hiragana", "katakana", "hangul", "arabic", "hebrew", "devanagari", "bengali",
    "tamil", "telugu", "thai", "georgian", "armenian", "ethiopic", "khmer", "lao", "myanmar", "sinhala", "gujarati",
    "gurmukhi", "kannada", "malayalam", "tibetan", "mongolian",
]  # fmt: skip


class TextSignals(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Of one text. All that are given must hold."""

    words: tuple[str, ...] = ()  #: any of them stands in the text, as a whole word, in whatever case
    pattern: str = ""  #: a regular expression finds something, in whatever case
    longer: int | None = None  #: more characters than this
    shorter: int | None = None  #: fewer characters than this
    foreign: float | None = None  #: at least this share of the letters is not Latin


class Intent(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What such a text is about, by examples."""

    examples: tuple[str, ...]
    #: The least cosine of the text's static embedding with that of one of the examples.
    least: Unit = 0.6


class When(TextSignals, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Signals of a request. All that are given must hold; of several values of one, any."""

    of: Texts = "last"  #: where signals of texts are looked for; each text is read by itself, any may hold
    scripts: tuple[Script, ...] = ()  #: at least .3 of the letters are of one of these
    code: bool | None = None  #: there is program code, or there is none
    maths: bool | None = None  #: there are formulas, or there are none
    intent: Intent | None = None
    personal: tuple[Personal, ...] = ()  #: anywhere in the body; what cannot be read as text counts as such
    tokens_over: Tokens | None = None  #: of the whole conversation, as estimated for the decision
    tokens_under: Tokens | None = None
    tools: bool | None = None  #: the request offers tools, or offers none
    images: bool | None = None
    audio: bool | None = None
    headers: dict[str, str | tuple[str, ...]] = {}  #: has one of these values; `*`: any
    header_patterns: dict[str, str] = {}  #: a regular expression finds something in it
    keys: tuple[str, ...] = ()  #: ids of API keys, as in the journal
    sessions: tuple[str, ...] = ()  #: `x-session-id`; `*` stands for any characters
    models: tuple[str, ...] = ()  #: as asked for; `*` stands for any characters


class Rule(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What is done with requests for which `when` holds. At least one act is given.

    `forbid` and `local` count for every request and are never given up. `pin`, `route` and `prefer` count where the
    request leaves the choice open; of several rules that pin or route, the first one counts, and points add up.
    """

    name: str
    when: When
    pin: str | None = None  #: the member that answers
    forbid: tuple[str, ...] = ()  #: members that may not answer
    local: bool = False  #: no member of `kind: openai` may answer
    route: tuple[str, ...] = ()  #: only one of these members answers
    prefer: dict[str, float] = {}  #: quality points added to a member's estimate, -1 to 1
    choice: Choice | None = None  #: when models are chosen, where neither header nor key says
