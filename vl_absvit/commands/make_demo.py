"""Draw the demo world: scenes of coloured shapes with questions, captions and attention maps, in the official formats.

    vl-absvit make-demo --output data/demo [--seed 0] [--scenes 6000]
    vl-absvit make-demo --output data/demo_styles --styles 1500
    vl-absvit make-demo --output data/demo_masks --masks 400
    vl-absvit make-demo --output data/demo_pretraining --pretraining 4000

With --styles it is another world: single shapes in four drawing styles, in the form of PACS. With --masks it is scenes
with masks of their objects and made-up eye fixations, half for training and half for validation. With --pretraining it
is captioned pictures of a third look, and statements in the forms of NLVR2 and SNLI-VE. A second run with the same
arguments leaves the folder as it is.
"""

import os
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from pathlib import Path

from vl_absvit.cli import OptionParser, progress, run_main
from vl_absvit.demo.masked import make_masked_world
from vl_absvit.demo.pretraining import make_pretraining_world
from vl_absvit.demo.styles import make_style_world
from vl_absvit.demo.world import make_demo_world
from vl_absvit.errors import ConfigError

SCENES = 6_000


def main() -> None:
    parser = OptionParser(__doc__)
    parser.add_argument("--output", type=Path, required=True, help="folder to make")
    parser.add_argument("--seed", type=int, default=0, help="the same seed draws the same world (default 0)")
    worlds = parser.add_mutually_exclusive_group()
    worlds.add_argument("--scenes", type=int, default=SCENES, help=f"VQA training images; the rest scales ({SCENES})")
    worlds.add_argument("--styles", type=int, metavar="N", help="draw the world of four styles, N pictures of each")
    worlds.add_argument("--masks", type=int, metavar="N", help="draw N scenes with masks of their objects")
    worlds.add_argument("--pretraining", type=int, metavar="N", help="draw N captioned pictures, and statements")
    arguments = parser.parse_args()
    if arguments.scenes < 1 or arguments.seed < 0:
        raise ConfigError(f"expected --scenes >= 1 and --seed >= 0, got {arguments.scenes} and {arguments.seed}")
    if arguments.styles is not None and arguments.styles < 1:
        raise ConfigError(f"expected --styles >= 1, got {arguments.styles}")
    if arguments.masks is not None and arguments.masks < 2:
        raise ConfigError(f"expected --masks >= 2, got {arguments.masks}")
    if arguments.pretraining is not None and arguments.pretraining < 2:
        raise ConfigError(f"expected --pretraining >= 2, got {arguments.pretraining}")
    with progress() as bar:

        def track(items: Iterable, total: int, description: str) -> Iterator:
            return iter(bar.track(items, total=total, description=description))

        if arguments.styles is not None:
            make: Callable[..., bool] = partial(make_style_world, pictures=arguments.styles)
        elif arguments.masks is not None:
            make = partial(make_masked_world, pictures=arguments.masks)
        elif arguments.pretraining is not None:
            make = partial(make_pretraining_world, pictures=arguments.pretraining)
        else:
            make = partial(make_demo_world, scenes=arguments.scenes)
        is_new = make(arguments.output, seed=arguments.seed, workers=os.cpu_count() or 1, track=track)
    print(f"{arguments.output}: {'made' if is_new else 'was there already'}")


if __name__ == "__main__":
    run_main(main)
