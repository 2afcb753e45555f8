"""The command line that all preparations share."""

import os
import sys
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, TypeVar

from vl_absvit.cli import OptionParser, log_on_stderr

Options = TypeVar("Options")
Manifest = dict[str, Any]


def run_preparation(
    parser: OptionParser,
    options: Callable[..., Options],
    prepare: Callable[[Options, Path, int], Manifest],
    summary: Callable[[Manifest, Path], Iterable[str]],
) -> None:
    """Prepare what the command line asks for, and say what came of it.

    Args:
        parser: knows the options of this preparation; those that all have are added to it.
        options: made from the parsed options by name.
        prepare: options, output and number of processes -> manifest.
        summary: lines about a manifest and the folder it is of.
    """
    parser.add_argument("--output", type=Path, required=True, metavar="OUT", help="folder to write")
    parser.add_argument("--allow-missing-images", action="store_true", help="go on without the images that are missing")
    parser.add_argument(
        "--workers", type=int, default=os.cpu_count(), help="processes that check images (default all cores)"
    )
    arguments = vars(parser.parse_args())
    output, workers = arguments.pop("output"), arguments.pop("workers")
    was_there = (output / "manifest.json").is_file()
    with log_on_stderr():
        manifest = prepare(options(**arguments), output, workers)
    for warning in manifest["warnings"]:
        print(f"warning: {warning}", file=sys.stderr)  # noqa: T201
    if was_there:
        print(f"{output} is finished already; nothing to do")  # noqa: T201
    for line in summary(manifest, output):
        print(line)  # noqa: T201


def statements_summary(manifest: Manifest, _: Path) -> Iterator[str]:
    """A line about every split of statements: how many, about how many images, and their labels."""
    for split, counts in manifest["splits"].items():
        labels = ", ".join(f"{number:,} {word}" for word, number in counts["labels"].items())
        yield f"{split:7}{counts['statements']:,} statements about {counts['images']:,} images: {labels}"
