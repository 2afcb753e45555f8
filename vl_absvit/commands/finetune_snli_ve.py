"""Finetune a vision-language AbSViT on SNLI-VE: does a photograph entail a hypothesis.

vl-absvit finetune-snli-ve --config snli_ve_absvit_base [--optim.batch_size 64 ...]
accelerate launch --num_processes 8 -m vl_absvit finetune-snli-ve --config snli_ve_absvit_base --data.root OUT
"""

from vl_absvit.cli import parse_run_config, run_main
from vl_absvit.config import SNLIVEConfig


def main() -> None:
    config = parse_run_config(SNLIVEConfig)
    from vl_absvit.tasks.statements import SNLIVETask
    from vl_absvit.training.loop import launch

    launch(config, SNLIVETask)


if __name__ == "__main__":
    run_main(main)
