"""What the model costs, measured beside a naive transcription of the same formulas on the same weights.

python scripts/benchmark.py retrieval --device cpu --output table.json
python scripts/benchmark.py model --output table.json
Weights, images and texts are random: no data and no tokenizer are needed. All sides take turns in one run, and their
results are compared before anything is timed. On a machine that others use, ratios mean more than seconds.
"""

import argparse
import importlib
import sys
from pathlib import Path

from vl_absvit.cli import OptionParser, run_main

HELP = {
    "retrieval": "a gallery's scores: the naive way, all pairs exactly, each image's best captions",
    "model": "parameters and operations of ViT and AbSViT, tiny, small and base, beside the paper's",
}
PRECISIONS = ("fp32", "bf16")


def main() -> None:
    options = vars(parse_arguments())
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # benchmarks are no part of the installed package
    importlib.import_module(f"benchmarks.{options.pop('benchmark')}").run(**options)


def parse_arguments() -> argparse.Namespace:
    parser = OptionParser(__doc__)
    commands = parser.add_subparsers(dest="benchmark", required=True, metavar="BENCHMARK", parser_class=command_parser)
    retrieval = commands.add_parser("retrieval", help=HELP["retrieval"], description=HELP["retrieval"])
    add_common_options(retrieval)
    retrieval.add_argument("--images", type=positive, default=4, metavar="I", help="of the gallery (default: 4)")
    retrieval.add_argument("--captions", type=positive, default=200, metavar="C", help="of the gallery (default: 200)")
    retrieval.add_argument("--shortlist", type=positive, default=16, metavar="K", help="captions per image (16)")
    model = commands.add_parser("model", help=HELP["model"], description=HELP["model"])
    add_output_option(model)
    arguments, unknown = parser.parse_known_args()
    if unknown:  # said by the benchmark's own parser, which knows the nearest option
        commands.choices[arguments.benchmark].error(f"unrecognized arguments: {' '.join(unknown)}")
    if arguments.benchmark == "retrieval" and arguments.shortlist > arguments.captions:
        parser.error(f"--shortlist {arguments.shortlist} is more than the {arguments.captions} captions")
    return arguments


def command_parser(*, prog: str, description: str) -> OptionParser:
    """A parser of one benchmark's options, which complains as the script's own does."""
    parser = OptionParser(description)
    parser.prog = prog
    return parser


def add_common_options(parser: argparse.ArgumentParser) -> None:
    """What all benchmarks that take times can be asked."""
    parser.add_argument("--size", choices=("tiny", "base"), default="base", help="of the model (default: base)")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu", help="where to compute (default: cpu)")
    parser.add_argument(
        "--precision", nargs="+", choices=PRECISIONS, default=PRECISIONS, help="of the weights, each in turn (both)"
    )
    parser.add_argument("--repeats", type=positive, default=5, metavar="N", help="rounds of all sides (default: 5)")
    add_output_option(parser)


def add_output_option(parser: argparse.ArgumentParser) -> None:
    """Where the measurements go."""
    parser.add_argument("--output", type=Path, metavar="FILE", help="everything that was measured, as JSON")


def positive(text: str) -> int:
    """A number of things, at least one."""
    if not (text.isascii() and text.isdigit() and int(text)):
        raise argparse.ArgumentTypeError(f"must be at least 1, got {text}")
    return int(text)


if __name__ == "__main__":
    run_main(main)
