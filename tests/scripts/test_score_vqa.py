"""``scripts/score_vqa.py`` gives the official evaluator's figures, and one line for whatever is wrong with a file."""

import gzip
import json
from pathlib import Path

import pytest

from tests.run_script import run_script

SCRIPT = "scripts/score_vqa.py"


def options(folder, annotations, questions, results):
    return "--annotations", annotations, "--questions", questions, "--results", results, "--output", folder / "s.json"


def score(folder, *files):
    assert run_script(SCRIPT, *options(folder, *files)) == 0
    return json.loads((folder / "s.json").read_text())


@pytest.mark.parametrize("name", ["allyes", "human1", "majority"])
def test_every_figure_is_the_official_evaluators(real_data, tmp_path, name):
    excerpt = real_data / "vqav2-excerpt-2000"
    stem = real_data / f"vqa-eval-gold/v2_OpenEnded_mscoco_train2014_{name}"
    questions = excerpt / "v2_OpenEnded_mscoco_train2014_questions.json"
    scores = score(tmp_path, excerpt / "v2_mscoco_train2014_annotations.json", questions, f"{stem}_results.json")
    accuracy = json.loads(Path(f"{stem}_accuracy.json").read_text())
    assert scores == {
        "overall": accuracy["overall"],
        "per_answer_type": accuracy["perAnswerType"],
        "per_question_type": accuracy["perQuestionType"],
        "per_question": json.loads(Path(f"{stem}_evalQA.json").read_text()),
    }


@pytest.fixture
def files(tmp_path):
    """A world of two questions, as the objects of its three files."""
    answers = [{"answer": "yes", "answer_confidence": "yes", "answer_id": i} for i in range(1, 11)]
    return {
        "annotations": {
            "annotations": [
                {"question_id": q, "question_type": "is", "answer_type": "yes/no", "answers": answers} for q in (1, 2)
            ]
        },
        "questions": {"questions": [{"question_id": q, "image_id": 1, "question": "is it?"} for q in (1, 2)]},
        "results": [{"question_id": 2, "answer": "yes"}, {"question_id": 1, "answer": "no"}],
    }


def write(folder, files):
    paths = []
    for name, content in files.items():
        paths.append(folder / f"{name}.json")
        paths[-1].write_text(content if isinstance(content, str) else json.dumps(content))
    return paths


def test_gzipped_files_are_read(tmp_path, files):
    paths = write(tmp_path, files)
    for i in range(2):
        packed = paths[i].with_suffix(".json.gz")
        packed.write_bytes(gzip.compress(paths[i].read_bytes()))
        paths[i] = packed
    scores = score(tmp_path, *paths)
    assert scores["per_question"] == {"1": 0.0, "2": 100.0} and scores["overall"] == 50.0


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("annotations", {"questions": []}, "expected a list under 'annotations', got no such key"),
        ("annotations", [], "expected an object at the top level, got a list"),
        ("questions", {"questions": [{"question_id": 1}]}, "1 question(s) annotated in"),
        (
            "questions",
            {"questions": [{"question_id": q} for q in (1, 2, 2, 3)]},
            "1 question(s) asked more than once, e.g. 2",
        ),
        ("questions", {"questions": [{"question_id": q} for q in (1, 2, 3)]}, "1 question(s) not annotated in"),
        ("questions", {"questions": [7]}, "question 0: expected an integer question_id, got 7"),
        ("results", {"results": []}, "expected a list at the top level, got an object"),
        ("results", [{"question_id": 1, "answer": "yes"}], "1 question(s) without a prediction, e.g. 2"),
        ("results", '[{"question_id": 1, "answer": NaN}]', "NaN is not JSON"),
        ("results", '[{"question_id": 1', "expected JSON in UTF-8"),
    ],
)
def test_a_wrong_file_costs_one_line_and_exit_code_1(tmp_path, files, complaint, name, content, message):
    line = complaint(1, SCRIPT, *options(tmp_path, *write(tmp_path, files | {name: content})))
    assert message in line and f"{name}.json" in line and not (tmp_path / "s.json").exists()


def test_a_missing_file_is_named(tmp_path, files, complaint):
    annotations, questions, _ = write(tmp_path, files)
    line = complaint(1, SCRIPT, *options(tmp_path, annotations, questions, tmp_path / "absent.json"))
    assert line == f"{tmp_path / 'absent.json'}: no such file" and not (tmp_path / "s.json").exists()
