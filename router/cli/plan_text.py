"""A plan as a table in plain text: what each engine takes and gets, what is left of each device, and why."""

from collections.abc import Sequence

from router.pool.memory.plan import DevicePlan, EnginePlan, PoolPlan
from router.pool.memory.words import gib

_MPS = (
    "MPS: its server's own memory on each device is not counted, and each engine's context as without it: leave room"
    " (`plan.memory_share`)"
)
_HEAD = (
    "member",
    "devices",
    "weights",
    "activations",
    "graphs",
    "KV cache",
    "tokens",
    "sequences",
    "context",
    "sleep frees",
)


def text_of(plan: PoolPlan) -> str:
    mix = plan.mix
    load = f", {mix.concurrency:g} at once" if mix.concurrency is not None else ""
    load = f", {mix.requests_per_s:g} a second" if mix.requests_per_s is not None else load
    default = "" if mix.told else " (a default: tell your own)"
    lines = [
        *_table([_HEAD, *map(_row, plan.engines)]),
        "",
        *map(_device_text, plan.devices),
        f"for requests of {mix.prompt_tokens:g} + {mix.output_tokens:g} tokens{load}{default}",
        *([_MPS] if plan.mps else []),
        "all fit" if plan.fits else f"they do not fit: {plan.why}",
    ]
    for engine in plan.engines:
        lines += ["", f"{engine.name}:", *(f"  {line}" for line in _details(engine))]
    return "\n".join(lines)


def _row(engine: EnginePlan) -> tuple[str, ...]:
    known = engine.weight_bytes > 0
    return (
        engine.name,
        ",".join(engine.devices) or ("cpu" if engine.fits else "none"),
        gib(engine.weight_bytes) if known else "?",
        gib(engine.activation_bytes),
        gib(engine.overhead_bytes),
        gib(engine.kv_bytes),
        f"{engine.kv_tokens:,}" if engine.kv_tokens else "?",
        f"{engine.max_num_seqs:,}",
        f"{engine.max_model_len:,}" if engine.max_model_len else "?",
        gib(engine.sleep_frees_bytes) if known else "?",
    )


def _details(engine: EnginePlan) -> list[str]:
    args = " ".join(f"{name}: {value}" for name, value in engine.engine_args.items())
    return [
        *engine.why,
        *([f"cannot be known: {engine.unknown}"] if engine.unknown else []),
        *(f"change: {line}" for line in engine.advice),
        *([f"engine_args: {args}"] if args else []),
    ]


def _device_text(device: DevicePlan) -> str:
    left = device.memory_bytes - device.planned_bytes
    planned = f"{gib(device.planned_bytes)} of {gib(device.memory_bytes)} planned, {gib(left)} left"
    name = "cpu" if device.name == "cpu" else f"device {device.name}"
    return f"{name}: {planned} ({', '.join(device.engines) or 'no engine'})"


def _table(rows: Sequence[Sequence[str]]) -> list[str]:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        "  ".join(
            cell.ljust(width) if i < 2 else cell.rjust(width)
            for i, (cell, width) in enumerate(zip(row, widths, strict=True))
        )
        for row in rows
    ]
