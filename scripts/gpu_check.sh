#!/usr/bin/env bash
# The first six minutes on a GPU: does everything run there, to a CPU's numbers, how fast, in how much memory.
# Needs no network and no data: bash scripts/gpu_check.sh [--minutes 5.5] [--output gpu_check.json]
# Without a GPU: bash scripts/gpu_check.sh --device cpu --size tiny
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
python=python
if [[ -z ${VIRTUAL_ENV:-} && -x .venv/bin/python ]]; then
    python=.venv/bin/python
fi
export HF_HUB_OFFLINE=1
exec "$python" -m benchmarks.gpu_check "$@"
