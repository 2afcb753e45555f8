"""A model that answers questions, built as a run builds it."""

from vl_absvit.models.build import build_model
from vl_absvit.models.vl_model import VLAbSViT
from vl_absvit.tasks.vqa import VQAConfig, VQATask


def build_vqa_model(config: VQAConfig, num_answers: int, tokenizer, answers=None) -> VLAbSViT:
    """Arguments as of ``build_model``."""
    return build_model(config, VQATask.head(config, num_answers), VQATask.sentence(config), tokenizer, answers)
