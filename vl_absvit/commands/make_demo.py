"""Draw the demo world: scenes of coloured shapes with questions, captions and attention maps, in the official formats.

    vl-absvit make-demo --output data/demo [--seed 0] [--scenes 6000]

A second run with the same arguments leaves the folder as it is.
"""

import os
from collections.abc import Iterable, Iterator
from pathlib import Path

from vl_absvit.cli import OptionParser, progress, run_main
from vl_absvit.demo.world import make_demo_world
from vl_absvit.errors import ConfigError


def main() -> None:
    parser = OptionParser(__doc__)
    parser.add_argument("--output", type=Path, required=True, help="folder to make")
    parser.add_argument("--seed", type=int, default=0, help="the same seed draws the same world (default 0)")
    parser.add_argument("--scenes", type=int, default=6000, help="VQA training images; the rest scales (default 6000)")
    arguments = parser.parse_args()
    if arguments.scenes < 1 or arguments.seed < 0:
        raise ConfigError(f"expected --scenes >= 1 and --seed >= 0, got {arguments.scenes} and {arguments.seed}")
    with progress() as bar:

        def track(items: Iterable, total: int, description: str) -> Iterator:
            return iter(bar.track(items, total=total, description=description))

        is_new = make_demo_world(
            arguments.output,
            seed=arguments.seed,
            scenes=arguments.scenes,
            workers=os.cpu_count() or 1,
            track=track,
        )
    print(f"{arguments.output}: {'made' if is_new else 'was there already'}")


if __name__ == "__main__":
    run_main(main)
