#!/usr/bin/env bash
# pysaliency 0.2.22 (NSS, AUC and others for maps of saliency) on numpy 2.4.6: a fixation left of or above the picture scores as one at the
# opposite edge, without a word.
# Naive guess: such a fixation stops the computation, as one right of or below the picture does (IndexError), or is left out. Seen: no word;
# numpy counts negative indices from the end, so that NSS at (-1, -1) is the score of the last pixel.
# Two faults met on the way: its metadata allows every numpy, but its AUC calls np.trapz, which numpy 2.4 has not; and it imports torch at
# its top without requiring it, so that "pip install pysaliency" alone cannot be imported. An empty stand-in does here: nothing uses torch.
# Remedy: drop what is outside before, and count it, as vl_absvit/prepare/fixations.py does (tests/prepare/test_fixations.py).
# Source: https://github.com/matthias-k/pysaliency
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q --disable-pip-version-check pysaliency==0.2.22 numpy==2.4.6 scipy==1.17.1 numba==0.68.1 imageio==2.38.1
cd "$folder"
"$folder/venv/bin/python" - <<'PYTHON'
import sys
from importlib.metadata import requires, version
from unittest.mock import MagicMock

import numpy as np

print("pysaliency", version("pysaliency"), "numpy", np.__version__)
assert not [name for name in requires("pysaliency") if name.startswith("torch")]
try:
    import pysaliency
except ModuleNotFoundError as error:
    print("as installed:", error)
    assert error.name == "torch"
else:
    raise SystemExit("pysaliency can be imported without torch now")
sys.modules["torch"] = MagicMock()
for name in [name for name in sys.modules if name.startswith("pysaliency")]:
    del sys.modules[name]
import pysaliency


class Ramp(pysaliency.SaliencyMapModel):
    """Every pixel has more than those before it in raster order."""

    def _saliency_map(self, stimulus):
        return np.arange(48.0).reshape(6, 8)


picture = pysaliency.Stimuli([np.zeros((6, 8, 3), dtype=np.uint8)])
at = {place: pysaliency.Fixations.create_without_history(x=[place[0]], y=[place[1]], n=[0]) for place in [(7, 5), (8, 5), (-1, -1)]}
try:
    Ramp().NSS(picture, at[8, 5])
    raise SystemExit("a fixation right of the picture has a score now")
except IndexError as error:
    print("right of the picture:", error)
last, outside = (Ramp().NSS(picture, at[place]) for place in [(7, 5), (-1, -1)])
print(f"NSS at the last pixel {last:.4f}; naive guess at (-1, -1): an error or nothing; seen: {outside:.4f}")
assert outside == last
try:
    Ramp().AUC(picture, at[7, 5])
    raise SystemExit("its AUC runs on this numpy now")
except AttributeError as error:
    print("AUC:", error)
PYTHON
