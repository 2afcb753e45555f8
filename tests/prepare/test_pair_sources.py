"""Further sources of pairs: lists of addresses, tables of one's own, folders of files; and what is left out."""

import csv
import json
import shutil

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.prepare.raw_pairs import picture, prepare, texts, write_shard, write_visual_genome
from vl_absvit.data.records import ImageTable, read_captions
from vl_absvit.errors import ConfigError, InputError
from vl_absvit.prepare import pairs
from vl_absvit.prepare.known_pictures import KnownPictures
from vl_absvit.prepare.pair_filters import PairFilters, frequent, hashes_of

SBU = ("SBU_captioned_photo_dataset_urls.txt", "SBU_captioned_photo_dataset_captions.txt")


def write_rows(folder, rows, ending=""):
    """Pictures named by their row, as ViLT and METER have them; their shade is the row."""
    for row in rows:
        file = folder / f"{row // 1000:04d}/{row:07d}{ending}"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(picture(row))


def addresses(output):
    """Caption -> file of its picture."""
    table, rows = ImageTable(output), read_captions(output, ["train"])[:]
    return {caption: table.records([image])[0].file
            for caption, image in zip(rows["caption"], rows["image_id"], strict=True)}  # fmt: skip


@pytest.mark.parametrize("address_first", [False, True])
@pytest.mark.parametrize("labelled", [False, True])
def test_rows_of_a_tsv_find_their_pictures_by_number(tmp_path, address_first, labelled):
    raw = tmp_path / "raw"
    cells = [[f'thing {n} "quoted', f"https://x.org/a.jpg?n={n}"] for n in range(4)]
    cells[2][0] = "https://x.org/named"  # both are addresses: the first row decides
    lines = [
        "\t".join([*(row[::-1] if address_first else row), *["a,b", "/m/1", "0.5"][: 3 * labelled]]) for row in cells
    ]
    raw.mkdir()
    (raw / "Train_GCC-training.tsv").write_text("\n".join(lines))
    write_rows(raw / "images_train", (0, 2, 3))
    with pytest.raises(InputError, match="1 pictures of part 00000 are missing, the first is .*/0000/0000001"):
        prepare(raw, tmp_path / "out", "conceptual_captions")
    manifest = prepare(raw, tmp_path / "out", "conceptual_captions", allow_missing_images=True)
    assert manifest["missing_images"] == 1 and list(manifest["sources"]) == ["Train_GCC-training.tsv"]
    assert addresses(tmp_path / "out") == {cells[n][0]: f"images_train/0000/{n:07d}" for n in (0, 2, 3)}


def test_of_several_lists_one_is_named_and_its_pictures_are_in_the_folder_of_its_split(tmp_path):
    for name in ("Train_GCC-training.tsv", "Validation_GCC-1.1.0-Validation.tsv"):
        (tmp_path / name).write_text(f"{name}\thttps://x.org/1.jpg\n")
    write_rows(tmp_path / "images_train", [0], ".jpg")
    (tmp_path / "images_val/0000").mkdir(parents=True)
    (tmp_path / "images_val/0000/0000000").write_bytes(picture(7))
    with pytest.raises(
        InputError, match=r"has several lists, Train.*\.tsv, Validation.*\.tsv; say which one with --table"
    ):
        prepare(tmp_path, tmp_path / "out")
    for split in ("Train_GCC-training", "Validation_GCC-1.1.0-Validation"):
        prepare(tmp_path, tmp_path / split, table=tmp_path / f"{split}.tsv")
    assert list(addresses(tmp_path / "Train_GCC-training").values()) == ["images_train/0000/0000000.jpg"]
    assert list(addresses(tmp_path / "Validation_GCC-1.1.0-Validation").values()) == ["images_val/0000/0000000"]


@pytest.mark.parametrize(
    "text, message",
    [
        ("a\thttps://x/1\nb\tc\n", "line 2: expected caption<TAB>address or address<TAB>caption, got 'b.tc'"),
        ("a\thttps://x/1\nhttps://x/2\n", "line 2: expected caption<TAB>address"),
        ("a\thttps://x/1\tthree\n", "line 1: expected caption<TAB>address"),
    ],
)
def test_a_line_without_caption_and_address_is_named(tmp_path, text, message):
    (tmp_path / "a.tsv").write_text(text)
    write_rows(tmp_path, [0])
    with pytest.raises(InputError, match=f"a.tsv: {message}"):
        prepare(tmp_path, tmp_path / "out", table=tmp_path / "a.tsv")


def test_addresses_whose_pictures_have_other_names_are_refused(tmp_path):
    (tmp_path / "a.tsv").write_text("caption\turl\none\thttps://x/1.jpg\n")
    (tmp_path / "1.jpg").write_bytes(picture(0))
    with pytest.raises(
        InputError, match="none of the first 10,000 rows .* looked for 0000/0000000, .* there and in images_train, "
    ):
        prepare(tmp_path, tmp_path / "out")


@pytest.mark.parametrize("form", ["lines", "columns"])
def test_the_lists_of_sbu_find_photographs_by_row_or_by_flickrs_name(tmp_path, form):
    photographs = [f"http://static.flickr.com/27/{4385058960 + n}_b0f291553e.jpg" for n in range(3)]
    captions = ["one", "", "three"]
    for name in ("by_row", "by_name"):
        raw = tmp_path / name
        raw.mkdir()
        if form == "lines":
            for file, lines in zip(SBU, (photographs, captions), strict=True):
                (raw / file).write_text("".join(f"{line}\n" for line in lines))
        else:
            columns = {"image_urls": photographs, "user_ids": ["a"] * 3, "captions": captions}
            (raw / "sbu-captions-all.json").write_text(json.dumps(columns))
    write_rows(tmp_path / "by_row/images_train", range(3))
    (tmp_path / "by_name/dataset").mkdir()
    for n, address in enumerate(photographs):
        (tmp_path / "by_name/dataset" / address.rpartition("/")[2]).write_bytes(picture(n))
    (tmp_path / "ids.txt").write_text("flickr 4385058962\n")
    for name in ("by_row", "by_name"):
        manifest = prepare(
            tmp_path / name, tmp_path / f"{name}.out", "sbu_captions", exclude=[str(tmp_path / "ids.txt")]
        )
        assert texts(tmp_path / f"{name}.out") == ["one"]
        counts = manifest["counts"]
        assert counts["captions that are empty or endless"] == 1 and counts["excluded by flickr"] == 1
    if form == "lines":
        (tmp_path / "by_row" / SBU[1]).write_text("one\n\n")
        with pytest.raises(InputError, match=f"{SBU[0]}: has more lines than .*{SBU[1]}, which ends after line 2"):
            prepare(tmp_path / "by_row", tmp_path / "out3", "sbu_captions")


@pytest.mark.parametrize(
    "names",
    [
        ["sbu_images/2723/4385058960_b0f291553e.jpg", "sbu_images/27/4385058961_ab.jpg"],
        ["training/3114746333", "training/2206762903"],
        ["images/0_3114746333.jpg", "images/1_2206762903.jpg"],
    ],
)
def test_pictures_are_found_by_the_names_of_scripts_that_fetch_them(tmp_path, names):
    # 3114746333 is the CRC-32 of the first address.
    (tmp_path / "raw").mkdir()
    (tmp_path / "raw/a.tsv").write_text(
        "one\thttp://static.flickr.com/2723/4385058960_b0f291553e.jpg\n"
        "two\thttp://static.flickr.com/27/4385058961_ab.jpg\n"
    )
    for number, name in enumerate(names):
        (tmp_path / "raw" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "raw" / name).write_bytes(picture(number))
    prepare(tmp_path / "raw", tmp_path / "out")
    assert addresses(tmp_path / "out") == dict(zip(("one", "two"), names, strict=True))


def test_rows_whose_addresses_share_a_checksum_are_left_out_and_counted(tmp_path):
    said = [
        ("one", "https://x.org/3022239067.jpg"),
        ("two", "https://x.org/758223841.jpg"),
        ("three", "https://x.org/0.jpg"),
        ("four", "https://x.org/0.jpg"),
    ]
    (tmp_path / "a.tsv").write_text("".join(f"{caption}\t{address}\n" for caption, address in said))
    for number, name in enumerate(("2171346736", "3120602427")):
        (tmp_path / name).write_bytes(picture(number))
    manifest = prepare(tmp_path, tmp_path / "out")
    assert texts(tmp_path / "out") == ["three", "four"]
    assert manifest["counts"]["rows whose address has the checksum of another one"] == 2


def write_table(path, rows):
    """A table of files and captions in the form of its name."""
    if path.suffix == ".csv":
        with path.open("w", newline="") as stream:
            csv.writer(stream).writerows([["image_path", "title"], *rows])
    elif path.suffix == ".tsv":
        path.write_text("".join(f"{file}\t{caption}\n" for file, caption in [("image_path", "title"), *rows]))
    elif path.suffix == ".parquet":
        pq.write_table(pa.table({"image_path": [row[0] for row in rows], "title": [row[1] for row in rows]}), path)
    else:
        records = [{"image_path": file, "title": caption} for file, caption in rows]
        text = json.dumps(records) if path.suffix == ".json" else "\n".join(map(json.dumps, records))
        path.write_text(text)


@pytest.mark.parametrize("ending", ["csv", "tsv", "jsonl", "json", "parquet"])
def test_tables_of_ones_own_are_read_and_captions_of_one_file_stand_together(tmp_path, ending, monkeypatch):
    decoded = []
    judge = pairs._judge
    monkeypatch.setattr(pairs, "_judge", lambda folder, each: decoded.append(each.file) or judge(folder, each))
    (tmp_path / "shop/below").mkdir(parents=True)
    for name in ("a.png", "below/b.png"):
        (tmp_path / "shop" / name).write_bytes(picture(len(name)))
    rows = [("a.png", "one, two"), ("a.png", 'the "third"'), (str(tmp_path / "shop/below/b.png"), "four")]
    write_table(tmp_path / f"t.{ending}", rows)
    prepare(tmp_path / "shop", tmp_path / "out", table=tmp_path / f"t.{ending}")
    assert addresses(tmp_path / "out") == {"one, two": "a.png", 'the "third"': "a.png", "four": "below/b.png"}
    assert decoded == ["a.png", "below/b.png"]


def test_lists_of_captions_and_named_columns_are_read(tmp_path):
    (tmp_path / "a.png").write_bytes(picture(1))
    (tmp_path / "t.json").write_text(json.dumps([{"image": "a.png", "caption": ["one", "two"]}]))
    prepare(tmp_path, tmp_path / "out", table=tmp_path / "t.json")
    assert texts(tmp_path / "out") == ["one", "two"]
    (tmp_path / "t.csv").write_text("picture;words\na.png;three\n")
    with pytest.raises(
        InputError, match="has no column for the image, .* it has picture, words; --columns image=COLUMN"
    ):
        prepare(tmp_path, tmp_path / "out2", table=tmp_path / "t.csv")
    prepare(tmp_path, tmp_path / "out2", table=tmp_path / "t.csv", columns=["image=picture", "caption=words"])
    assert texts(tmp_path / "out2") == ["three"]
    with pytest.raises(ConfigError, match="--columns names columns of a --table, and there is none"):
        prepare(tmp_path, tmp_path / "out3", columns=["image=picture"])


def test_rows_with_a_fault_are_counted_and_the_first_is_named(tmp_path, caplog):
    (tmp_path / "a.png").write_bytes(picture(1))
    lines = [
        "image,caption",
        "a.png,one",
        "../b.png,two",
        "a.png",
        ",three",
        'a.png,"stray" mark',
        "",
        "a.png,four",
        "c,",
    ]
    (tmp_path / "t.csv").write_text("\n".join(lines))
    counts = prepare(tmp_path, tmp_path / "out", table=tmp_path / "t.csv")["counts"]
    assert texts(tmp_path / "out") == ["one", "four"]
    assert {reason: number for reason, number in counts.items() if reason.startswith("rows refused: ")} == {
        "rows refused: a picture outside the folder of pictures": 1,
        "rows refused: another number of cells than the first row": 1,
        "rows refused: no image": 1,
        "rows refused: no caption": 1,
        "rows refused: not CSV": 1,
    }
    assert "t.csv: line 3 is refused: a picture outside the folder of pictures, '../b.png'" in caplog.text
    assert "t.csv: line 6 is refused: not CSV" in caplog.text


def test_a_mark_that_is_never_closed_counts_every_line_that_it_takes(tmp_path):
    (tmp_path / "a.png").write_bytes(picture(1))
    (tmp_path / "t.csv").write_text('image,caption\na.png,one\na.png,"two\na.png,three\na.png,four\n')
    counts = prepare(tmp_path, tmp_path / "out", table=tmp_path / "t.csv")["counts"]
    assert counts["rows refused: not CSV"] == 3 and counts["captions"] == 1


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"caption": 3}, "00000.parquet: expected texts in the column 'caption', got int64"),
        ({"url": 5}, "00000.parquet: expected texts in the column 'url', got int64"),
        ({"key": 1}, "00000.parquet: expected texts in the column 'key', got int64"),
        ({"key": None}, "00000.parquet: expected a key in every row, row 1 has none"),
        ({"jpg": "text"}, "00000.parquet: expected bytes in the column 'jpg', got string"),
    ],
)
def test_a_table_of_img2dataset_made_of_something_else_is_one_line(tmp_path, changes, message):
    row = {"caption": "a", "url": "http://x/1", "key": "0", "status": "success", "error_message": None}
    pq.write_table(pa.Table.from_pylist([row | {"jpg": picture(1)} | changes]), tmp_path / "00000.parquet")
    (tmp_path / "00000_stats.json").write_text('{"successes": 1}')
    with pytest.raises(InputError, match=message):
        prepare(tmp_path, tmp_path / "out")


def test_what_a_source_says_in_several_lines_is_counted_in_one(tmp_path):
    row = {"caption": "a", "url": "http://x/1", "key": "0", "status": "success", "error_message": None}
    failed = row | {"key": "1", "status": "failed_to_resize", "error_message": "no buffer\nin imdecode\n"}
    rows = [row | {"jpg": picture(1)}, failed | {"jpg": None}]
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "00000.parquet")
    (tmp_path / "00000_stats.json").write_text('{"successes": 1}')
    assert prepare(tmp_path, tmp_path / "out")["counts"]["source: no buffer in imdecode"] == 1


def test_folders_of_files_give_what_tars_give_and_refer_to_the_files(tmp_path):
    for number in range(2):
        shard = {f"{number:05d}000{k}": (f"thing {number} {k}", picture(10 * number + k)) for k in (2, 0, 1)}
        write_shard(tmp_path / "tars", number, shard)
        write_shard(tmp_path / "files", number, shard)
        (tmp_path / f"files/{number:05d}.tar").unlink()
        (tmp_path / f"files/{number:05d}").mkdir()
        for key, (text, content) in shard.items():
            for ending, data in (("jpg", content), ("txt", text.encode()), ("json", b"{}"), ("pkl", b"cos\n")):
                (tmp_path / f"files/{number:05d}/{key}.{ending}").write_bytes(data)
    for form in ("tars", "files"):
        prepare(tmp_path / form, tmp_path / f"{form}.out")
    assert texts(tmp_path / "files.out") == texts(tmp_path / "tars.out")
    assert addresses(tmp_path / "files.out")["thing 1 0"] == "00001/000010000.jpg"
    table = ImageTable(tmp_path / "files.out")
    assert len(table.open(table.available.tolist())) == 6
    (tmp_path / "files/00001/000010001.jpg").unlink()
    with pytest.raises(InputError, match="00001_stats.json: says 3 pictures, its shard has 2; get it again"):
        prepare(tmp_path / "files", tmp_path / "again")
    (tmp_path / "files/00001_stats.json").unlink()
    with pytest.raises(InputError, match="1 shards are unfinished, .*: 00001"):
        prepare(tmp_path / "files", tmp_path / "again")
    shutil.copy(tmp_path / "tars/00000.tar", tmp_path / "files")
    with pytest.raises(InputError, match="has shards as tars and as folders"):
        prepare(tmp_path / "files", tmp_path / "again")


def test_pictures_that_img2dataset_made_square_are_counted_and_warned_of(tmp_path):
    write_shard(tmp_path / "shards", 0, {f"00000000{k}": (f"thing {k}", picture(k)) for k in range(3)})
    table = pq.read_table(tmp_path / "shards/00000.parquet").to_pylist()
    for row, original in zip(table, ((30, 20), (20, 20), (None, None)), strict=True):
        row |= {"width": 96, "height": 96, "original_width": original[0], "original_height": original[1]}
    pq.write_table(pa.Table.from_pylist(table), tmp_path / "shards/00000.parquet")
    manifest = prepare(tmp_path / "shards", tmp_path / "out")
    assert manifest["counts"]["pictures that img2dataset made square"] == 1
    assert any(warning.startswith("1 pictures were made square by img2dataset") for warning in manifest["warnings"])
    # What is left out by size is so by that of the file that was fetched, where it is known: pictures here have 12 x 8.
    for filters, kept in ((PairFilters(max_aspect=1.4), [1]), (PairFilters(min_side=9), [0, 1])):
        output = tmp_path / f"kept{len(kept)}"
        prepare(tmp_path / "shards", output, filters=filters)
        assert texts(output) == [f"thing {k}" for k in kept]


def test_captions_and_pictures_are_left_out_as_asked_for_and_counted_by_reason(tmp_path):
    said = [
        "a dog &amp; a cat",
        "one",
        "two words",
        "one two three four five six",
        "image may contain",
        "image may contain",
    ]
    write_shard(tmp_path / "shards", 0, {f"00000000{k}": (text, picture(k)) for k, text in enumerate(said)})
    write_shard(tmp_path / "shards", 1, {"000010000": ("image may contain", picture(9))})
    filters = PairFilters(min_words=2, max_words=5, max_repeats=2, unescape_html=True)
    manifest = prepare(tmp_path / "shards", tmp_path / "out", filters=filters)
    assert texts(tmp_path / "out") == ["a dog & a cat", "two words"]
    counts = manifest["counts"]
    assert counts["captions of fewer than 2 words"] == 1 and counts["captions of more than 5 words"] == 1
    assert counts["captions that the source has more than 2 times"] == 3 and counts["captions"] == 2
    assert manifest["splits"]["train"] == {"captions": 2, "images": 2, "without_image": 0, "duplicates_removed": 0}
    assert manifest["options"]["max_repeats"] == 2 and "min_side" not in manifest["options"]
    assert len(texts(prepare_all(tmp_path / "shards", tmp_path / "all"))) == 7
    for filters, reason in (
        (PairFilters(min_side=9), "pictures with a side of fewer than 9 pixels"),
        (PairFilters(max_aspect=1.4), "pictures more than 1.4 times as long as they are wide"),
    ):
        with pytest.raises(InputError, match=f"no caption is left: .*'{reason}': 7"):
            prepare(tmp_path / "shards", tmp_path / "none", filters=filters)
        shutil.rmtree(tmp_path / "none.partial")
    prepare(tmp_path / "shards", tmp_path / "just", filters=PairFilters(min_side=8, max_aspect=1.5))


def prepare_all(root, output):
    prepare(root, output)
    return output


def test_small_regions_are_left_out_as_asked_for(tmp_path):
    write_visual_genome(tmp_path / "raw", images=1)
    data = json.loads((tmp_path / "raw/image_data.json").read_text())
    (tmp_path / "raw/image_data.json").write_text(json.dumps([data[0] | {"width": 100, "height": 100}]))
    sizes = ((10, 10), (9, 11))
    regions = [{"image_id": 1, "phrase": f"thing {w}", "width": w, "height": h} for w, h in sizes]
    (tmp_path / "raw/region_descriptions.json").write_text(json.dumps([{"id": 1, "regions": regions}]))
    manifest = prepare(tmp_path / "raw", tmp_path / "out", "visual_genome", filters=PairFilters(min_region=0.01))
    assert texts(tmp_path / "out") == ["thing 10"]
    assert manifest["counts"]["regions that are too small a part of their picture"] == 1
    with pytest.raises(ConfigError, match="--min-region is for the regions of visual_genome alone"):
        prepare(tmp_path / "raw", tmp_path / "out", filters=PairFilters(min_region=0.01))


@pytest.mark.parametrize(
    "given, message",
    [
        ({"min_words": 0}, "--min-words: expected more than 0, got 0"),
        ({"min_region": 1.0}, r"--min-region: expected a share in \(0, 1\), got 1"),
        ({"max_aspect": 0.5}, "--max-aspect: expected at least 1, got 0.5"),
        ({"min_words": 5, "max_words": 4}, "--min-words 5 is more than --max-words 4"),
    ],
)
def test_filters_that_cannot_be_meant_are_refused(given, message):
    with pytest.raises(ConfigError, match=message):
        PairFilters(**given)


def test_addresses_of_regions_stay_inside_the_folder(tmp_path):
    write_visual_genome(tmp_path / "raw", images=1)
    data = json.loads((tmp_path / "raw/image_data.json").read_text())
    (tmp_path / "raw/image_data.json").write_text(json.dumps([data[0] | {"url": "https://x/../1.jpg"}]))
    with pytest.raises(InputError, match="image 1: expected an address such as .*1.jpg, got 'https://x/../1.jpg'"):
        prepare(tmp_path / "raw", tmp_path / "out", "visual_genome")


def test_the_same_caption_of_one_picture_in_two_parts_is_one(tmp_path):
    write_shard(tmp_path / "shards", 0, {"000000000": ("thing", picture(0))})
    write_shard(tmp_path / "shards", 1, {"000010000": ("thing", picture(0)), "000010001": ("thing", picture(1))})
    write_shard(tmp_path / "shards", 2, {"000020000": ("other", picture(0))})
    manifest = prepare(tmp_path / "shards", tmp_path / "out")
    assert texts(tmp_path / "out") == ["thing", "thing", "other"]
    assert manifest["counts"]["captions that repeat another one of the picture"] == 1
    assert manifest["splits"]["train"]["images"] == 2


def test_known_pictures_are_found_as_in_a_dictionary():
    generator, known, expected = np.random.default_rng(0), KnownPictures(), {}
    assert known.find(np.array([3], dtype=np.uint64)).tolist() == [-1]
    for number in (0, 1, 5, 1, 1, 30, 2, 2, 1):
        hashes = np.unique(generator.integers(2**64 - 1, size=number, dtype=np.uint64))
        ids = generator.integers(2**60, size=len(hashes))
        known.add(hashes, ids)
        expected |= dict(zip(hashes.tolist(), ids.tolist(), strict=True))
        asked = np.array([*expected, 0, 2**64 - 1], dtype=np.uint64)
        assert known.find(asked).tolist() == [*expected.values(), -1, -1]
    lengths = [len(hashes) for hashes, _ in known._runs]
    assert lengths == sorted(lengths, reverse=True) and len(lengths) <= 6


def test_frequent_captions_are_those_that_a_counter_finds():
    captions = [f"caption {n}" for n in np.random.default_rng(1).integers(30, size=200)]
    hashes = hashes_of(captions)
    assert len(set(hashes.tolist())) == len(set(captions))
    found = {caption for caption, each in zip(captions, hashes, strict=True) if each in frequent(hashes, 6)}
    assert found == {caption for caption in captions if captions.count(caption) > 6}


def test_genuine_lists_of_sbu_and_of_conceptual_captions_are_read(real_data, tmp_path):
    folder = real_data / "conceptual-captions"
    found = {}
    for form, names in (("lines", SBU), ("columns", ("sbu-captions-all.json",))):
        raw = tmp_path / form
        raw.mkdir()
        for name in names:
            shutil.copyfile(folder / "sbu" / name, raw / name)
        write_rows(raw / "images_train", range(5), ".jpg")
        prepare(raw, tmp_path / f"{form}.out", "sbu_captions")
        found[form] = addresses(tmp_path / f"{form}.out")
    assert found["lines"] == found["columns"] and found["lines"]["white horse near avebury"].endswith(
        "0000/0000001.jpg"
    )
    for name, rows in (
        ("Validation_GCC-1.1.0-Validation.excerpt", 165), ("Train_GCC-training.head", 5),
        ("Image_Labels_Subset_Train_GCC-Labels-training.head", 3),
    ):  # fmt: skip
        write_rows(tmp_path / name, range(rows))
        manifest = prepare(
            tmp_path / name, tmp_path / f"{name}.out", "conceptual_captions", table=folder / f"{name}.tsv"
        )
        assert manifest["splits"]["train"]["captions"] == rows
    said = addresses(tmp_path / "Validation_GCC-1.1.0-Validation.excerpt.out")
    assert said["an angler fishes river on a snowy day ."] == "0000/0000001"
