"""Finetune a vision-language AbSViT on image-text retrieval.

vl-absvit finetune-retrieval --config demo/retrieval [--optim.batch_size 64 ...]
accelerate launch --multi_gpu --num_processes 8 -m vl_absvit finetune-retrieval --config retrieval_absvit_base
"""

from vl_absvit.cli import parse_run_config, run_main
from vl_absvit.config import RetrievalConfig


def main() -> None:
    config = parse_run_config(RetrievalConfig)
    from vl_absvit.tasks.retrieval import RetrievalTask
    from vl_absvit.training.loop import launch

    launch(config, RetrievalTask)


if __name__ == "__main__":
    run_main(main)
