#!/usr/bin/env bash
# Check the floors: the unit tests on the lowest versions that pyproject.toml admits, in an environment of their own.
#
#   bash scripts/test_floors.sh [PYTHON [FOLDER]]     # python3.11 and a temporary folder; several GB
#
# uv chooses the versions (--resolution lowest-direct) and fetches wheels alone. A FOLDER is kept and used again.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

python=${1:-python3.11}
if [[ -n ${2:-} ]]; then
  folder=$2
else
  folder=$(mktemp -d)
  trap 'rm -rf "$folder"' EXIT
fi

"$python" -m venv "$folder/uv"
"$folder/uv/bin/python" -m pip install --quiet --disable-pip-version-check uv
"$folder/uv/bin/uv" venv --quiet --allow-existing --python "$python" "$folder/environment"
install=("$folder/uv/bin/uv" pip install --quiet --python "$folder/environment/bin/python")
"${install[@]}" --resolution lowest-direct --only-binary :all: --no-binary vl_absvit -e '.[evaluate,faiss]'
"${install[@]}" hypothesis pytest pytest-xdist ruff
source "$folder/environment/bin/activate"
python --version
"$folder/uv/bin/uv" pip list 2>/dev/null | grep -E "^(accelerate|datasets|numpy|pillow|pyarrow|timm|torch|torchvision|transformers) "
SKIP_SETUP=1 source scripts/setup.sh test
OMP_NUM_THREADS=1 python -m pytest -n 2 --dist loadfile --no-loadscope-reorder -m "not slow"
