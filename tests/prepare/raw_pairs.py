"""Raw sources of pairs for tests: pictures of one colour, img2dataset's shards, regions of Visual Genome."""

import io
import json
import tarfile

import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from vl_absvit.data.records import read_captions
from vl_absvit.prepare.pairs import PairOptions, prepare_pairs


def prepare(root, output, dataset="shop", **options):
    return prepare_pairs(PairOptions(dataset=dataset, root=root, **options), output, workers=1)


def picture(shade: int) -> bytes:
    stream = io.BytesIO()
    Image.new("RGB", (12, 8), (shade % 256, 100, 200)).save(stream, "PNG")
    return stream.getvalue()


def write_shard(root, number, pictures: dict[str, tuple[str, bytes]], url="http://x/{}.jpg", more=()):
    """A tar as img2dataset writes it: key -> caption and bytes, in the order given."""
    root.mkdir(parents=True, exist_ok=True)
    with tarfile.open(root / f"{number:05d}.tar", "w") as archive:
        members = [(f"{key}{end}", data) for key, (text, content) in pictures.items()
                   for end, data in ((".JPG", content), (".json", b"{}"), (".txt", text.encode()))]  # fmt: skip
        for name, data in [*members, *more]:
            member = tarfile.TarInfo(name)
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
    rows = [{"caption": text, "url": url.format(key), "key": key, "status": "success", "error_message": None}
            for key, (text, _) in pictures.items()]  # fmt: skip
    pq.write_table(pa.Table.from_pylist(rows), root / f"{number:05d}.parquet")
    stats = {"count": len(pictures), "successes": len(pictures)}
    (root / f"{number:05d}_stats.json").write_text(json.dumps(stats))


def texts(output, split="train"):
    return read_captions(output, [split])["caption"]


def write_visual_genome(raw, images=3, old_keys=False):
    raw.mkdir()
    of_image, of_region = ("id", "image") if old_keys else ("image_id", "image_id")
    records = [
        {"regions": [{of_region: n, "phrase": f" thing {n} {k}\n"} for k in range(2)]} for n in range(1, images + 1)
    ]
    data = [{of_image: n, "url": f"https://x/VG_100K_2/{n}.jpg", "coco_id": 100 + n, "flickr_id": None}
            for n in range(1, images + 1)]  # fmt: skip
    (raw / "region_descriptions.json").write_text(json.dumps(records))
    (raw / "image_data.json").write_text(json.dumps(data))
    (raw / "VG_100K_2").mkdir()
    for n in range(1, images + 1):
        (raw / f"VG_100K_2/{n}.jpg").write_bytes(picture(n))


def write_many_pairs(root, number: int, of_shard: int = 10_000) -> None:
    """Shards as img2dataset's ``parquet`` form has them, of tiny pictures no two of which have the same bytes."""
    root.mkdir(parents=True)
    base = picture(0)
    for shard in range(-(-number // of_shard)):
        rows = range(shard * of_shard, min(number, (shard + 1) * of_shard))
        keys = [f"{shard:05d}{row % of_shard:04d}" for row in rows]
        columns = {
            "caption": [f"a made-up caption of {row} with as many words as others have" for row in rows],
            "url": [f"http://x/{row}.png" for row in rows], "key": keys, "status": ["success"] * len(rows),
            "error_message": pa.nulls(len(rows), pa.string()),
            "jpg": [base + row.to_bytes(8, "big") for row in rows],  # what follows a picture's end is not read
        }  # fmt: skip
        pq.write_table(pa.table(columns), root / f"{shard:05d}.parquet")
        (root / f"{shard:05d}_stats.json").write_text(json.dumps({"count": len(rows), "successes": len(rows)}))
