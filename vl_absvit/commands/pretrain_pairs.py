"""Pretrain a vision-language AbSViT on pairs of text and image: hidden words, and true pairs told from false ones.

vl-absvit pretrain-pairs --config pairs_absvit_base [--optim.batch_size 256 ...]
accelerate launch --multi_gpu --num_processes 8 -m vl_absvit pretrain-pairs --config pairs_absvit_base --data.root OUT
"""

from vl_absvit.cli import parse_run_config, run_main
from vl_absvit.config import PairsConfig


def main() -> None:
    config = parse_run_config(PairsConfig)
    from vl_absvit.tasks.pairs import PairsTask
    from vl_absvit.training.loop import launch

    launch(config, PairsTask)


if __name__ == "__main__":
    run_main(main)
