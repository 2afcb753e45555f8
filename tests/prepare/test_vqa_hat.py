"""``prepare_vqa_hat``: tables and counts, kinds of maps, ids of the wrong version, damage, interruption."""

import gzip
import io
import shutil

import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image

from tests.prepare.raw_vqa_hat import (
    HEIGHT,
    WIDTH,
    blob,
    image_path,
    prepare,
    question,
    questions_file,
    write_image,
    write_map,
    write_questions,
    write_small_hat,
)
from vl_absvit.data.records import ImageTable, read_manifest, read_questions
from vl_absvit.data.vqa_hat import decode_grey, read_hat_questions, read_human_maps
from vl_absvit.errors import InputError
from vl_absvit.prepare import vqa_hat as preparation


@pytest.fixture
def raw(tmp_path):
    return write_small_hat(tmp_path / "raw")


def fails(raw, tmp_path, message, **options):
    with pytest.raises(InputError, match=message) as caught:
        prepare(raw, tmp_path / "out", **options)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "out").exists()


# What comes out.


def test_the_questions_with_maps_come_out_by_id_and_the_others_do_not(raw, tmp_path):
    manifest = prepare(raw, tmp_path / "out")
    rows = pq.read_table(tmp_path / "out/val.parquet").to_pylist()
    assert [row["question_id"] for row in rows] == [10, 11, 20, 21, 30, 31]
    assert rows[1] == {"question_id": 11, "image_id": 1, "question": "What is thing 11?"}
    assert manifest["kind"] == "vqa_hat" and manifest["vocabulary"] is None
    assert manifest["splits"]["val"] == {
        "questions": 6, "images": 3, "without_image": 0, "human_maps": 18, "constant_maps": 0,
        "maps_on_bad_images": 0, "questions_without_map": 0, "annotated": False,
    }  # fmt: skip


def test_every_pixel_of_every_map_comes_out(raw, tmp_path):
    prepare(raw, tmp_path / "out")
    found = list(read_human_maps(tmp_path / "out"))
    assert [each.question_id for each in found] == [10, 11, 20, 21, 30, 31]
    for question_id, maps in found:
        assert len(maps) == 3
        for n, grey in enumerate(maps, start=1):
            np.testing.assert_array_equal(grey, blob(10 * question_id + n))


def test_other_readers_take_it_for_questions_without_answers(raw, tmp_path):
    prepare(raw, tmp_path / "out")
    questions = read_questions(tmp_path / "out", ["val"])
    assert questions["question_id"][:] == [10, 11, 20, 21, 30, 31] and "answers" not in questions.column_names
    images = ImageTable(tmp_path / "out")
    assert images.available.tolist() == [1, 2, 3] and images.open([2])[0].size == (WIDTH, HEIGHT)


def test_the_questions_know_the_size_of_their_image(raw, tmp_path):
    image_path(raw, 2).unlink()
    prepare(raw, tmp_path / "out", allow_missing_images=True)
    sizes = {each.question_id: each.image_size for each in read_hat_questions(tmp_path / "out")}
    assert sizes[10] == sizes[31] == (WIDTH, HEIGHT) and sizes[20] is None


def test_the_sources_are_known_by_their_content(raw, tmp_path):
    sources = prepare(raw, tmp_path / "out")["sources"]
    assert sources["maps"]["files"] == 18 and len(sources["maps"]["sha256"]) == 64
    assert sources[questions_file(raw).name]["bytes"] == questions_file(raw).stat().st_size
    write_map(raw, "10_1", blob(0))
    changed = prepare(raw, tmp_path / "other")["sources"]["maps"]
    assert changed["files"] == 18 and changed["sha256"] != sources["maps"]["sha256"]
    (raw / "maps/10_2.png").rename(raw / "maps/12_2.png")
    assert prepare(raw, tmp_path / "third")["sources"]["maps"]["sha256"] != changed["sha256"]


def test_train_has_one_map_a_question(raw, tmp_path):
    questions_file(raw).rename(questions_file(raw, "train2014"))
    (raw / "val2014").rename(raw / "train2014")
    for path in (raw / "train2014").iterdir():
        path.rename(path.with_name(path.name.replace("val", "train")))
    fails(raw, tmp_path, r"train has n = 1 in .*, got 10_2.png \(and 11 more\)", subset="train2014")
    for path in [*(raw / "maps").glob("*_2.png"), *(raw / "maps").glob("*_3.png")]:
        path.unlink()
    manifest = prepare(raw, tmp_path / "out", subset="train2014")
    assert manifest["splits"]["train"]["human_maps"] == 6
    assert "train: 6 human maps are there, the published set has 58,475" in manifest["warnings"]


def test_images_may_lie_in_the_folder_itself_and_questions_may_be_gzipped(raw, tmp_path):
    expected = prepare(raw, tmp_path / "first")["splits"]
    packed = questions_file(raw).with_suffix(".json.gz")
    packed.write_bytes(gzip.compress(questions_file(raw).read_bytes()))
    manifest = prepare(raw, tmp_path / "out", questions=packed, images=raw / "val2014")
    assert manifest["splits"] == expected
    assert ImageTable(tmp_path / "out").open([1])[0].size == (WIDTH, HEIGHT)


# Kinds of maps.


def png(image, **options):
    stream = io.BytesIO()
    image.save(stream, format="PNG", **options)
    return stream.getvalue()


GREY = np.array([[0, 100], [200, 255]], dtype=np.uint8)
FULL = np.full((2, 2), 255, dtype=np.uint8)


def layers(*channels):
    return Image.fromarray(np.stack(channels, axis=-1))


def palette():
    image = Image.fromarray(np.array([[0, 1], [2, 3]], dtype=np.uint8), mode=None).convert("P")
    image.putpalette([value for value in GREY.ravel().tolist() for _ in range(3)])
    return image


@pytest.mark.parametrize(
    "image",
    [
        Image.fromarray(GREY),
        layers(GREY, GREY, GREY),
        layers(GREY, FULL),
        layers(GREY, GREY, GREY, FULL),
        layers(FULL, GREY),  # white, the attention is its opacity
        layers(0 * FULL, 0 * FULL, 0 * FULL, GREY),  # black, the attention is its opacity
        Image.fromarray(GREY.astype(np.uint16) * 257),
        palette(),
    ],
    ids=["grey", "rgb", "opaque", "rgba", "white", "black", "16 bit", "palette"],
)
def test_the_same_attention_is_read_from_every_kind_of_map(image):
    np.testing.assert_array_equal(decode_grey(png(image)), GREY)


def test_a_transparent_map_is_laid_over_black():
    half = np.array([[255, 255], [51, 0]], dtype=np.uint8)
    np.testing.assert_array_equal(decode_grey(png(layers(GREY, half))), [[0, 100], [40, 0]])
    np.testing.assert_array_equal(decode_grey(png(Image.fromarray(GREY), transparency=255)), [[0, 100], [200, 0]])


def test_a_black_and_white_map_is_read():
    np.testing.assert_array_equal(decode_grey(png(Image.fromarray(GREY > 150))), [[0, 0], [255, 255]])


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "empty file"),
        (b"GIF89a", "not a PNG image"),
        (png(Image.fromarray(GREY))[:45], "cannot be decoded"),
        (png(layers(GREY, FULL, GREY)), "is in colours, expected shades of grey"),
        (png(Image.new("1", (20_000, 5_000))), "20000 x 5000 pixels, the limit is"),
    ],
    ids=["empty", "gif", "truncated", "colours", "huge"],
)
def test_a_map_that_cannot_be_used_stops_the_preparation_and_is_named(raw, tmp_path, content, reason):
    (raw / "maps/11_2.png").write_bytes(content)
    fails(raw, tmp_path, f"maps/11_2.png: {reason}.*; get it again or take it away")
    (raw / "maps/30_1.png").write_bytes(content)
    fails(raw, tmp_path, rf"maps/11_2.png: {reason}.* \(and 1 more maps cannot be used\)")


def test_constant_maps_are_counted_and_left_out(raw, tmp_path):
    for name, shade in (("10_1", 0), ("10_3", 255), ("20_1", 7), ("20_2", 0), ("20_3", 0)):
        write_map(raw, name, np.full((HEIGHT, WIDTH), shade, dtype=np.uint8))
    manifest = prepare(raw, tmp_path / "out")
    counts = manifest["splits"]["val"]
    assert (counts["constant_maps"], counts["human_maps"], counts["questions_without_map"]) == (5, 13, 1)
    assert {q: len(maps) for q, maps in read_human_maps(tmp_path / "out")} == {10: 1, 11: 3, 21: 3, 30: 3, 31: 3}
    assert [each.question_id for each in read_hat_questions(tmp_path / "out")] == [10, 11, 21, 30, 31]
    assert any(warning.startswith("5 human maps are constant") for warning in manifest["warnings"])


def test_maps_that_are_all_constant_are_refused(tmp_path):
    (tmp_path / "raw").mkdir()
    write_questions(tmp_path / "raw", [question(10)])
    write_image(tmp_path / "raw", 1)
    write_map(tmp_path / "raw", "10_1", np.zeros((2, 3), dtype=np.uint8))
    fails(tmp_path / "raw", tmp_path, "no map is left, 1 are constant")


def test_maps_of_other_proportions_than_their_image_are_warned_about(raw, tmp_path):
    write_map(raw, "20_2", np.asarray(Image.fromarray(blob(1)).resize((WIDTH // 2 + 1, HEIGHT // 2))))  # rounded
    write_map(raw, "21_2", np.asarray(Image.fromarray(blob(1)).resize((HEIGHT, WIDTH))))  # turned
    warnings = prepare(raw, tmp_path / "out")["warnings"]
    assert [w for w in warnings if "proportions" in w] == [
        "1 human maps have other proportions than their image, the first is 21_2.png of 8 x 12 on an image of 12 x 8; "
        "they are taken to cover all of it"
    ]


# Ids and names.


def test_a_file_of_vqa_v2_is_refused_by_its_name_and_by_its_ids(raw, tmp_path):
    v2 = questions_file(raw).with_name("v2_OpenEnded_mscoco_val2014_questions.json")
    write_questions(raw, [{"question_id": 1000 * image + k, "image_id": image, "question": "?"}
                          for image in (1, 2) for k in range(3)])  # fmt: skip
    shutil.copy(questions_file(raw), v2)
    fails(raw, tmp_path, "is a file of VQA v2; VQA-HAT goes with VQA v1", questions=v2)
    fails(raw, tmp_path, "record 1 of 'questions': VQA-HAT goes with VQA v1.*these are ids of VQA v2")


@pytest.mark.parametrize(
    ("records", "message"),
    [
        ([{"question_id": 10, "image_id": 7, "question": "?"}], "got question 10 about image 7$"),
        ([question(10), question(10)], "the question 10 occurs twice"),
        ([question(10, " ")], "question 10 is empty"),
        ([{"question_id": "10", "image_id": 1, "question": "?"}], "expected question_id to be an integer"),
        ([], "with at least one record, found none"),
    ],
)
def test_wrong_questions_are_refused(raw, tmp_path, records, message):
    write_questions(raw, records)
    fails(raw, tmp_path, message)


def test_the_name_of_the_question_file_tells_the_subset(raw, tmp_path):
    other = raw / "questions.json"
    questions_file(raw).rename(other)
    fails(raw, tmp_path, "expected VQA v1's OpenEnded_mscoco_{train2014,val2014}_questions.json", questions=other)
    fails(raw, tmp_path, "val2014_questions.json: no such file")


@pytest.mark.parametrize(
    "name", ["10_0.png", "10.png", "010_1.png", "10_1.jpg", "-10_1.png", "10_1 (1).png", "a_1.png", "notes.txt"]
)
def test_a_file_that_is_no_map_is_refused(raw, tmp_path, name):
    (raw / "maps" / name).write_bytes(b"")
    (raw / "maps" / "zzz").write_bytes(b"")
    fails(raw, tmp_path, r"raw/maps: expected only files {question_id}_{n}.png, got .* \(and 1 more\)")


def test_what_nobody_means_as_a_map_is_passed_over_and_said(raw, tmp_path):
    whole = prepare(raw, tmp_path / "whole")
    for name in (".DS_Store", "._10_1.png", "Thumbs.db", "desktop.ini", "Icon\r"):
        (raw / "maps" / name).write_bytes(b"x")
    (raw / "maps" / "old" / "more").mkdir(parents=True)
    manifest = prepare(raw, tmp_path / "out")
    assert manifest["splits"] == whole["splits"] and manifest["sources"] == whole["sources"]
    said = "passed over beside the maps, for none can be one: 6 files or folders, .DS_Store (and 5 more)"
    assert [each for each in manifest["warnings"] if each not in whole["warnings"]] == [said]


def test_maps_one_folder_further_down_are_pointed_to(raw, tmp_path):
    (tmp_path / "above").mkdir()
    (raw / "maps").rename(tmp_path / "above" / "vqahat_val")
    (tmp_path / "above" / ".DS_Store").write_bytes(b"x")
    message = "above: expected maps .*, found none; there are some in .*above/vqahat_val$"
    fails(raw, tmp_path, message, maps=tmp_path / "above")


def test_a_folder_with_the_name_of_a_map_is_refused(raw, tmp_path):
    (raw / "maps" / "40_1.png").mkdir()
    fails(raw, tmp_path, "got 40_1.png$")


def test_a_map_of_a_fourth_person_is_refused(raw, tmp_path):
    write_map(raw, "10_4", blob(0))
    fails(raw, tmp_path, "val has n = 1 to 3 in .*, got 10_4.png$")


def test_maps_without_their_question_are_refused(raw, tmp_path):
    write_map(raw, "990_1", blob(0))
    write_map(raw, "77_2", blob(0))
    message = r"maps/77_2.png: its question does not occur in .*val2014_questions.json \(nor do 1 more maps\)"
    fails(raw, tmp_path, message)


@pytest.mark.parametrize("folder", ["maps", "images"])
def test_a_folder_that_is_not_there_is_named(raw, tmp_path, folder):
    fails(raw, tmp_path, "nowhere: no such folder; expected the", **{folder: tmp_path / "nowhere"})
    (tmp_path / "empty").mkdir()
    if folder == "maps":
        fails(raw, tmp_path, "empty: expected maps .* found none", maps=tmp_path / "empty")


# Images.


def test_questions_about_bad_images_are_counted_and_left_out(raw, tmp_path):
    image_path(raw, 2).write_bytes(b"")
    manifest = prepare(raw, tmp_path / "out")
    assert [each["image_id"] for each in manifest["skipped_images"]] == [2]
    assert manifest["skipped_questions"] == {"val": {"empty file": 2}}
    assert manifest["splits"]["val"]["questions"] == 4 and manifest["splits"]["val"]["maps_on_bad_images"] == 6
    assert [each.question_id for each in read_human_maps(tmp_path / "out")] == [10, 11, 30, 31]


# Again, and interrupted.


def test_an_interrupted_run_goes_on_with_the_maps_it_has_not_seen(raw, tmp_path, monkeypatch):
    checked = []

    def interrupted(file):
        checked.append(file.name)
        if len(checked) == 5:
            raise KeyboardInterrupt
        return decode(file)

    decode = preparation._shape_of
    monkeypatch.setattr(preparation, "_MAPS_PER_COMMIT", 2)
    monkeypatch.setattr(preparation, "_shape_of", interrupted)
    with pytest.raises(KeyboardInterrupt):
        prepare(raw, tmp_path / "out")
    assert not (tmp_path / "out").exists() and checked[-1] == "11_2.png"
    prepare(raw, tmp_path / "out")
    assert checked[5:7] == ["11_2.png", "11_3.png"] and len(checked) == 5 + 14
    monkeypatch.undo()
    assert read_manifest(tmp_path / "out") == prepare(raw, tmp_path / "whole")
    assert not (tmp_path / "out.partial").exists()
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [
        "human_maps.parquet", "images.parquet", "manifest.json", "val.parquet",
    ]  # fmt: skip


# The reader.


def test_a_damaged_table_is_named(raw, tmp_path):
    prepare(raw, tmp_path / "out")
    path = tmp_path / "out/human_maps.parquet"
    path.write_bytes(path.read_bytes()[:300])
    with pytest.raises(InputError, match="human_maps.parquet: cannot be read as the table"):
        list(read_human_maps(tmp_path / "out"))
    path.unlink()
    with pytest.raises(InputError, match="human_maps.parquet: no such file"):
        list(read_human_maps(tmp_path / "out"))


def test_a_folder_of_another_kind_is_refused(raw, tmp_path):
    prepare(raw, tmp_path / "out")
    path = tmp_path / "out/manifest.json"
    path.write_text(path.read_text().replace('"vqa_hat"', '"vqav2"'))
    with pytest.raises(InputError, match="vqav2"):
        read_hat_questions(tmp_path / "out")
