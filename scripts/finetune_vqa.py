"""Finetune a vision-language AbSViT on visual question answering.

python scripts/finetune_vqa.py --config configs/demo/vqa.yaml [--optim.batch_size 64 ...]
accelerate launch --num_processes 8 scripts/finetune_vqa.py --config configs/vqa_absvit_base.yaml --data.root OUT
"""

from vl_absvit.cli import parse_run_config, run_main
from vl_absvit.config import VQAConfig


def main() -> None:
    config = parse_run_config(VQAConfig)
    from vl_absvit.tasks.vqa import VQATask
    from vl_absvit.training.loop import launch

    launch(config, VQATask)


if __name__ == "__main__":
    run_main(main)
