#!/usr/bin/env bash
# Check the code: ruff and all tests, in an environment that is made if need be. Arguments go to pytest: bash scripts/test.sh -k vqa
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
source scripts/setup.sh test

python -m ruff check .
python -m ruff format --check .
python -m pytest "$@"
