"""Asked from the command line: lines of JSON alone on stdout, one look at a picture, a line for what is wrong."""

import io
import json
import os
import subprocess
import sys
from types import SimpleNamespace

import pytest
import torch
from PIL import Image

from tests.lively_vqa import lively_task
from tests.run_script import ROOT, run_script
from tests.tiny_vqa import tiny_retrieval_config
from vl_absvit.looking.export_reader import read_exported, read_index
from vl_absvit.models.trunks.vit import AbSViT
from vl_absvit.tasks.retrieval import RetrievalTask

RING, STAR = "Is there a ring here?", "What color is the striped star?"


@pytest.fixture(scope="module")
def checkpoint(world, tmp_path_factory):
    folder = tmp_path_factory.mktemp("ask")
    torch.manual_seed(0)
    lively_task(world, folder).save(folder)
    return folder


@pytest.fixture
def pictures(tmp_path, monkeypatch):
    """A folder with pictures, good and bad, which is the current one."""
    monkeypatch.chdir(tmp_path)
    Image.radial_gradient("L").resize((160, 80)).convert("RGB").save("wide.jpg")
    Image.linear_gradient("L").convert("RGB").save("square.png")
    (tmp_path / "text.png").write_text("hello")
    return tmp_path


@pytest.fixture
def ask(checkpoint, pictures, capsys, monkeypatch):
    """Exit code, records on stdout, and lines on stderr."""

    def run(*words, stdin: bytes | None = None):
        if stdin is not None:
            stream = SimpleNamespace(buffer=io.BytesIO(stdin), isatty=lambda: False)
            monkeypatch.setattr(sys, "stdin", stream)
        capsys.readouterr()
        code = run_script("vl-absvit", "ask", "--checkpoint", checkpoint, "--device", "cpu", *words)
        out, err = capsys.readouterr()
        return code, [json.loads(line) for line in out.splitlines()], err.splitlines()

    return run


def test_every_question_is_asked_about_every_picture_and_each_is_looked_at_once(ask, monkeypatch):
    looks, look_once = [], AbSViT.look_once
    monkeypatch.setattr(AbSViT, "look_once", lambda self, images: looks.append(1) or look_once(self, images))
    code, said, err = ask("--image", "wide.jpg", "square.png", "--question", RING, STAR, "--top", 3)
    assert (code, err, len(looks)) == (0, [], 2)
    asked = [(record["question"], record["image"]) for record in said]
    assert asked == [(question, image) for question in (RING, STAR) for image in ("wide.jpg", "square.png")]
    for record in said:
        confidences = [answer["confidence"] for answer in record["answers"]]
        assert len(confidences) == 3 and confidences == sorted(confidences, reverse=True) and not record["cut"]
    assert len({json.dumps(record["answers"]) for record in said}) == 4


def test_lines_of_stdin_are_questions_or_objects_whose_other_keys_are_passed_on(ask):
    more = {"id": 7, "answers": ["red"], "nested": {"x": [1]}}
    lines = [RING, "", json.dumps({"question": STAR, "image": "square.png", **more}), json.dumps(RING)]
    code, said, err = ask("--image", "wide.jpg", stdin="\n".join(lines).encode())
    assert (code, err) == (0, [])
    assert [(record["question"], record["image"]) for record in said] == [
        (RING, "wide.jpg"), (STAR, "square.png"), (RING, "wide.jpg"),
    ]  # fmt: skip
    assert (said[1]["id"], said[1]["given_answers"], said[1]["nested"]) == (7, ["red"], {"x": [1]})
    assert said[0] == said[2]


def test_a_bad_line_has_its_record_and_its_line_and_the_others_are_answered(ask, pictures):
    file = pictures / "lists/questions.jsonl"
    file.parent.mkdir()
    (pictures / "square.png").rename(file.parent / "square.png")  # lies beside the questions
    lines = [
        b'{"question": "' + STAR.encode() + b'", "image": "square.png"}',
        b"{no json",
        b"\xff\xfe",
        b'{"text": "What?", "id": 3}',
        b'{"question": ["What?"]}',
        b'{"question": "What?", "image": 5}',
        b'{"question": " ", "image": "square.png"}',
        b'{"question": "What?", "image": "nowhere.jpg"}',
        b'{"question": "What?", "image": "text.png"}',
        b'{"question": "What?", "image": "."}',
        b"What is it?",
        b'{"question": "What?", "image": "square.png", "error": "mine"}',
    ]
    file.write_bytes(b"\n".join(lines))
    code, said, err = ask("--questions", file)
    assert code == 1 and len(said) == len(lines)
    assert ["answers" in record for record in said] == [True] + 10 * [False] + [True]
    assert said[3]["id"] == 3 and said[11]["given_error"] == "mine" and "error" not in said[11]
    expected = [
        "expected a question or JSON", "expected UTF-8", "expected a question under 'question', got the keys",
        "expected a question under 'question', got a list", "expected the path of a picture under 'image', got 5",
        "the question is empty", "No such file", "not an image", "Is a directory", "expected a picture, under 'image'",
    ]  # fmt: skip
    for number, (words, record, line) in enumerate(zip(expected, said[1:], err, strict=False), start=2):
        assert words in record["error"] and words in line and line.startswith(f"error: {file}:{number}: ")
    assert err[10:] == ["error: 10 of 12 questions were not answered"]


def test_a_picture_that_cannot_be_decoded_does_not_stop_the_others(ask):
    code, said, err = ask("--image", "text.png", "wide.jpg", "--question", RING)
    assert code == 1 and "not an image" in said[0]["error"] and said[1]["answers"]
    assert err[0].startswith("error: --question: text.png: not an image") and len(err) == 2


def test_maps_are_written_when_they_are_asked_for_and_can_be_read_as_an_export(ask, pictures):
    words = ["--image", "wide.jpg", "--question", RING, STAR]
    plain = ask(*words)[1]
    code, said, _ = ask(*words, "--maps", "maps")
    best, plain_best = ([record["answers"][0] for record in records] for records in (said, plain))
    assert code == 0 and [best[0]["answer"], best[1]["answer"]] == [each["answer"] for each in plain_best]
    assert [each["confidence"] for each in best] == pytest.approx([each["confidence"] for each in plain_best], abs=1e-5)
    entries = read_index(pictures / "maps", "question")
    assert [entry["npz"] for entry in entries] == ["1.npz", "2.npz"] and said[1]["png"] == "maps/2.png"
    exported = read_exported(pictures / "maps", entries[1])
    assert list(exported.maps) == ["prior_mask", "top_down", "bottom_up", "cross"]
    assert exported.image_size == (160, 80) and exported.box == (40, 0, 120, 80) and exported.question == STAR
    assert Image.open("maps/2.png").width > 300
    assert ask(*words, "--maps", "maps")[2] == [
        "error: maps: already there; expected a new or empty folder to write into"
    ]


@pytest.mark.parametrize(
    ("code", "words", "message"),
    [
        (2, ["--question", "What?"], "--question needs an --image"),
        (2, ["--image", "wide.jpg", "--top", 0], "--top must be at least 1, got 0"),
        (2, ["--image", "wide.jpg", "--question", "a", "--questions", "b"], "not allowed with argument --question"),
        (2, ["--image", "wide.jpg", "--question", "a", "--device", "abacus"], "--device abacus cannot be used"),
        (1, ["--image", "nowhere.jpg", "--question", "What?"], "--image: there is no picture nowhere.jpg"),
        (1, ["--image", "wide.jpg", "--questions", "nowhere.jsonl"], "nowhere.jsonl: No such file or directory"),
    ],
)
def test_a_wrong_command_costs_one_line(ask, code, words, message):
    found, said, err = ask(*words)
    assert (found, said, len(err)) == (code, [], 1) and message in err[0]


def test_a_retrieval_model_is_refused(ask, world, tmp_path):
    RetrievalTask(tiny_retrieval_config(world, tmp_path / "run")).save(tmp_path)
    code, said, err = ask("--checkpoint", tmp_path, "--image", "wide.jpg", "--question", RING)
    assert (code, said) == (1, [])
    assert err == [f"error: checkpoint {tmp_path}: expected a VQA model, got a retrieval model"]


def test_a_program_that_asks_line_by_line_is_answered_line_by_line(checkpoint, pictures):
    command = [sys.executable, "-m", "vl_absvit", "ask", "--checkpoint", checkpoint, "--image", "wide.jpg"]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    pipes = dict(stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment, bufsize=1)
    with subprocess.Popen(command, **pipes) as other:
        for question in (RING, STAR):
            other.stdin.write(f"{question}\n")
            assert json.loads(other.stdout.readline())["question"] == question  # before the next one is asked
        other.stdout.close()
        other.stdin.write(f"{RING}\n{RING}\n")
        other.stdin.close()
        assert other.wait() == 141
