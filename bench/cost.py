"""How wrong the step model's predictions are on real engines: medians after some hundred requests, by the server.

The pair of examples/pair, its rates not fixed, under open-loop load of several lengths. What is predicted, before it
comes: engine seconds of windows, the time to a first token, the time per token after it.
"""

import json
import random
import threading
import time
import urllib.request
from collections.abc import Sequence
from typing import Any

import headgate_server
import launch
import report
import scrape
import yaml

GOALS = (
    report.Goal("err_window", 0.10),
    report.Goal("err_first_token", 0.20),
    report.Goal("err_output_token", 0.10),
)
_PAIR = report.ROOT / "examples" / "pair"
_KINDS = {"err_window": "window", "err_first_token": "first_token", "err_output_token": "output_token"}


def pair() -> list[dict[str, Any]]:
    """Its members, with paths of their own and no fixed rates."""
    members: list[dict[str, Any]] = yaml.safe_load((_PAIR / "headgate.yaml").read_text())["pool"]
    for member in members:
        member["model"] = str(_PAIR / member["model"])
        for rate in ("prefill_tokens_per_s", "time_per_output_token_s"):
            member.pop(rate, None)
    return members


def ask(url: str, model: str, words: int, tokens: int, source: random.Random) -> None:
    text = " + ".join(str(source.randrange(10_000)) for _ in range(words))
    body = {"model": model, "messages": [{"role": "user", "content": text}], "max_tokens": tokens, "ignore_eos": True}
    request = urllib.request.Request(
        f"{url}/v1/chat/completions", json.dumps(body).encode(), {"content-type": "application/json"}
    )
    with urllib.request.urlopen(request, timeout=300) as answer:
        answer.read()


def drive(url: str, models: Sequence[str], requests: int, per_s: float, source: random.Random) -> None:
    """Poisson arrivals, each at a member by chance."""
    threads = []
    for _ in range(requests):
        time.sleep(source.expovariate(per_s))
        arguments = (url, source.choice(models), source.choice((1, 2, 8, 16)), source.choice((8, 16, 48)), source)
        threads.append(threading.Thread(target=ask, args=arguments))
        threads[-1].start()
    for thread in threads:
        thread.join()


def measure(requests: int, per_s: float, seed: int) -> dict[str, float]:
    members = pair()
    names = [member["name"] for member in members]
    with headgate_server.run(members) as server:
        drive(server.url, names, requests, per_s, random.Random(seed))
        return {"requests": requests, "per_s": per_s, **errors(server.url, names)}


def errors(url: str, names: Sequence[str]) -> dict[str, float]:
    """Of a running server, after its last requests: of each kind the worst member's, each member's, and windows."""
    counters = scrape.Counters(url)
    found: dict[str, float] = {}
    for key, of in _KINDS.items():
        each = [counters.value("headgate_member_cost_error_ratio", model=name, of=of) for name in names]
        found |= {f"{key}_{name}": round(error, 4) for name, error in zip(names, each, strict=True)}
        found[key] = round(max(each), 4)
    for name in names:
        cut = counters.value("headgate_member_cost_windows_total", model=name, **{"as": "cut"})
        learnt = counters.value("headgate_member_cost_windows_total", model=name, **{"as": "learnt"})
        found |= {f"cut_{name}": cut, f"windows_{name}": cut + learnt}
    return found


def main() -> None:
    parser = report.parser(__doc__, runs=1)
    parser.add_argument("--requests", type=int, default=300)
    parser.add_argument("--per-s", type=float, default=4.0, help="requests a second")
    parser.add_argument("--seed", type=int, default=1)
    args = parser.parse_args()
    launch.prefer(args.priority)
    found = measure(20 if args.quick else args.requests, args.per_s, args.seed)
    report.finish(args, "cost", found, goals=GOALS)


if __name__ == "__main__":
    main()
