"""The tables of scripts/vars_evidence.sh: accuracy on clean and corrupted pictures, and differences seed by seed.

python scripts/tabulate_vars.py runs/vars --rows softmax vars_d --output runs/vars/table

Reads ROOT/<row>-<seed>/corrupted.json, which vl-absvit evaluate-vision with --corrupt all writes, of what is finished
so far; a folder without one is named as missing. Writes OUTPUT.md and OUTPUT.json. Scores are means and standard
deviations over a row's seeds. Differences are those of a row and of --against on the seeds that both have: their mean,
its standard error, and in bold where the 95 % interval of it (Student's t) excludes 0.
"""

from pathlib import Path
from statistics import mean

from vl_absvit.cli import OptionParser, add_table_options, run_main
from vl_absvit.data.corruptions import SEVERITIES
from vl_absvit.data.json_files import read_json
from vl_absvit.errors import InputError
from vl_absvit.evaluation.classification_metrics import ALEXNET_ERRORS
from vl_absvit.evaluation.score_tables import Column, Scores, tabulate

RESULT = "corrupted.json"
GROUPS = {
    "Accuracy, %": {
        "clean": Column("clean", 1),
        "corrupted": Column("corrupted", 1),
        "kept": Column("corrupted, % of clean", 1),
        **{f"severity_{severity}": Column(f"severity {severity}", 1) for severity in SEVERITIES},
    },
    "Accuracy by corruption, %": {name: Column(name.replace("_", " "), 1) for name in ALEXNET_ERRORS},
}
"""Corrupted: the mean over 15 corruptions in five severities; of one severity or corruption, over those that it has."""


def main() -> None:
    parser = OptionParser(__doc__)
    add_table_options(parser, "scripts/vars_evidence.sh", against="softmax")
    tabulate(parser.parse_args(), GROUPS, [RESULT], read_scores)


def read_scores(folder: Path) -> Scores:
    """Every column's score of one run."""
    path = folder / RESULT
    result = read_json(path, dict)
    try:
        clean, corrupted = result["top1"], 100 - result["mean_error"]
        errors = {name: result["corruptions"][name] for name in ALEXNET_ERRORS}
        return {
            "clean": clean,
            "corrupted": corrupted,
            "kept": 100 * corrupted / clean if clean else None,
            **{
                f"severity_{severity}": 100 - mean(each["error"][str(severity)] for each in errors.values())
                for severity in SEVERITIES
            },
            **{name: 100 - each["mean_error"] for name, each in errors.items()},
        }
    except (KeyError, TypeError) as error:
        raise InputError(f"{path}: expected a result of evaluate-vision with --corrupt all: {error!r}") from error


if __name__ == "__main__":
    run_main(main)
