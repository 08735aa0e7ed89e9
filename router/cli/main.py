"""The `headgate` command: one module a verb, imported only when its verb is called."""

import argparse
import difflib
import sys
from collections.abc import Sequence
from importlib import import_module
from typing import NoReturn, Protocol, cast

from router.errors import ConfigError, HeadgateError
from router.version import __version__

VERBS = {
    "serve": "start the pool's engines and answer OpenAI requests",
    "validate": "check a headgate.yaml and show what it means",
    "plan": "what memory each engine takes and gets, and whether all fit; starts nothing",
    "members": "the members of a running server: their state; add, replace, remove or drain them, try a canary",
    "profile": "measure in a minute what the steps of a running server's engines take",
    "journal": "the records of requests that ended: the last ones, one of them, or all decided again",
    "data": "logs and benchmarks to outcomes tables, and what is in a table",
    "train": "outcomes table -> checkpoint, with held-out figures",
    "eval": "routers side by side on held-out prompts: figures, plots, a report",
    "chat": "talk to a running server in the terminal; which model wrote what, why, at which cost",
    "bench": "throughput per dollar: policies and endpoints under the same load",
    "simulate": "a pool in simulated time: sweeps, and how many devices it takes; starts nothing",
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
    parser, own = _parser(verb, module)
    words: list[str] = []
    if verb == "serve" and own is not None:
        from router.cli.vllm_flags import split

        ours, words = split(argv[1:], own)
        argv = [verb, *ours]
    args, unknown = parser.parse_known_args(argv)
    if words:
        args.vllm_words = tuple(words)
    if unknown:
        _refuse(own or parser, verb, unknown[0])
    assert module is not None  # argparse has refused everything else
    try:
        return module.run(args)
    except HeadgateError as error:
        print(f"headgate: error: {error}", file=sys.stderr)
        return 2 if isinstance(error, ConfigError) else 1
    except KeyboardInterrupt:
        return 130


def _refuse(parser: argparse.ArgumentParser, verb: str | None, word: str) -> NoReturn:
    """A word too many: with the verb's own usage, and where it may have been meant to go."""
    flag = word.partition("=")[0]
    known = [option for action in parser._actions for option in action.option_strings]
    near = difflib.get_close_matches(flag, known, n=1, cutoff=0.7)
    hint = f"; did you mean {near[0]}?" if near else ""
    if verb == "serve" and flag in ("--model", "--served-model-name"):
        hint = "; a model is given as --small MODEL or --large MODEL, or by itself: headgate serve MODEL"
    elif verb == "serve" and flag == "--config":
        hint = "; a config file is given by itself: headgate serve FILE"
    elif verb == "serve" and flag.startswith("--") and not near:
        hint = (
            f"; an argument of vLLM is given behind its model (headgate serve MODEL {flag} ...), as --engine-arg"
            f" {flag[2:]}=VALUE, or under `engine_args` in a config file"
        )
    parser.error(f"unrecognized argument {flag}{hint}")


def _parser(verb: str | None, module: Verb | None) -> tuple[argparse.ArgumentParser, argparse.ArgumentParser | None]:
    """The command's parser and, of a verb, its own."""
    parser = argparse.ArgumentParser(prog="headgate", description="An LLM router that is the frontend of vLLM engines.")
    parser.add_argument("--version", action="version", version=f"headgate {__version__}")
    verbs = parser.add_subparsers(metavar="VERB", required=True)
    chosen = None
    for name, help in VERBS.items():
        own = verbs.add_parser(name, help=help, description=help[0].upper() + help[1:] + ".")
        if name == verb and module is not None:
            module.add_arguments(own)
            chosen = own
    return parser, chosen


if __name__ == "__main__":
    sys.exit(main())
