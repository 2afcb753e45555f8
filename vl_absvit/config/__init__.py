"""A run's configuration: frozen dataclasses; every default lives in one place.

Here is what several tasks share; a task's own config stands with the task (``tasks/``). The docstring under a field is
its documentation in ``--help``. Contradictions raise ``ConfigError`` when the config is made.
"""

from vl_absvit.config.model import FusionConfig, PriorConfig, TextConfig, VisionConfig
from vl_absvit.config.runs import RENAMED, TaskConfig, VisionLanguageConfig
from vl_absvit.config.training import DataConfig, LearningRates, LossConfig, OptimConfig, Precision, RunConfig

__all__ = [
    "RENAMED", "DataConfig", "FusionConfig", "LearningRates", "LossConfig", "OptimConfig", "Precision", "PriorConfig",
    "RunConfig", "TaskConfig", "TextConfig", "VisionConfig", "VisionLanguageConfig",
]  # fmt: skip
