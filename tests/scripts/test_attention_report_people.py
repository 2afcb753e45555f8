"""``--hat``: the report's human maps and agreement are those of the prepared folder, for the same questions only."""

import numpy as np
import pytest
from PIL import Image
from scipy.stats import spearmanr

from tests.exported import add_question, blob, content_of
from tests.prepare.raw_vqa_hat import prepare, write_map, write_small_hat
from tests.run_script import run_script
from vl_absvit.evaluation.attention_agreement import area_average

PRIOR = {"prior_mask": blob(14, 14, 3, 9, 3.0) + 0.1 * blob(14, 14, 12, 2), "cross": blob(14, 14, 12, 2)}


@pytest.fixture
def hat(tmp_path):
    """Human maps of six questions about images of 12 x 8 pixels; one of question 10 is about the left edge alone."""
    raw = write_small_hat(tmp_path / "raw")
    edge = np.zeros((8, 12), dtype=np.uint8)
    edge[:, 0] = 255
    write_map(raw, "10_3", edge)
    prepare(raw, tmp_path / "hat")
    return tmp_path / "hat"


@pytest.fixture
def export(tmp_path):
    """Two questions that people were asked, two that they were not; the model sees the middle of each picture."""
    folder = tmp_path / "export"
    for question_id in (10, 21, 12, None):
        image_id = None if question_id is None else question_id // 10
        text = f"What is thing {question_id}?"
        add_question(folder, f"{question_id}", PRIOR, question_id=question_id, image_id=image_id, question=text)
    return folder


def make(export, hat, *options):
    output = export / "report.html"
    assert run_script("scripts/attention_report.py", "--maps", export, "--hat", hat, "--output", output, *options) == 0
    return content_of(output)


def read_maps(folder, question_id):
    return [np.asarray(Image.open(folder / f"raw/maps/{question_id}_{n}.png"), dtype=float) for n in (1, 2, 3)]


def test_agreement_is_the_mean_rank_correlation_within_what_the_model_sees(export, hat, tmp_path, capfd):
    shown = {question["id"]: question for question in make(export, hat)["cards"]}
    assert shown["12"]["agreement"] is shown["None"]["agreement"] is None
    model = PRIOR["prior_mask"].ravel()
    # The middle 8 of 12 columns; what lies left of them only is constant there.
    for question, people in ((21, 3), (10, 2)):
        human = [area_average(grey[:, 2:10]).ravel() for grey in read_maps(tmp_path, question)][:people]
        expected = np.mean([spearmanr(grid, model).statistic for grid in human])
        assert shown[str(question)]["agreement"] == pytest.approx(expected, abs=1e-6)
    assert "2 questions have human maps" in capfd.readouterr().out


def test_the_first_map_to_show_is_the_one_compared(export, hat):
    content = make(export, hat, "--show", "cross", "prior_mask")
    assert "“cross-attention”" in content["note"] and content["show"] == ["cross", "prior_mask"]
    assert content["cards"][0]["agreement"] != make(export, hat)["cards"][0]["agreement"]


def test_another_question_under_the_same_id_is_refused(hat, tmp_path, complaint):
    add_question(tmp_path / "v2", "10", PRIOR, question_id=10, image_id=0, question="What is thing 10?")
    line = complaint(
        1, "scripts/attention_report.py", "--maps", tmp_path / "v2", "--hat", hat, "--output", tmp_path / "report.html"
    )
    assert line == (
        f"{hat}: question 10 is 'What is thing 10?' about image 1 there, "
        "and 'What is thing 10?' about image 0 in the export"
    )
    assert not (tmp_path / "report.html").exists()


def test_human_maps_of_none_of_the_questions_are_refused(hat, tmp_path, complaint):
    add_question(tmp_path / "other", "1000", PRIOR, question_id=1000)
    output = tmp_path / "report.html"
    line = complaint(1, "scripts/attention_report.py", "--maps", tmp_path / "other", "--hat", hat, "--output", output)
    assert line == f"{hat}: people were asked none of the 1 exported questions"
