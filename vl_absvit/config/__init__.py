"""A run's configuration: frozen dataclasses; every default lives in one place.

``runs.py`` holds what several tasks share, ``tasks.py`` and ``segmentation.py`` each task's own. Nothing here waits for
torch. The docstring under a field is its documentation in ``--help``. Contradictions raise ``ConfigError`` when the
config is made.
"""

from vl_absvit.config.model import FusionConfig, PriorConfig, TextConfig, VisionConfig
from vl_absvit.config.runs import RENAMED, TaskConfig, VisionLanguageConfig
from vl_absvit.config.segmentation import (
    PicturesConfig,
    SegmentationConfig,
    SegmentationLossConfig,
    UPerNetConfig,
)
from vl_absvit.config.tasks import (
    AugmentationConfig,
    NLVR2Config,
    PairLossConfig,
    PairsConfig,
    PairSource,
    PretrainConfig,
    RetrievalConfig,
    RetrievalLossConfig,
    SNLIVEConfig,
    StatementConfig,
    VQAConfig,
)
from vl_absvit.config.training import (
    DataConfig,
    EvaluationPrecision,
    LearningRates,
    LossConfig,
    OptimConfig,
    Precision,
    RunConfig,
)

__all__ = [
    "RENAMED", "AugmentationConfig", "DataConfig", "EvaluationPrecision", "FusionConfig", "LearningRates",
    "LossConfig", "NLVR2Config", "OptimConfig", "PairLossConfig", "PairSource", "PairsConfig", "PicturesConfig",
    "Precision", "PretrainConfig", "PriorConfig", "RetrievalConfig", "RetrievalLossConfig", "RunConfig", "SNLIVEConfig",
    "SegmentationConfig", "SegmentationLossConfig", "StatementConfig", "TaskConfig", "TextConfig", "UPerNetConfig",
    "VQAConfig", "VisionConfig", "VisionLanguageConfig",
]  # fmt: skip
