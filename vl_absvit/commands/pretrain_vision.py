"""Pretrain the visual encoder on labelled images, with a trainable query as prior.

vl-absvit pretrain-vision --config demo/pretrain [--optim.batch_size 64 ...]
accelerate launch --multi_gpu --num_processes 8 -m vl_absvit pretrain-vision --config pretrain_absvit_base
"""

from vl_absvit.cli import parse_run_config, run_main
from vl_absvit.config import PretrainConfig


def main() -> None:
    config = parse_run_config(PretrainConfig)
    from vl_absvit.tasks.classification import ClassificationTask
    from vl_absvit.training.loop import launch

    launch(config, ClassificationTask)


if __name__ == "__main__":
    run_main(main)
