"""Delimited tables: any usual separator; a stray quotation mark takes its own line and no other; other encodings."""

import gzip

import pytest

from vl_absvit.errors import InputError
from vl_absvit.prepare.own.delimited import read_delimited
from vl_absvit.prepare.own.refusals import Fault


@pytest.fixture
def read(tmp_path):
    """Rows of a table with this content: line -> cells, or the reason for which it is refused."""

    def rows(content: str | bytes, name="t.csv", has_header=True):
        data = content.encode() if isinstance(content, str) else content
        (tmp_path / name).write_bytes(gzip.compress(data) if name.endswith(".gz") else data)
        found = read_delimited(tmp_path / name, has_header=has_header)
        return {number: each.reason if isinstance(each, Fault) else each for number, each in found}

    return rows


@pytest.mark.parametrize("mark", [",", ";", "|", "\t"])
@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_the_first_row_shows_what_separates_cells(read, mark, end):
    lines = [mark.join(cells) for cells in (("image", "caption"), ("a.jpg", '"two, dogs; one | ball"'), ("b.jpg", "x"))]
    expected = {2: {"image": "a.jpg", "caption": "two, dogs; one | ball"}, 3: {"image": "b.jpg", "caption": "x"}}
    assert read(end.join(lines)) == read("\ufeff" + end.join(lines) + end) == expected


def test_gzipped_tables_and_tsv_are_read(read):
    assert read("image,x\na,1\n", "t.csv.gz") == {2: {"image": "a", "x": "1"}}
    assert read("image\tx, y\na\t1\n", "t.tsv") == {2: {"image": "a", "x, y": "1"}}


def test_columns_without_a_header_are_numbered(read):
    assert read("a.jpg\tx, y\nb.jpg\tz\n", has_header=False) == {
        1: {"1": "a.jpg", "2": "x, y"},
        2: {"1": "b.jpg", "2": "z"},
    }


def test_cells_may_hold_line_ends_and_quotation_marks(read):
    assert read('a,b\n"x\ny","5"" wide"\n\n , \nz,5" wide\n') == {
        2: {"a": "x\ny", "b": '5" wide'},
        6: {"a": "z", "b": '5" wide'},
    }


@pytest.mark.parametrize("stray", ['1,"open', '1,"x"y', '"1,x'])
def test_a_stray_mark_takes_its_own_line_alone(read, stray):
    for after in ("2,y\n3,z\n", '2,"y"\n3,z\n', '2,y\n3,"z"'):
        found = read(f"a,b\n{stray}\n{after}")
        assert found.pop(2) in ("not CSV", "another number of cells than the first row")
        assert found == {3: {"a": "2", "b": "y"}, 4: {"a": "3", "b": "z"}}


def test_rows_with_too_many_or_too_few_cells_are_refused(read):
    reason = "another number of cells than the first row"
    assert read("a,b\n1\n1,2\n1,2,3\n,,\n") == {2: reason, 3: {"a": "1", "b": "2"}, 4: reason}


def test_a_giant_cell_takes_its_own_row(read):
    assert read(f"a,b\n{'x' * 200_000},2\n1,2\n") == {2: "not CSV", 3: {"a": "1", "b": "2"}}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"a,b\n1,2\n\xe9,3\n", r"t.csv: line 3: the byte 0xe9 is not UTF-8; .* iconv -f LATIN1 -t UTF-8 converts it"),
        ("a,b\n1,2\n".encode("utf-16"), "t.csv: is in UTF-16; expected a table in UTF-8: iconv -f UTF-16 -t UTF-8"),
        ("a,b\n1,2\n".encode("utf-16-le"), "t.csv: holds NUL bytes; expected a table in UTF-8"),
        (b" \n\n", "t.csv: is empty; expected a table"),
        (b"a,A,a\n", "t.csv: line 1: two columns are called 'a'"),
        (b'"a,b\n', "t.csv: line 1: unexpected end of data"),
    ],
)
def test_what_makes_a_whole_table_unreadable_is_one_line(read, content, message):
    with pytest.raises(InputError, match=message):
        read(content)
