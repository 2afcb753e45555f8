"""Finetune a vision-language AbSViT on visual question answering.

vl-absvit finetune-vqa --config demo/vqa [--optim.batch_size 64 ...]
accelerate launch --multi_gpu --num_processes 8 -m vl_absvit.commands.finetune_vqa --config vqa_absvit_base --data.root OUT
"""

from vl_absvit.cli import run_main
from vl_absvit.tasks.registry import TASKS
from vl_absvit.training.loop import run_task


def main() -> None:
    run_task(TASKS["vqa"])


if __name__ == "__main__":
    run_main(main)
