"""The command as it was given, for reports."""

import sys
from pathlib import Path

from router import urls


def again(verb: str) -> str:
    """The command again, without keys and without this machine's paths."""
    from router.learn.data.records import told

    words = [f"headgate {verb}"]
    hidden = False
    for word in sys.argv[2:]:
        if hidden:
            word, hidden = "***", False
        elif word == "--api-key":
            hidden = True
        elif word.startswith("--api-key="):
            word = "--api-key=***"
        elif "://" in word:
            word = word if "@" not in word else urls.shown(word)
        elif "/" in word and not word.startswith("-"):
            word = Path(word).name
        words.append(word)
    return told(" ".join(words))
