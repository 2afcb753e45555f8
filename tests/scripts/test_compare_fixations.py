"""``prepare-fixations`` and ``compare-fixations``: an export beside fixations, its page, and one line for faults."""

import json
import re

import numpy as np
import pytest
from PIL import Image

from tests.exported import add_picture, blob, content_of, draw_picture
from tests.run_script import run_script
from vl_absvit.evaluation.fixation_comparison import METRICS, Fixations, score_picture

SIZE = (96, 64)
BOX = [16.0, 0.0, 80.0, 64.0]
NAMES = ["one.png", "two.png", "three.png"]


@pytest.fixture
def fixations(tmp_path):
    """Three pictures, and a table of two people's fixations on each."""
    rng = np.random.default_rng(0)
    lines = ["image,observer,x,y,t"]
    for name in NAMES:
        draw_picture(tmp_path / "pictures" / name, SIZE)
        for person in "pq":
            for time in range(4):
                x, y = rng.random(2) * SIZE
                lines.append(f"{name},{person},{x:.3f},{y:.3f},{time}")
    (tmp_path / "f.csv").write_text("\n".join(lines))
    words = ["--fixations", tmp_path / "f.csv", "--images", tmp_path / "pictures", "--output", tmp_path / "prepared"]
    assert run_script("data_prep/prepare_fixations.py", *words, "--workers", "1") == 0
    return tmp_path / "prepared"


@pytest.fixture
def export(tmp_path):
    """An export of the pictures, of which the model saw the middle."""
    for row, name in enumerate(NAMES):
        maps = {"prior_mask": blob(4, 4, row, 1), "bottom_up": blob(4, 4, 1, row)}
        add_picture(tmp_path / "maps", str(row), maps, image=f"../pictures/{name}", picture=name, box=BOX)
    return tmp_path / "maps"


def compare(export, fixations, output, *more) -> int:
    words = ["--maps", export, "--fixations", fixations, "--output", output, *more]
    return run_script("scripts/compare_fixations.py", *map(str, words))


def places_of(tmp_path, name, first=0):
    rows = [line.split(",") for line in (tmp_path / "f.csv").read_text().splitlines()[1:]]
    rows = [row for row in rows if row[0] == name and int(row[4]) >= first]
    places = np.array([[float(row[2]), float(row[3])] for row in rows])
    return Fixations(places, np.array([ord(row[1]) for row in rows]), SIZE)


@pytest.mark.parametrize("first", ["keep", "drop"])
def test_scores_are_those_of_the_table_and_the_archives(export, fixations, tmp_path, capsys, first):
    binary = first == "drop"
    assert compare(export, fixations, tmp_path / "s.json", "--first", first, *["--binary"] * binary) == 0
    scores = json.loads((tmp_path / "s.json").read_text())
    start = int(first == "drop")
    expected = []
    for row, name in enumerate(NAMES):
        others = np.concatenate([places_of(tmp_path, other, start).places for other in NAMES if other != name])
        maps = {"prior_mask": blob(4, 4, row, 1), "bottom_up": blob(4, 4, 1, row)}
        own = places_of(tmp_path, name, start)
        expected.append(score_picture(own, maps, tuple(BOX), others=others, other_map=None, once_per_pixel=binary))
    for kind in ("prior_mask", "bottom_up", "centre", "inter_observer"):
        for metric in METRICS:
            found = scores["rows"][kind][metric]
            assert found["number"] == 3
            assert found["mean"] == pytest.approx(np.mean([picture.rows[kind][metric] for picture in expected]))
    assert scores["map"] == "prior_mask" and scores["first_fixation"] == first
    assert scores["rows"]["other_picture"]["nss"]["number"] == 3
    assert scores["counts"]["fixations"] == sum(picture.fixations for picture in expected)
    beyond = (24 if first == "keep" else 18) - scores["counts"]["fixations"]
    assert scores["counts"]["fixations_beyond_what_was_seen"] == beyond > 0
    assert ("each once" in scores["definitions"]["nss"]) == scores["binary"] == binary
    assert set(scores["definitions"]) >= {*METRICS, "centre", "other_picture", "inter_observer"}
    assert "first ones " + ("kept" if first == "keep" else "dropped") in " ".join(capsys.readouterr().out.split())


def test_the_page_shows_where_people_looked_and_nss(export, fixations, tmp_path):
    words = ["--maps", export, "--fixations", fixations, "--output", tmp_path / "r.html", "--show", "bottom_up"]
    assert run_script("scripts/attention_report.py", *map(str, words)) == 0
    content = content_of(tmp_path / "r.html")
    others = np.empty((0, 2))
    for card, (row, name) in zip(content["cards"], enumerate(NAMES), strict=True):
        scores = score_picture(
            places_of(tmp_path, name), {"map": blob(4, 4, 1, row)}, tuple(BOX), others=others, other_map=None
        )
        assert card["agreement"] == pytest.approx(scores.rows["map"]["nss"]) and card["human"]["high"] > 0
    assert "3 pictures have fixations" in content["note"] and "NSS of" in content["note"]


def other_size(export):
    Image.new("RGB", (20, 20)).save(export.parent / "pictures/one.png")
    lines = (export / "index.jsonl").read_text().splitlines()
    entry = json.loads(lines[0]) | {"image_size": [20, 20], "box": [0, 0, 20, 20]}
    (export / "index.jsonl").write_text("\n".join([json.dumps(entry), *lines[1:]]))


def without_one(export):
    lines = (export / "index.jsonl").read_text().splitlines()
    (export / "index.jsonl").write_text("\n".join(lines[1:]))


def twice(export):
    add_picture(export, "again", image="../pictures/one.png", picture="one.png", box=BOX)


def constant_nan(export):
    np.savez(export / "0.npz", prior_mask=np.full((2, 2), np.nan), box=np.array(BOX), image_size=np.array(SIZE))


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (other_size, "0 is about a picture of 20 x 20 pixels, one.png in .* has 96 x 64"),
        (without_one, "1 of the 3 pictures with fixations were not exported, e.g. one.png"),
        (twice, "one.png was exported more than once, see again"),
        (constant_nan, "0.npz: prior_mask is not made of finite numbers"),
    ],
)
def test_an_export_that_does_not_fit_is_one_line(export, fixations, tmp_path, complaint, damage, message):
    damage(export)
    words = ["--maps", export, "--fixations", fixations, "--output", tmp_path / "s.json"]
    line = complaint(1, "scripts/compare_fixations.py", *words)
    assert re.search(message, line), line
    assert not (tmp_path / "s.json").exists()


def test_other_prepared_data_and_a_dropped_first_of_no_order_are_one_line(export, fixations, tmp_path, complaint):
    words = ["--maps", export, "--fixations", export, "--output", tmp_path / "s.json"]
    assert "no prepared data here" in complaint(1, "scripts/compare_fixations.py", *words)
    (tmp_path / "points").mkdir()
    for name in NAMES:
        Image.new("L", SIZE, 255).save(tmp_path / "points" / name.replace(".png", "_fixPts.png"))
    words = ["--fixations", tmp_path / "points", "--images", tmp_path / "pictures", "--output", tmp_path / "p2"]
    assert run_script("data_prep/prepare_fixations.py", *map(str, words), "--workers", "1") == 0
    words = ["--maps", export, "--fixations", tmp_path / "p2", "--output", tmp_path / "s.json", "--first", "drop"]
    assert "nobody knows which fixation was the first; keep it with --first keep" in complaint(
        1, "scripts/compare_fixations.py", *words
    )
