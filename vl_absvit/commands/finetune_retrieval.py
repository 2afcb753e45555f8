"""Finetune a vision-language AbSViT on image-text retrieval.

vl-absvit finetune-retrieval --config demo/retrieval [--optim.batch_size 64 ...]
accelerate launch --multi_gpu --num_processes 8 -m vl_absvit.commands.finetune_retrieval --config retrieval_absvit_base
"""

from vl_absvit.cli import run_main
from vl_absvit.tasks.registry import TASKS
from vl_absvit.training.loop import run_task


def main() -> None:
    run_task(TASKS["retrieval"])


if __name__ == "__main__":
    run_main(main)
