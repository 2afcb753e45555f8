"""``data_prep/prepare_captions.py``: what it prints, and exit codes with one line for whatever is wrong."""

import pytest

from tests.prepare.raw_captions import image_path, image_record, write_small_captions
from tests.run_script import run_script

SCRIPT = "data_prep/prepare_captions.py"


@pytest.fixture
def options(tmp_path):
    karpathy = write_small_captions(tmp_path / "raw", "coco")
    files = ("--root", tmp_path / "raw", "--karpathy", karpathy, "--output", tmp_path / "out")
    return ("--dataset", "coco", *files, "--workers", 1)


def test_it_says_what_was_prepared_and_the_second_time_that_nothing_was_to_do(options, tmp_path, capsys):
    assert run_script(SCRIPT, *options) == 0
    said = capsys.readouterr()
    assert said.out.splitlines() == [
        f"{split:9}10 captions of 2 images" for split in ("train", "restval", "val", "test")
    ]
    assert "warning: restval: has captions of 2 images, the official split of 30,504" in said.err
    assert run_script(SCRIPT, *options) == 0
    assert "is finished already; nothing to do" in capsys.readouterr().out
    assert run_script(SCRIPT, *options, "--exclude", tmp_path) == 1
    assert "was prepared from other options: excluded was absent" in capsys.readouterr().err


def test_a_missing_image_ends_with_code_1_and_one_line(options, tmp_path, capsys):
    image_path(tmp_path / "raw", image_record("coco", 3, "restval")).unlink()
    assert run_script(SCRIPT, *options) == 1
    assert capsys.readouterr().err.splitlines()[-1].startswith("error: 1 images are missing, the first is ")
    assert run_script(SCRIPT, *options, "--allow-missing-images") == 0
    assert "warning: 1 images are missing" in capsys.readouterr().err


def test_captions_and_splits_of_lists_come_from_the_command_line(options, tmp_path, capsys):
    (tmp_path / "raw" / "coco_val.json").write_text(
        '[{"image": "val2014/COCO_val2014_000000000020.jpg", "caption": ["a", "b"]}]'
    )
    asked = [*options[:4], "--captions", tmp_path / "raw/coco_val.json", "--output", tmp_path / "out"]
    assert run_script(SCRIPT, *asked, "--images", tmp_path / "raw" / "val2014") == 0
    assert capsys.readouterr().out.splitlines() == ["val      2 captions of 1 images"]
    assert run_script(SCRIPT, *options[:4], "--output", tmp_path / "out") == 2
    assert "got neither" in capsys.readouterr().err


def test_wrong_options_end_with_code_2(options, capsys):
    for wrong in ((), (*options, "--dataset", "flickr9k"), (*options, "--embed-image")):
        assert run_script(SCRIPT, *wrong) == 2
        assert len(capsys.readouterr().err.splitlines()) == 1
