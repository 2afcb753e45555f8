"""Several retrieval results side by side, and what their shortlists cost against all pairs.

vl-absvit tabulate-retrieval RESULT.json ... [--output table.json]
Results are files of evaluate-retrieval. Those of one checkpoint on one split belong together; where one of them
judged all pairs, the others tell how far their R@1 is from its, and with ``--look both`` from that of its kind.
"""

from pathlib import Path
from types import NoneType

from rich.console import Console
from rich.table import Table

from vl_absvit.cli import OptionParser, run_main
from vl_absvit.data.json_files import read_json, write_json
from vl_absvit.data.strict_json import shown
from vl_absvit.errors import InputError
from vl_absvit.evaluation.retrieval_metrics import ZERO_SHOT

RECALLS = [f"{direction}_r{k}" for direction in ("ir", "tr") for k in (1, 5, 10)]
NEEDED: dict[str, tuple[type, ...]] = {
    **dict.fromkeys(RECALLS, (int, float)),
    **dict.fromkeys(("checkpoint", "dataset", "split", "model", "look"), (str,)),
    "zero_shot": (bool, NoneType),
    "shortlist": (int, str),
    "pairs": (int,),
    "seconds": (int, float),
}
"""What is read of a result, and what it may be made of."""


def main() -> None:
    parser = OptionParser(__doc__)
    parser.add_argument("results", type=Path, nargs="+", metavar="RESULT.json")
    parser.add_argument("--output", type=Path, metavar="FILE", help="the table as JSON")
    arguments = parser.parse_args()
    rows = sorted((read_result(path) for path in arguments.results), key=order_of)
    exact = {(key_of(row), row["look"] == "both"): row for row in rows if row["shortlist"] == "all"}
    for row in rows:
        against = exact.get((key_of(row), row["look"] == "both"))
        for name in ("ir_r1", "tr_r1"):
            row[f"{name}_minus_all"] = None if against is None else round(row[name] - against[name], 4)
    if arguments.output:
        write_json(arguments.output, rows, indent=1)
    show(rows)


def read_result(path: Path) -> dict:
    """One result file.

    Raises:
        InputError: it is something else.
    """
    content, expected = read_json(path, dict), f"{path}: expected a result of vl-absvit evaluate-retrieval"
    for name, types in NEEDED.items():
        if name not in content:
            raise InputError(f"{expected}, but it has no {name!r}")
        if type(content[name]) not in types:
            raise InputError(f"{expected}, but its {name} is {shown(content[name])}")
    return {name: content[name] for name in NEEDED}


def key_of(row: dict) -> tuple[str, str, str]:
    """Results with the same key differ in look and shortlist only."""
    return row["checkpoint"], row["dataset"], row["split"]


def order_of(row: dict) -> tuple:
    """Results of one checkpoint one after the other, from the dual encoder to all pairs."""
    return *key_of(row), row["look"], row["pairs"]


def show(rows: list[dict]) -> None:
    """The table on screen."""
    table = Table("model", "protocol", "judged", "IR R@1/5/10", "TR R@1/5/10", "R@1 - all's", "pairs", "s")
    for column in table.columns[3:]:
        column.justify = "right"
    for row in rows:
        judged = "dual encoder" if row["look"] == "first" else f"best {row['shortlist']}".replace("best all", "all")
        judged += " + dual encoder" if row["look"] == "both" else ""
        differences = [row[f"{name}_minus_all"] for name in ("ir_r1", "tr_r1")]
        table.add_row(
            row["model"].split(",")[0],
            f"{ZERO_SHOT[row['zero_shot']]}, {row['dataset']} {row['split']}",
            judged,
            " / ".join(f"{row[name]:.1f}" for name in RECALLS[:3]),
            " / ".join(f"{row[name]:.1f}" for name in RECALLS[3:]),
            "" if None in differences else " / ".join(f"{value:+.1f}" for value in differences),
            f"{row['pairs']:,}",
            f"{row['seconds']:.1f}",
        )
    Console(width=max(Console().width, 120)).print(table)  # a narrower table is no longer read


if __name__ == "__main__":
    run_main(main)
