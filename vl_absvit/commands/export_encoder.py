"""Write the visual encoder of a checkpoint alone, as a file that timm opens; prints the call that does.

vl-absvit export-encoder --checkpoint runs/vqa/checkpoints/best --output encoder.safetensors [--prior "a dog"]
An AbSViT looks again with a prior in mind: the encoder of a pretraining brings its trained query, that of a VQA or
retrieval model takes one with every image, or the prior of one text, which --prior writes into the file. With
top_down none the file is a plain timm ViT.
"""

import argparse
from pathlib import Path

from vl_absvit.cli import OptionParser, add_checkpoint_option, run_main
from vl_absvit.errors import InputError


def main() -> None:
    arguments = parse_arguments()
    if arguments.output.exists():
        raise InputError(f"{arguments.output}: already there; expected a new file to write")
    from vl_absvit.hub import find
    from vl_absvit.tasks.encoder_file import encoder_of, write_encoder

    found = find(arguments.checkpoint, "--checkpoint")
    encoder = encoder_of(found.path, arguments.prior)
    write_encoder(encoder, arguments.output)
    numbers, size = sum(value.numel() for value in encoder.state.values()), encoder.arguments["img_size"]
    print(f"{arguments.output}: the encoder of {found.name}, {numbers:,} numbers, opened by")
    print("import timm, vl_absvit.models")
    print(f"model = {encoder.call(arguments.output)}")
    print(f"images of {size} x {size} pixels, less mean {encoder.mean}, divided by std {encoder.std}")
    if encoder.needs_prior:
        print("with a prior per image, model(images, prior), or its first look, model.look_once(images)")


def parse_arguments() -> argparse.Namespace:
    parser = OptionParser(__doc__)
    add_checkpoint_option(parser, "any checkpoint")
    parser.add_argument("--output", type=Path, required=True, metavar="FILE", help="the .safetensors file to write")
    parser.add_argument("--prior", metavar="TEXT", help="what to look for in every image (VQA and retrieval models)")
    arguments = parser.parse_args()
    if arguments.output.suffix != ".safetensors":
        parser.error(f"--output {arguments.output}: expected a name that ends in .safetensors, by which timm knows it")
    return arguments


if __name__ == "__main__":
    run_main(main)
