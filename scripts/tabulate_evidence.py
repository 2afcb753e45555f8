"""The tables of scripts/evidence.sh: every row's scores, and how far they are from those of one row, seed by seed.

python scripts/tabulate_evidence.py runs/evidence --rows vit absvit --output runs/evidence/table

Reads ROOT/<row>-<seed>/summary.json of what is finished so far; a folder without one is named as missing. Writes
OUTPUT.md and OUTPUT.json. Scores are means and standard deviations over a row's seeds. Differences are those of a row
and of --against on the seeds that both have: their mean, its standard error, and in bold where the 95 % interval of it
(Student's t) excludes 0.
"""

from functools import partial

from vl_absvit.cli import OptionParser, add_table_options, run_main
from vl_absvit.errors import ConfigError
from vl_absvit.evaluation.score_tables import read_row, write_tables
from vl_absvit.evaluation.summary_columns import LOOKED, RETRIEVED, SUMMARY, VQA, columns, read_summary

AGAINST = "absvit"
GROUPS = {"Answers and retrieval": VQA | RETRIEVED, "Where it looks": LOOKED}


def main() -> None:
    parser = OptionParser(__doc__)
    add_table_options(parser, "scripts/evidence.sh", against=AGAINST)
    arguments = parser.parse_args()
    against = arguments.against
    if against not in arguments.rows and against != AGAINST:
        raise ConfigError(f"--against: expected one of --rows, got {against!r:.60}")
    read = partial(read_summary, readings=VQA | RETRIEVED | LOOKED)
    rows = {name: read_row(arguments.root, name, [SUMMARY], read) for name in arguments.rows}
    groups = {about: columns(readings) for about, readings in GROUPS.items()}
    write_tables(rows, groups, against, arguments.output)


if __name__ == "__main__":
    run_main(main)
