"""What the model costs, measured beside a naive transcription of the same formulas on the same weights.

python scripts/benchmark.py vqa --device cpu --output table.json
python scripts/benchmark.py retrieval --help
Weights, images and texts are random: no data and no tokenizer are needed. All sides take turns in one run, and their
results are compared before anything is timed. On a machine that others use, ratios mean more than seconds.
"""

import argparse
import importlib
import sys
from pathlib import Path

from vl_absvit.cli import OptionParser, run_main

HELP = {
    "vision": "both looks of the visual encoder, forward",
    "vqa": "the whole model answering questions, forward",
    "precisions": "the same on a CPU in fp32, bf16 and int8, which take turns",
    "train-vqa": "a training step on questions: batch, forward, backward, optimizer",
    "train-frozen": "a training step on questions with frozen parts, beside one in which everything trains",
    "train-retrieval": "a training step on captions: batch, forward, backward, optimizer",
    "train-pairs": "a step of pretraining on pairs: batch, forward, backward, optimizer",
    "retrieval": "a gallery's scores: the naive way, all pairs exactly, each image's best captions",
    "again": "another question and another pair about a picture if only the last blocks look again",
    "segmentation": "UPerNet on a ViT, forward, beside transformers' own, and AbSViT's two looks",
    "search": "the pictures of a large gallery that are nearest to a text",
    "scaling": "time and memory against the size of images, questions, captions, gallery and processes",
    "data": "decoding, transforms and loading of images, per core, and the loader processes that a GPU needs",
    "preparation": "preparing a data set of questions from its downloads, beside another checkout",
    "start": "from the start of a program to its first word about one picture, beside another checkout",
    "model": "parameters and operations of ViT and AbSViT, and of all other trunks, beside the papers'",
    "attention": "one layer of softmax attention, Performer and VARS-D, against the number of tokens",
}
PRECISIONS = ("fp32", "bf16")
BLOCKS = 12  # of a model of any size


def main() -> None:
    options = vars(parse_arguments())
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # benchmarks are no part of the installed package
    module = options.pop("benchmark").replace("-", "_")
    importlib.import_module(f"benchmarks.{module}").run(**options)


def parse_arguments() -> argparse.Namespace:
    parser = OptionParser(__doc__)
    commands = parser.add_subparsers(dest="benchmark", required=True, metavar="BENCHMARK", parser_class=BenchmarkParser)
    command = {name: commands.add_parser(name, help=text, description=text) for name, text in HELP.items()}
    for name in (
        "vision",
        "vqa",
        "train-vqa",
        "train-frozen",
        "train-retrieval",
        "train-pairs",
        "retrieval",
        "again",
        "segmentation",
    ):
        add_model_options(command[name], training=name.startswith("train"))
    images_of = {"vision": 2, "vqa": 2, "train-vqa": 2, "train-frozen": 2, "train-retrieval": 2, "retrieval": 4}
    images_of |= {"segmentation": 1, "train-pairs": 4}
    for name, images in images_of.items():
        add_number(command[name], "--images", images, "I", "there are")
    for name in ("vqa", "train-vqa", "train-frozen"):
        command[name].add_argument(
            "--questions", type=positive, nargs="+", default=[1, 4], metavar="Q", help="per image, each in turn (1 4)"
        )
    for name in ("vision", "vqa", "train-vqa"):
        command[name].add_argument("--compile", action="store_true", dest="compiled", help="ours by torch.compile, too")
    add_number(command["train-retrieval"], "--negatives", 15, "N", "false captions of each image")
    add_number(command["retrieval"], "--captions", 200, "C", "there are")
    add_number(command["retrieval"], "--shortlist", 16, "K", "captions per image")
    add_number(command["retrieval"], "--batch", 64, "P", "pairs of one of our forward passes")
    add_number(command["again"], "--image-size", 224, "PX", "side of the picture")
    add_number(command["segmentation"], "--resolution", 512, "S", "pixels a side")
    add_number(command["again"], "--texts", 4, "T", "questions, and captions, about the picture")
    command["again"].add_argument(
        "--from", type=not_negative, nargs="+", default=[2, 4, 6, 8, 10], dest="starts", metavar="M",
        help="first blocks of the second look, beside 0 (2 4 6 8 10)",
    )  # fmt: skip
    command["precisions"].add_argument("--size", choices=("tiny", "base"), default="base", help="of the model (base)")
    command["precisions"].add_argument(
        "--images",
        type=positive,
        nargs="+",
        default=[1, 4, 8],
        metavar="I",
        help="with a question each, in turn (1 4 8)",
    )
    add_number(command["precisions"], "--repeats", 5, "N", "rounds")
    command["attention"].add_argument(
        "--sides",
        type=positive,
        nargs="+",
        default=[14, 20, 24, 28],
        metavar="S",
        help="of grids of tokens (14 ... 28)",
    )
    add_number(command["attention"], "--images", 8, "I", "there are")
    add_number(command["attention"], "--repeats", 15, "N", "rounds")
    add_number(command["search"], "--pictures", 1_000_000, "I", "there are")
    add_number(command["search"], "--width", 768, "D", "numbers of a vector")
    add_number(command["search"], "--texts", 1, "B", "at a time")
    add_number(command["search"], "--repeats", 9, "N", "rounds")
    add_scaling_options(command["scaling"])
    add_data_options(command["data"])
    add_preparation_options(command["preparation"])
    add_start_options(command["start"])
    for parser_of_one in command.values():
        parser_of_one.add_argument("--output", type=Path, metavar="FILE", help="everything that was measured, as JSON")
    arguments, unknown = parser.parse_known_args()
    if unknown:  # said by the benchmark's own parser, which knows the nearest option
        commands.choices[arguments.benchmark].error(f"unrecognized arguments: {' '.join(unknown)}")
    if arguments.benchmark == "retrieval" and arguments.shortlist > arguments.captions:
        parser.error(f"--shortlist {arguments.shortlist} is more than the {arguments.captions} captions")
    if arguments.benchmark == "again" and max(arguments.starts) >= BLOCKS:
        parser.error(f"--from {max(arguments.starts)}: the model has blocks 0 to {BLOCKS - 1}")
    return arguments


class BenchmarkParser(OptionParser):
    """A parser of one benchmark's options, which complains as the script's own does."""

    def __init__(self, *, prog: str, description: str) -> None:
        super().__init__(description)
        self.prog = prog


def add_model_options(parser: argparse.ArgumentParser, *, training: bool) -> None:
    """What all benchmarks that time a model can be asked."""
    parser.add_argument("--size", choices=("tiny", "base"), default="base", help="of the model (default: base)")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu", help="where to compute (default: cpu)")
    what = "of the forward pass, under autocast" if training else "of the weights"
    parser.add_argument(
        "--precision", nargs="+", choices=PRECISIONS, default=PRECISIONS, help=f"{what}, each in turn (both)"
    )
    add_number(parser, "--repeats", 5, "N", "rounds of all sides")


def add_scaling_options(parser: argparse.ArgumentParser) -> None:
    """What the benchmark of growing work can be asked."""
    parser.add_argument("--size", choices=("tiny", "small", "base"), default="small", help="of the model (small)")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu", help="where to compute (default: cpu)")
    parser.add_argument("--precision", choices=PRECISIONS, default="fp32", help="of the arithmetic (default: fp32)")
    parser.add_argument(
        "--processes", type=int, nargs="+", choices=(1, 2, 4), default=[1, 2], help="that share a batch of 4, CPU (1 2)"
    )
    add_number(parser, "--repeats", 3, "N", "rounds of all points")
    parser.add_argument("--figure", type=Path, metavar="FILE", help="the same as a picture, PNG")


def add_data_options(parser: argparse.ArgumentParser) -> None:
    """What the benchmark of loading can be asked."""
    add_number(parser, "--images", 48, "I", "there are of each size")
    add_number(parser, "--image-size", 224, "PX", "side of the model's input")
    parser.add_argument(
        "--workers", type=not_negative, nargs="+", default=[0, 2], metavar="W", help="loader processes, in turn (0 2)"
    )
    parser.add_argument(
        "--gpu-rate", type=positive, nargs="+", default=[500, 1000, 2000], metavar="R",
        help="images per second that a GPU trains on (500 1000 2000)",
    )  # fmt: skip
    add_number(parser, "--repeats", 5, "N", "rounds")


def add_preparation_options(parser: argparse.ArgumentParser) -> None:
    """What the benchmark of preparation can be asked."""
    add_number(parser, "--images", 4000, "I", "there are, with five questions each")
    parser.add_argument("--beside", type=Path, metavar="DIR", help="another checkout, to take turns with")
    add_number(parser, "--repeats", 4, "N", "rounds")


def add_start_options(parser: argparse.ArgumentParser) -> None:
    """What the benchmark of a program's start can be asked."""
    parser.add_argument(
        "--questions", type=positive, nargs="+", default=[1, 20], metavar="Q", help="in one run, each in turn (1 20)"
    )
    parser.add_argument("--size", choices=("tiny", "small", "base"), default="base", help="of the model (base)")
    parser.add_argument("--beside", type=Path, metavar="DIR", help="another checkout, to take turns with")
    add_number(parser, "--repeats", 5, "N", "rounds")


def add_number(parser: argparse.ArgumentParser, name: str, default: int, metavar: str, text: str) -> None:
    """An option that counts something."""
    parser.add_argument(name, type=positive, default=default, metavar=metavar, help=f"{text} (default: {default})")


def positive(text: str) -> int:
    """A number of things, at least one."""
    if not (text.isascii() and text.isdigit() and int(text)):
        raise argparse.ArgumentTypeError(f"must be at least 1, got {text}")
    return int(text)


def not_negative(text: str) -> int:
    """A number of things, or none."""
    return 0 if text == "0" else positive(text)


if __name__ == "__main__":
    run_main(main)
