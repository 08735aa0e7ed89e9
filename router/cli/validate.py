"""`headgate validate`: a config file, its checkpoint and what each member is scored as, checked without an engine."""

import argparse
from collections import Counter
from pathlib import Path
from typing import Any

import msgspec

from router import config as configuration
from router import heads, urls
from router.cli import preflight
from router.cli.naming import refusals_of
from router.cli.paths import home_path
from router.cli.places import places_of, places_text
from router.cli.progress import journal_text, placement_text
from router.config import Config, Objective
from router.gate.keys import Keys
from router.heads.base import Placement
from router.pool.environment import placed, this_machine
from router.pool.mps import check_mps, wanted

_ACTS = ("pin", "forbid", "local", "route", "prefer", "choice")
_NOTHING: tuple[object, ...] = (None, "", {}, [], ())


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("config", type=home_path, metavar="headgate.yaml")
    parser.add_argument("--json", action="store_true", help="the summary as one JSON object")


def run(args: argparse.Namespace) -> int:
    from router.pipeline.decider import Decider

    config = configuration.load(args.config)
    with refusals_of(args.config):
        environment = configuration.inherited_environment(config)
        machine = this_machine(environment)
        check_mps(config, machine.devices, environment)
        there = placed(config, machine, configuration.hub_folder(environment))
        decider = Decider(there)
    preflight.look(config, str(args.config))
    auto = decider.names.settings("auto")
    engines = Counter(map(configuration.model_name, config.pool))
    config = msgspec.structs.replace(config, pool=configuration.models(config.pool))
    strong, weak = config.pool[auto.strong].name, config.pool[auto.weak].name
    summary = _summary(config, decider.scoring.placements, auto.rule, strong, weak, engines)
    meta = heads.servable(config.routing.checkpoint).meta
    summary["places"] = places_of(there, machine.devices)
    summary["routing"] |= {"router": meta.router, "calibration": meta.calibration}
    print(msgspec.json.encode(summary).decode() if args.json else _text(args.config, summary))
    return 0


def _summary(
    config: Config, placements: tuple[Placement, ...], rule: str, strong: str, weak: str, engines: Counter[str]
) -> dict[str, Any]:
    routing = config.routing
    return {
        "valid": True,
        "pool": [
            {
                "name": member.name,
                "kind": member.kind,
                "model": member.model or urls.shown(member.url),
                "placement": placement,
                **({"engines": engines[member.name]} if engines[member.name] > 1 else {}),
                **({"replaces": member.replaces, "weight": member.weight} if member.replaces else {}),
            }
            for member, placement in zip(config.pool, placements, strict=True)
        ],
        "routing": {
            "rule": rule,
            "checkpoint": routing.checkpoint,
            "price": routing.price,
            "threshold": routing.threshold,
            "choice": routing.choice,
            "verifier": routing.verifier,
            "rules": [msgspec.to_builtins(rule) for rule in routing.rules],
            "strong": strong,
            "weak": weak,
            "guessed": any(placement.guessed for placement in placements),
        },
        "objective": msgspec.to_builtins(config.objective),
        "server": {
            "host": config.server.host,
            "port": config.server.port,
            "uds": config.server.uds,
            "admin_port": config.server.admin_port,
            "guarded": bool(Keys(config.server.keys)),
        },
        "journal": journal_text(config.journal),
        "mps": wanted(config),
    }


def _member_text(member: dict[str, Any]) -> str:
    canary = f", a canary: {100 * member['weight']:g} % of {member['replaces']}" if "replaces" in member else ""
    kind = f"{member['engines']} engines" if "engines" in member else member["kind"]
    return f"    {member['name']}: {kind} {member['model']}, {placement_text(member['placement'])}{canary}"


def objective_text(objective: dict[str, Any]) -> str:
    """Its kind, and what was set of it."""
    default = msgspec.to_builtins(Objective())
    given = [f"{key} {value:g}" if isinstance(value, float) else f"{key} {value}"
             for key, value in objective.items() if key != "kind" and value != default[key]]  # fmt: skip
    return f"{objective['kind']}" + (f": {', '.join(given)}" if given else "")


def _choice_text(routing: dict[str, Any]) -> str:
    """When models are chosen, and by what an answer is judged."""
    choice, verifier = routing["choice"], routing["verifier"]
    if verifier:
        return f"{choice}, by the verifier {verifier}"
    return {
        "before": "before",
        "auto": "auto: before the answer alone, as there is no verifier",
    }.get(choice, f"{choice}, by a fixed rule, as there is no verifier")


def _rules_text(rules: list[dict[str, Any]]) -> list[str]:
    """A line each: its name, its signals, what it does."""
    lines = []
    for rule in rules:
        signals = ", ".join(key for key, value in rule["when"].items() if key != "of" and value not in _NOTHING)
        acts = ", ".join(key for key in _ACTS if rule[key])
        lines.append(f"  rule     {rule['name']}: {signals} -> {acts}")
    return lines


def _text(path: Path, summary: dict[str, Any]) -> str:
    server, routing = summary["server"], summary["routing"]
    strong, weak = routing["strong"], routing["weak"]
    if routing["rule"] == "threshold":
        rule = f"{strong} iff its win rate over {weak} is at least {routing['threshold']:g}"
    else:
        rule = f"quality less {routing['price']:g} times dollars; {strong} is the strongest, {weak} the weakest"
    if all(member["placement"].by == "none" for member in summary["pool"]):
        rule = "none: every member is a pooling model, which is asked for by name"
    elif routing["guessed"] and strong != weak:
        rule += "\n           (which is the strongest is a guess: set `strength` or `like` of each member)"
    calibrated = f"calibration: {routing['calibration'] or 'not told'}"
    guarded = "guarded by a key" if server["guarded"] else "open: no API key"
    members = [_member_text(member) for member in summary["pool"]]
    return "\n".join(
        [
            f"{path} is valid.",
            "",
            f"  doors    {server['uds'] or server['host'] + ':' + str(server['port'])}, {guarded}",
            f"  routing  {rule}",
            f"  choice   {_choice_text(routing)}",
            *_rules_text(routing["rules"]),
            f"  aim      {objective_text(summary['objective'])}",
            f"  journal  {summary['journal'] or 'none is written'}",
            *(["  gpu      engines share devices by NVIDIA's MPS"] if summary["mps"] else []),
            f"  scored   by checkpoint {routing['checkpoint']}: {routing['router']}, {calibrated}",
            "  pool",
            *members,
            "",
            places_text(summary["places"]),
        ]
    )
