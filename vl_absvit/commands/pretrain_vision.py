"""Pretrain the visual encoder on labelled images, with a trainable query as prior.

vl-absvit pretrain-vision --config demo/pretrain [--optim.batch_size 64 ...]
accelerate launch --multi_gpu --num_processes 8 -m vl_absvit.commands.pretrain_vision --config pretrain_absvit_base
"""

from vl_absvit.cli import run_main
from vl_absvit.tasks.registry import TASKS
from vl_absvit.training.loop import run_task


def main() -> None:
    run_task(TASKS["pretraining"])


if __name__ == "__main__":
    run_main(main)
