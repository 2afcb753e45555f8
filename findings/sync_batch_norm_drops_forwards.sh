#!/usr/bin/env bash
# torch 2.15.0, no GPU: SyncBatchNorm.convert_sync_batchnorm turns a batch norm with a forward of its own into another function.
#
# The conversion takes whatever is an instance of _BatchNorm, subclasses too, and puts a plain SyncBatchNorm with its weights in place. What a
# subclass does beside the formula is gone: transposing tokens (B, N, D) so that D are the channels, standing still while it is frozen,
# counting a recomputed pass once. Names and shapes of the state stay the same, so that nothing complains.
# Naive guess: only the known norms are converted, or a subclass keeps its forward, or where the axes do not fit there is an error.
# Seen: with N = D, no error and other outputs in training; and a frozen norm, whose statistics stood still, follows again.
# On one GPU or on CPUs, where nobody converts, all is well: only under DDP does the model become another one.
# Remedy: convert by exact type, into a class of your own for each kind of norm.
# Installs about 3 GB into a temporary folder.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check --no-cache-dir torch==2.15.0 numpy==2.3.5
cat >"$folder/try.py" <<'PY'
import copy

import torch
from torch import nn


class TokenNorm(nn.BatchNorm1d):
    """Of tokens (B, N, D): channels are last."""

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        return super().forward(tokens.mT).mT


class StillNorm(nn.BatchNorm2d):
    """Stands still while its weight is frozen."""

    def forward(self, maps: torch.Tensor) -> torch.Tensor:
        training, self.training = self.training, self.weight.requires_grad
        out = super().forward(maps)
        self.training = training
        return out


torch.manual_seed(0)
tokens = torch.randn(8, 4, 4) * torch.tensor([1.0, 2.0, 3.0, 4.0])  # N = D = 4
norm = TokenNorm(4)
converted = nn.SyncBatchNorm.convert_sync_batchnorm(copy.deepcopy(norm))
difference = (norm(tokens) - converted(tokens)).abs().max().item()
still = StillNorm(4)
still.weight.requires_grad_(False)
moving = nn.SyncBatchNorm.convert_sync_batchnorm(copy.deepcopy(still))
for each in (still, moving):
    each.train()(1 + torch.randn(8, 4, 2, 2))
moved = [bool(each.running_mean.any()) for each in (still, moving)]
print(f"torch {torch.__version__}: {type(converted).__name__}, outputs differ by {difference:.2f}; statistics moved, before and after: {moved}")
raise SystemExit(not (difference > 0.5 and moved == [False, True]))
PY
"$folder/venv/bin/python" "$folder/try.py" || { echo "no longer so"; exit 1; }
