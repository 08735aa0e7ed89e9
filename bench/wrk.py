"""Runs wrk with a rotating set of whole requests and reads what it says.

Every request differs from the next, so that nothing is answered from a cache of the last one.
"""

import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import upstream

_SCRIPT = """
local requests, at = {}, 0
function init(args)
  local whole = io.open("%(requests)s", "rb")
  for size in io.lines("%(sizes)s") do
    requests[#requests + 1] = whole:read(tonumber(size))
  end
end
function request()
  at = at %% #requests + 1
  return requests[at]
end
function done(summary, latency)
  local e = summary.errors
  io.write(string.format("RESULT %%d %%d %%d %%f %%f\\n", summary.requests, summary.duration,
    e.connect + e.read + e.write + e.status + e.timeout, latency:percentile(50), latency:percentile(99)))
end
"""


class Load(NamedTuple):
    """What one wrk run did. `errors` counts failed connections and answers that were not 2xx or 3xx."""

    requests: int
    seconds: float
    errors: int
    p50_ms: float
    p99_ms: float

    @property
    def per_s(self) -> float:
        return self.requests / self.seconds


def run(url: str, requests: Sequence[bytes], *, connections: int, seconds: float) -> Load:
    """One thread of wrk sending `requests`, head and body, in turn. Raises `RuntimeError` when wrk fails."""
    program = shutil.which("wrk")
    if program is None:
        raise SystemExit(upstream.missing_tools())
    with tempfile.TemporaryDirectory(prefix="headgate-bench-") as folder:
        whole, sizes, script = (Path(folder) / name for name in ("requests", "sizes", "send.lua"))
        whole.write_bytes(b"".join(requests))
        sizes.write_text("".join(f"{len(request)}\n" for request in requests), encoding="ascii")
        script.write_text(_SCRIPT % {"requests": whole, "sizes": sizes}, encoding="utf-8")
        shape = ["-t", "1", "-c", str(connections), "-d", f"{max(1, round(seconds))}s", "--timeout", "30s"]
        done = subprocess.run([program, *shape, "-s", str(script), url], capture_output=True, text=True, check=False)
    marked = [line for line in done.stdout.splitlines() if line.startswith("RESULT ")]
    if done.returncode != 0 or not marked:
        raise RuntimeError(f"wrk against {url} failed: {done.stdout}{done.stderr}")
    answered, micros, errors, p50, p99 = (float(field) for field in marked[0].split()[1:])
    return Load(int(answered), micros / 1e6, int(errors), p50 / 1e3, p99 / 1e3)
