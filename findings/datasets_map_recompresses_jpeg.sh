#!/usr/bin/env bash
# datasets 5.2.0: a map() that only looks at a picture writes the picture anew: JPEG at Pillow's quality of 75, whatever it was before.
#
# Where pictures are in the table as bytes (Parquet, the hub, WebDataset), map() hands the function a decoded picture, and what it handed out
# it encodes again for the new table, though the function returned nothing but a number. Pillow's JPEG defaults (quality 75, colours at
# half the resolution) replace the original bytes, and the file name beside them is gone. Every later map() that looks does so once more.
# Naive guess: map(lambda row: {"width": row["image"].width}) adds a column and leaves the others as they are, as it does with any other
# column, and with a picture that the function does not touch.
# Seen: half the bytes, other pixels, so that no hash finds the duplicate any more; save_to_disk and to_parquet make it last.
# Not so: pictures given by path alone, PNG (same pixels), filter(), streams. Remedy: cast_column("image", Image(decode=False)) before the
# map, and Image() after it. Not in the documentation of map() or of pictures.
# Source: https://github.com/huggingface/datasets/blob/5.2.0/src/datasets/features/image.py, image_to_bytes.
# Here: vl_absvit/prepare/own/table_rows.py reads such tables without decoding.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q --disable-pip-version-check datasets==5.2.0 pyarrow==26.0.1 pillow==12.3.0 numpy==2.4.6
cd "$folder"
HF_HUB_OFFLINE=1 HF_HOME="$folder/home" "$folder/venv/bin/python" - <<'PY' || { echo "no longer so"; exit 1; }
import io

import datasets
import numpy as np
from PIL import Image

datasets.disable_progress_bars()
y, x = np.mgrid[:240, :320]
rings = [127 + 127 * np.sin(((x - 90 * n) ** 2 + (y - 60 * n) ** 2) / (300 + 200 * n)) for n in range(3)]
buffer = io.BytesIO()
Image.fromarray(np.stack(rings, axis=-1).astype(np.uint8)).save(buffer, "JPEG", quality=95)
features = datasets.Features({"image": datasets.Image(), "caption": datasets.Value("string")})
rows = {"image": [{"bytes": buffer.getvalue(), "path": "rings.jpg"}], "caption": ["rings in three colours"]}
table = datasets.Dataset.from_dict(rows, features=features)


def stored(table: datasets.Dataset, part: str = "bytes") -> bytes | str | None:
    return table.cast_column("image", datasets.Image(decode=False))[0]["image"][part]


def pixels(data: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(data)), dtype=float)


original = stored(table)
assert original == buffer.getvalue()
words = table.map(lambda row: {"words": len(row["caption"].split())})
print(f"datasets {datasets.__version__}: after a map that does not look at the picture, same bytes: {stored(words) == original}")
looked = table.map(lambda row: {"width": row["image"].width})
looked.to_parquet("looked.parquet")
after = stored(datasets.load_dataset("parquet", data_files="looked.parquet", split="train"))
off = np.abs(pixels(after) - pixels(original))
print(f"after one that reads its width: {len(original)} -> {len(after)} bytes, pixels off by {off.mean():.1f}, at most {off.max():.0f} of 255")
twice = np.abs(pixels(stored(looked.map(lambda row: {"height": row["image"].height}))) - pixels(original))
print(f"after a second one: off by {twice.mean():.1f}, at most {twice.max():.0f}")
raw = table.cast_column("image", datasets.Image(decode=False)).map(lambda row: {"size": len(row["image"]["bytes"])})
assert stored(words) == original and stored(raw) == original and (stored(words, "path"), stored(looked, "path")) == ("rings.jpg", None)
assert looked.column_names == ["image", "caption", "width"] and len(after) < 0.6 * len(original) and off.max() > 20
PY
