"""Trunks by the names that ``vision.model`` takes."""

from vl_absvit.models.trunks import vit
from vl_absvit.models.trunks.base import TrunkModel
from vl_absvit.models.trunks.timm_vit import find_timm_vit

MODELS: dict[str, TrunkModel] = {**vit.MODELS}
"""Trunks that are registered with timm by their names."""


def find_trunk(name: str) -> TrunkModel | None:
    """The trunk of this name: one of ``MODELS``, or a VisionTransformer of timm. None if there is none.

    Raises ``ConfigError`` if timm's model of this name cannot be a trunk.
    """
    return MODELS.get(name) or find_timm_vit(name)
