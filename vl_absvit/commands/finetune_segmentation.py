"""Finetune an encoder on labelled pixels, with UPerNet and a trainable query as prior.

vl-absvit finetune-segmentation --config segmentation_voc_absvit_base [--optim.batch_size 16 ...]
accelerate launch --multi_gpu --num_processes 8 -m vl_absvit finetune-segmentation --config CONFIG
"""

from vl_absvit.cli import parse_run_config, run_main
from vl_absvit.config import SegmentationConfig


def main() -> None:
    config = parse_run_config(SegmentationConfig)
    from vl_absvit.tasks.segmentation import SegmentationTask
    from vl_absvit.training.loop import launch

    launch(config, SegmentationTask)


if __name__ == "__main__":
    run_main(main)
