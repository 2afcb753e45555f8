"""Pretrain the visual encoder on labelled images, with a trainable query as prior.

python scripts/pretrain_vision.py --config configs/demo/pretrain.yaml [--optim.batch_size 64 ...]
accelerate launch --multi_gpu --num_processes 8 scripts/pretrain_vision.py --config configs/pretrain_absvit_base.yaml
"""

from vl_absvit.cli import run_main
from vl_absvit.tasks.registry import TASKS
from vl_absvit.training.loop import run_task


def main() -> None:
    run_task(TASKS["pretraining"])


if __name__ == "__main__":
    run_main(main)
