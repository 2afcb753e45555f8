"""Finetune a vision-language AbSViT on image-text retrieval.

python scripts/finetune_retrieval.py --config configs/demo/retrieval.yaml [--optim.batch_size 64 ...]
accelerate launch --num_processes 8 scripts/finetune_retrieval.py --config configs/retrieval_absvit_base.yaml
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
