"""``compare-masks``: an export of any kind beside masks, the best threshold on train, and one line for faults."""

import json
import re

import numpy as np
import pytest
from PIL import Image

from tests.exported import add_picture, add_question, blob
from tests.run_script import run_script
from vl_absvit.evaluation.map_segmentation import THRESHOLDS, best_threshold, count_picture

SCRIPT = "scripts/compare_masks.py"
SIZE = (96, 64)
BOX = [16.0, 0.0, 80.0, 64.0]
LEFT = np.zeros(SIZE[::-1], dtype=np.uint8)
LEFT[16:48, 20:60] = 7
LEFT[0] = 255


def write_mask(file, numbers, mode="P"):
    file.parent.mkdir(parents=True, exist_ok=True)
    picture = Image.fromarray(numbers)
    if mode == "P":
        picture.putpalette([value for colour in range(256) for value in (colour, 255 - colour, 9)])
    picture.save(file)


@pytest.fixture
def folder(tmp_path):
    """Two pictures with masks, one without, and a training export of one."""
    for row, name in enumerate(("one", "two", "three")):
        maps = {"prior_mask": blob(4, 4, row, 1), "bottom_up": blob(4, 4, 1, row)}
        add_picture(tmp_path / "maps", name, maps, image=f"pictures/{name}.png", picture=f"{name}.png", box=BOX)
    write_mask(tmp_path / "masks/one.png", LEFT)
    write_mask(tmp_path / "masks/deep/two.png", LEFT.T[:64, :].repeat(2, axis=1)[:, :96], mode="L")
    write_mask(tmp_path / "masks/other.png", LEFT)
    maps = {"prior_mask": blob(4, 4, 2, 1), "bottom_up": blob(4, 4, 1, 2)}
    add_question(tmp_path / "train", "10", maps, image="pictures/one.png", box=BOX)
    return tmp_path


def compare(folder, *more, masks="masks") -> int:
    words = ["--maps", folder / "maps", "--masks", folder / masks, "--output", folder / "s.json", *more]
    return run_script(SCRIPT, *map(str, words))


def test_scores_are_those_of_masks_and_archives(folder, capsys):
    train = ["--train-maps", folder / "train", "--train-masks", folder / "masks"]
    assert compare(folder, *train, "--threshold", "0.4") == 0
    scores = json.loads((folder / "s.json").read_text())
    masks = [np.asarray(Image.open(folder / "masks" / name)) for name in ("one.png", "deep/two.png")]
    place = int(np.flatnonzero(THRESHOLDS == 0.4)[0])

    def counts_of(grid, mask):
        return count_picture(
            {"map": grid}, tuple(BOX), SIZE, mask != 0, mask != 255, other_map=None, thresholds=THRESHOLDS
        )

    expected = [counts_of(blob(4, 4, row, 1), mask) for row, mask in enumerate(masks)]
    row = scores["rows"]["prior_mask"]
    assert row["iou"]["mean"] == pytest.approx(100 * np.mean([picture["map"].iou[place] for picture in expected]))
    assert row["energy"]["mean"] == pytest.approx(100 * np.mean([picture["map"].energy for picture in expected]))
    best = best_threshold([counts_of(blob(4, 4, 2, 1), masks[0])], "map", THRESHOLDS)
    assert row["best_on_train"]["threshold"] == best
    assert list(scores["rows"]) == ["prior_mask", "bottom_up", "centre", "other_picture", "everything"]
    assert scores["counts"] == {
        "pictures": 2, "constant_maps": {}, "pictures_without_mask": 1, "masks_without_picture": 1,
        "pictures_of_void_alone": 0,
    }  # fmt: skip
    assert (folder / "s.png").read_bytes().startswith(b"\x89PNG")
    printed = capsys.readouterr().out
    assert "1 pictures without mask" in printed and "maps above 0.4 as foreground" in printed


def test_a_list_chooses_pictures_and_255_may_be_the_object(folder):
    (folder / "list.txt").write_text("two\n\n")
    assert compare(folder, "--list", folder / "list.txt", "--map", "bottom_up") == 0
    scores = json.loads((folder / "s.json").read_text())
    assert scores["counts"]["pictures"] == 1 and "prior_mask" not in scores["rows"]
    write_mask(folder / "white/one.png", np.where(LEFT == 7, 255, 0).astype(np.uint8), mode="L")
    assert compare(folder, "--void", "none", masks="white") == 0
    assert json.loads((folder / "s.json").read_text())["void"] is None
    Image.fromarray(LEFT == 7).save(folder / "white/one.png")  # one bit a pixel
    assert compare(folder, masks="white") == 0


def listed(*names):
    return lambda at: (at / "l.txt").write_text("".join(f"{name}\n" for name in names))


def cut(at):
    write_mask(at / "masks/one.png", LEFT[:, :50])


def coloured(at):
    Image.new("RGB", SIZE).save(at / "masks/one.png")


def white(at):
    for name in ("one.png", "deep/two.png"):
        write_mask(at / "masks" / name, np.where(LEFT, 255, 0).astype(np.uint8))


LIST = ["--list", "l.txt"]


@pytest.mark.parametrize(
    ("damage", "options", "message"),
    [
        (cut, [], "one.png: expected 96 x 64 pixels .* got 50 x 64"),
        (coloured, [], r"one.png: expected class numbers .*\(mode RGB\)"),
        (lambda at: (at / "masks/one.png").write_bytes(b"no"), [], "one.png: not a PNG image"),
        (lambda at: write_mask(at / "masks/x/two.png", LEFT), [], "deep/two.png and x/two.png may both be about"),
        (lambda at: write_mask(at / "masks/only/a.png", LEFT), ["--masks", "only"], "has no mask of the 3 exported"),
        (lambda at: (at / "masks/none").mkdir(), ["--masks", "none"], "expected masks .*, found none"),
        (listed("three"), LIST, "has no mask of .*three.png, which .* lists"),
        (listed("four"), LIST, "'four' was not exported"),
        (listed("one", "one"), LIST, "'one' is listed twice"),
        (listed(""), LIST, "expected names of pictures, one a line, got none"),
        (white, [], "has a foreground, all values are 0 but 255; say --void none"),
    ],
)
def test_what_cannot_be_compared_is_one_line(folder, complaint, damage, options, message):
    damage(folder)
    words = {"--maps": folder / "maps", "--masks": folder / "masks", "--output": folder / "s.json"}
    for name, value in zip(options[::2], options[1::2], strict=True):
        words[name] = folder / "masks" / value if name == "--masks" else folder / value
    line = complaint(1, SCRIPT, *(word for pair in words.items() for word in pair))
    assert re.search(message, line), line
    assert not (folder / "s.json").exists()


def test_options_that_cannot_be_meant_are_one_line(folder, complaint):
    words = ["--maps", folder / "maps", "--masks", folder / "masks", "--output", folder / "s.json"]
    assert "--threshold must be at least 0 and below 1" in complaint(2, SCRIPT, *words, "--threshold", "1")
    for value in ("300", "1.5", "grey"):
        line = complaint(2, SCRIPT, *words, "--void", value)
        assert f"expected none or a value from 1 to 255, got {value};" in line
    assert "--train-maps and --train-masks go together" in complaint(2, SCRIPT, *words, "--train-maps", "x")
