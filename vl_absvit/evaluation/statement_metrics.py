"""Metrics of judged statements: NLVR2's accuracy and consistency, SNLI-VE's accuracies; and files of predictions.

Labels are places among the words of a kind (``records.STATEMENT_LABELS``). Metrics are in percent. S statements.
"""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from vl_absvit.data.files import write_text
from vl_absvit.data.json_files import read_text
from vl_absvit.data.records import NLVR2, STATEMENT_LABELS
from vl_absvit.errors import InputError
from vl_absvit.evaluation.submission import refuse


def accuracy(labels: np.ndarray, predicted: np.ndarray) -> float:
    """Share of right predictions. Both are (S,); none of no statements is right."""
    return 100 * float((labels == predicted).mean()) if len(labels) else 0.0


def nlvr2_scores(
    names: Sequence[str], labels: np.ndarray, predicted: np.ndarray, subsets: Sequence[str | None]
) -> dict[str, float]:
    """NLVR2's official metrics (lil-lab/nlvr, ``nlvr2/eval/metrics.py``), and the accuracy on each subset.

    Consistency is the share of groups in which every statement is right; the statements of a group have the same
    sentence and set of images.

    Args:
        names: identifiers "dev-850-0-1", (S,); what remains without the third part names the group.
        labels, predicted: (S,).
        subsets: (S,); None for statements in no subset.
    """
    is_right = labels == predicted
    of_group: dict[tuple[str, str, str], bool] = {}
    for name, right in zip(names, is_right.tolist(), strict=True):
        split, images, _, sentence = name.split("-")
        group = split, images, sentence
        of_group[group] = of_group.get(group, True) and right
    scores = {"accuracy": accuracy(labels, predicted)}
    scores["consistency"] = 100 * sum(of_group.values()) / len(of_group) if of_group else 0.0
    in_subset = np.array(list(subsets), dtype=object)
    for subset in sorted({subset for subset in subsets if subset is not None}):
        scores[subset] = accuracy(labels[in_subset == subset], predicted[in_subset == subset])
    return scores


def class_scores(labels: np.ndarray, predicted: np.ndarray, words: Sequence[str]) -> dict[str, float]:
    """Accuracy over all, and on the statements of each label that occurs, as SNLI-VE's tables have them."""
    classes = {word: labels == place for place, word in enumerate(words)}
    return {"accuracy": accuracy(labels, predicted)} | {
        f"accuracy/{word}": accuracy(labels[rows], predicted[rows]) for word, rows in classes.items() if rows.any()
    }


def statement_scores(
    kind: str, names: Sequence[str], labels: np.ndarray, predicted: np.ndarray, subsets: Sequence[str | None]
) -> dict[str, float]:
    """The metrics of a kind of statements; arguments as ``nlvr2_scores``."""
    if kind == NLVR2:
        return nlvr2_scores(names, labels, predicted, subsets)
    return class_scores(labels, predicted, STATEMENT_LABELS[kind])


def constant_label(predicted: np.ndarray, words: Sequence[str]) -> str | None:
    """The word that every prediction is; None where there are several, or fewer than two predictions."""
    kinds = np.unique(predicted)
    return words[kinds[0]] if len(kinds) == 1 and len(predicted) > 1 else None


def write_predictions(path: Path, names: Sequence[str], predicted: np.ndarray, words: Sequence[str]) -> None:
    """Write ``name,label`` for every statement, without a header: the official form of NLVR2's results."""
    write_text(path, "".join(f"{name},{words[label]}\n" for name, label in zip(names, predicted.tolist(), strict=True)))


def read_predictions(path: Path, names: Sequence[str], words: Sequence[str]) -> np.ndarray:
    """The predicted label of every named statement, (S,), from a file as ``write_predictions`` makes it.

    As in NLVR2's official scorer, the order of lines and the case of labels do not matter. Of several lines it counts
    the last, it passes over unknown statements, and takes another word than a label for a wrong answer; here these are
    refused.

    Raises:
        InputError: the file cannot be read, or has not exactly one label for every statement.
    """
    place_of = {word.lower(): place for place, word in enumerate(words)}
    given: Counter[str] = Counter()
    label_of: dict[str, int] = {}
    wrong = []
    for number, line in enumerate(read_text(path, "expected text in UTF-8").splitlines(), start=1):
        if not line.strip():
            continue
        name, comma, word = (part.strip() for part in line.rpartition(","))
        if not comma:
            raise InputError(f"{path}: line {number}: expected an id, a comma and a label, got {line!r:.80}")
        given[name] += 1
        if word.lower() in place_of:
            label_of[name] = place_of[word.lower()]
        else:
            wrong.append(f"{name} ({word!r:.40})")
    known = set(names)
    refuse(
        str(path),
        {
            "without a prediction": [name for name in names if name not in given],
            "predicted more than once": [name for name, number in given.items() if number > 1],
            "predicted, but not in the split": [name for name in given if name not in known],
            f"with another label than {', '.join(words)}": wrong,
        },
        row="statement",
    )
    return np.array([label_of[name] for name in names])
