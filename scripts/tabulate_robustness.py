"""The tables of scripts/evidence_robustness.sh: what corruptions, attacks and unseen styles leave of a row, by seed.

python scripts/tabulate_robustness.py runs/robustness --rows vit absvit --output runs/robustness/table

Reads ROOT/<row>-<seed>/ of what is finished so far: corrupted.json and attacked.json of evaluate-vision, test.json of
it for every style that was left out, masks.json of compare-masks, fixations.json of compare-fixations and worth.json of
evaluate-maps. A folder without them is named as missing. Writes OUTPUT.md and OUTPUT.json. Maps are those of the last
look. Scores are means and standard deviations over a row's seeds. Differences are those of a row and of --against on
the seeds that both have: their mean, its standard error, and in bold where the 95 % interval of it (Student's t)
excludes 0.
"""

from pathlib import Path
from statistics import mean
from typing import Any

from vl_absvit.cli import OptionParser, add_table_options, run_main
from vl_absvit.data.json_files import read_json
from vl_absvit.demo.styles import STYLES
from vl_absvit.errors import InputError
from vl_absvit.evaluation.score_tables import Column, Scores, tabulate

RADII = (1, 4, 16, 64)
GROUPS = {
    "Single objects, accuracy in %": {
        "clean": Column("clean", 1),
        "corrupted": Column("corrupted", 1),
        "kept": Column("corrupted, % of clean", 1),
        **{f"own_{radius}": Column(f"PGD {radius}/255", 1) for radius in RADII},
        **{f"other_{radius}": Column(f"PGD {radius}/255, another seed's gradients", 1) for radius in RADII},
    },
    "Drawing styles that were left out, accuracy in %": {
        **{style: Column(style, 1) for style in STYLES},
        "styles": Column("mean", 1),
    },
    "Attention as segmentation, in %": {
        "iou": Column("IoU of the foreground", 1),
        "false_positive": Column("false positives, of all pixels", 1),
        "false_negative": Column("false negatives", 1),
        "prior_mask": Column("IoU of the prior mask", 1),
        "centre": Column("IoU of the centre", 1),
        "everything": Column("IoU of everything", 1),
    },
    "Where eyes rested": {
        "nss": Column("NSS", 3),
        "auc_judd": Column("AUC-Judd", 3),
        "centre_nss": Column("NSS of the centre", 3),
    },
    "Is the map worth anything": {
        "deletion": Column("area of the deletion curve", 3),
        "insertion": Column("area of the insertion curve", 3),
        "survives": Column("rank correlation with that of shuffled weights", 3),
    },
}
"""Corrupted: the mean over 15 corruptions in five severities."""
FILES = {name: f"{name}.json" for name in ("corrupted", "attacked", "masks", "fixations", "worth")} | {
    style: f"domains/{style}/test.json" for style in STYLES
}
"""The results of a run."""


def main() -> None:
    parser = OptionParser(__doc__)
    add_table_options(parser, "scripts/evidence_robustness.sh", against="vit")
    tabulate(parser.parse_args(), GROUPS, list(FILES.values()), read_scores)


def read_scores(folder: Path) -> Scores:
    """Every column's score of one run.

    Raises:
        InputError: a file has another form.
    """
    results = {name: read_json(folder / file, dict) for name, file in FILES.items()}
    try:
        styles = {style: results[style]["top1"] for style in STYLES}
        return {
            **of_corruptions(results["corrupted"]),
            **of_attacks(results["attacked"]),
            **styles,
            "styles": mean(styles.values()),
            **of_masks(results["masks"]),
            **of_fixations(results["fixations"]),
            **of_worth(results["worth"]),
        }
    except (KeyError, TypeError, IndexError) as error:
        raise InputError(
            f"{folder}: expected results of evaluate-vision, compare-masks, compare-fixations, evaluate-maps: {error!r}"
        ) from error


def of_corruptions(result: dict[str, Any]) -> Scores:
    """Accuracy on clean and on corrupted pictures."""
    clean, corrupted = result["top1"], 100 - result["mean_error"]
    return {"clean": clean, "corrupted": corrupted, "kept": 100 * corrupted / clean if clean else None}


def of_attacks(result: dict[str, Any]) -> Scores:
    """Accuracy under each radius; None where no other seed attacked."""
    found = {(round(255 * row["attack"]["eps"]), row["source"] is None): row["top1"] for row in result["attacks"]}
    own = {f"own_{radius}": found[radius, True] for radius in RADII}
    return own | {f"other_{radius}": found.get((radius, False)) for radius in RADII}


def last_look(result: dict[str, Any]) -> dict[str, Any]:
    """What was found of the map that every row has: of the second look, or of the first where it is the only one."""
    rows = result["rows"]
    return rows["top_down" if "top_down" in rows else "bottom_up"]


def of_masks(result: dict[str, Any]) -> Scores:
    """How well the last look segments, and the prior mask where there is one, beside two maps that know nothing."""
    rows, look = result["rows"], last_look(result)
    scores = {name: look[name]["mean"] for name in ("iou", "false_positive", "false_negative")}
    prior = rows["prior_mask"]["iou"]["mean"] if "prior_mask" in rows else None
    return scores | {"prior_mask": prior} | {name: rows[name]["iou"]["mean"] for name in ("centre", "everything")}


def of_fixations(result: dict[str, Any]) -> Scores:
    """Agreement of the last look with fixations, and that of the centre."""
    look = last_look(result)
    scores = {name: look[name]["mean"] for name in ("nss", "auc_judd")}
    return scores | {"centre_nss": result["rows"]["centre"]["nss"]["mean"]}


def of_worth(result: dict[str, Any]) -> Scores:
    """The curves of the last look, and what of it is left when all weights are shuffled."""
    look = last_look(result)
    scores = {name: look[name]["mean"] for name in ("deletion", "insertion")}
    return scores | {"survives": look["randomised"][result["parts"][-1]]["mean"]}


if __name__ == "__main__":
    run_main(main)
