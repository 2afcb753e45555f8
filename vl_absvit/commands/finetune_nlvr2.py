"""Finetune a vision-language AbSViT on NLVR2: is a sentence true of two photographs.

vl-absvit finetune-nlvr2 --config nlvr2_absvit_base [--optim.batch_size 64 ...]
accelerate launch --num_processes 8 -m vl_absvit finetune-nlvr2 --config nlvr2_absvit_base --data.root OUT
"""

from vl_absvit.cli import parse_run_config, run_main
from vl_absvit.config import NLVR2Config


def main() -> None:
    config = parse_run_config(NLVR2Config)
    from vl_absvit.tasks.statements import NLVR2Task
    from vl_absvit.training.loop import launch

    launch(config, NLVR2Task)


if __name__ == "__main__":
    run_main(main)
