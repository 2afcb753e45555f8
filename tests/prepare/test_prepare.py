"""The frame around every preparation: what its manifest says, and how fast it says it was."""

import logging
import os
import re
from pathlib import Path

import pytest
from PIL import Image

from vl_absvit.data.records import read_manifest
from vl_absvit.data.whole_folder import make_request
from vl_absvit.errors import InputError
from vl_absvit.prepare.check_images import check_images, find_images
from vl_absvit.prepare.prepare import Content, prepare


@pytest.fixture
def raw(tmp_path):
    (tmp_path / "raw").mkdir()
    for name in ("1.jpg", "2.jpg"):
        Image.new("RGB", (12, 8)).save(tmp_path / "raw" / name)
    (tmp_path / "raw/3.jpg").write_bytes(b"")
    return tmp_path / "raw"


def fill(work):
    """Three questions about three images, the third of which is bad, and five about a missing one."""
    work.images.forget_all_but_good()
    work.images.add((number, f"{number}.jpg") for number in range(1, 5))
    warnings = find_images(work.images, allow_missing=True)
    checked = check_images(work.images, 1, lambda: work.images.on_bad_images("SELECT 'val' AS split, 3 AS image_id"))
    (work.folder / "table").touch()
    counts = {"questions": 1_007, "images": 3}
    return Content({"val": counts}, checked, [*warnings, *checked.warnings, "beware"], more={"vocabulary": None})


def begin(raw, output, fill=fill, **options):
    return prepare(output, make_request("some", raw, options, []), fill, root=raw, noun="questions")


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
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["manifest.json", "table"]


def test_it_says_how_fast_it_was_of_what_this_run_did(raw, tmp_path, caplog):
    caplog.set_level(logging.INFO)

    def fill_and_stop(work):
        fill(work)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        begin(raw, tmp_path / "out", fill_and_stop)
    assert not caplog.messages
    begin(raw, tmp_path / "out")
    begin(raw, tmp_path / "out")  # finished already: nothing to say
    went_on, pace = caplog.messages
    assert went_on.startswith("going on with the interrupted preparation in ")
    number = r"[\d,]+"  # two of the three images were found good before
    pattern = rf"took [\d.]+ s: 1 images checked \({number}/s\), 1,007 questions prepared \({number}/s\)"
    assert re.fullmatch(pattern, pace)
    assert "took" not in (tmp_path / "out/manifest.json").read_text()


def test_images_that_need_no_check_have_no_pace(tmp_path, caplog):
    caplog.set_level(logging.INFO)
    (tmp_path / "nowhere").mkdir()
    begin(tmp_path / "nowhere", tmp_path / "out")
    assert ": 0 images checked, 1,007 questions prepared (" in caplog.messages[-1]


def test_what_fails_leaves_no_output_and_is_begun_again_with_another_request(raw, tmp_path):
    def fail(work):
        (work.folder / "half").touch()
        raise InputError("no good")

    with pytest.raises(InputError, match="no good"):
        begin(raw, tmp_path / "out", fail)
    assert not (tmp_path / "out").exists() and (tmp_path / "out.partial/half").exists()
    begin(raw, tmp_path / "out", seed=1)
    assert not (tmp_path / "out/half").exists() and not (tmp_path / "out.partial").exists()


def test_a_warning_may_name_what_is_not_in_utf8_and_the_manifest_is_read_again(raw, tmp_path):
    stray = os.fsdecode(b"caf\xe9.png")

    def fill_and_tell(work):
        return fill(work)._replace(warnings=[f"passed over: {stray}"])

    manifest = begin(raw, tmp_path / "out", fill_and_tell)
    assert manifest == read_manifest(tmp_path / "out")
    assert manifest["warnings"] == [r"passed over: caf\udce9.png"]


def test_a_folder_whose_name_is_not_in_utf8_is_asked_to_be_renamed(raw, tmp_path):
    folder = os.fsdecode(b"caf\xe9")
    with pytest.raises(InputError, match="caf.: the name is not in UTF-8; rename it"):
        begin(raw.rename(tmp_path / folder), tmp_path / "out")
    assert not (tmp_path / "out.partial").exists()

    def fill_from_below(work):
        work.images.add([(1, f"{folder}/1.jpg")])

    (tmp_path / "other").mkdir()
    with pytest.raises(InputError, match="other/caf./1.jpg: the name is not in UTF-8; rename it"):
        begin(tmp_path / "other", tmp_path / "out", fill_from_below)


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
