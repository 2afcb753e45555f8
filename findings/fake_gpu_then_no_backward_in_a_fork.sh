#!/usr/bin/env bash
# torch 2.15.0, no GPU: a FakeTensor on "cuda" decides whether forked children can take a backward pass, later, on real CPU tensors.
#
# PyTorch refuses a backward pass in a forked child once its parent's autograd has threads for devices. On a machine without a GPU there
# are none, and forking after a backward pass is fine. FakeTensorMode, which computes nothing and needs no GPU, makes autograd's engine
# believe in one: the first real backward pass after it, on CPU tensors, starts a thread for it. From then on no fork can go backward,
# however long the mode has been left. If a backward pass came BEFORE the fake tensor, the engine's threads are settled and nothing happens.
# Naive guess: a fake tensor has no effect on real CPU work, and surely none that depends on what ran before it.
# Seen: "Unable to handle autograd's threading in combination with fork-based multiprocessing" in the one order, none in the other. A test
# suite meets it as a test that fails or not by which tests shared its process. Remedy: one tiny backward pass before the first fake tensor.
# Installs about 3 GB into a temporary folder.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check --no-cache-dir torch==2.15.0 numpy==2.3.5
cat >"$folder/try.py" <<'PY'
import os
import sys

import torch
from torch._subclasses import FakeTensorMode


def backward() -> None:
    torch.ones(2, requires_grad=True).sum().backward()


def fork_goes_backward() -> bool:
    child = os.fork()
    if child == 0:
        try:
            backward()
        except RuntimeError as error:
            print("in the child:", str(error).split(".")[0], flush=True)
            os._exit(1)
        os._exit(0)
    return os.waitpid(child, 0)[1] == 0


assert not torch.cuda.is_available(), "with a GPU, autograd has device threads in any case"
if sys.argv[1] == "before":
    backward()
if sys.argv[1] != "none":
    with FakeTensorMode():
        torch.ones(2, device="cuda") + 1  # nothing is computed
backward()
print(f"torch {torch.__version__}, backward {sys.argv[1]}: a fork can go backward: {fork_goes_backward()}")
PY
export CUDA_VISIBLE_DEVICES=
found=$(for order in none after before; do "$folder/venv/bin/python" "$folder/try.py" $order; done)
echo "$found"
[[ $(grep -c "can go backward: True" <<<"$found") == 2 && $found == *"backward after: a fork can go backward: False"* ]] \
  || { echo "no longer so"; exit 1; }
