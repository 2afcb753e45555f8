"""Tiny configs of the tasks on pairs and on statements, by kind, for tests of what all tasks have in common."""

from pathlib import Path

from tests.tiny_pairs import tiny_pairs_config
from tests.tiny_statements import CONFIGS, tiny_statement_config
from vl_absvit.config import VisionLanguageConfig

KINDS = ("pairs", *CONFIGS)


def tiny_config(kind: str, world: Path, base: Path, output: Path, **parts) -> VisionLanguageConfig:
    """Two epochs of a few steps.

    Args:
        base: folder for the prepared statements, of one process alone.
    """
    if kind == "pairs":
        return tiny_pairs_config(world, output, **parts)
    return tiny_statement_config(kind, world, base, output, **parts)
