"""Columns are found by usual names, in any spelling of them, or as the command line says."""

import pytest

from vl_absvit.errors import ConfigError, InputError
from vl_absvit.prepare.own.columns import IMAGE, Columns

USUAL = {"image": IMAGE, "answer": ("answers", "answer")}


def test_the_first_usual_name_that_is_not_empty_counts():
    columns = Columns(USUAL, [])
    assert columns.cells({"Image ID": 7, "File-Name": "a.jpg", "answer": "x"}, "t") == {"image": "a.jpg", "answer": "x"}
    assert columns.cells({"image_id": 7, "file_name": "", "answers": [], "answer": "x"}, "t") == {
        "image": 7,
        "answer": "x",
    }
    assert columns.taken() == {"image": {"file_name": 1, "image_id": 1}, "answer": {"answer": 2}}


def test_a_given_name_counts_alone():
    columns = Columns(USUAL, ["image=Bild"])
    assert (
        columns.cells({"bild": "a", "image": "b"}, "t") == {"image": "a"} and columns.cells({"image": "b"}, "t") == {}
    )


def test_a_column_that_is_not_there_is_one_line():
    columns = Columns(USUAL, ["answer=Antwort"])
    columns.cells({"image": "a", "answer": "x"}, "t.csv")
    columns.check("image")
    with pytest.raises(
        InputError, match="t.csv: has no column for the answer, antwort; it has image, answer; --columns answer=COL"
    ):
        columns.check("image", "answer")


@pytest.mark.parametrize("given", ["image", "image=", "picture=a", "=a"])
def test_roles_that_do_not_exist_are_refused(given):
    with pytest.raises(ConfigError, match="--columns: expected ROLE=COLUMN with one of the roles image, answer, got"):
        Columns(USUAL, [given])
