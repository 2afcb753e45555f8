"""Prepare questions about pictures of your own:

    vl-absvit prepare-vqa --name shop --images pictures --table train=train.csv val=val.csv --output data/shop
    vl-absvit prepare-vqa --name shop --images pictures --table all.jsonl --val-share 0.1 --output data/shop

A table is *.csv, *.tsv, *.txt, *.jsonl, *.json or *.parquet, or a folder that datasets' save_to_disk wrote. It has a
column for the picture (image, filename, image_id ...), the question, and the answers (answers, answer, label): one, a
list, or a list written into a cell. A column split, or SPLIT=FILE, names splits; otherwise shares of the pictures are
drawn. Rows that cannot be used are listed in OUT/refused.jsonl, each with file, line and reason.
An interrupted run goes on where it stopped when the command is given again.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from vl_absvit.cli import OptionParser, run_main
from vl_absvit.commands.prepare_vqav2 import summary as counts_of
from vl_absvit.prepare.command import run_preparation
from vl_absvit.prepare.own.command import add_table_options
from vl_absvit.prepare.own.questions import OwnQuestionOptions, prepare_own_questions


def main() -> None:
    parser = OptionParser(__doc__)
    parser.add_argument("--name", required=True, help="of the data set, in everything that comes of it")
    parser.add_argument("--images", type=Path, required=True, metavar="DIR", help="folder that the pictures lie below")
    parser.add_argument("--table", nargs="+", required=True, metavar="[SPLIT=]FILE", help="tables of questions")
    add_table_options(parser, "image, question, answer, split, question_id, question_type, answer_type")
    parser.add_argument(
        "--min-count", type=int, default=1, help="training questions an answer of the vocabulary has (default 1)"
    )
    parser.add_argument(
        "--vocabulary", type=Path, metavar="FILE",
        help="take this vocabulary in place of counting: the answers.json of a checkpoint to start from or to evaluate",
    )  # fmt: skip
    run_preparation(parser, OwnQuestionOptions, prepare_own_questions, summary)


def summary(manifest: dict[str, Any], output: Path) -> Iterator[str]:
    yield from counts_of(manifest, output)
    if manifest["answers_per_question"]:
        numbers = ", ".join(f"{number} ({count:,})" for number, count in manifest["answers_per_question"].items())
        official = "is the official one" if manifest["accuracy"] == "official" else "is not the official one"
        yield f"answers to a question: {numbers}; a target is {manifest['soft_score']}, and the accuracy {official}"


if __name__ == "__main__":
    run_main(main)
