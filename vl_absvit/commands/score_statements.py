"""Score predictions about NLVR2 or SNLI-VE: accuracy, and NLVR2's consistency as the official scorer has it.

vl-absvit score-statements --data OUT --split dev --predictions dev.csv --output scores.json

A file of predictions has a line "dev-850-0-1,True", or "2248275918.jpg#2r1c,neutral", for every statement of the split,
in any order. Gaps, repetitions, unknown ids and other labels are refused.
"""

import argparse
from pathlib import Path

from vl_absvit.cli import OptionParser, run_main


def main() -> None:
    arguments = parse_arguments()
    from vl_absvit.data.json_files import write_json
    from vl_absvit.data.records import STATEMENT_LABELS, check_kind, read_manifest, read_statements
    from vl_absvit.evaluation.statement_metrics import constant_label, read_predictions, statement_scores

    check_kind(arguments.data, *STATEMENT_LABELS)
    manifest = read_manifest(arguments.data)
    kind, dataset = manifest["kind"], manifest["dataset"]
    table = read_statements(arguments.data, [arguments.split], kind).data
    names = table.column("name").to_pylist()
    subsets = table.column("subset").to_pylist() if "subset" in table.column_names else [None] * len(names)
    predicted = read_predictions(arguments.predictions, names, STATEMENT_LABELS[kind])
    scores = statement_scores(kind, names, table.column("label").to_numpy(), predicted, subsets)
    print(f"{len(names):,} statements of {dataset} {arguments.split}")
    for name, score in scores.items():
        print(f"  {name}: {score:.2f} %")
    if word := constant_label(predicted, STATEMENT_LABELS[kind]):
        print(f"  every statement is judged to be {word}: the model tells nothing apart")
    if arguments.output:
        write_json(arguments.output, scores | {"dataset": dataset, "split": arguments.split}, indent=1)


def parse_arguments() -> argparse.Namespace:
    parser = OptionParser(__doc__)
    parser.add_argument("--data", required=True, metavar="OUT", help="folder of prepare-nlvr2 or prepare-snli-ve")
    parser.add_argument("--split", required=True, help="split that is predicted, such as dev")
    parser.add_argument(
        "--predictions", type=Path, required=True, metavar="FILE", help="an id and a label on each line"
    )
    parser.add_argument("--output", type=Path, metavar="FILE", help="scores, as JSON")
    return parser.parse_args()


if __name__ == "__main__":
    run_main(main)
