"""Regular expressions that clients' texts cannot make slow: RE2, whose time is in proportion to the text.

Its language is Python's without back-references and looking around; `\\w`, `\\d` and `\\b` know ASCII alone, `\\pL` is
any letter. Imported only where a config has a pattern.
"""

import importlib

from router.errors import ConfigError
from router.signals.text import Pattern

MOST_PATTERN_BYTES = 1 << 20  #: of memory, of one compiled pattern


class _Pattern:
    """One of RE2's, which finds in texts of half characters too."""

    def __init__(self, compiled: Pattern) -> None:
        self._compiled = compiled

    def search(self, text: str, /) -> object:
        try:
            return self._compiled.search(text)
        except UnicodeEncodeError:
            return self._compiled.search(text.encode("utf-8", "replace").decode())


def compiled(pattern: str, where: str) -> Pattern:
    """In whatever case. Raises ConfigError, naming `where`, on what is no such expression."""
    try:
        re2 = importlib.import_module("re2")
    except ImportError:
        raise ConfigError(
            f"{where}: patterns are read by RE2, which is not installed: pip install google-re2"
        ) from None
    options = re2.Options()
    options.case_sensitive, options.log_errors, options.max_mem = False, False, MOST_PATTERN_BYTES
    try:
        found: Pattern = re2.compile(pattern, options)
    except re2.error as error:
        why = error.args[0] if error.args else error
        why = why.decode("utf-8", "replace") if isinstance(why, bytes) else why
        strange = ("invalid perl operator", "invalid escape sequence")
        hint = "; it has neither looking around nor back-references" if why.startswith(strange) else ""
        raise ConfigError(f"{where}: expected a regular expression of RE2: {why}{hint}") from None
    return _Pattern(found)
