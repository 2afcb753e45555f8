"""The tables of scripts/segmentation_evidence.sh: mIoU and the like, and differences seed by seed.

python scripts/tabulate_segmentation.py runs/segmentation --rows absvit vit --output runs/segmentation/table

Reads ROOT/<row>-<seed>/val.json, which vl-absvit evaluate-segmentation writes, of what is finished so far; a folder
without one is named as missing. Writes OUTPUT.md and OUTPUT.json. Scores are means and standard deviations over a row's
seeds. Differences are those of a row and of --against on the seeds that both have: their mean, its standard error, and
in bold where the 95 % interval of it (Student's t) excludes 0.
"""

from pathlib import Path

from vl_absvit.cli import OptionParser, add_table_options, run_main
from vl_absvit.data.json_files import read_json
from vl_absvit.demo.scene import SHAPES
from vl_absvit.errors import InputError
from vl_absvit.evaluation.score_tables import Column, Scores, tabulate

RESULT = "val.json"
CLASSES = ("ground", *SHAPES)
GROUPS = {
    "All classes, %": {
        "miou": Column("mIoU", 1),
        "macc": Column("mean recall", 1),
        "aacc": Column("pixels right", 1),
    },
    "IoU by class, %": {name: Column(name, 1) for name in CLASSES},
}


def main() -> None:
    parser = OptionParser(__doc__)
    add_table_options(parser, "scripts/segmentation_evidence.sh", against="vit")
    tabulate(parser.parse_args(), GROUPS, [RESULT], read_scores)


def read_scores(folder: Path) -> Scores:
    """Every column's score of one run."""
    path = folder / RESULT
    result = read_json(path, dict)
    try:
        whole = {name: result[name] for name in GROUPS["All classes, %"]}
        return whole | {name: result["per_class"][name]["iou"] for name in CLASSES}
    except (KeyError, TypeError) as error:
        raise InputError(
            f"{path}: expected a result of evaluate-segmentation on the demo's masks: {error!r}"
        ) from error


if __name__ == "__main__":
    run_main(main)
