"""The frame around every preparation: what its manifest says, and how fast it says it was."""

import logging
import os
import re
from pathlib import Path

import pyarrow as pa
import pytest
from PIL import Image

from vl_absvit.data.records import read_manifest
from vl_absvit.data.whole_folder import make_request
from vl_absvit.errors import InputError
from vl_absvit.prepare.journal import Journal
from vl_absvit.prepare.prepare import Content, ImageFolder, Records, Source, prepare


@pytest.fixture
def raw(tmp_path):
    (tmp_path / "raw").mkdir()
    for name in ("1.jpg", "2.jpg"):
        Image.new("RGB", (12, 8)).save(tmp_path / "raw" / name)
    (tmp_path / "raw/3.jpg").write_bytes(b"")
    return tmp_path / "raw"


class Finder:
    has_pictures = True

    def find(self, file):
        return file

    def looked_for(self, file):
        return f"looked for {file}"


class Few(Source):
    """Three questions about three images, the third of which is bad, one about a missing one, and counts of others."""

    row_type = "questions"

    def __init__(self, raw, more_warnings=("beware",), files=("1.jpg", "2.jpg", "3.jpg", "4.jpg"), **options):
        self.raw, self.options = raw, options
        self.files, self.more_warnings = dict(enumerate(files, start=1)), list(more_warnings)

    def request(self):
        return make_request("some", self.raw, self.options, [])

    def read(self):
        table = pa.table({"question_id": [1, 2, 3, 4], "image_id": list(self.files)})
        return Records({"val": table}, self.files, [])

    def write(self, folder, records, images):
        (folder / "table").touch()
        return Content({"val": {"questions": 1_007, "images": 3}}, self.more_warnings, {"vocabulary": None})


class Stopped(Few):
    """Interrupted when all is checked."""

    def write(self, folder, records, images):
        raise KeyboardInterrupt


def begin(raw, output, source=None, **options):
    folder = ImageFolder(raw, lambda root, files: Finder(), allow_missing=True)
    return prepare(source or Few(raw, **options), folder, output, workers=1)


def test_the_manifest_says_what_was_asked_for_and_what_came_of_it(raw, tmp_path):
    manifest = begin(raw, tmp_path / "out", seed=3)
    assert manifest == read_manifest(tmp_path / "out")
    assert list(manifest) == [
        "format", "kind", "root", "options", "sources", "root_from_here",
        "splits", "vocabulary", "missing_images", "skipped_images", "skipped_questions", "versions", "warnings",
    ]  # fmt: skip
    assert manifest["options"] == {"seed": 3} and manifest["missing_images"] == 1
    assert manifest["skipped_images"] == [{"image_id": 3, "file": "3.jpg", "reason": "empty file"}]
    assert manifest["skipped_questions"] == {"val": {"empty file": 1}}
    assert [warning.split(",")[0] for warning in manifest["warnings"]] == [
        "1 images are missing", "1 images cannot be used", "beware",
    ]  # fmt: skip
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["images.parquet", "manifest.json", "table"]


def test_it_says_how_fast_it_was_of_what_this_run_did(raw, tmp_path, caplog):
    caplog.set_level(logging.INFO)
    with pytest.raises(KeyboardInterrupt):
        begin(raw, tmp_path / "out", Stopped(raw))
    assert not caplog.messages
    begin(raw, tmp_path / "out")
    begin(raw, tmp_path / "out")  # finished already: nothing to say
    went_on, pace = caplog.messages
    assert went_on.startswith("going on with the interrupted preparation in ")
    number = r"[\d,]+"  # two of the three images were found good before
    pattern = rf"took [\d.]+ s: 1 images checked \({number}/s\), 1,007 questions prepared \({number}/s\)"
    assert re.fullmatch(pattern, pace)
    assert "took" not in (tmp_path / "out/manifest.json").read_text()


def test_images_that_need_no_check_have_no_pace(raw, tmp_path, caplog):
    caplog.set_level(logging.INFO)
    for file in raw.iterdir():
        file.unlink()

    class NoPictures(Finder):
        has_pictures = False

    prepare(Few(raw), ImageFolder(raw, lambda root, files: NoPictures(), allow_missing=True), tmp_path / "out", 1)
    assert ": 0 images checked, 1,007 questions prepared (" in caplog.messages[-1]


def test_what_fails_leaves_no_output_and_is_begun_again_with_another_request(raw, tmp_path):
    class Failing(Few):
        def write(self, folder, records, images):
            (folder / "half").touch()
            raise InputError("no good")

    with pytest.raises(InputError, match="no good"):
        begin(raw, tmp_path / "out", Failing(raw))
    assert not (tmp_path / "out").exists() and (tmp_path / "out.partial/half").exists()
    begin(raw, tmp_path / "out", seed=1)
    assert not (tmp_path / "out/half").exists() and not (tmp_path / "out.partial").exists()


def test_a_warning_may_name_what_is_not_in_utf8_and_the_manifest_is_read_again(raw, tmp_path):
    stray = os.fsdecode(b"caf\xe9.png")
    manifest = begin(raw, tmp_path / "out", Few(raw, more_warnings=[f"passed over: {stray}"]))
    assert manifest == read_manifest(tmp_path / "out")
    assert manifest["warnings"][-1] == r"passed over: caf\udce9.png"


def test_a_folder_whose_name_is_not_in_utf8_is_asked_to_be_renamed(raw, tmp_path):
    folder = os.fsdecode(b"caf\xe9")
    with pytest.raises(InputError, match="caf.: the name is not in UTF-8; rename it"):
        begin(raw.rename(tmp_path / folder), tmp_path / "out")
    assert not (tmp_path / "out.partial").exists()
    (tmp_path / "other").mkdir()
    below = Few(tmp_path / "other", files=[f"{folder}/{number}.jpg" for number in range(4)])
    with pytest.raises(InputError, match="other/caf./0.jpg: the name is not in UTF-8; rename it"):
        begin(tmp_path / "other", tmp_path / "out", below)


@pytest.mark.parametrize("is_there", [True, False])
def test_the_output_may_be_a_link_to_a_folder_elsewhere(raw, tmp_path, is_there):
    (tmp_path / "disk").mkdir()
    if is_there:
        (tmp_path / "disk/out").mkdir()
    (tmp_path / "out").symlink_to(tmp_path / "disk/out")
    manifest = begin(raw, tmp_path / "out")
    assert manifest == read_manifest(tmp_path / "disk/out") and (tmp_path / "out").is_symlink()
    assert [path.name for path in (tmp_path / "disk").iterdir()] == ["out"]
    assert (tmp_path / "disk/out" / manifest["root_from_here"]).resolve() == raw.resolve()


def test_the_output_may_be_the_current_folder(raw, tmp_path, monkeypatch):
    (tmp_path / "out").mkdir()
    monkeypatch.chdir(tmp_path / "out")
    assert begin(raw, Path()) == read_manifest(tmp_path / "out")


def test_an_image_that_moved_since_is_checked_again(raw, tmp_path, caplog):
    caplog.set_level(logging.INFO)
    with pytest.raises(KeyboardInterrupt):
        begin(raw, tmp_path / "out", Stopped(raw))
    (raw / "moved").mkdir()
    (raw / "2.jpg").rename(raw / "moved/2.jpg")
    begin(raw, tmp_path / "out", Few(raw, files=("1.jpg", "moved/2.jpg", "3.jpg", "4.jpg")))
    assert "2 images checked" in caplog.messages[-1]  # the one that was bad, too


def test_what_an_earlier_version_left_in_an_interrupted_folder_is_removed(raw, tmp_path):
    with pytest.raises(KeyboardInterrupt):
        begin(raw, tmp_path / "out", Stopped(raw))
    for name in ("scratch.sqlite", "scratch.sqlite-wal"):
        (tmp_path / "out.partial" / name).touch()
    begin(raw, tmp_path / "out")
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["images.parquet", "manifest.json", "table"]


def test_a_journal_outlives_an_entry_that_was_cut_short(tmp_path):
    with Journal(tmp_path / "journal") as journal:
        journal.write("image", [(1, "a.jpg"), (2, "b\n.jpg")])
        journal.write("map", [(7, None)])
    content = (tmp_path / "journal").read_bytes()
    (tmp_path / "journal").write_bytes(content + b'\n["image", 3, "c.j')
    with Journal(tmp_path / "journal") as journal:
        journal.write("image", [(4, "d.jpg")])
        assert list(journal.read("image")) == [[1, "a.jpg"], [2, "b\n.jpg"], [4, "d.jpg"]]
        assert list(journal.read("map")) == [[7, None]]
