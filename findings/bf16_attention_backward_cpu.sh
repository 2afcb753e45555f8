#!/usr/bin/env bash
# PyTorch 2.9.1 and 2.15.0 on a CPU with avx512_bf16: the backward pass of attention in bf16 takes several times as long as in fp32.
#
# Naive guess: under torch.autocast("cpu", torch.bfloat16) attention gains as matrix products do (about twice as fast here), or at
# least loses nothing. scaled_dot_product_attention's forward pass gains nothing, and its backward pass loses: seen 7 to 8 times as
# slow with 37 tokens and heads of 16, 10 with 10 keys, 1.4 with 197 tokens and heads of 64. The operation is on autocast's list of
# bf16, so that a small model trains slower in bf16 than in fp32 while every linear layer is faster. Machines with AMX were not
# seen; without avx512_bf16, or with AMX, this says so and ends.
set -euo pipefail
grep -q avx512_bf16 /proc/cpuinfo && ! grep -q amx_bf16 /proc/cpuinfo || { echo "not run: needs avx512_bf16 without AMX"; exit 0; }
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT

cat >"$folder/look.py" <<'PY'
import time
import torch
import torch.nn.functional as F

torch.set_num_threads(1)


def seconds(run):
    """The fastest of nine rounds of five."""
    rounds = []
    for _ in range(9):
        start = time.perf_counter()
        for _ in range(5):
            run()
        rounds.append((time.perf_counter() - start) / 5)
    return min(rounds)


def slower(batch, heads, queries, keys, width):
    """How many times as long bf16 takes as fp32: forward, backward."""
    taken = []
    for dtype in (torch.float32, torch.bfloat16):
        q, k, v = (torch.randn(batch, heads, n, width, dtype=dtype, requires_grad=True) for n in (queries, keys, keys))
        out = F.scaled_dot_product_attention(q, k, v)
        gradient = torch.ones_like(out)
        forward = seconds(lambda: F.scaled_dot_product_attention(q, k, v))
        taken.append((forward, seconds(lambda: torch.autograd.grad(out, (q, k, v), gradient, retain_graph=True))))
    return [after / before for before, after in zip(*taken)]


for shape in ((112, 4, 37, 37, 16), (112, 4, 37, 10, 16), (8, 12, 197, 16, 64), (8, 12, 197, 197, 64)):
    forward, backward = slower(*shape)
    print(f"torch {torch.__version__}, {shape}: bf16 / fp32 {forward:.1f} forward, {backward:.1f} backward")
    assert backward > (3 if shape[-1] == 16 else 1.1), "no longer slower"
PY

for version in 2.9.1 2.15.0; do
  python3 -m venv "$folder/$version"
  "$folder/$version/bin/python" -m pip install --quiet --disable-pip-version-check "torch==$version" numpy 2>/dev/null
  OMP_NUM_THREADS=1 "$folder/$version/bin/python" "$folder/look.py"
done
echo "as seen: in bf16 the backward pass of attention is slower than in fp32"
