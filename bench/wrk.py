"""Runs wrk with a rotating set of POST bodies and reads what it says.

Every body differs from the next, so that nothing is answered from a cache of the last one.
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
wrk.headers["content-type"] = "application/json"
function init(args)
  for line in io.lines("%(bodies)s") do
    requests[#requests + 1] = wrk.format("POST", "%(path)s", nil, line)
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


def run(url: str, path: str, bodies: Sequence[bytes], *, connections: int, seconds: float) -> Load:
    """One thread of wrk posting `bodies` in turn. Raises `RuntimeError` when wrk fails."""
    program = shutil.which("wrk")
    if program is None:
        raise SystemExit(upstream.missing_tools())
    with tempfile.TemporaryDirectory(prefix="headgate-bench-") as folder:
        lines = Path(folder) / "bodies"
        lines.write_bytes(b"\n".join(bodies) + b"\n")
        script = Path(folder) / "post.lua"
        script.write_text(_SCRIPT % {"bodies": lines, "path": path}, encoding="utf-8")
        shape = ["-t", "1", "-c", str(connections), "-d", f"{max(1, round(seconds))}s", "--timeout", "30s"]
        done = subprocess.run([program, *shape, "-s", str(script), url], capture_output=True, text=True, check=False)
    marked = [line for line in done.stdout.splitlines() if line.startswith("RESULT ")]
    if done.returncode != 0 or not marked:
        raise RuntimeError(f"wrk against {url} failed: {done.stdout}{done.stderr}")
    requests, micros, errors, p50, p99 = (float(field) for field in marked[0].split()[1:])
    return Load(int(requests), micros / 1e6, int(errors), p50 / 1e3, p99 / 1e3)
