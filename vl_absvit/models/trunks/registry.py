"""Trunks by the names that ``vision.model`` takes and that are registered with timm."""

from vl_absvit.models.trunks import vit
from vl_absvit.models.trunks.base import TrunkModel

MODELS: dict[str, TrunkModel] = {**vit.MODELS}
