"""Questions of one's own: what a line may say, and one clear message for what it may not."""

import json

import pytest
from PIL import Image

from vl_absvit.errors import InputError
from vl_absvit.looking.own_texts import make_request, read_requests


@pytest.fixture
def folder(tmp_path):
    for name in ("a.png", "b.png"):
        Image.new("RGB", (4, 3)).save(tmp_path / name)
    return tmp_path


def write(folder, *lines) -> str:
    path = folder / "questions.jsonl"
    path.write_text("\n".join(line if isinstance(line, str) else json.dumps(line) for line in lines))
    return str(path)


def test_lines_become_requests_named_by_their_id_or_their_number(folder):
    path = write(
        folder,
        {"image": "a.png", "question": "What?", "id": "first"},
        "",
        {"image": str(folder / "b.png"), "question": "Où ça?"},
        {"image": "a.png", "question": "Why?", "id": 7},
    )
    requests = read_requests(path)
    assert [request.id for request in requests] == ["first", "3", "7"]
    assert [request.image for request in requests] == [folder / name for name in ("a.png", "b.png", "a.png")]
    assert [request.text for request in requests] == ["What?", "Où ça?", "Why?"]
    assert requests[1].source == f"{path}:3"


def test_keys_that_nobody_asks_for_are_kept(folder):
    line = {"image": "a.png", "question": "What?", "answer": "box", "id": 3, "source": {"page": [1, None]}}
    (request,) = read_requests(write(folder, line))
    assert request.id == "3" and request.more == {"answer": "box", "source": {"page": [1, None]}}
    assert make_request(folder / "a.png", "What?", "command line").more == {}


def test_a_caption_may_stand_where_questions_do(folder):
    path = write(folder, {"image": "a.png", "caption": "a ring"}, {"image": "a.png", "question": "a star"})
    assert [request.text for request in read_requests(path, "caption")] == ["a ring", "a star"]
    for line, message in [
        ({"image": "a.png", "caption": "a", "question": "b"}, "expected the keys image, caption, id, got 'question'"),
        ({"image": "a.png"}, "expected a caption, got None"),
    ]:
        with pytest.raises(InputError, match=message):
            read_requests(write(folder, line), "caption")
    with pytest.raises(InputError, match="expected the keys image, question, id, got 'caption'"):
        read_requests(write(folder, {"image": "a.png", "caption": "a ring"}))


def test_a_picture_is_looked_for_beside_the_file_and_then_in_the_current_folder(folder, tmp_path, monkeypatch):
    (folder / "sub").mkdir()
    Image.new("RGB", (9, 9)).save(folder / "sub/b.png")
    path = write(folder / "sub", {"image": "b.png", "question": "What?"}, {"image": "a.png", "question": "What?"})
    monkeypatch.chdir(folder)
    assert [request.image for request in read_requests(path)] == [folder / "sub/b.png", folder / "a.png"]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("{", "expected JSON"),
        ("[" * 100_000, "expected JSON"),
        ("[1]", "expected an object, got a list"),
        ({"image": "a.png"}, "expected a question, got None"),
        ({"image": "a.png", "question": " \n"}, r"expected a question, got ' \n'"),
        ({"image": "a.png", "question": ["What?"]}, "expected a question, got ['What?']"),
        ('{"image": "a.png", "question": "\\ud800"}', "expected JSON: half a surrogate pair"),
        ({"question": "What?"}, "expected the path of a picture under 'image', got None"),
        ({"image": 3, "question": "What?"}, "expected the path of a picture under 'image', got 3"),
        ({"image": "a\0.png", "question": "What?"}, "expected the path of a picture"),
        ({"image": "c.png", "question": "What?"}, "there is no picture c.png"),
        ({"image": ".", "question": "What?"}, "there is no picture ."),
        ({"image": "a.png", "quesiton": "What?"}, "expected the keys image, question, id, got 'quesiton'"),
        ({"image": "a.png", "question": "What?", "id": "../x"}, "expected an id of at most 100 letters"),
        ({"image": "a.png", "question": "What?", "id": "x" * 101}, "expected an id"),
        ({"image": "a.png", "question": "What?", "id": None}, "expected an id"),
        ({"image": "a.png", "question": "What?", "id": "1"}, "the id '1' is also that of "),
    ],
)
def test_a_wrong_line_is_named_with_its_number(folder, line, message):
    path = write(folder, {"image": "a.png", "question": "What?"}, line)
    with pytest.raises(InputError) as error:
        read_requests(path)
    assert str(error.value).startswith(f"{path}:2: ") and message in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("content", [b"", b"\n\n", b"\xff\xfe"])
def test_a_file_without_lines_of_text_is_refused(folder, content):
    (folder / "questions.jsonl").write_bytes(content)
    with pytest.raises(InputError, match="questions.jsonl: expected"):
        read_requests(folder / "questions.jsonl")


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(InputError, match="absent.jsonl: no such file"):
        read_requests(tmp_path / "absent.jsonl")


def test_ids_that_differ_in_case_alone_would_share_a_file_on_some_systems(folder):
    lines = ({"image": "a.png", "question": "What?", "id": id} for id in ("Dog", "dog"))
    with pytest.raises(InputError, match="the id 'dog' is also that of .*:1"):
        read_requests(write(folder, *lines))


def test_a_single_request_needs_a_question_and_a_picture(folder):
    assert make_request(folder / "a.png", "What?", "command line").id == "1"
    with pytest.raises(InputError, match="command line: expected a question, got ''"):
        make_request(folder / "a.png", "", "command line")
    with pytest.raises(InputError, match="command line: expected a question that UTF-8 can hold"):
        make_request(folder / "a.png", "\udcff", "command line")  # what Python makes of a byte that is not UTF-8
    with pytest.raises(InputError, match="command line: there is no picture .*c.png"):
        make_request(folder / "c.png", "What?", "command line")
