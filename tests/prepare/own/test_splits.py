"""Splits have names that files can have, or are drawn by picture: whatever the order, the same."""

import pytest

from vl_absvit.errors import ConfigError, InputError
from vl_absvit.prepare.own.refusals import Fault
from vl_absvit.prepare.own.splits import SplitTable, check_shares, draw, split_name, split_table

USUAL = {"val": None, "test": None}


def test_names_of_splits_are_those_of_training():
    assert [split_name(name) for name in ("Train", " validation ", "dev", "testing", "fold_1")] == [
        "train", "val", "val", "test", "fold_1",
    ]  # fmt: skip
    for name in ("", "images", "images-2", "a/b", "../x", "a,b", "é", "x" * 41):
        with pytest.raises(Fault, match="a split that is no short name"):
            split_name(name)


def test_a_table_may_be_given_with_its_split(tmp_path):
    (tmp_path / "a=b.csv").touch()
    assert split_table("dev=b.csv") == SplitTable("val", split_table("b.csv").path)
    assert split_table(str(tmp_path / "a=b.csv")).split is None
    with pytest.raises(ConfigError, match="--table: expected FILE or SPLIT=FILE, such as val=b.csv, got 'a/b=c.csv'"):
        split_table("a/b=c.csv")


def test_a_draw_divides_pictures_and_depends_on_seed_and_names_alone():
    files = [f"{number}.jpg" for number in range(50)]
    drawn = draw([*files, *files], {"val": 0.2, "test": 0.1}, seed=0)
    assert [list(drawn.values()).count(split) for split in ("train", "val", "test")] == [35, 10, 5]
    assert (
        draw(reversed(files), {"val": 0.2, "test": 0.1}, seed=0)
        == drawn
        != draw(files, {"val": 0.2, "test": 0.1}, seed=1)
    )
    assert sorted(draw(files[:3], USUAL, seed=0).values()) == ["train", "train", "val"]
    assert set(draw(files, {"val": 0.0, "test": None}, seed=0).values()) == {"train"}


def test_shares_leave_something_to_train_on():
    with pytest.raises(InputError, match="1 pictures cannot be divided: .* take 1 and leave none"):
        draw(["a.jpg"], USUAL, seed=0)
    with pytest.raises(ConfigError, match=r"--val-share: expected a share of the pictures in \[0, 1\), got 10"):
        check_shares({"val": 10, "test": None})
    with pytest.raises(ConfigError, match="leave no picture to train on: together they are 1"):
        check_shares({"val": 0.5, "test": 0.5})
