"""``scripts/draw_pair.py``: one page from one command, and one line for whatever is wrong."""

import json

import numpy as np
import pytest
from PIL import Image

from tests.lively_vqa import lively_task
from tests.run_script import run_script
from tests.tiny_vqa import tiny_vision
from vl_absvit.looking.pages import QuestionMaps, two_questions

SCRIPT = "scripts/draw_pair.py"
QUESTIONS = ["what is the red star?", "where is the blue ring?"]


@pytest.fixture(scope="module")
def checkpoints(world, tmp_path_factory):
    """Folders of untrained models by variant, whose priors depend on the text."""
    base = tmp_path_factory.mktemp("untrained")
    for top_down in ("absvit", "perceiver_io"):
        (base / top_down).mkdir()
        lively_task(world, base, vision=tiny_vision(top_down=top_down)).save(base / top_down)
    return base


@pytest.fixture
def words(world, checkpoints, tmp_path):
    """The words of a command, with some options changed."""

    def made(**options):
        usual = {"checkpoint": [checkpoints / "absvit"], "image": [world / "demo/pairs/0000.png"], "block": [-1]}
        usual |= {"questions": QUESTIONS, "output": [tmp_path / "new/pair.png"]} | options
        return [word for key, values in usual.items() for word in (f"--{key}", *values)]

    return made


def test_the_page_shows_the_maps_and_answers_of_an_export(words, checkpoints, world, tmp_path):
    assert run_script(SCRIPT, *words()) == 0
    picture, asked = world / "demo/pairs/0000.png", []
    for number, question in enumerate(QUESTIONS):
        folder = tmp_path / str(number)
        options = ["--image", picture, "--question", question, "--output", folder, "--block", -1, "--num-workers", 0]
        assert run_script("scripts/export_attention.py", "--checkpoint", checkpoints / "absvit", *options) == 0
        with np.load(folder / "1.npz") as maps:
            bottom_up, box = maps["bottom_up"], maps["box"]
            answer = json.loads((folder / "index.jsonl").read_text())["prediction"]
            asked.append(QuestionMaps(question, answer, maps["prior_mask"], maps["top_down"]))
    assert not np.allclose(asked[0].top_down, asked[1].top_down, rtol=1e-3), "else the questions could be swapped"
    with Image.open(tmp_path / "new/pair.png") as page, Image.open(picture) as image:
        expected = two_questions(image.convert("RGB"), bottom_up, tuple(asked), tuple(box.tolist()))
        difference = np.asarray(page.convert("RGB"), dtype=float) - np.asarray(expected, dtype=float)
    assert abs(difference).mean() < 2, "but for the palette"
    assert (tmp_path / "new/pair.png").stat().st_size < 150_000


@pytest.mark.parametrize(
    "code, options, message",
    [
        (2, dict(questions=["What?"]), "argument --questions: expected 2 arguments"),
        (2, dict(output=["pair.jpg"]), "--output: expected a name that ends in .png, got pair.jpg"),
        (2, dict(block=[2]), "there is no block 2: the vision encoder has 2, from -2 to 1"),
        (1, dict(questions=["What?", " "]), "command line: expected a question, got ' '"),
        (1, dict(image=["no.png"]), "command line: there is no picture no.png"),
    ],
)
def test_a_wrong_command_is_one_line(words, complaint, tmp_path, code, options, message):
    assert message in complaint(code, SCRIPT, *words(**options))
    assert not list(tmp_path.rglob("*.png"))


def test_a_model_that_looks_once_is_refused(words, checkpoints, complaint):
    line = complaint(2, SCRIPT, *words(checkpoint=[checkpoints / "perceiver_io"]))
    assert line == "there is no map 'top_down': the model's encoder, PerceiverIO, looks once"


def test_what_is_no_picture_is_one_line(words, complaint, tmp_path):
    (tmp_path / "a.png").write_text("not a picture")
    assert f"{tmp_path / 'a.png'}: not an image" in complaint(1, SCRIPT, *words(image=[tmp_path / "a.png"]))
