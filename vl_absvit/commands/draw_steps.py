"""Draw where a classifier attends after every step of its sparse reconstruction: a row for every picture.

vl-absvit draw-steps --checkpoint runs/pretrained/checkpoints/best --images a.jpg b.jpg --output steps.png
vl-absvit draw-steps --checkpoint DIR --images a.jpg --steps 1 3 5 7 --block -1 --output steps.png

A map is the weight of every token's value in the mean of all tokens' outputs in one block, in the last look. VARS has
one for each step; --steps may go beyond those that the model takes, in this block alone. Softmax attention and
Performer have one map, the attention of the average token. Each map is drawn between its own smallest and largest
value. Beside steps.png, steps.npz has steps, maps (pictures, steps, h, w), boxes (pictures, 4), the part of each
picture that the maps cover, and, of VARS, energies (pictures, steps). Arithmetic is fp32.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from vl_absvit.cli import OptionParser, add_checkpoint_option, run_main
from vl_absvit.errors import ConfigError

MOST_PICTURES, MOST_STEPS = 32, 12
"""On a page, and in a row of it. Viewers do not show larger pages."""
LARGEST_STEP = 1000


def main() -> None:
    arguments = parse_arguments()
    import numpy as np
    import torch

    from vl_absvit.data.files import write_whole
    from vl_absvit.data.json_files import make_room
    from vl_absvit.data.rgb import open_rgb
    from vl_absvit.hub import find
    from vl_absvit.looking.geometry import seen_box
    from vl_absvit.looking.pages import Stepwise, steps_page
    from vl_absvit.looking.step_maps import step_maps
    from vl_absvit.precision import arithmetic
    from vl_absvit.tasks.classifier_checkpoint import load_classifier
    from vl_absvit.tasks.vision_evaluation import look_in_words

    make_room(arguments.output)
    pictures = [open_rgb(file) for file in arguments.images]
    checkpoint = load_classifier(find(arguments.checkpoint, "--checkpoint").path)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    model, transform = checkpoint.model.to(device), checkpoint.transform
    with arithmetic("fp32", device):
        with torch.no_grad():
            looks = model.vision.look_twice(torch.stack([transform(picture) for picture in pictures]).to(device))
            classes = model.classify((looks.second or looks.first).tokens).argmax(dim=1).tolist()
        found = step_maps(model.vision, looks, arguments.block, arguments.steps)
    if len(found.steps) > MOST_STEPS:
        raise ConfigError(f"the model takes {len(found.steps) - 1} steps; name at most {MOST_STEPS} by --steps")
    maps = found.maps.transpose(0, 1).float().cpu().numpy()  # (pictures, steps, h, w)
    size, resized_to = model.vision.image_size[0], transform.resized_to
    boxes = [seen_box(*picture.size, size, resized_to) for picture in pictures]
    titles = ["attention" if found.energies is None else f"step {step}" for step in found.steps]
    rows = [
        Stepwise(picture, box, dict(zip(titles, of_one, strict=True)), f"{file.name}: {checkpoint.classes[label]}")
        for file, picture, box, of_one, label in zip(arguments.images, pictures, boxes, maps, classes, strict=True)
    ]
    look = look_in_words(model.vision.variant)
    note = f"Weight of each token's value in the mean output; block {found.block} of {len(model.vision.all_blocks)}, "
    page = steps_page(rows, note=f"{note}{found.attention}, {look}. Above: what the model says.")
    arrays: dict[str, Any] = {"steps": np.array(found.steps), "maps": maps, "boxes": np.array(boxes)}
    if found.energies is not None:
        arrays["energies"] = found.energies.T.float().cpu().numpy()
    write_whole(arguments.output.with_suffix(".npz"), lambda stream: np.savez_compressed(stream, **arrays))
    write_whole(arguments.output, lambda stream: page.save(stream, "PNG"))
    print(arguments.output)


def parse_arguments() -> argparse.Namespace:
    parser = OptionParser(__doc__)
    add_checkpoint_option(parser, "a classifier's checkpoint")
    parser.add_argument("--images", type=Path, nargs="+", required=True, metavar="FILE", help="pictures")
    parser.add_argument(
        "--steps", type=int, nargs="+", metavar="N",
        help="steps to draw, 0 is the start (default: the start and all that the model takes)",
    )  # fmt: skip
    parser.add_argument("--block", type=int, help="block to draw (default: the last one of the first stage)")
    parser.add_argument("--output", type=Path, required=True, metavar="FILE.png", help="picture to write")
    arguments = parser.parse_args()
    if arguments.output.suffix.lower() != ".png":
        parser.error(f"--output: expected a name that ends in .png, got {arguments.output}")
    if len(arguments.images) > MOST_PICTURES:
        parser.error(f"--images: expected at most {MOST_PICTURES}, got {len(arguments.images)}")
    if arguments.steps is not None:
        arguments.steps = sorted(set(arguments.steps))
        if not 0 <= arguments.steps[0] <= arguments.steps[-1] <= LARGEST_STEP or len(arguments.steps) > MOST_STEPS:
            parser.error(
                f"--steps: expected at most {MOST_STEPS} of 0 to {LARGEST_STEP}, got "
                f"{', '.join(map(str, arguments.steps))}"
            )
    return arguments


if __name__ == "__main__":
    run_main(main)
