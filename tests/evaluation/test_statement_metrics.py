"""NLVR2's and SNLI-VE's metrics: by hand, against brute force, and what the official scorer says of its files."""

import json
import re

import numpy as np
import pytest

from tests.prepare.raw_nlvr2 import prepare
from vl_absvit.data.records import NLVR2, STATEMENT_LABELS, read_statements
from vl_absvit.errors import InputError
from vl_absvit.evaluation.statement_metrics import (
    class_scores,
    constant_label,
    nlvr2_scores,
    read_predictions,
    write_predictions,
)

WORDS = STATEMENT_LABELS[NLVR2]


def test_consistency_by_hand():
    names = ["dev-1-0-0", "dev-1-1-0", "dev-1-0-1", "dev-2-0-0"]  # the groups (1, 0), (1, 1) and (2, 0)
    labels = np.array([1, 0, 1, 1])
    scores = nlvr2_scores(names, labels, np.array([1, 1, 1, 1]), ["balanced", "balanced", None, "unbalanced"])
    assert scores == {"accuracy": 75, "consistency": pytest.approx(200 / 3), "balanced": 50, "unbalanced": 100}


def test_consistency_equals_a_naive_version_and_does_not_depend_on_the_order():
    rng = np.random.default_rng(0)
    names = [f"dev-{a}-{b}-{c}" for a in range(9) for b in range(3) for c in range(2)]
    labels, predicted = rng.integers(2, size=(2, len(names)))
    predicted = np.where(rng.random(len(names)) < 0.6, labels, predicted)
    groups = {re.sub(r"-\d+-(\d+)$", r"-\1", name) for name in names}
    right = {name for name, one, other in zip(names, labels, predicted, strict=True) if one == other}
    naive = [all(n in right for n in names if re.sub(r"-\d+-(\d+)$", r"-\1", n) == group) for group in groups]
    order = rng.permutation(len(names))
    scores = nlvr2_scores([names[k] for k in order], labels[order], predicted[order], [None] * len(names))
    assert scores == {
        "accuracy": pytest.approx(100 * len(right) / 54),
        "consistency": pytest.approx(100 * np.mean(naive)),
    }


def test_accuracy_per_class_by_hand():
    labels, predicted = np.array([0, 0, 1, 2, 2, 2]), np.array([0, 1, 1, 0, 2, 2])
    scores = class_scores(labels, predicted, ("contradiction", "neutral", "entailment"))
    assert scores == {
        "accuracy": pytest.approx(400 / 6),
        "accuracy/contradiction": 50,
        "accuracy/neutral": 100,
        "accuracy/entailment": pytest.approx(200 / 3),
    }
    assert "accuracy/neutral" not in class_scores(np.array([0]), np.array([1]), ("a", "neutral"))


def test_a_constant_answer_is_noticed():
    assert constant_label(np.array([1, 1, 1]), WORDS) == "True"
    assert constant_label(np.array([1, 0]), WORDS) is None and constant_label(np.array([1]), WORDS) is None


def test_predictions_that_were_written_are_read(tmp_path):
    names, predicted = ["dev-1-0-0", "dev-1-1-0"], np.array([1, 0])
    write_predictions(tmp_path / "p.csv", names, predicted, WORDS)
    assert (tmp_path / "p.csv").read_text() == "dev-1-0-0,True\ndev-1-1-0,False\n"
    assert read_predictions(tmp_path / "p.csv", names[::-1], WORDS).tolist() == [0, 1]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a,True\n", "1 statement(s) without a prediction, e.g. b"),
        ("a,True\nb,True\na,False\n", "1 statement(s) predicted more than once, e.g. a"),
        ("a,True\nb,True\nc,False\n", "1 statement(s) predicted, but not in the split, e.g. c"),
        ("a,True\nb,1\n", "1 statement(s) with another label than False, True, e.g. b ('1')"),
        ("a,True\nb True\n", "line 2: expected an id, a comma and a label, got 'b True'"),
    ],
)
def test_what_the_official_scorer_lets_pass_is_refused(tmp_path, text, message):
    (tmp_path / "p.csv").write_text(text)
    with pytest.raises(InputError, match=re.escape(message)):
        read_predictions(tmp_path / "p.csv", ["a", "b"], WORDS)


@pytest.fixture(scope="module")
def genuine(real_data, tmp_path_factory):
    """The genuine lines of dev, the official scorer's files and its words about them."""
    output = tmp_path_factory.mktemp("nlvr2") / "out"
    prepare(real_data / "nlvr2", output, splits=["dev"], allow_missing_images=True)
    said = json.loads((real_data / "nlvr2/eval/official.json").read_text())
    return read_statements(output, ["dev"], NLVR2)[:], real_data / "nlvr2/eval", said


@pytest.mark.parametrize("file", ["always_true", "always_false", "all_right", "four_in_five", "shuffled_mixed_case"])
def test_files_have_the_official_scores(genuine, file):
    rows, folder, said = genuine
    predicted = read_predictions(folder / f"{file}.csv", rows["name"], WORDS)
    scores = nlvr2_scores(rows["name"], np.array(rows["label"]), predicted, rows["subset"])
    official = dict(line.split("=") for line in said[file]["official_metrics"].splitlines())
    for name in ("accuracy", "consistency"):
        assert scores[name] == pytest.approx(100 * float(official[name]), abs=1e-12)
    for subset in ("balanced", "unbalanced"):
        assert scores[subset] == pytest.approx(float(said[file][subset][0]), abs=1e-12)


@pytest.mark.parametrize(
    ("file", "fault"),
    [
        ("one_missing", "without a prediction, e.g. dev-871-1-0"),
        ("one_missing_one_unknown", "without a prediction.*; 1 .*not in the split"),
        ("one_twice_last_counts", "more than once"),
        ("with_unknown_ids", "not in the split"),
        ("numbers", "271 .*another label than False, True"),
    ],
)
def test_odd_files_are_refused(genuine, file, fault):
    rows, folder, _ = genuine
    with pytest.raises(InputError, match=fault):
        read_predictions(folder / f"{file}.csv", rows["name"], WORDS)
