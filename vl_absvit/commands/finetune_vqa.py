"""Finetune a vision-language AbSViT on visual question answering.

python scripts/finetune_vqa.py --config configs/demo/vqa.yaml [--optim.batch_size 64 ...]
accelerate launch --num_processes 8 scripts/finetune_vqa.py --config configs/vqa_absvit_base.yaml --data.root OUT
"""

from vl_absvit.cli import run_main
from vl_absvit.tasks.registry import TASKS
from vl_absvit.training.loop import run_task


def main() -> None:
    run_task(TASKS["vqa"])


if __name__ == "__main__":
    run_main(main)
