"""Finetune a vision-language AbSViT on image-text retrieval.

python scripts/finetune_retrieval.py --config configs/demo/retrieval.yaml [--optim.batch_size 64 ...]
accelerate launch --num_processes 8 scripts/finetune_retrieval.py --config configs/retrieval_absvit_base.yaml
"""

from vl_absvit.cli import run_main
from vl_absvit.tasks.registry import TASKS
from vl_absvit.training.loop import run_task


def main() -> None:
    run_task(TASKS["retrieval"])


if __name__ == "__main__":
    run_main(main)
