"""The `headgate` command on a machine that has two GPUs, as far as it can tell."""

import sys

from router.cli.main import main
from router.pool import environment
from tests.pool.gpus import gpus

if __name__ == "__main__":
    environment.device_list = lambda *_: gpus(80, 80)
    sys.exit(main())
