"""Makes the virtual environment that every make target runs in: the vLLM that fits this machine, and Headgate itself.

    python3 requirements/install.py VENV

Needs only the standard library. With an NVIDIA GPU: `.[vllm,train,dev]`. Without: the pinned CPU set in `cpu.txt`.
"""

import argparse
import os
import shutil
import subprocess
import sys
import venv
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
#: vLLM brings these along; where only builds for another torch can be had, they break `import transformers`.
OPTIONAL_COMPANIONS = ("torchvision", "torchaudio", "torchcodec")


def has_gpu() -> bool:
    """Whether an NVIDIA driver answers."""
    if shutil.which("nvidia-smi") is None:
        return False
    return subprocess.run(["nvidia-smi", "-L"], capture_output=True, check=False).returncode == 0


class Environment:
    """A virtual environment and the commands run in it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.python = folder / "bin" / "python"

    def create(self) -> None:
        if not self.python.exists():
            say(f"creating {self.folder}")
            venv.create(self.folder, with_pip=True)

    def pip(self, *arguments: str) -> None:
        subprocess.run([self.python, "-m", "pip", "--disable-pip-version-check", *arguments], check=True, cwd=ROOT)

    def imports(self, module: str) -> bool:
        command = [self.python, "-c", f"import {module}"]
        return subprocess.run(command, capture_output=True, check=False, cwd=self.folder).returncode == 0

    def has(self, module: str) -> bool:
        code = f"import importlib.util, sys; sys.exit(importlib.util.find_spec({module!r}) is None)"
        return subprocess.run([self.python, "-c", code], check=False, cwd=self.folder).returncode == 0


def install_cpu(environment: Environment) -> None:
    """The pinned set. It is closed, so dependencies are not resolved again (and no companion comes in)."""
    environment.pip("install", "--quiet", "--no-deps", "-r", "requirements/cpu.txt")
    if not environment.imports("torch"):
        # The index had no CPU build of torch: the one that came needs its own libraries.
        say("torch does not import alone; installing what it depends on")
        environment.pip("install", "--quiet", "torch==2.13.0")


def install_gpu(environment: Environment) -> None:
    environment.pip("install", "--quiet", "setuptools>=77", "wheel", "cython>=3.1")
    environment.pip("install", "--quiet", "--no-build-isolation", "--editable", ".[vllm,train,dev]")


def drop_broken_companions(environment: Environment) -> None:
    """vLLM runs without them; with a build for another torch nothing runs."""
    for module in OPTIONAL_COMPANIONS:
        if environment.has(module) and not environment.imports(module):
            say(f"{module} does not fit the installed torch: removing it")
            environment.pip("uninstall", "--quiet", "--yes", module)


def say(text: str) -> None:
    print(f"[setup] {text}", flush=True)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("venv", type=Path, help="folder of the virtual environment; made if absent")
    parser.add_argument("--device", choices=("auto", "cpu", "gpu"), default="auto", help="which vLLM to install")
    arguments = parser.parse_args()
    if not (3, 11) <= sys.version_info[:2] <= (3, 13):
        parser.error(f"Python 3.11 to 3.13 is needed; this is {sys.version.split()[0]}")
    gpu = has_gpu() if arguments.device == "auto" else arguments.device == "gpu"
    environment = Environment(Path(os.path.abspath(arguments.venv)))
    environment.create()
    say(f"installing for {'an NVIDIA GPU' if gpu else 'the CPU'}; the first time takes some minutes")
    (install_gpu if gpu else install_cpu)(environment)
    drop_broken_companions(environment)
    # Until 0.1 the distribution had the command's name; two of them would share one command and one package.
    environment.pip("uninstall", "--quiet", "--yes", "headgate")
    say("building Headgate's native extension")
    environment.pip("install", "--quiet", "--no-deps", "--no-build-isolation", "--editable", ".")
    return 0


if __name__ == "__main__":
    sys.exit(main())
