"""Forms that other tools use for variables (`{{NAME}}`, `%NAME%`, ...). As a secret's value they are refused: taken
literally they would be keys that anyone can guess.

Works on texts only. A real secret of such a form can still be given through a variable.
"""

import re

_LOOKUP = r"(?:os\.environ|os\.getenv|process\.env|environ(?:ment)?|(?:get)?env(?:var)?|secrets?)"
#: Forms that are no value of a variable either.
_ANYWHERE = (
    (re.compile(r"\{\{[^{}]*\}\}"), "{{NAME}}"),
    (re.compile(r"^\{\s*(?:\$|env[:.]|file:|vault:)?[A-Za-z_][\w.]*\s*\}$"), "{NAME}"),
    (re.compile(r"^%[A-Za-z_]\w*%$"), "%NAME%"),
    (re.compile(r"^`[^`]+`$"), "`command`"),
    (re.compile(rf"^!?{_LOOKUP}[/:.\[({{ ]+['\"]?[A-Za-z_][\w./-]*['\"]?[\s\])}}]*$", re.I), "env:NAME"),
)
#: Of a key more is held to be a reference: no generator of keys makes these.
_OF_KEYS = (
    (re.compile(r"\{\{|\}\}"), "{{NAME}}"),
    (re.compile(r"(?<!\$)\{[\s$%]*[A-Za-z_.][^{}]*\}"), "{NAME}"),
    (re.compile(r"%[A-Za-z_]\w*%"), "%NAME%"),
    (re.compile(r"^<[^<>]+>$|<%"), "<NAME>"),
    (re.compile(r"`[^`]+`"), "`command`"),
    (re.compile(rf"^!?{_LOOKUP}(?:[/:\[({{ ]|\.[A-Za-z_])", re.I), "env:NAME"),
    (re.compile(r"^(?:file|vault|keyring|keychain|ssm|[a-z]+-?sm|doppler|sops|cmd|exec|ref\+\w+):", re.I), "file:NAME"),
    (re.compile(r"^[a-z][a-z0-9+.-]*://", re.I), "scheme://NAME"),
)
#: `HEADGATE_API_KEY` itself: the name, where its value was meant.
_VARIABLE = re.compile(r"(?:[A-Z][A-Z0-9]*_)+(?:KEYS?|TOKENS?|SECRETS?|PASSWORDS?)(?:_\d+)?|APIKEY|TOKEN|SECRET")


def form_of(literal: str, *, key: bool) -> str:
    """As what kind of reference `literal` reads; empty where it reads as none. `key`: it is an API key, or part of one;
    else a value of a variable."""
    literal = literal.strip()
    forms = _ANYWHERE + _OF_KEYS if key else _ANYWHERE
    found = next((shown for form, shown in forms if form.search(literal)), "")
    return found or ("NAME" if key and _VARIABLE.fullmatch(literal) else "")
