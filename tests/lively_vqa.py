"""An untrained VQA model whose answers and maps depend on the question, as those of a trained one do."""

from pathlib import Path

import torch

from tests.tiny_vqa import tiny_vqa_config
from vl_absvit.tasks.vqa import VQATask


def lively_task(world: Path, output: Path, **parts) -> VQATask:
    """A task on the tiny world; its weights are large, those that stand for words even more so."""
    task = VQATask(tiny_vqa_config(world, output, **parts))
    for name, weight in task.model.named_parameters():
        if weight.ndim >= 2:
            torch.nn.init.normal_(weight, std=3.0 if "word_embeddings" in name else 0.3)
    task.model.eval()
    return task
