"""Arguments of the command line that are paths: `~` is the home folder, also where no shell read it (`--out=~/x`)."""

import argparse
from pathlib import Path

from router import config as configuration
from router.errors import ConfigError


def home_path(text: str) -> Path:
    """For argparse. An empty path is refused: it would be the working folder."""
    if not text:
        raise argparse.ArgumentTypeError("expected a path, got nothing")
    try:
        return configuration.home_expanded(text, "path")
    except ConfigError as error:
        raise argparse.ArgumentTypeError(str(error)) from error


def checkpoint(text: str) -> str:
    """For argparse: `default`, or a path."""
    return text if text == "default" else str(home_path(text))
