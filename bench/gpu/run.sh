#!/usr/bin/env bash
# The GPU run: engine, overhead and streaming benches on real model shapes, on one CUDA GPU with vLLM installed.
#
#   bench/gpu/run.sh              the whole run; JSON to bench/results/ and as the last line
#   bench/gpu/run.sh --dry-run    the same driver on a CPU, with the tiny pair: checks everything but the GPU's figures
#   PYTHON=/path/to/python bench/gpu/run.sh    another interpreter than .venv's
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)

python=${PYTHON:-$root/.venv/bin/python}
if [[ ! -x $python ]]; then
  echo "no Python at $python: run 'make setup' in $root first, or set PYTHON" >&2
  exit 2
fi
if ! "$python" -c 'import router, vllm' 2>/dev/null; then
  echo "$python lacks headgate or vllm: run 'make setup' in $root, or 'pip install -e .[vllm]'" >&2
  exit 2
fi
if [[ " $* " != *" --dry-run "* && " $* " != *" --help "* ]] && ! command -v nvidia-smi >/dev/null; then
  echo "no nvidia-smi: this run needs a CUDA GPU; --dry-run checks the rest on a CPU" >&2
  exit 2
fi
exec "$python" "$root/bench/gpu/drive.py" "$@"
