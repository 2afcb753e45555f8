"""Sources of pairs: genuine output of img2dataset and genuine regions, what is left out, and going on."""

import hashlib
import json
import shutil

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.prepare.raw_captions import image_path, write_small_captions
from tests.prepare.raw_pairs import picture, prepare, texts, write_shard, write_visual_genome
from vl_absvit.data.records import ImageTable, read_captions
from vl_absvit.errors import ConfigError, InputError
from vl_absvit.prepare import pairs
from vl_absvit.prepare.captions import CaptionOptions, prepare_captions
from vl_absvit.prepare.json_stream import stream_records


@pytest.fixture
def shards(tmp_path):
    """Two shards of three pictures."""
    for number in range(2):
        write_shard(
            tmp_path / "shards", number,
            {f"{number:05d}000{k}": (f"thing {number} {k}", picture(10 * number + k)) for k in (2, 0, 1)},
        )  # fmt: skip
    return tmp_path / "shards"


def test_a_shard_is_read_by_key_and_its_pictures_go_into_the_folder(shards, tmp_path):
    manifest = prepare(shards, tmp_path / "out")
    assert texts(tmp_path / "out") == [f"thing {number} {k}" for number in range(2) for k in range(3)]
    assert manifest["splits"] == {"train": {"captions": 6, "images": 6, "without_image": 0, "duplicates_removed": 0}}
    shutil.rmtree(shards)
    table = ImageTable(tmp_path / "out")
    assert len(table.open(table.available.tolist())) == 6
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [
        "images-00000.parquet", "images-00001.parquet", "manifest.json", "train.parquet",
    ]  # fmt: skip


def test_unfinished_shards_are_refused_by_name_or_counted(shards, tmp_path):
    (shards / "00001_stats.json").unlink()
    with pytest.raises(InputError, match="1 shards are unfinished, .*_stats.json: 00001; run it again"):
        prepare(shards, tmp_path / "out")
    manifest = prepare(shards, tmp_path / "out", allow_unfinished=True)
    assert manifest["splits"]["train"]["captions"] == 3 and "1 unfinished shards" in manifest["warnings"][-1]


def test_nothing_but_pictures_and_texts_is_opened(shards, tmp_path):
    bomb = [("000000009.pkl", b"cos\nsystem\n(S'false'\ntR."), ("../../outside.sh", b"x"), ("000000009.pyd", b"y")]
    write_shard(shards, 2, {"000020000": ("fine", picture(99))}, more=bomb)
    assert prepare(shards, tmp_path / "out")["splits"]["train"]["captions"] == 7
    assert not (tmp_path.parent / "outside.sh").exists()


def test_a_shard_that_was_cut_short_is_refused(shards, tmp_path):
    whole = (shards / "00001.tar").read_bytes()
    (shards / "00001.tar").write_bytes(whole[:3000])
    with pytest.raises(InputError, match="00001"):
        prepare(shards, tmp_path / "out")
    (shards / "00001.tar").write_bytes(whole)
    (shards / "00001_stats.json").write_text('{"successes": 4}')
    with pytest.raises(InputError, match="says 4 pictures, its shard has 3; get it again"):
        prepare(shards, tmp_path / "out")


def test_an_interrupted_preparation_goes_on_to_the_same_folder(shards, tmp_path, monkeypatch):
    prepare(shards, tmp_path / "whole")
    judge, read = pairs._judge, []

    def interrupted(pictures, candidate):
        read.append(candidate.key)
        if len(read) == 5:
            raise KeyboardInterrupt
        return judge(pictures, candidate)

    monkeypatch.setattr(pairs, "_judge", interrupted)
    with pytest.raises(KeyboardInterrupt):
        prepare(shards, tmp_path / "out")
    assert not (tmp_path / "out").exists()
    prepare(shards, tmp_path / "out")
    assert read.count("000000000") == 1 and read.count("000010000") >= 1
    for name in ("train.parquet", "images-00000.parquet", "images-00001.parquet"):
        assert pq.read_table(tmp_path / "out" / name).equals(pq.read_table(tmp_path / "whole" / name))


def test_equal_pictures_are_one_and_their_captions_stay(shards, tmp_path):
    write_shard(shards, 2, {"000020000": ("again", picture(0)), "000020001": ("thing 0 0", picture(0))})
    manifest = prepare(shards, tmp_path / "out")
    assert manifest["counts"]["pictures that repeat another one"] == 2
    rows = read_captions(tmp_path / "out", ["train"])[:]
    of_first = [
        text for text, image in zip(rows["caption"], rows["image_id"], strict=True) if image == rows["image_id"][0]
    ]
    assert of_first[:2] == ["thing 0 0", "again"] and manifest["splits"]["train"]["images"] == 6


def test_a_share_of_the_pictures_is_held_out_by_their_bytes(shards, tmp_path):
    write_shard(shards, 2, {f"0000200{k:02d}": (f"more {k}", picture(50 + k)) for k in range(40)})
    manifest = prepare(shards, tmp_path / "out", val_share=0.3)
    assert 5 <= manifest["splits"]["val"]["images"] <= 25
    assert not set(read_captions(tmp_path / "out", ["val"])["image_id"]) & set(
        read_captions(tmp_path / "out", ["train"])["image_id"]
    )


def test_pictures_of_test_sets_are_left_out_by_id_and_by_bytes(shards, tmp_path):
    karpathy = write_small_captions(tmp_path / "coco", "coco")
    prepare_captions(
        CaptionOptions(dataset="coco", root=tmp_path / "coco", karpathy=karpathy), tmp_path / "prepared", 1
    )
    test_pictures = [path for path in (tmp_path / "coco/val2014").iterdir()]
    write_shard(shards, 2, {"000020000": ("stolen", test_pictures[0].read_bytes())})
    write_shard(
        shards, 3, {"4385058960": ("flickr's", picture(77))}, url="http://static.flickr.com/2723/{}_b0f291553e.jpg"
    )
    (tmp_path / "ids.txt").write_text("flickr 4385058960\ncoco 5\n")
    manifest = prepare(
        shards, tmp_path / "out", exclude=[f"{tmp_path / 'prepared'}=test,val,restval", str(tmp_path / "ids.txt")]
    )
    counts = manifest["counts"]
    assert (counts["excluded by sha256"], counts["excluded by flickr"]) == (1, 1)
    assert not {"stolen", "flickr's"} & set(texts(tmp_path / "out")) and len(texts(tmp_path / "out")) == 6
    with pytest.raises(InputError, match="was prepared from other options"):
        prepare(shards, tmp_path / "out")
    (tmp_path / "ids.txt").write_text("flicker 3\n")
    with pytest.raises(InputError, match="expected coco, flickr, sha256 and an id, got 'flicker 3'"):
        prepare(shards, tmp_path / "out2", exclude=[str(tmp_path / "ids.txt")])
    with pytest.raises(ConfigError, match="expected a folder, FOLDER=SPLIT,SPLIT or a list of ids"):
        prepare(shards, tmp_path / "out2", exclude=["nowhere"])


@pytest.mark.parametrize("dataset", ["coco", "flickr30k"])
def test_pictures_that_a_test_set_lacks_are_left_out_by_their_ids_or_told(tmp_path, caplog, dataset):
    karpathy = write_small_captions(tmp_path / "test", dataset)
    record = next(each for each in json.loads(karpathy.read_text())["images"] if each["split"] == "test")
    image_path(tmp_path / "test", record).unlink()
    options = CaptionOptions(dataset=dataset, root=tmp_path / "test", karpathy=karpathy, allow_missing_images=True)
    prepare_captions(options, tmp_path / "prepared", 1)
    write_visual_genome(tmp_path / "raw", images=1)
    data = json.loads((tmp_path / "raw/image_data.json").read_text())
    data.append(data[0] | {"image_id": 2, "coco_id": 1})
    (tmp_path / "raw/image_data.json").write_text(json.dumps([data[0] | {"coco_id": record.get("cocoid")}, data[1]]))
    more = {"regions": [{"image_id": 2, "phrase": "more"}]}
    regions = json.loads((tmp_path / "raw/region_descriptions.json").read_text())
    (tmp_path / "raw/region_descriptions.json").write_text(json.dumps([*regions, more]))
    manifest = prepare(tmp_path / "raw", tmp_path / "out", "visual_genome", exclude=[str(tmp_path / "prepared")])
    assert manifest["counts"].get("excluded by coco", 0) == (dataset == "coco")
    told = "1 pictures have no file there, and are not known to be excluded"
    assert (told in caplog.text) == (dataset == "flickr30k")


def test_pictures_that_were_made_from_a_file_of_a_test_set_are_left_out(shards, tmp_path):
    rows = pq.read_table(shards / "00000.parquet").to_pylist()
    fetched = [row | {"sha256": hashlib.sha256(row["key"].encode()).hexdigest()} for row in rows]
    pq.write_table(pa.Table.from_pylist(fetched), shards / "00000.parquet")
    (tmp_path / "test").mkdir()
    (tmp_path / "test/a.png").write_bytes(picture(0))  # of other pixels than what follows it in the shard
    (tmp_path / "ids.txt").write_text(f"sha256 {fetched[2]['sha256']}\n")
    manifest = prepare(shards, tmp_path / "out", exclude=[str(tmp_path / "test"), str(tmp_path / "ids.txt")])
    assert manifest["counts"]["excluded by sha256"] == 2
    assert texts(tmp_path / "out")[:1] == ["thing 0 2"] and len(texts(tmp_path / "out")) == 4


def test_pictures_of_a_folder_that_is_not_prepared_are_left_out_too(shards, tmp_path):
    (tmp_path / "test/cats").mkdir(parents=True)
    with pytest.raises(InputError, match="has neither a table of pictures nor a picture"):
        prepare(shards, tmp_path / "out", exclude=[str(tmp_path / "test")])
    (tmp_path / "test/cats/a.png").write_bytes(picture(11))
    (tmp_path / "test/manifest.json").write_text('{"format": 1, "kind": "domains"}')
    manifest = prepare(shards, tmp_path / "out", exclude=[str(tmp_path / "test")])
    assert manifest["counts"]["excluded by sha256"] == 1 and "thing 1 1" not in texts(tmp_path / "out")


@pytest.mark.parametrize("old_keys", [False, True])
def test_regions_are_captions_of_their_images_without_those_of_test_sets(tmp_path, old_keys):
    write_visual_genome(tmp_path / "raw", old_keys=old_keys)
    (tmp_path / "ids.txt").write_text("coco 102\n")
    manifest = prepare(tmp_path / "raw", tmp_path / "out", "visual_genome", exclude=[str(tmp_path / "ids.txt")])
    assert texts(tmp_path / "out") == ["thing 1 0", "thing 1 1", "thing 3 0", "thing 3 1"]
    assert manifest["counts"]["excluded by coco"] == 1 and manifest["dataset"] == "visual_genome"
    table = ImageTable(tmp_path / "out")
    assert [record.file for record in table.records(table.available[:1].tolist())] == ["VG_100K_2/1.jpg"]


def test_missing_and_dead_pictures_are_refused_or_counted(tmp_path):
    write_visual_genome(tmp_path / "raw")
    (tmp_path / "raw/VG_100K_2/1.jpg").unlink()
    (tmp_path / "raw/VG_100K_2/2.jpg").write_bytes(b"<html>")
    with pytest.raises(InputError, match="1 pictures of part 00000 are missing, the first is .*1.jpg; --allow-missing"):
        prepare(tmp_path / "raw", tmp_path / "out", "visual_genome")
    manifest = prepare(tmp_path / "raw", tmp_path / "out", "visual_genome", allow_missing_images=True)
    assert manifest["missing_images"] == 1 and texts(tmp_path / "out") == ["thing 3 0", "thing 3 1"]
    assert sum(number for what, number in manifest["counts"].items() if what.startswith("picture: ")) == 1


def test_lists_of_paths_and_captions_are_read(tmp_path):
    (tmp_path / "raw/images_train/0000").mkdir(parents=True)
    for n in range(2):
        (tmp_path / f"raw/images_train/0000/000000{n}").write_bytes(picture(n))
    rows = [[f"images_train/0000/000000{n}", f"thing {n}"] for n in range(2)]
    (tmp_path / "raw/train_annot.json").write_text(json.dumps(rows))
    assert prepare(tmp_path / "raw", tmp_path / "out", "sbu_captions")["dataset"] == "sbu_captions"
    assert texts(tmp_path / "out") == ["thing 0", "thing 1"]
    (tmp_path / "raw/train_annot.json").write_text(json.dumps([["../x", "y"]]))
    with pytest.raises(InputError, match="record 1: expected a path inside the folder"):
        prepare(tmp_path / "raw", tmp_path / "out2", "sbu_captions")


def test_records_are_streamed_as_they_stand_and_faults_are_one_line(tmp_path):
    records = [{"n": n, "text": "é" * (n % 7), "more": [{"a": {}}, "]"]} for n in range(3000)]
    (tmp_path / "a.json").write_text(json.dumps(records, ensure_ascii=False, indent=1))
    assert [record for _, record in stream_records(tmp_path / "a.json")] == records
    (tmp_path / "none.json").write_text(" [ ] \n")
    assert not list(stream_records(tmp_path / "none.json"))
    for text, message in (
        ('{"a": 1}', "expected a list at the top level"), ('[{"a": 1}, {"b": ', "record 2: expected JSON"),
        ("[1]", "record 1: expected an object"), ('[{"a": 1}', "ends in the middle, after record 1"),
        ('[{"a": 1}] [{"b": 2}]', "expected the end after record 1, got"),
        ('[{"a": 1} {"b": 2}]', "expected a comma or ] after record 1, got"),
        ('[{"a": 1},, {"b": 2}]', "record 2: expected JSON"), ('[{"a": 1}, ]', "record 2: expected JSON"),
        ('[, {"a": 1}]', "record 1: expected JSON"), ("", "ends in the middle, after record 0"),
    ):  # fmt: skip
        (tmp_path / "b.json").write_text(text)
        with pytest.raises(InputError, match=message):
            list(stream_records(tmp_path / "b.json"))


def test_genuine_shards_of_both_forms_give_the_same_captions(real_data, tmp_path):
    folder = real_data / "conceptual-captions/img2dataset"
    found = {}
    for form in ("webdataset", "parquet"):
        manifest = prepare(folder / form, tmp_path / form, "conceptual_captions")
        found[form] = texts(tmp_path / form)
        counts = manifest["counts"]
        assert counts["pictures"] == 18 and counts["source: Image decoding error"] == 2
        assert sum(number for what, number in counts.items() if what.startswith("source: ")) == 22 - 18
        assert counts["source: HTTP Error 404: File not found"] == 1
        assert counts["captions that are empty or endless"] == 1 and counts["pictures that repeat another one"] >= 1
    assert found["webdataset"] == found["parquet"] and "two men talking on sidewalk" in found["parquet"]


def test_genuine_regions_of_both_forms_are_read(real_data, tmp_path):
    folder = real_data / "visual-genome"
    options = {"images": folder / "images", "allow_missing_images": True}
    manifest = prepare(folder, tmp_path / "out", "visual_genome", **options)
    counts = manifest["counts"]
    assert counts["pictures"] == 3 and manifest["missing_images"] == 1
    said = texts(tmp_path / "out")
    assert "the clock is green in colour" in said and all(text == text.strip() for text in said)
    old = [record for _, record in stream_records(folder / "annotations/region_descriptions_v1.json")]
    assert len(old) == 1 and len(old[0]["regions"]) == 60
    assert len(np.unique(said)) > 300
