#!/usr/bin/env bash
# safetensors 0.8.0: safetensors.numpy saves a transposed array with the right shape and its numbers in another order, without a word.
#
# From 0.8.0 on the bytes are written as they lie in memory, not in the order of the shape. A transposed array (kernel.T when weights of JAX
# or TensorFlow become PyTorch's), an array in Fortran's order (components of scikit-learn's PCA) or a part of an array lies otherwise.
# Naive guess: what was saved is loaded, as in every version up to 0.7.0; or an error, as safetensors.torch raises for such a tensor.
# Seen: 0.7.0 round trips are exact; 0.8.0 gives back other weights of the same shape, name and type: the converted layer loads
# strictly and computes something else. Remedy: numpy.ascontiguousarray(array) before saving.
# Source: https://github.com/safetensors/safetensors/issues/825 (open in November 2026; the documentation asks for "contiguous and dense").
# Here: weights are saved by safetensors.torch, which refuses.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cat >"$folder/look.py" <<'PY'
import sys

import numpy as np
import safetensors
from safetensors.numpy import load_file, save_file

kernel = np.arange(6, dtype=np.float32).reshape(2, 3)  # (in, out), as JAX has it
weights = {"transposed": kernel.T, "fortran": np.asfortranarray(kernel), "columns": kernel[:, :2], "copied": kernel.T.copy()}
save_file(weights, sys.argv[1])
loaded = load_file(sys.argv[1])
assert all(loaded[name].shape == weight.shape for name, weight in weights.items())
right = {name: bool(np.array_equal(loaded[name], weight)) for name, weight in weights.items()}
print(f"safetensors {safetensors.__version__}: loaded as saved: {right}")
print(f"  kernel.T {weights['transposed'].tolist()} -> {loaded['transposed'].tolist()}")
hidden = np.array([1.0, 10.0], dtype=np.float32)
print(f"  what it computes of [1, 10]: {(kernel.T @ hidden).tolist()} -> {(loaded['transposed'] @ hidden).tolist()}")
wrong = {name for name, same in right.items() if not same}
sys.exit(wrong != (set() if sys.argv[2] == "right" else {"transposed", "fortran", "columns"}))
PY
look() { # VERSION right|wrong
  python3 -m venv "$folder/$1"
  "$folder/$1/bin/pip" install -q --disable-pip-version-check "safetensors==$1" numpy==2.4.6 2>/dev/null
  "$folder/$1/bin/python" "$folder/look.py" "$folder/$1.safetensors" "$2" || { echo "no longer so in $1"; exit 1; }
}
look 0.7.0 right
look 0.8.0 wrong
echo "as seen: 0.8.0 saves other weights where 0.7.0 saved the right ones"
