"""The `headgate` command: one module a verb, imported only when its verb is called."""

import argparse
import sys
from collections.abc import Sequence
from importlib import import_module
from typing import Protocol, cast

from router.errors import ConfigError, HeadgateError
from router.version import __version__

VERBS = {
    "serve": "start the pool's engines and answer OpenAI requests",
    "validate": "check a headgate.yaml and show what it means",
    "data": "logs and benchmarks to outcomes tables, and what is in a table",
    "train": "outcomes table -> checkpoint, with held-out figures",
    "eval": "routers side by side on held-out prompts: figures, plots, a report",
    "calibrate": "set lambda or threshold to a share, a budget or a quality",
}


class Verb(Protocol):
    """A module of this folder."""

    def add_arguments(self, parser: argparse.ArgumentParser) -> None: ...

    def run(self, args: argparse.Namespace) -> int:
        """The exit code."""
        ...


def main(argv: Sequence[str] | None = None) -> int:
    """0: well; 1: failed; 2: refused (usage, config); 130: interrupted."""
    argv = sys.argv[1:] if argv is None else list(argv)
    verb = argv[0] if argv and argv[0] in VERBS else None
    module = cast(Verb, import_module(f"router.cli.{verb}")) if verb else None
    args = _parser(verb, module).parse_args(argv)
    assert module is not None  # argparse has refused everything else
    try:
        return module.run(args)
    except HeadgateError as error:
        print(f"headgate: error: {error}", file=sys.stderr)
        return 2 if isinstance(error, ConfigError) else 1
    except KeyboardInterrupt:
        return 130


def _parser(verb: str | None, module: Verb | None) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="headgate", description="An LLM router that is the frontend of vLLM engines.")
    parser.add_argument("--version", action="version", version=f"headgate {__version__}")
    verbs = parser.add_subparsers(metavar="VERB", required=True)
    for name, help in VERBS.items():
        own = verbs.add_parser(name, help=help, description=help[0].upper() + help[1:] + ".")
        if name == verb and module is not None:
            module.add_arguments(own)
    return parser


if __name__ == "__main__":
    sys.exit(main())
