"""Prepare pictures in several domains, such as PACS, for training on all but one of them and testing on that one:

    vl-absvit prepare-domains --root downloads/pacs --output data/pacs

Li et al., "Deeper, Broader and Artier Domain Generalization", ICCV 2017. All under their official names:
  --root   DOMAIN/CLASS/FILE, such as photo/dog/056_0001.jpg, in this folder or up to three levels below it (kfold/)
  --lists  DOMAIN_{train,crossval,test}_kfold.txt, lines DOMAIN/CLASS/FILE LABEL; may stay gzipped
Writes OUT/TARGET/{train,val,test}/CLASS for every domain as target: the training and the held-out pictures of the
others, and the whole target. A picture's class is its folder's; labels that contradict it are counted and named.
Afterwards: vl-absvit pretrain-vision with --data.root OUT/TARGET, or bash scripts/leave_one_out.sh for all targets.
An interrupted run goes on where it stopped when the command is given again.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from vl_absvit.cli import OptionParser, run_main
from vl_absvit.prepare.command import run_preparation
from vl_absvit.prepare.domains import DomainOptions, prepare_domains


def main() -> None:
    parser = OptionParser(__doc__)
    parser.add_argument("--root", type=Path, required=True, metavar="DIR", help="folder of the pictures")
    parser.add_argument("--lists", type=Path, metavar="DIR", help="folder of the lists (default: --root)")
    run_preparation(parser, DomainOptions, prepare_domains, summary)


def summary(manifest: dict[str, Any], _: Path) -> Iterator[str]:
    for target, splits in manifest["splits"].items():
        train, val, test = (f"{splits[split]['images']:,}" for split in ("train", "val", "test"))
        yield f"without {target}: {train} pictures to train on, {val} to select on; {test} of {target} to test on"


if __name__ == "__main__":
    run_main(main)
