"""In the place of NVIDIA's `nvidia-cuda-mps-control`: a daemon that does nothing, and a note of each call."""

import contextlib
import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

from router.pool.mps_control import PIPES, PROGRAM, running

_PROGRAM = """
import json, os, signal, sys, time

here = os.path.dirname(os.path.abspath(__file__))
pipes = os.environ.get("CUDA_MPS_PIPE_DIRECTORY", "/none")
pid_file = os.path.join(pipes, "nvidia-cuda-mps-control.pid")
how = open(os.path.join(here, "how")).read()

def note(**call):
    with open(os.path.join(here, "calls"), "a") as calls:
        calls.write(json.dumps(call) + chr(10))

def command_line(pid):
    try:
        return open(f"/proc/{pid}/cmdline").read()
    except OSError:
        return ""

def daemon():
    try:
        pid = int(open(pid_file).read())
    except OSError:
        return 0
    return pid if "nvidia-cuda-mps-control" in command_line(pid) else 0

def engines():
    found = 0
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            found += "scripted_host" in command_line(pid) and pipes in open(f"/proc/{pid}/environ").read()
        except OSError:
            pass
    return found

if "-d" in sys.argv:
    modes = [oct(os.stat(os.environ[f"CUDA_MPS_{what}_DIRECTORY"]).st_mode & 0o777) for what in ("PIPE", "LOG")]
    seen = {key: os.environ.get(key) for key in ("CUDA_VISIBLE_DEVICES", "CUDA_DEVICE_ORDER")}
    note(what="start", modes=modes, engines=engines(), **seen)
    if how == "fails":
        sys.exit("starting...\\nno permission for it")
    if how == "hangs":
        time.sleep(600)
    if os.fork():
        while not daemon():
            time.sleep(0.01)
        sys.exit(0)
    os.setsid()
    with open(os.path.join(here, "daemons"), "a") as daemons:
        daemons.write(f"{os.getpid()}" + chr(10))
    with open(os.path.join(os.environ["CUDA_MPS_LOG_DIRECTORY"], "control.log"), "w") as log:
        log.write("it is a stub" + chr(10))
    with open(pid_file + ".new", "w") as file:
        file.write(str(os.getpid()))
    os.rename(pid_file + ".new", pid_file)
    signal.signal(signal.SIGTERM, lambda *_: (os.unlink(pid_file), os._exit(0)))
    while True:
        signal.pause()

command = sys.stdin.readline().strip()
if how == "silent":
    time.sleep(600)
pid = daemon()
if command == "quit":
    note(what="quit", engines=engines(), ran=bool(pid))
if not pid:
    print("Cannot find MPS control daemon process")
    sys.exit(1)
if command == "quit" and how != "stays":
    os.kill(pid, signal.SIGTERM)
    while daemon() == pid:
        time.sleep(0.01)
"""


class MpsStub:
    """In a folder for a PATH. `how` (`""`, `"fails"`, `"hangs"`, `"silent"`, `"stays"`) is what it does wrong."""

    def __init__(self, folder: Path, how: str = "") -> None:
        folder.mkdir(exist_ok=True)
        self.folder = folder
        self.program = folder / PROGRAM
        self.how(how)
        self.program.write_text(f"#!{sys.executable} -SE{_PROGRAM}")
        self.program.chmod(0o700)

    @property
    def env(self) -> dict[str, str]:
        return {"PATH": f"{self.folder}:{os.environ['PATH']}"}

    def how(self, how: str) -> None:
        (self.folder / "how").write_text(how)

    @property
    def calls(self) -> list[dict[str, Any]]:
        """Starts and ends so far."""
        notes = self.folder / "calls"
        return [json.loads(line) for line in notes.read_text().splitlines()] if notes.exists() else []

    @property
    def what(self) -> list[str]:
        return [call["what"] for call in self.calls]

    def start(self, pipes: Path) -> int:
        """A daemon of somebody else's."""
        for folder in (pipes, pipes.with_suffix(".log")):
            folder.mkdir(parents=True, exist_ok=True)
        env = {**os.environ, PIPES: str(pipes), "CUDA_MPS_LOG_DIRECTORY": str(pipes.with_suffix(".log"))}
        subprocess.run([self.program, "-d"], env=env, check=True)
        return running(pipes)

    def close(self) -> None:
        """End what is left, of servers that were killed too."""
        daemons = self.folder / "daemons"
        for pid in daemons.read_text().split() if daemons.exists() else ():
            with contextlib.suppress(OSError):
                if str(self.program).encode() in Path(f"/proc/{pid}/cmdline").read_bytes():
                    os.kill(int(pid), signal.SIGKILL)
