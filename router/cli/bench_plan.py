"""What `headgate bench` is to measure, of its flags: the running pool's members, the workload, the load."""

import argparse
from collections.abc import Sequence

import msgspec

from router import config as configuration
from router.cli import admin_port
from router.cli.members_shown import members_of
from router.errors import ConfigError
from router.learn.bench import arrivals, policies, workload
from router.learn.bench.arrivals import Arrivals, Burst, Trace
from router.learn.bench.generator import Ask
from router.learn.bench.plan import Level, Plan, Slo, of_trace
from router.learn.bench.policies import Policy, PoolMember
from router.learn.bench.workload import Grader, Workload
from router.learn.data.records import shown

_SYNTHETIC = 1000  #: different prompts
_FIELDS = ("model", "messages", "stream")  #: of a body, which are ours


def of(args: argparse.Namespace) -> Plan:
    """Raises ConfigError, HeadgateError where the running server cannot be asked."""
    grader, command = _grader(args.grade)
    trace = None if args.trace is None else arrivals.trace(args.trace, args.speed)
    asked = _workload(args, grader, trace)
    chosen = _policies(args)
    if any(policy.chooser == "static" for policy in chosen) and not asked.graded:
        raise ConfigError("--policy static: expected a workload with expected answers and --grade")
    return Plan(
        policies=tuple(chosen), workload=asked, levels=_levels(args, trace),
        arrivals=Arrivals(poisson=args.arrivals == "poisson", burst=Burst(*args.burst) if args.burst else None),
        trace=trace, seconds=args.seconds, warmup_s=args.warmup, rounds=args.rounds, seed=args.seed, ask=_ask(args),
        slo=Slo(**args.slo) if args.slo else None, attain=args.attain, stop_saturated=args.ramp is not None,
        grade_command=command, grade_limit_s=args.grade_limit, keep=args.keep,
    )  # fmt: skip


def _policies(args: argparse.Namespace) -> list[Policy]:
    out = []
    if not args.targets_only:
        key = args.api_key or configuration.api_key_from_environment() or ""
        at = policies.endpoint(args.url, key, "--url")
        out += policies.of_pool(args.policy, pool_members(args.admin), at)
    elif args.policy:
        raise ConfigError("--policy: expected it without --targets-only")
    out += [policies.target(text) for text in args.target]
    names = [policy.name for policy in out]
    if not names:
        raise ConfigError("--targets-only: expected at least one --target")
    if len(set(names)) < len(names):
        raise ConfigError(f"--target: names must differ from one another and from policies; got {', '.join(names)}")
    return out


def pool_members(admin: str) -> list[PoolMember]:
    """Those that answer. The CPU seconds of an engine without devices are its engine seconds."""
    _, answer = members_of(admin)
    local = admin_port.is_local(admin)
    return [
        PoolMember(
            name=one.name, usd_per_hour=one.usd_per_hour, pid=one.pid if local else 0,
            cpu=one.kind == "engine" and not one.devices,
        )
        for one in answer.members
        if not one.replaces
    ]  # fmt: skip


def _grader(text: str | None) -> tuple[Grader | None, str]:
    if text is None:
        return None, ""
    name, _, command = text.partition(":")
    if name == "command":
        if not command.strip():
            raise ConfigError("--grade: expected a program behind command:, got none")
        return "command", command
    try:
        return msgspec.convert(text, Grader), ""
    except msgspec.ValidationError:
        raise ConfigError(f"--grade: expected exact, number, choice, regex or command:PROGRAM, got {text!r}") from None


def _workload(args: argparse.Namespace, grader: Grader | None, trace: Trace | None) -> Workload:
    if args.workload is not None and args.synthetic is not None:
        raise ConfigError("--synthetic: expected it without --workload")
    if grader is not None and args.workload is None:
        raise ConfigError("--grade: expected --workload with expected answers beside it")
    made = None
    if args.workload is not None:
        made = workload.read(args.workload, grader, skip_broken=args.skip_broken)
        _check_commands(made, grader)
    elif args.synthetic is not None:
        inputs, outputs = args.synthetic
        made = workload.synthetic(_SYNTHETIC, inputs, outputs, args.seed)
    if trace is not None:
        return of_trace(trace, made, args.seed)
    if made is None:
        raise ConfigError("expected --workload FILE, --synthetic IN,OUT or --trace FILE")
    return made


def _check_commands(made: Workload, grader: Grader | None) -> None:
    if grader != "command" and any(item.grader == "command" for item in made.items):
        raise ConfigError("--grade: the workload names the grader command: expected --grade command:PROGRAM")


def _levels(args: argparse.Namespace, trace: Trace | None) -> tuple[Level, ...]:
    if trace is not None:
        span_s = trace.arrivals[-1].at_s
        rate = len(trace.arrivals) / span_s if span_s else float(len(trace.arrivals))
        return (Level(name="trace", rate=round(rate, 6)),)
    rates: Sequence[float] = args.ramp or args.rate
    if len(rates) * len(args.policy or "x") > 10_000:
        raise ConfigError(f"--rate: expected at most 10000 turns a round, got {len(rates)} rates")
    return tuple(Level(name=f"{rate:.6g}/s", rate=rate) for rate in rates)


def _ask(args: argparse.Namespace) -> Ask:
    try:
        extra = msgspec.json.decode(args.extra, type=dict[str, object])
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise ConfigError(f"--extra: expected a JSON object, got {shown(args.extra)}: {error}") from error
    for field in _FIELDS:
        if field in extra:
            raise ConfigError(f"--extra: {field} is set by bench")
    return Ask(
        max_tokens=args.max_tokens, temperature=args.temperature, stream=not args.no_stream, extra=extra,
        timeout_s=args.timeout, retries=args.retries,
    )  # fmt: skip
