"""``data_prep/prepare_segmentation.py``: what it prints, and exit codes with one line for whatever is wrong."""

from tests.prepare.raw_segmentation import write_small_segmentation
from tests.run_script import run_script


def test_it_says_what_was_prepared_and_what_is_wrong(tmp_path, capfd):
    raw = write_small_segmentation(tmp_path / "raw", {"train": 3, "val": 1})
    options = ("--dataset", "folder", "--root", raw, "--workers", "1")
    assert run_script("data_prep/prepare_segmentation.py", *options, "--output", tmp_path / "out") == 0
    assert capfd.readouterr().out.splitlines() == [
        "train    3 pictures of 3 classes, 6.25 % of the pixels void",
        "val      1 pictures of 3 classes, 6.25 % of the pixels void",
    ]
    (raw / "labels/val/val_0.png").write_bytes(b"")
    assert run_script("data_prep/prepare_segmentation.py", *options, "--output", tmp_path / "other") == 1
    assert capfd.readouterr().err.strip().splitlines()[-1] == f"error: {raw}/labels/val/val_0.png: empty file"
    assert run_script("data_prep/prepare_segmentation.py", "--root", raw, "--output", tmp_path / "third") == 2
