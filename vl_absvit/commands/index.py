"""Index the pictures of a folder by a model's first looks, so that vl-absvit search finds them by a sentence.

vl-absvit index --checkpoint runs/retrieval/checkpoints/best --images photos --output photos.index

Also under torchrun or accelerate launch. Given again, it goes on where it was interrupted, or brings the index up to
date: only new and changed pictures are read (by path, size and time of their files), only new contents are looked at
(by digest), and pictures that are gone are dropped. Pictures that cannot be used are listed in bad.jsonl.
"""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from vl_absvit.cli import (
    OptionParser,
    add_checkpoint_option,
    add_loading_options,
    check_loading_options,
    log_on_stderr,
    progress,
    run_main,
)

if TYPE_CHECKING:
    from vl_absvit.search.index_run import Done


def main() -> None:
    arguments = parse_arguments()
    from vl_absvit.distributed import is_main
    from vl_absvit.hub import find
    from vl_absvit.precision import arithmetic
    from vl_absvit.search.index_run import Source, locked, update_index
    from vl_absvit.tasks.vl_checkpoint import load_parts
    from vl_absvit.training.loop import make_accelerator

    accelerator = make_accelerator()
    found = find(arguments.checkpoint, "--checkpoint")
    checkpoint = load_parts(found.path)
    checkpoint.model.to(accelerator.device)
    name = str(found.path.resolve()) if found.name == arguments.checkpoint else found.name
    source = Source(checkpoint, found.path, name, arguments.precision)
    with locked(arguments.output):
        with log_on_stderr(), progress() as bar, arithmetic(arguments.precision, accelerator.device):
            done = update_index(
                source, arguments.images, arguments.output,
                batch_size=arguments.batch_size, num_workers=arguments.num_workers, bar=bar,
            )  # fmt: skip
        if is_main():
            print("\n".join(describe(done, arguments)))
            add_approximate(done)
    accelerator.end_training()


def describe(done: "Done", arguments: argparse.Namespace) -> list[str]:
    """What was done, in words."""
    index, new = done.made, done.looked + done.copied
    each = index.layout.row_bytes
    what = f"{index.layout.vectors} patches" if index.layout.vectors > 1 else "one vector"
    lines = [
        f"{index.pictures:,} pictures in {arguments.output}: {index.pictures - new:,} unchanged, "
        f"{done.looked:,} looked at, {done.copied:,} of known content, {done.removed:,} gone",
        f"{what} of each, {each:,} bytes, {each * index.pictures / 1e6:,.1f} MB in all; in {arguments.precision}",
    ]
    if done.others:
        lines.append(f"{done.others:,} files that are not named like pictures were left alone")
    if done.bad:
        picture, reason = min(done.bad.items())
        bad = arguments.output / "bad.jsonl"
        lines.append(f"{len(done.bad):,} pictures cannot be used, see {bad}; the first: {picture.file}: {reason}")
    return lines


def add_approximate(done: "Done") -> None:
    """Have FAISS make its own index of a large one, and say how much it finds."""
    from vl_absvit.search import approximate
    from vl_absvit.search.index_folder import write_index

    index = done.made
    if not approximate.is_large(index):
        return
    if not approximate.is_installed():
        print("search compares with all; pip install faiss-cpu and the same command again make it faster")
        return
    if index.approximate is None:
        index = index._replace(approximate=approximate.build(index))
        write_index(index, done.bad)
    print(approximate.describe(index))


def parse_arguments() -> argparse.Namespace:
    parser = OptionParser(__doc__)
    add_checkpoint_option(parser, "a retrieval checkpoint, or a VQA one")
    parser.add_argument("--images", type=Path, required=True, metavar="DIR", help="folder of pictures, and of folders")
    parser.add_argument("--output", type=Path, required=True, metavar="IDX", help="folder of the index")
    add_loading_options(parser, "pictures per process and forward pass", 16)
    arguments = parser.parse_args()
    check_loading_options(parser, arguments)
    return arguments


if __name__ == "__main__":
    run_main(main)
