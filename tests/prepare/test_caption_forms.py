"""Captions and images as people have them: every form and layout gives the tables that Karpathy's file gives."""

import csv
import gzip
import json

import pyarrow.parquet as pq
import pytest
from PIL import Image

from tests.prepare.raw_captions import image_record, write_karpathy
from vl_absvit.data.records import ImageTable, read_captions, read_manifest
from vl_absvit.errors import ConfigError, InputError
from vl_absvit.prepare.captions import CaptionOptions, prepare_captions

SPLITS = ("train", "train", "val", "test", "train", "test")


def records_of(dataset="flickr30k"):
    """Six images by name, numbered as Karpathy numbers them; the fourth has a caption of commas, marks and bars."""
    records = []
    for number, split in enumerate(SPLITS):
        texts = [f"Thing {number} , seen from side {k} ." for k in range(3)]
        if number == 3:
            texts[1] = 'A sign says "stop" , a man | stops .'
        record = image_record(dataset, number, split, texts)
        for k, sentence in enumerate(record["sentences"]):
            sentence["sentid"] = 3 * number + k
        records.append(record)
    return records


@pytest.fixture
def raw(tmp_path):
    write_karpathy(tmp_path / "raw", "flickr30k", records_of())
    return tmp_path / "raw"


def prepare(raw, output, dataset="flickr30k", **options):
    options = {name: [raw / file for file in value] if isinstance(value, list) else value
               for name, value in options.items()}  # fmt: skip
    return prepare_captions(CaptionOptions(dataset=dataset, root=raw, **options), output, workers=1)


def tables_of(output):
    """The captions of every split, and the size of every image by its id: all but where the images lie."""
    splits = read_manifest(output)["splits"]
    images = pq.read_table(output / "images.parquet").to_pylist()
    sizes = {row["image_id"]: (row["width"], row["height"]) for row in images}
    return splits, {split: read_captions(output, [split]).to_list() for split in splits}, sizes


@pytest.fixture(scope="module")
def right(tmp_path_factory):
    """What Karpathy's file gives."""
    folder = tmp_path_factory.mktemp("right")
    prepare(folder, folder / "out", karpathy=write_karpathy(folder, "flickr30k", records_of()))
    return tables_of(folder / "out")


def write_token(raw, records=None):
    lines = [
        f"{record['filename']}#{k}\t{sentence['raw']}\n"
        for record in records or records_of()
        for k, sentence in enumerate(record["sentences"])
    ]
    (raw / "results_20130124.token").write_text("".join(lines), encoding="utf-8")
    return lines


def write_table(raw):
    rows = [
        f"{record['filename']}| {k}| {sentence['raw']}\r\n"
        for record in records_of()
        for k, sentence in enumerate(record["sentences"])
    ]
    rows[7] = rows[7].replace("| 1| ", "| 1   ")
    (raw / "results.csv").write_bytes("".join(["image_name| comment_number| comment\r\n", *rows]).encode())


def write_plain_tables(raw):
    """``image,caption`` for each split; a caption with a comma is quoted or, as in files that go around, is not."""
    for split in set(SPLITS):
        rows = ["image,caption"]
        for record in records_of():
            for sentence in record["sentences"] if record["split"] == split else []:
                quoted = '"' + sentence["raw"].replace('"', '""') + '"' if split != "train" else sentence["raw"]
                rows.append(f"{record['filename']},{quoted}")
        (raw / f"flickr30k_{split}_karpathy.txt").write_text("\n".join(rows))


def write_lists(raw, records=None, folder="flickr30k-images"):
    """ALBEF's: one caption a record in train, all of an image's elsewhere."""
    for split in ("train", "val", "test"):
        listed = []
        for record in records or records_of():
            if record["split"] in (split, {"train": "restval"}.get(split)):
                image, texts = f"{folder}/{record['filename']}", [each["raw"] for each in record["sentences"]]
                whole = [{"image": image, "caption": texts}]
                listed += (
                    [{"image": image, "caption": text, "image_id": 7} for text in texts] if split == "train" else whole
                )
        (raw / f"flickr30k_{split}.json").write_text(json.dumps(listed))


def write_split_lists(raw, ending):
    for split in set(SPLITS):
        names = [
            record["filename"].removesuffix(".jpg") + ending for record in records_of() if record["split"] == split
        ]
        (raw / f"flickr30k_{split}.txt").write_text("\n".join(names) + "\n")


ALL = ("train", "val", "test")


def test_flickrs_token_file_divided_by_karpathys_gives_the_same(raw, tmp_path, right):
    write_token(raw)
    prepare(raw, tmp_path / "out", captions=["results_20130124.token"], karpathy=raw / "dataset_flickr30k.json")
    assert tables_of(tmp_path / "out") == right


@pytest.mark.parametrize("ending", ["", ".jpg"])
def test_flickrs_token_file_divided_by_lists_of_images_gives_the_same(raw, tmp_path, right, ending):
    write_token(raw)
    write_split_lists(raw, ending)
    lists = [f"flickr30k_{split}.txt" for split in ALL]
    prepare(raw, tmp_path / "out", captions=["results_20130124.token"], splits=lists)
    assert tables_of(tmp_path / "out") == right


def test_the_table_with_its_broken_line_gives_the_same_and_the_line_is_told_of(raw, tmp_path, right):
    write_table(raw)
    manifest = prepare(raw, tmp_path / "out", captions=["results.csv"], karpathy=raw / "dataset_flickr30k.json")
    assert tables_of(tmp_path / "out") == right
    said = "the caption of flickr30k-images/1002.jpg lacked the mark before it and was mended"
    assert manifest["warnings"][0] == said
    assert set(manifest["sources"]) == {"results.csv", "dataset_flickr30k.json"}


@pytest.mark.parametrize(("mark", "quote"), [("\t", ""), (";", ""), (", ", '"'), ("\t", '"')])
def test_the_table_with_other_marks_and_quoted_cells_gives_the_same(raw, tmp_path, right, mark, quote):
    rows = [("image_name", "comment_number", "comment")]
    for record in records_of():
        rows += [(record["filename"], str(k), each["raw"]) for k, each in enumerate(record["sentences"])]
    lines = [mark.join(quote + (cell.replace('"', '""') if quote else cell) + quote for cell in row) for row in rows]
    (raw / "results.csv").write_text("\ufeff" + "\n".join(lines), encoding="utf-8")
    prepare(raw, tmp_path / "out", captions=["results.csv"], karpathy=raw / "dataset_flickr30k.json")
    assert tables_of(tmp_path / "out") == right


def write_hub_table(path, columns=("raw", "sentids", "split", "filename", "img_id")):
    with path.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.DictWriter(stream, columns, extrasaction="ignore")
        writer.writeheader()
        for record in records_of():
            lists = {
                "raw": json.dumps([each["raw"] for each in record["sentences"]]),
                "sentids": json.dumps([each["sentid"] for each in record["sentences"]]),
            }
            writer.writerow(record | lists | {"img_id": record["imgid"]})
    return path


@pytest.mark.parametrize(
    "columns", [("raw", "sentids", "split", "filename", "img_id"), ("filename", "raw", "imgid", "split")]
)
def test_karpathys_file_as_the_hubs_table_gives_the_same(raw, tmp_path, right, columns):
    table = write_hub_table(raw / "flickr_annotations_30k.csv", columns)
    prepare(raw, tmp_path / "out", karpathy=table)
    assert tables_of(tmp_path / "out") == right


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("image_name| comment_number| comment\n", "line 1: expected the columns raw, split, .*--captions takes"),
        ("", "line 1: expected the columns raw, split, filename, got ''"),
        ("raw,split,filename\n", "has no image"),
        ('raw,split,filename\n"[""a""]",train\n', "line 2: expected 3 cells, got 2"),
        ('raw,split,filename\n"[""a""",train,1.jpg\n', "line 2: expected raw to be a list in JSON: "),
        ('raw,split,filename\n3,train,1.jpg\n', "line 2: expected raw to be a list in JSON, got '3'"),
        ('raw,split,filename\n"[3]",train,1.jpg\n', "expected raw to be a string, got a number"),
        ('raw,split,filename\n"[""a""]"x,train,1.jpg\n', "line 2: expected comma-separated values: "),
        ('raw,split,filename,sentids\n"[""a""]",train,1.jpg,[]\n', "expected an id for each of 1 captions, got 0"),
        ('raw,split,filename,img_id\n"[""a""]",train,1.jpg,-1\n', "expected img_id to be a number, got '-1'"),
    ],
)  # fmt: skip
def test_a_table_that_is_not_karpathys_is_one_line(raw, tmp_path, content, message):
    (raw / "table.csv").write_text(content)
    with pytest.raises(InputError, match=message) as caught:
        prepare(raw, tmp_path / "out", karpathy=raw / "table.csv")
    assert "\n" not in str(caught.value)


def test_tables_of_each_split_give_the_same(raw, tmp_path, right):
    write_plain_tables(raw)
    prepare(raw, tmp_path / "out", captions=[f"flickr30k_{split}_karpathy.txt" for split in ALL])
    assert tables_of(tmp_path / "out") == right


@pytest.mark.parametrize("folder", ["flickr30k-images", "/export/share/flickr30k/images", "images\\flickr30k-images"])
def test_lists_of_each_split_give_the_same(raw, tmp_path, right, folder):
    write_lists(raw, folder=folder)
    packed = raw / "flickr30k_train.json.gz"
    packed.write_bytes(gzip.compress((raw / "flickr30k_train.json").read_bytes()))
    prepare(raw, tmp_path / "out", captions=[packed.name, "flickr30k_val.json", "flickr30k_test.json"])
    assert tables_of(tmp_path / "out") == right


def test_lists_whose_names_changed_places_are_another_request(raw, tmp_path):
    write_lists(raw)
    lists = [f"flickr30k_{split}.json" for split in ALL]
    assert prepare(raw, tmp_path / "out", captions=lists) == prepare(raw, tmp_path / "out", captions=lists)
    (raw / "flickr30k_val.json").rename(raw / "aside")
    (raw / "flickr30k_test.json").rename(raw / "flickr30k_val.json")
    (raw / "aside").rename(raw / "flickr30k_test.json")
    with pytest.raises(InputError, match="was prepared from other options: lists was "):
        prepare(raw, tmp_path / "out", captions=lists)
    with pytest.raises(InputError, match="nowhere_val.txt: no such file"):
        prepare(raw, tmp_path / "out", captions=lists, splits=["nowhere_val.txt"])


def test_images_in_no_split_are_left_out_and_counted(raw, tmp_path, right):
    write_token(raw, [*records_of(), image_record("flickr30k", 77, "train"), image_record("flickr30k", 78, "train")])
    manifest = prepare(
        raw, tmp_path / "out", captions=["results_20130124.token"], karpathy=raw / "dataset_flickr30k.json"
    )
    assert tables_of(tmp_path / "out") == right
    assert "2 of the 8 images of results_20130124.token are in no split and left out" in manifest["warnings"]


def test_flickr8k_is_known_in_both_its_forms(tmp_path):
    raw = tmp_path / "raw"
    records = [record | {"filename": f"{record['imgid']}_69{record['imgid']}.jpg"} for record in records_of()]
    karpathy = write_karpathy(raw, "flickr8k", records)
    (raw / "flickr30k-images").rename(raw / "Flicker8k_Dataset")
    manifest = prepare(raw, tmp_path / "right", "flickr8k", karpathy=karpathy)
    assert manifest["dataset"] == "flickr8k"
    assert "train: has captions of 3 images, the official split of 6,000" in manifest["warnings"]
    odd = "2258277193_586949ec62.jpg.1#0\tA dog .\n"  # the published file has such a name
    lines = write_token(raw, records)
    (raw / "Flickr8k.token.txt").write_text("".join([*lines, odd]))
    for split, name in (("train", "train"), ("val", "dev"), ("test", "test")):
        names = [record["filename"] for record in records if record["split"] == split]
        (raw / f"Flickr_8k.{name}Images.txt").write_text("\n".join(names))
    lists = [f"Flickr_8k.{name}Images.txt" for name in ("train", "dev", "test")]
    manifest = prepare(raw, tmp_path / "out", "flickr8k", captions=["Flickr8k.token.txt"], splits=lists)
    assert tables_of(tmp_path / "out") == tables_of(tmp_path / "right")
    assert "1 of the 7 images of Flickr8k.token.txt are in no split and left out" in manifest["warnings"]


def test_lists_of_coco_have_cocos_ids_and_restval_apart(tmp_path):
    raw = tmp_path / "raw"
    records = [
        record | {"split": split}
        for record, split in zip(records_of("coco"), ("train", "restval", "val", "test", "train", "test"), strict=True)
    ]
    for record in records:
        folder = "train2014" if record["split"] == "train" else "val2014"
        record |= {"filepath": folder, "filename": f"COCO_{folder}_{record['cocoid']:012d}.jpg"}
    karpathy = write_karpathy(raw, "coco", records)
    prepare(raw, tmp_path / "right", "coco", karpathy=karpathy)
    write_lists(raw, records, folder="val2014")
    prepare(raw, tmp_path / "out", "coco", captions=[f"flickr30k_{split}.json" for split in ALL])
    (splits, captions, images), right = tables_of(tmp_path / "out"), tables_of(tmp_path / "right")
    assert (splits, images) == (right[0], right[2])
    for split, rows in captions.items():
        texts = sorted((row["image_id"], row["caption"]) for row in rows)
        assert texts == sorted((row["image_id"], row["caption"]) for row in right[1][split])


# Where the images lie.


@pytest.mark.parametrize(
    "folder", ["", "flickr30k_images/flickr30k_images", "flickr30k_images", "images/flickr30k-images", "Images"]
)
def test_images_are_found_in_the_root_and_below_it(raw, tmp_path, right, folder):
    (raw / "flickr30k-images").rename(tmp_path / "aside")
    (raw / folder).mkdir(parents=True, exist_ok=True)
    for path in list((tmp_path / "aside").iterdir()):
        path.rename(raw / folder / path.name)
    Image.new("RGB", (1, 1)).save(raw / "logo.png")
    prepare(raw, tmp_path / "out", karpathy=raw / "dataset_flickr30k.json")
    assert tables_of(tmp_path / "out") == right
    assert ImageTable(tmp_path / "out").open([0])[0].size == (12, 8)


def test_the_root_may_be_the_images_folder_itself_or_images_lie_elsewhere(raw, tmp_path, right):
    karpathy = raw / "dataset_flickr30k.json"
    prepare(raw / "flickr30k-images", tmp_path / "inside", karpathy=karpathy)
    (raw / "flickr30k-images").rename(tmp_path / "pictures")
    for number, images in enumerate((tmp_path / "pictures", tmp_path)):
        prepare(raw, tmp_path / f"out{number}", karpathy=karpathy, images=images)
        assert tables_of(tmp_path / f"out{number}") == right
    assert tables_of(tmp_path / "inside")[0] == right[0]


def test_images_divided_into_folders_are_found_and_a_second_copy_does_not_matter(raw, tmp_path, right):
    for record in records_of():
        (raw / record["split"]).mkdir(exist_ok=True)
        (raw / "flickr30k-images" / record["filename"]).rename(raw / record["split"] / record["filename"])
    (raw / "thumbnails").mkdir()
    Image.new("RGB", (1, 1)).save(raw / "thumbnails" / "1000.jpg")
    prepare(raw, tmp_path / "out", karpathy=raw / "dataset_flickr30k.json")
    assert tables_of(tmp_path / "out") == right


def test_no_image_at_all_is_an_error_even_where_missing_ones_are_allowed(raw, tmp_path):
    for dataset in ("flickr30k", "coco"):
        karpathy = write_karpathy(tmp_path / dataset, dataset, records_of(dataset))
        (tmp_path / f"of {dataset}" / "nothing").mkdir(parents=True)
        with pytest.raises(InputError, match="none of the images is there: looked for .* where no picture is at all"):
            prepare(tmp_path / f"of {dataset}" / "nothing", tmp_path / "out", dataset, karpathy=karpathy,
                    allow_missing_images=True)  # fmt: skip


@pytest.mark.parametrize("allowed", [False, True])
def test_a_wrong_root_is_told_which_folder_would_have_fitted(raw, tmp_path, allowed):
    (tmp_path / "other").mkdir()
    Image.new("RGB", (1, 1)).save(tmp_path / "other" / "holiday.jpg")
    with pytest.raises(InputError) as caught:
        prepare(
            tmp_path / "other", tmp_path / "out", karpathy=raw / "dataset_flickr30k.json", allow_missing_images=allowed
        )
    line = str(caught.value)
    assert line.startswith("none of the 2 images of test is there: looked for flickr30k-images/1003.jpg")
    assert f"which have pictures such as holiday.jpg; {raw} would fit" in line and "\n" not in line


def test_a_split_whose_images_are_nowhere_is_told_of_and_no_folder_is_made_up(raw, tmp_path):
    for number, split in enumerate(SPLITS):
        if split == "test":
            (raw / "flickr30k-images" / f"{1000 + number}.jpg").unlink()
    asked = {"karpathy": raw / "dataset_flickr30k.json"}
    with pytest.raises(
        InputError, match="none of the 2 images of test is there: looked for .*1003.jpg .*1000.jpg; --a"
    ):
        prepare(raw, tmp_path / "out", **asked)
    warnings = prepare(raw, tmp_path / "out", **asked, allow_missing_images=True)["warnings"]
    assert warnings[0].startswith("none of the 2 images of test is there") and "would fit" not in warnings[0]


def test_coco_of_2017_gives_what_that_of_2014_gives(tmp_path):
    raw = tmp_path / "raw"
    karpathy = write_karpathy(raw, "coco", records_of("coco"))
    prepare(raw, tmp_path / "right", "coco", karpathy=karpathy)
    for number, record in enumerate(records_of("coco")):
        folder = raw / "coco" / "images" / ("train2017" if number else "val2017")
        folder.mkdir(parents=True, exist_ok=True)
        (raw / record["filepath"] / record["filename"]).rename(folder / f"{record['cocoid']:012d}.jpg")
    prepare(raw, tmp_path / "out", "coco", karpathy=karpathy)
    assert tables_of(tmp_path / "out") == tables_of(tmp_path / "right")


# Wrong input.


def test_what_does_not_fit_together_on_the_command_line_is_refused(raw):
    for options, message in (
        ({}, "expected the captions by --karpathy or --captions, got neither"),
        ({"splits": [raw / "a.txt"]}, "got neither"),
        ({"karpathy": raw / "a.json", "splits": [raw / "a.txt"]}, "--splits divides the images of --captions"),
        ({"karpathy": raw / "results.token"}, "--karpathy takes captions with splits; give .*results.token as --cap"),
        ({"captions": [raw / "a/x.json", raw / "b/x.json"]}, "two of the files have the same name: x.json, x.json"),
    ):
        with pytest.raises(ConfigError, match=message):
            CaptionOptions(dataset="flickr30k", root=raw, **options)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("train.token", "1001.jpg#0 A dog.\n", r"line 1: expected 1.jpg#0<TAB>caption, or a header"),
        ("train.token", "1001.jpg#0\tA dog.\n1001.jpg 1\tA cat.\n", "line 2: expected it to be as the first lines are"),
        ("train.token", "1001.jpg#0\tA dog.\n1001.jpg#0\tA cat.\n", "1001.jpg: the caption 0 is listed twice"),
        ("train.token", "1001.jpg#0\t \n", "line 1: the caption of 1001.jpg is empty"),
        ("train.token", "..#0\tA dog.\n", "line 1: expected the file of an image, got '..'"),
        ("train.token", b"1001.jpg#0\tA d\xffg.\n", "expected text in UTF-8, after line 0"),
        ("train.token", "", "train.token: line 1: expected"),
        ("train.csv", "image,size\n1001.jpg,3\n", "line 1: expected 1.jpg#0<TAB>caption, or a header"),
        ("train.csv", "image_name| comment_number| comment\n1001.jpg| A dog\n", "line 2: expected it to be as"),
        ("train.csv", "image,caption\n1001.jpg\n", "line 2: expected it to be as"),
        ("train.json", '[{"image": "1001.jpg", "caption": []}]', "record 1: 1001.jpg has no caption"),
        ("train.json", '[{"image": "1001.jpg", "caption": 3}]', "record 1: expected caption to be a string or a list"),
        ("train.json", '[{"image": "1001.jpg", "caption": ["A dog.", null]}]', "or a list of them, got null"),
        ("train.json", '[{"image": "1001.jpg"}]', "record 1: there is no 'caption'"),
        ("train.json", "[]", "with at least one record, found none"),
        ("captions.json", '[{"image": "1001.jpg", "caption": "A dog."}]', "captions.json: its name does not say which"),
        ("train_val.json", '[{"image": "1001.jpg", "caption": "A dog."}]', "its name does not say which of train, val"),
        ("restval.json", '[{"image": "1001.jpg", "caption": "A dog."}]', "its name does not say which of train, val"),
    ],
)  # fmt: skip
def test_lists_that_cannot_be_read_are_one_line(raw, tmp_path, name, content, message):
    (raw / name).write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(InputError, match=message) as caught:
        prepare(raw, tmp_path / "out", captions=[name])
    assert "\n" not in str(caught.value) and not (tmp_path / "out").exists()


def test_lists_that_contradict_each_other_are_refused(raw, tmp_path):
    write_lists(raw)
    (raw / "more_test.json").write_text((raw / "flickr30k_train.json").read_text())
    with pytest.raises(InputError, match=r"1000.jpg is both in the list of train and in that of test"):
        prepare(raw, tmp_path / "out", captions=["flickr30k_train.json", "more_test.json"])
    write_token(raw, [image_record("flickr30k", 50, "train")])
    with pytest.raises(InputError, match="none of the 1 images of results_20130124.token is in dataset_flickr30k.json"):
        prepare(raw, tmp_path / "a", captions=["results_20130124.token"], karpathy=raw / "dataset_flickr30k.json")
    write_token(raw, [image_record("flickr30k", 0, "train")])
    with pytest.raises(InputError, match="has 3 captions, which the list's caption 3 is none of"):
        prepare(raw, tmp_path / "b", captions=["results_20130124.token"], karpathy=raw / "dataset_flickr30k.json")
    write_split_lists(raw, "")
    (raw / "my_val.txt").write_text("1000.jpg\n")
    lists = ["flickr30k_train.txt", "my_val.txt"]
    with pytest.raises(InputError, match="my_val.txt: line 1: 1000.jpg is both in train and in val"):
        prepare(raw, tmp_path / "c", captions=["results_20130124.token"], splits=lists)
