"""Write training questions with their images into shards that training reads from beginning to end:

    vl-absvit write-stream-shards --data PREPARED --output STREAM [--split train] [--shards 64]

PREPARED is what prepare-vqav2 wrote, with embedded images or not. Train on the shards with --data.stream STREAM.
optim.batch_size must be a multiple of --shards, and so should --shards be of the number of training processes, each of
which then reads shards of its own. An interrupted run goes on where it stopped when the command is given again.
"""

import time
from collections.abc import Iterable, Iterator
from pathlib import Path

from vl_absvit.cli import OptionParser, add_images_option, progress, run_main
from vl_absvit.errors import ConfigError


def main() -> None:
    parser = OptionParser(__doc__)
    parser.add_argument("--data", type=Path, required=True, metavar="PREPARED", help="prepared VQA data")
    add_images_option(parser)
    parser.add_argument("--output", type=Path, required=True, metavar="STREAM", help="folder to write")
    parser.add_argument("--split", nargs="+", default=["train"], metavar="S", help="splits to train on (default train)")
    parser.add_argument("--shards", type=int, default=64, help="files (default 64)")
    parser.add_argument("--seed", type=int, default=0, help="deals images to shards (default 0)")
    arguments = parser.parse_args()
    if arguments.shards < 1 or arguments.seed < 0:
        raise ConfigError(f"expected --shards >= 1 and --seed >= 0, got {arguments.shards} and {arguments.seed}")
    if len(set(arguments.split)) < len(arguments.split):
        raise ConfigError(f"--split names a split more than once: {' '.join(arguments.split)}")
    from vl_absvit.prepare.stream_shards import StreamOptions, write_stream_shards

    options = StreamOptions(
        data=arguments.data, images=arguments.images, splits=arguments.split, shards=arguments.shards,
        seed=arguments.seed,
    )  # fmt: skip
    was_there, start = (arguments.output / "manifest.json").is_file(), time.monotonic()
    with progress() as bar:

        def track(items: Iterable, total: int, description: str) -> Iterator:
            return iter(bar.track(items, total=total, description=description))

        manifest, images, questions = write_stream_shards(options, arguments.output, track)
    seconds = time.monotonic() - start
    if was_there:
        print(f"{arguments.output} is finished already; nothing to do")
    else:
        print(
            f"took {seconds:.1f} s: {images:,} images ({images / seconds:,.0f}/s) with {questions:,} questions "
            f"({questions / seconds:,.0f}/s)"
        )
    left_out = manifest["left_out"]
    print(
        f"{options.shards} shards: {manifest['questions']:,} questions on {manifest['images']:,} images, "
        f"{sum(shard['bytes'] for shard in manifest['shards']):,} bytes; left out: {left_out['dropped']:,} questions "
        f"without an answer in the vocabulary, {left_out['without_image']:,} without their image"
    )


if __name__ == "__main__":
    run_main(main)
