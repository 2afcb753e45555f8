#!/usr/bin/env bash
# Check the code: ruff, mypy and all tests, in an environment that is made if need be. Arguments go to pytest: bash scripts/test.sh -k vqa
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
source scripts/setup.sh test

# Pages are tested in Debian's Chromium; without it those tests skip, saying so.
if [[ -z ${SKIP_SETUP:-} && $(id -u) == 0 ]] && ! command -v chromium >/dev/null && command -v apt-get >/dev/null; then
  echo "installing chromium"
  { apt-get update -qq && apt-get install -y -qq --no-install-recommends chromium; } >/dev/null 2>&1 || echo "no chromium to be had"
fi

python -m ruff check .
python -m ruff format --check .
python -m mypy
# Two at a time, files whole and in the order of tests/conftest.py, each with a thread of its own.
OMP_NUM_THREADS=1 python -m pytest -n 2 --dist loadfile --no-loadscope-reorder "$@"
