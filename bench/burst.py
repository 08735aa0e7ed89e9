"""A burst of five times the usual load, for ten seconds: what became of each request. One JSON line.

Over two engines that run in steps as vLLM's do (`stepping_host.py`), so that their speed is known: a large one of four
sequences, 8 answers a second, and a small one of four, 20 a second. Usual is .6 of that. Open loop, ten keys; a client
that is refused comes back when it was told to, until it is answered. TTFT counts from the planned time of a request, or
from when it was told to come back.

    burst_unended       requests neither answered nor refused with an error that says when to come back
    burst_ttft_slo      p95 TTFT of those that were let in, over the SLO
    burst_retry_error   of clients that were refused: the time after which they were let in, which is what they were
                        told in all, against that which it took to serve those that had been told to come back before,
                        at the rate of the burst; the median difference, as a share of the first
    burst_starved       keys without an answer during the burst while another got two
"""

import asyncio
import json
import random
import time
from collections import Counter
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urlsplit

import headgate_server
import report

GOALS = (
    report.Goal("burst_unended", 0),
    report.Goal("burst_ttft_slo", 1),
    report.Goal("burst_retry_error", 0.25),
    report.Goal("burst_starved", 0),
)
_STEPPING = Path(__file__).resolve().parent / "stepping_host.py"
SLO_S = 1.0
WAIT_S = 0.4
MOST_TRIES = 20
TOKENS = 20
CAPACITY = 28.0
KEYS = tuple(f"key-{i}" for i in range(10))


class Ask(NamedTuple):
    status: int  #: 0: no whole answer
    ttft_s: float  #: from `planned_s`
    told_s: float  #: of a refusal


class Client(NamedTuple):
    key: str
    at_s: float
    burst: bool
    asks: tuple[Ask, ...]

    @property
    def told_s(self) -> float:
        """After which it was let in."""
        return sum(each.told_s for each in self.asks)

    @property
    def answered(self) -> bool:
        return self.asks[-1].status == 200


def members() -> list[dict[str, Any]]:
    def one(name: str, strength: float, step_s: float) -> dict[str, Any]:
        args = {"step_s": step_s, "most_running": 4}
        return {"name": name, "model": "stub", "strength": strength, "engine_args": args}

    return [one("small", 0.44, 0.2 / TOKENS), one("large", 0.63, 0.5 / TOKENS)]


async def ask(url: str, key: str, text: str, planned_s: float) -> Ask:
    host, port = (at := urlsplit(url)).hostname, at.port
    body = {"model": "auto", "stream": True, "max_tokens": TOKENS, "messages": [{"role": "user", "content": text}]}
    data = json.dumps(body).encode()
    try:
        reader, writer = await asyncio.open_connection(host, port)
        head = f"POST /v1/chat/completions HTTP/1.1\r\nhost: {host}\r\nauthorization: Bearer {key}\r\n"
        writer.write(f"{head}content-type: application/json\r\ncontent-length: {len(data)}\r\n\r\n".encode() + data)
        try:
            return await asyncio.wait_for(_read(reader, planned_s), 60)
        finally:
            writer.close()
    except (OSError, TimeoutError, asyncio.IncompleteReadError):
        return Ask(0, 0.0, 0.0)


async def _read(reader: asyncio.StreamReader, planned_s: float) -> Ask:
    head = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
    status = int(head.split(" ", 2)[1])
    if status != 200:
        fields = dict(line.split(": ", 1) for line in head.split("\r\n")[1:] if line)
        return Ask(status, 0.0, int(fields.get("retry-after-ms", "0")) / 1e3)
    answer = await reader.readuntil(b"\n\n")
    first_s = time.perf_counter() - planned_s
    while b"[DONE]" not in answer:
        more = await reader.read(65_536)
        if not more:
            return Ask(0, 0.0, 0.0)
        answer = answer[-16:] + more
    return Ask(200, first_s, 0.0)


async def client(url: str, key: str, at_s: float, *, burst: bool) -> Client:
    text = f"Request {at_s}"  # by its body and its key it is known again
    asks: list[Ask] = []
    again_s = at_s
    while len(asks) < MOST_TRIES:
        await asyncio.sleep(max(0.0, again_s - time.perf_counter()))
        asks.append(last := await ask(url, key, text, again_s))
        if last.status != 429 or last.told_s <= 0:
            break
        again_s = time.perf_counter() + last.told_s
    return Client(key, at_s, burst, tuple(asks))


async def load(url: str, usual_s: float, burst_s: float, usual: float, burst: float, seed: int) -> list[Client]:
    source, begun_s, at_s = random.Random(seed), time.perf_counter() + 0.2, 0.0
    clients = []
    while at_s < 2 * usual_s + burst_s:
        bursts = usual_s <= at_s < usual_s + burst_s
        at_s += source.expovariate(burst if bursts else usual)
        clients.append(client(url, source.choice(KEYS), begun_s + at_s, burst=bursts))
    return await asyncio.gather(*clients)


def retry_errors(clients: list[Client], burst_s: float) -> list[float]:
    """See above. Waits below a tenth of a second are within a step of the engines, and are left out."""
    end_s = max(one.at_s for one in clients if one.burst)
    begun = [one for one in clients if one.answered and one.at_s + one.told_s < end_s]
    rate = sum(one.at_s + one.told_s > end_s - burst_s for one in begun) / burst_s
    refused = sorted((one for one in clients if one.told_s), key=lambda one: one.at_s)
    errors = []
    for i, one in enumerate(refused):
        before = sum(other.at_s + other.told_s > one.at_s for other in refused[:i])
        if one.told_s > 0.1:
            errors.append(abs(one.told_s - (before + 1) / rate) / one.told_s)
    return errors


def figures(clients: list[Client], burst_s: float) -> dict[str, Any]:
    asks = [each for one in clients for each in one.asks]
    let_in = [each.ttft_s for each in asks if each.status == 200]
    errors = retry_errors(clients, burst_s)
    answered = Counter(one.key for one in clients if one.burst and one.answered)
    return {
        "burst_unended": sum(each.status != 200 and not (each.status == 429 and each.told_s > 0) for each in asks),
        "burst_ttft_slo": round(report.quantile(let_in, 0.95) / SLO_S, 3),
        "burst_retry_error": round(report.quantile(errors, 0.5), 3) if errors else None,
        "burst_retry_error_p90": round(report.quantile(errors, 0.9), 3) if errors else None,
        "burst_starved": sum(answered[key] == 0 for key in KEYS) if max(answered.values(), default=0) >= 2 else 0,
        "answered_by_key": sorted(answered[key] for key in KEYS),
        "clients": len(clients),
        "answered": len(let_in),
        "refused_once": sum(len(one.asks) > 1 for one in clients),
        "refused_again": sum(len(one.asks) > 2 for one in clients),
        "longest_told_s": round(max(one.told_s for one in clients), 1),
    }


def main() -> None:
    parser = report.parser(__doc__ or "", runs=1)
    args = parser.parse_args()
    usual_s, burst_s = (1.0, 2.0) if args.quick else (5.0, 10.0)
    usual = 0.6 * CAPACITY
    with headgate_server.run(
        members(),
        stub=True,
        host=_STEPPING,
        routing={"price": 0.0, "slo_ttft_s": SLO_S},
        limits={"wait_s": WAIT_S},
        api_keys=KEYS,
    ) as server:
        asyncio.run(load(server.url, 1.0, 0.0, usual, usual, seed=0))
        found = [
            figures(asyncio.run(load(server.url, usual_s, burst_s, usual, 5 * usual, seed=run + 1)), burst_s)
            for run in range(args.runs)
        ]
    worst = {name: max((one[name] or 0) for one in found) for name in found[0] if name.startswith("burst_")}
    report.finish(args, "burst", {**worst, "runs": found}, goals=GOALS)


if __name__ == "__main__":
    main()
