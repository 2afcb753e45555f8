"""Finetune a vision-language AbSViT on visual question answering.

vl-absvit finetune-vqa --config demo/vqa [--optim.batch_size 64 ...]
accelerate launch --multi_gpu --num_processes 8 -m vl_absvit finetune-vqa --config vqa_absvit_base --data.root OUT
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
