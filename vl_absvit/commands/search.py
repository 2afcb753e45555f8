"""Find the pictures of an index that a sentence describes: a line of JSON for each, the best first.

vl-absvit search --index photos.index --text "a dog on a beach" --top 10
vl-absvit search --index photos.index --text "a dog on a beach" --rerank 64 --sheet dogs.png

{"text": "a dog on a beach", "rank": 1, "image": "photos/7.jpg", "similarity": 0.41}
The dual encoder compares the text's prior with every picture's first look. With --rerank the whole model judges the
best of these. Their lines have "score", by which it ranks, and "match", the probability that both belong together.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from vl_absvit.cli import OptionParser, add_device_option, choose_device, complain, run_main, write_json_line
from vl_absvit.errors import InputError

if TYPE_CHECKING:
    from vl_absvit.search.query import Hit


def main() -> None:
    arguments = parse_arguments()
    device = choose_device(arguments.device)
    from vl_absvit.data.json_files import make_room
    from vl_absvit.hub import find
    from vl_absvit.search.approximate import describe
    from vl_absvit.search.index_folder import check_checkpoint, read_index
    from vl_absvit.search.query import Searcher
    from vl_absvit.tasks.vl_checkpoint import load_parts

    if arguments.sheet is not None:
        make_room(arguments.sheet)
    index = read_index(arguments.index)
    folder = find(arguments.checkpoint or index.checkpoint, "--checkpoint").path
    check_checkpoint(index, folder)
    checkpoint = load_parts(folder)
    searcher = Searcher(index, checkpoint, device, arguments.exact)
    if arguments.rerank and not searcher.judges_pairs:
        raise InputError(f"--rerank: expected the index of a retrieval model, which judges pairs; {folder} is none")
    failed = 0
    for text in arguments.text:
        hits = searcher.search(text, arguments.top, arguments.rerank, open_pictures=arguments.sheet is not None)
        for rank, hit in enumerate(hits, start=1):
            write_json_line(hit.record(text, rank))
            if hit.error is not None:
                failed += 1
                complain(hit.error)
        if arguments.sheet is not None:
            draw(hits, text, arguments.sheet)
    if not searcher.is_exact:
        print(describe(index), file=sys.stderr)
    if failed:
        raise InputError(f"{failed:,} pictures could not be opened; vl-absvit index brings the index up to date")


def draw(hits: "Sequence[Hit]", text: str, path: Path) -> None:
    """Write the contact sheet."""
    from vl_absvit.data.files import write_whole
    from vl_absvit.looking.pages import Found, contact_sheet

    found = []
    for rank, hit in enumerate(hits, start=1):
        if hit.judged is not None:
            match = f"{hit.similarity:.3f}" if hit.prediction is None else f"{100 * hit.prediction.match:.0f} %"
            found.append(Found(*hit.judged[1:], f"{rank}  {match}  {hit.image.name}"))
    if not found:
        raise InputError(f"{path}: none of the pictures that were found can be opened")
    sheet = contact_sheet(text, found)
    write_whole(path, lambda stream: sheet.save(stream, "PNG"))


def parse_arguments() -> argparse.Namespace:
    parser = OptionParser(__doc__)
    parser.add_argument("--index", type=Path, required=True, metavar="IDX", help="folder that vl-absvit index wrote")
    parser.add_argument("--text", nargs="+", required=True, metavar="TEXT", help="what to find")
    parser.add_argument("--top", type=int, default=10, metavar="K", help="pictures for a text (default: 10)")
    parser.add_argument(
        "--rerank", type=int, default=0, metavar="K", help="pictures that the whole model judges (default: none)"
    )
    parser.add_argument("--sheet", type=Path, metavar="FILE.png", help="also draw them, each with its prior mask")
    parser.add_argument("--exact", action="store_true", help="compare with all pictures, even where FAISS is quicker")
    parser.add_argument(
        "--checkpoint", metavar="DIR", help="the checkpoint that made the index, if it is no longer where it was"
    )
    add_device_option(parser)
    arguments = parser.parse_args()
    if arguments.top < 1 or arguments.rerank < 0:
        parser.error("--top must be at least 1 and --rerank at least 0")
    if arguments.sheet is not None and len(arguments.text) > 1:
        parser.error("--sheet draws what one --text finds")
    return arguments


if __name__ == "__main__":
    run_main(main)
