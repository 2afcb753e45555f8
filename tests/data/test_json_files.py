"""JSON files are read with one clear line for whatever is wrong, and written whole or not at all."""

import gzip
import json

import pytest

from vl_absvit.data.json_files import read_json, write_json
from vl_absvit.data.strict_json import parse
from vl_absvit.errors import InputError


def test_what_is_written_is_read_again(tmp_path):
    value = {"answers": ["Σ", "𝄞", ""], "size": 3}
    write_json(tmp_path / "new" / "folder" / "a.json", value)
    assert read_json(tmp_path / "new" / "folder" / "a.json") == value


def test_a_gzipped_file_is_unpacked(tmp_path):
    (tmp_path / "a.json.gz").write_bytes(gzip.compress(b"[1, 2]", mtime=0))
    assert read_json(tmp_path / "a.json.gz", list) == [1, 2]


def test_a_byte_order_mark_is_no_content(tmp_path):
    (tmp_path / "a.json").write_bytes(b"\xef\xbb\xbf[1]")
    assert read_json(tmp_path / "a.json") == [1]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.json", b'{"a": 1', "expected JSON in UTF-8"),
        ("a.json", b'["\xff"]', "expected JSON in UTF-8"),
        ("a.json", b'"text"', "expected a list at the top level, got a string"),
        ("a.json", b'{"a": 1}', "expected a list at the top level, got an object"),
        ("a.json.gz", b"[1, 2]", "expected a gzip file"),
        ("a.json.gz", gzip.compress(b"[1, 2]", mtime=0)[:-9], "expected a gzip file"),
    ],
)
def test_a_file_of_another_form_is_named_in_one_line(tmp_path, name, content, message):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(InputError) as caught:
        read_json(tmp_path / name, list)
    assert message in str(caught.value)
    assert str(tmp_path / name) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_keys_that_are_not_asked_for_are_left_out_and_still_checked(tmp_path):
    (tmp_path / "a.json").write_text('{"a": [{"a": 1, "b": 2}, {"b": {"a": 3}}], "b": 0}')
    assert read_json(tmp_path / "a.json", keep={"a"}) == {"a": [{"a": 1}, {}]}
    (tmp_path / "a.json").write_text('{"a": 1, "b": {"c": 1, "c": 2}}')
    with pytest.raises(InputError, match="the key 'c' is given twice"):
        read_json(tmp_path / "a.json", keep={"a"})


@pytest.mark.parametrize(
    ("text", "half"),
    [
        (r'"\ud83d\ude00"', None), (r'"\ud83d\ude00\uD83D\uDE00"', None), (r'"\\ud83d"', None),
        (r'"\ud83d\n\ude00"', "ud83d"), (r'"\ud83d\\\ude00"', "ud83d"), (r'"\\\uDE00"', "ude00"),
        (r'"\ud83d\ude00\ude00"', "ude00"), (r'"\ud83d\ud83d\ude00"', "ud83d"), (r'"\ud83d\u0041"', "ud83d"),
    ],
)  # fmt: skip
def test_half_a_surrogate_pair_is_found_wherever_it_is(text, half):
    if half is None:
        assert parse(text) == json.loads(text)
        return
    with pytest.raises(ValueError, match=rf"half a surrogate pair, \\{half}, is no character"):
        parse(text)


def test_a_missing_file_and_a_folder_are_input_errors(tmp_path):
    with pytest.raises(InputError, match="no such file"):
        read_json(tmp_path / "absent.json")
    with pytest.raises(InputError, match="cannot be read"):
        read_json(tmp_path)


def test_nan_is_never_written(tmp_path):
    with pytest.raises(ValueError, match="JSON compliant"):
        write_json(tmp_path / "a.json", [float("nan")])
    assert list(tmp_path.iterdir()) == []
