"""Answer questions about pictures: a line of JSON for every question and picture, as soon as the answer is there.

vl-absvit ask --checkpoint runs/vqa/checkpoints/best --image a.jpg --question "What is it?"
vl-absvit ask --checkpoint runs/vqa/checkpoints/best --image a.jpg b.jpg --questions questions.jsonl > answers.jsonl
vl-absvit ask --checkpoint runs/vqa/checkpoints/best --image a.jpg       # reads questions from stdin, a line each

A line is the question itself, or an object {"question": text, "image": path}; its other keys go into its answer's line.
{"image": "a.jpg", "question": "What is it?", "answers": [{"answer": "dog", "confidence": 0.98}, ...], "cut": false}
A confidence is the sigmoid of an answer's logit, as trained with binary cross-entropy: each is from 0 to 1 on its own,
and they need not add up to 1. "cut" says that the model read the beginning of the question only.

What is wrong with a question or a picture is said in its line under "error", and on stderr; the others are answered,
and the exit code is 1 in the end. A wrong command, checkpoint or missing --image stops at once.
"""

import argparse
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from vl_absvit.cli import (
    OptionParser,
    add_checkpoint_option,
    add_device_option,
    add_precision_option,
    choose_device,
    complain,
    run_main,
    write_json_line,
)
from vl_absvit.errors import InputError

if TYPE_CHECKING:
    from vl_absvit.looking.asked import Asked

MOST_KEPT = 64
"""First looks that are kept, at most: those at all pictures of --image, if they are no more (base size, 224 pixels,
fp32: 3 MB each, 11 with maps)."""


def main() -> None:
    arguments = parse_arguments()
    device = choose_device(arguments.device)
    check_pictures(arguments.image)
    from vl_absvit.hub import find
    from vl_absvit.looking.asked import answer_all
    from vl_absvit.looking.live_model import KEPT_LOOKS, LiveModel
    from vl_absvit.tasks.vqa import load_checkpoint

    with open_questions(arguments) as questions:
        checkpoint = load_checkpoint(find(arguments.checkpoint, "--checkpoint").path)
        maps = None
        if arguments.maps is not None:
            from vl_absvit.looking.live_maps import LiveMaps

            maps = LiveMaps(arguments.maps)
        live = LiveModel(
            checkpoint, device, arguments.precision, top=arguments.top, with_maps=maps is not None,
            kept_looks=min(max(KEPT_LOOKS, len(arguments.image)), MOST_KEPT),
        )  # fmt: skip
        beside = None if arguments.questions in (None, "-") else Path(arguments.questions).parent
        given = failed = 0
        for answered in answer_all(live, questions, arguments.image, beside):
            files = {}
            if maps is not None and answered.reply is not None:
                files = maps.write(answered, checkpoint.preprocessing.image_size)
            write_json_line(answered.record(files))
            given += 1
            if answered.error is not None:
                failed += 1
                complain(": ".join(filter(None, (answered.asked.source, answered.image, answered.error))))
    if failed:
        raise InputError(f"{failed:,} of {given:,} questions were not answered")


def check_pictures(images: list[str]) -> None:
    """Raise ``InputError`` where the command line names no file."""
    from vl_absvit.data.files import check_name

    for image in images:
        check_name(image)
        if not Path(image).is_file():
            raise InputError(f"--image: there is no picture {image}")


@contextmanager
def open_questions(arguments: argparse.Namespace) -> Iterator["Iterator[Asked]"]:
    """The questions of the command line, of a file, or of stdin as they come."""
    from vl_absvit.looking.asked import Asked, read_asked

    stream: BinaryIO
    if arguments.question is not None:
        yield (Asked("--question", question) for question in arguments.question)
    elif arguments.questions in (None, "-"):
        if sys.stdin.isatty():
            print("questions, one a line; Ctrl+D ends", file=sys.stderr, flush=True)
        yield read_asked(sys.stdin.buffer, "stdin")
    else:
        with Path(arguments.questions).open("rb") as stream:
            yield read_asked(stream, arguments.questions)


def parse_arguments() -> argparse.Namespace:
    parser = OptionParser(__doc__)
    add_checkpoint_option(parser, "a VQA checkpoint")
    parser.add_argument(
        "--image", nargs="+", default=[], metavar="FILE", help="pictures that questions are about if they name none"
    )
    asked = parser.add_mutually_exclusive_group()
    asked.add_argument("--question", nargs="+", metavar="TEXT", help="what to ask about every picture")
    asked.add_argument(
        "--questions", metavar="FILE", help="questions, a line each; - is stdin, as without any question"
    )
    parser.add_argument("--top", type=int, default=5, metavar="K", help="answers to a question, at most (default: 5)")
    parser.add_argument(
        "--maps", type=Path, metavar="DIR",
        help="also write where the model looked, as export-attention does, into this new folder",
    )  # fmt: skip
    add_device_option(parser)
    add_precision_option(parser)
    arguments = parser.parse_args()
    if arguments.top < 1:
        parser.error(f"--top must be at least 1, got {arguments.top}")
    if arguments.question is not None and not arguments.image:
        parser.error("--question needs an --image to be asked about")
    return arguments


if __name__ == "__main__":
    run_main(main)
