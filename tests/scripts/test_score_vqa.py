"""``scripts/score_vqa.py`` gives the official evaluator's figures, and one line for whatever is wrong with a file."""

import gzip
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
DATA = ROOT / "../shared/data"
OFFICIAL = DATA / "vqa-eval-gold"
EXCERPT = DATA / "vqav2-excerpt-2000"


def score(folder, annotations, questions, results):
    """Run the script; its scores (None without a file) and the finished process."""
    output = folder / "scores.json"
    command = [sys.executable, ROOT / "scripts/score_vqa.py", "--annotations", annotations, "--questions", questions]
    process = subprocess.run(
        [*map(str, command), "--results", str(results), "--output", str(output)],
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
    )
    return json.loads(output.read_text()) if output.exists() else None, process


@pytest.mark.parametrize("name", ["allyes", "human1", "majority"])
def test_every_figure_is_the_official_evaluators(tmp_path, name):
    if not OFFICIAL.exists():
        pytest.skip("the official evaluator's outputs are not here")
    stem = OFFICIAL / f"v2_OpenEnded_mscoco_train2014_{name}"
    scores, process = score(
        tmp_path,
        EXCERPT / "v2_mscoco_train2014_annotations.json",
        EXCERPT / "v2_OpenEnded_mscoco_train2014_questions.json",
        f"{stem}_results.json",
    )
    assert process.returncode == 0, process.stderr
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
    scores, process = score(tmp_path, *paths)
    assert process.returncode == 0, process.stderr
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
def test_a_wrong_file_costs_one_line_and_exit_code_1(tmp_path, files, name, content, message):
    scores, process = score(tmp_path, *write(tmp_path, files | {name: content}))
    assert process.returncode == 1 and scores is None
    assert process.stderr.startswith("error: ") and process.stderr.count("\n") == 1
    assert message in process.stderr and f"{name}.json" in process.stderr


def test_a_missing_file_is_named(tmp_path, files):
    annotations, questions, _ = write(tmp_path, files)
    scores, process = score(tmp_path, annotations, questions, tmp_path / "absent.json")
    assert process.returncode == 1 and scores is None
    assert process.stderr == f"error: {tmp_path / 'absent.json'}: no such file\n"


def test_a_usage_error_is_exit_code_2():
    command = [sys.executable, str(ROOT / "scripts/score_vqa.py"), "--annotations"]
    process = subprocess.run(command, env=os.environ | {"PYTHONPATH": str(ROOT)}, capture_output=True, text=True)
    assert process.returncode == 2 and "Traceback" not in process.stderr
