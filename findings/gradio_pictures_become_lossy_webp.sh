#!/usr/bin/env bash
# gradio 6.31.0: gr.Image changes pixels on both ways: what a function returns, and a grey JPEG that it takes as a file.
#
# Out: an array or Pillow image is stored as WebP with Pillow's lossy default. The browser, the button that downloads it and a program
# that calls the app get that: 29 % of a map of 21 labels in blocks of 16 pixels are other labels then.
# gr.Gallery, gr.ImageSlider and gr.AnnotatedImage have the same default. In: type="filepath" hands the function the uploaded file itself,
# if its mode is RGB. A grey JPEG, of which COCO has some, is decoded and written anew at Pillow's quality of 75, and the function gets that
# under the same name: a demo sees other pixels than the evaluation of the same file. type="numpy" and "pil" see the right ones.
# Naive guess: arrays arrive as they were given, as with the component's format="png"; and a path is the path of what was uploaded.
# Remedy: gr.Image(format="png") for whatever is returned, or a path of a PNG, which is passed on as it is; for files
# gr.Image(type="filepath", image_mode=None). format does nothing for the way in, against its documentation: the name's suffix decides.
# The documentation names the default, not that it is lossy; that repeated passes degrade is known (gradio-app/gradio, issue 10394).
# Source: https://github.com/gradio-app/gradio/blob/gradio%406.31.0/gradio/image_utils.py, preprocess_image and save_image.
# Here: vl_absvit/commands/app.py takes the uploaded file's bytes (preprocess=False), and shows what it opens for a browser as PNG.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q --disable-pip-version-check gradio==6.31.0 pillow==12.3.0 numpy==2.4.6
cd "$folder"
GRADIO_ANALYTICS_ENABLED=False GRADIO_TEMP_DIR="$folder/cache" HF_HUB_OFFLINE=1 "$folder/venv/bin/python" - <<'PY' || { echo "no longer so"; exit 1; }
from pathlib import Path

import gradio as gr
import numpy as np
from gradio.data_classes import ImageData
from PIL import Image

labels = np.random.default_rng(0).integers(0, 21, (8, 12), dtype=np.uint8).repeat(16, 0).repeat(16, 1)  # 21 classes


def stored(**options: str) -> tuple[str, float]:
    """What a returned label map is stored as, and the share of its pixels that are of another class then."""
    path = Path(gr.Image(**options).postprocess(labels).path)
    seen = np.asarray(Image.open(path).convert("RGB"))[..., 0]
    print(f"  returned, gr.Image({options}): {path.suffix}, {(seen != labels).mean():.0%} of the pixels are of another class")
    return path.suffix, (seen != labels).mean()


def taken(**options: str | None) -> tuple[bool, float]:
    """Whether the function gets the uploaded bytes, and the mean change of a pixel."""
    path = Path(gr.Image(type="filepath", **options).preprocess(ImageData(path="grey.jpg", orig_name="grey.jpg")))
    got, uploaded = (np.asarray(Image.open(file).convert("L"), dtype=float) for file in (path, "grey.jpg"))
    same, change = path.read_bytes() == Path("grey.jpg").read_bytes(), np.abs(got - uploaded).mean()
    print(f"  taken, gr.Image(type='filepath', {options}): uploaded bytes {same}, pixels off by {change:.1f} on average")
    return same, change


y, x = np.mgrid[:240, :320]
Image.fromarray((127 + 127 * np.sin((x * x + y * y) / 300)).astype(np.uint8)).save("grey.jpg", quality=95)
print("gradio", gr.__version__)
suffix, wrong = stored()
assert suffix == ".webp" and wrong > 0.2 and stored(format="png") == (".png", 0)
assert all(not same and change > 1 for same, change in (taken(), taken(format="png")))
assert taken(image_mode=None) == (True, 0)
PY
