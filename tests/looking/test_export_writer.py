"""The folder of an export: whole files, an index in order, and what an interruption leaves."""

import os

import numpy as np
import pytest
from PIL import Image

from tests.damage import cut_short, emptied, removed
from tests.exported import ENTRY, blob, draw_picture
from vl_absvit.errors import InputError
from vl_absvit.looking import export_writer
from vl_absvit.looking.export_reader import read_exported, read_index
from vl_absvit.looking.export_writer import ExportFolder
from vl_absvit.looking.geometry import seen_box

DESCRIPTION = {"checkpoint": {"weights": "abc"}, "questions": {"split": "val"}, "maps": ("cross",), "block": -3}
MAPS = {"cross": blob(4, 4, 2, 0), "difference": blob(4, 4, 1, 3) - 0.5}


@pytest.fixture
def output(tmp_path):
    draw_picture(tmp_path / "1.png")
    return tmp_path / "out"


def entry_of(output, id, **fields):
    box = list(seen_box(*ENTRY["image_size"], 32))
    names = {"id": id, "npz": f"{id}.npz", "png": f"{id}.png", "image": str(output.parent / "1.png"), "box": box}
    return ENTRY | names | fields


def add(output, *ids, process=0):
    folder = ExportFolder(output, process)
    for id in ids:
        entry = entry_of(output, id)
        folder.write(entry, MAPS, Image.new("RGB", (20, 10), "red"))
        folder.note([entry])
    return folder


def files(output):
    return sorted(file.name for file in output.iterdir())


def test_a_complete_export_is_what_readers_expect_in_the_order_asked_for(output):
    assert ExportFolder(output).start(DESCRIPTION) == set()
    add(output, "b", process=1)
    add(output, "c", "a")
    ExportFolder(output).complete(["a", "b", "c"])
    assert [entry["id"] for entry in read_index(output)] == ["a", "b", "c"]
    question = read_exported(output, read_index(output)[0])
    assert list(question.maps) == ["cross", "difference"]
    assert all(np.array_equal(question.maps[name], grid) for name, grid in MAPS.items())
    names = [f"{id}.{suffix}" for id in "abc" for suffix in ("npz", "png")]
    assert files(output) == sorted([*names, "export.json", "index.jsonl"])
    with np.load(output / "a.npz") as archive:
        assert archive["cross"].dtype == np.float32
        assert archive["box"].tolist() == entry_of(output, "a")["box"]
        assert archive["image_size"].tolist() == ENTRY["image_size"] and archive["image_size"].dtype.kind == "i"


def test_there_is_no_index_before_all_questions_are_there(output):
    ExportFolder(output).start(DESCRIPTION)
    folder = add(output, "a")
    with pytest.raises(AssertionError, match="1 of 2 questions were not exported, e.g. b"):
        folder.complete(["a", "b"])
    assert not (output / "index.jsonl").exists()


def test_an_interrupted_export_knows_what_is_there_whoever_wrote_it(output):
    ExportFolder(output).start(DESCRIPTION)
    add(output, "a", process=3)
    add(output, "b", process=0)
    assert ExportFolder(output).start(DESCRIPTION) == {"a", "b"}
    assert ExportFolder(output).start(DESCRIPTION) == {"a", "b"}  # interrupted again at once
    add(output, "c", process=0)
    ExportFolder(output).complete(["a", "b", "c"])
    assert len(read_index(output)) == 3
    assert ExportFolder(output).start(DESCRIPTION) == {"a", "b", "c"}


@pytest.mark.parametrize(
    "damage", [removed("b.npz"), cut_short("b.npz"), emptied("b.npz"), removed("b.png"), emptied("b.png")]
)
@pytest.mark.parametrize("is_complete", [False, True])
def test_a_question_whose_files_are_gone_or_cut_short_counts_as_not_exported(output, damage, is_complete):
    ExportFolder(output).start(DESCRIPTION)
    folder = add(output, "a", "b")
    if is_complete:
        folder.complete(["a", "b"])
    damage(output)
    assert ExportFolder(output).start(DESCRIPTION) == {"a"}
    add(output, "b").complete(["a", "b"])
    assert len(read_index(output)) == 2 and read_exported(output, read_index(output)[1]).maps


@pytest.mark.parametrize("torn", ['{"id": "b", "npz"', '{"id": "b"}', "[1]", '"b"', "\xff"])
def test_a_note_that_was_cut_short_counts_for_nothing(output, torn):
    ExportFolder(output).start(DESCRIPTION)
    add(output, "a")
    with (output / "index.partial/process-00000.jsonl").open("a", encoding="latin-1") as notes:
        notes.write(torn)
    assert ExportFolder(output).start(DESCRIPTION) == {"a"}
    add(output, "b").complete(["a", "b"])
    assert len(read_index(output)) == 2


def test_half_written_files_of_a_killed_process_are_cleared_away(output):
    ExportFolder(output).start(DESCRIPTION)
    add(output, "a").keep_picture("1.jpg", b"content")
    for name in (".b.npz.123.tmp", "images/.2.jpg.123.tmp"):
        (output / name).write_bytes(b"half")
    assert ExportFolder(output).start(DESCRIPTION) == {"a"}
    assert not list(output.rglob("*.tmp")) and (output / "images/1.jpg").is_file()


@pytest.mark.parametrize(
    ("change", "named"),
    [({"block": -1}, "block"), ({"maps": ["prior_mask"], "questions": {}}, "questions, maps"), ({"more": 1}, "more")],
)
@pytest.mark.parametrize("is_complete", [False, True])
def test_another_export_is_left_alone(output, change, named, is_complete):
    ExportFolder(output).start(DESCRIPTION)
    folder = add(output, "a")
    if is_complete:
        folder.complete(["a"])
    before = files(output)
    with pytest.raises(InputError, match=f"out: holds another export, which differs in {named}; choose another"):
        ExportFolder(output).start(DESCRIPTION | change)
    assert files(output) == before


def test_a_folder_of_something_else_and_a_file_are_left_alone(output):
    output.mkdir()
    (output / "thesis.tex").write_text("")
    with pytest.raises(InputError, match="out: exists and is not an attention export"):
        ExportFolder(output).start(DESCRIPTION)
    assert files(output) == ["thesis.tex"]
    with pytest.raises(InputError, match="thesis.tex: is a file, expected a folder"):
        ExportFolder(output / "thesis.tex").start(DESCRIPTION)


def test_an_empty_folder_is_used(output):
    output.mkdir()
    (output / ".DS_Store").write_text("")
    assert ExportFolder(output).start(DESCRIPTION) == set()


def test_a_map_that_is_not_finite_is_refused_by_name(output):
    folder = ExportFolder(output)
    folder.start(DESCRIPTION)
    with pytest.raises(InputError, match="question a: the map cross is not made of finite numbers"):
        folder.write(entry_of(output, "a"), MAPS | {"cross": np.array([[1, np.nan]])}, None)
    assert not (output / "a.npz").exists()


def test_a_disk_that_is_full_is_one_line_and_leaves_no_half_file(output, monkeypatch):
    folder = ExportFolder(output)
    folder.start(DESCRIPTION)

    def write_a_little(stream, **arrays):
        stream.write(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(export_writer.np, "savez_compressed", write_a_little)
    with pytest.raises(InputError, match="a.npz: cannot be written: No space left on device"):
        folder.write(entry_of(output, "a"), MAPS, None)
    assert files(output) == ["export.json", "index.partial"]


def test_a_picture_without_a_file_of_its_own_is_kept_once(output):
    folder = ExportFolder(output)
    folder.start(DESCRIPTION)
    assert folder.keep_picture("1.jpg", b"content") == folder.keep_picture("1.jpg", b"content") == "images/1.jpg"
    assert (output / "images/1.jpg").read_bytes() == b"content" and files(output / "images") == ["1.jpg"]


def test_an_export_of_a_time_before_other_precisions_goes_on_in_fp32_alone(output):
    ExportFolder(output).start(DESCRIPTION)
    add(output, "a")
    assert ExportFolder(output).start(DESCRIPTION | {"precision": "fp32"}) == {"a"}
    with pytest.raises(InputError, match="holds another export, which differs in precision"):
        ExportFolder(output).start(DESCRIPTION | {"precision": "bf16"})


def test_a_picture_whose_name_no_index_could_tell_is_asked_to_be_renamed(output):
    with pytest.raises(InputError, match="caf..jpg: the name is not in UTF-8; rename it"):
        ExportFolder(output).place_of(output.parent / os.fsdecode(b"caf\xe9.jpg"))
