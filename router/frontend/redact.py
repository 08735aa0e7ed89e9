"""What an operator is shown of the config and of members' errors: all but secrets.

What is hidden follows from where a value stands (keys, environment variables, logins and queries of URLs) and from what
it came from (a reference `${...}`). Where anything may stand, as under `engine_args`, and in texts, also whatever has a
secret's name above it or looks like one.
"""

import re

import msgspec

from router.config.tree import SECRET_KEYS

HIDDEN = "***"
#: Keys below which anything may stand, so that numbers may be secrets too.
_FREE_PLACES = frozenset({"engine_args"})
#: Where the config's references stood.
_EXPANDED_AT = "expanded_at"
_SECRET_NAME = re.compile(
    r"key(?!_value)|token(?!s|iz|_threshold)|secret|passw|passphrase|credential|auth|bearer|cookie|header",
    re.IGNORECASE,
)
_LOGIN = re.compile(r"(?<=://)\S*@")
_QUERY = re.compile(r"(?<=://)([^\s?#]*[?#])\S+")
_SECRET_TEXT = re.compile(
    # a name and what follows it
    r"(?:api[-_ ]?key|token|secret|passw(?:or)?d|authorization|bearer)\b['\"]?(?:\s*[:=]\s*|\s+)\S+"
    # known kinds of keys
    r"|\b(?:(?:sk|pk|rk)[-_]|hf_|gh[opsu]_|github_pat_|xox[abps]-|glpat-|AKIA|AIza|eyJ)[\w-]{6,}"
    # long words of letters and digits
    r"|(?<!\w)(?=\w*\d)(?=\w*[A-Za-z])\w{32,}(?!\w)",
    re.IGNORECASE,
)


def redacted(what: object) -> object:
    """`what` as plain objects. Names stay, secrets become `***`, empty values stay empty."""
    tree = msgspec.to_builtins(what)
    came_from_references: frozenset[str] = frozenset()
    if isinstance(tree, dict):
        came_from_references = frozenset(_spelled(at) for at in tree.pop(_EXPANDED_AT, ()))
    return _Redaction(came_from_references).of(tree)


class _Redaction:
    """`expanded`: the places whose values came from references."""

    def __init__(self, expanded: frozenset[str]) -> None:
        self._expanded = expanded

    def of(
        self, node: object, at: str = "$", *, secret: bool = False, named: bool = False, free: bool = False
    ) -> object:
        """`secret`: stands in a place of secrets. `named`: a name above looks like a secret's."""
        secret = secret or _spelled(at) in self._expanded
        if isinstance(node, dict):
            return {
                name: self.of(
                    value,
                    f"{at}.{name}",
                    secret=secret or name in SECRET_KEYS,
                    named=named or _SECRET_NAME.search(str(name)) is not None,
                    free=free or name in _FREE_PLACES,
                )
                for name, value in node.items()
            }
        if isinstance(node, list | tuple):
            return [self.of(item, f"{at}[{i}]", secret=secret, named=named, free=free) for i, item in enumerate(node)]
        if isinstance(node, str):
            return HIDDEN if node and (secret or named) else _without_secrets(node)
        number = isinstance(node, int | float) and not isinstance(node, bool)
        return HIDDEN if number and (secret or (named and free)) else node


def _without_secrets(text: str) -> str:
    text = _LOGIN.sub(f"{HIDDEN}@", text)
    text = _QUERY.sub(rf"\1{HIDDEN}", text)
    return _SECRET_TEXT.sub(HIDDEN, text)


def _spelled(at: str) -> str:
    """One spelling of a place: vLLM's arguments are written with `_` or `-`."""
    return at.replace("-", "_")
