"""Trunks by the names that ``vision.model`` takes."""

import difflib

import timm

from vl_absvit.errors import ConfigError
from vl_absvit.models.trunks import fan, isotropic, rvt, vit
from vl_absvit.models.trunks.base import TrunkModel
from vl_absvit.models.trunks.timm_vit import find_timm_vit

MODELS: dict[str, TrunkModel] = {**vit.MODELS, **rvt.MODELS, **fan.MODELS, **isotropic.MODELS}
"""Trunks that are registered with timm by their names."""


def find_trunk(name: str) -> TrunkModel | None:
    """The trunk of this name: one of ``MODELS``, or a VisionTransformer of timm. None if there is none.

    Raises ``ConfigError`` if timm's model of this name cannot be a trunk.
    """
    return MODELS.get(name) or find_timm_vit(name)


def trunk_named(name: str) -> TrunkModel:
    """The trunk of this name.

    Raises ``ConfigError`` if there is none.
    """
    found = find_trunk(name)
    if found is None:
        like = difflib.get_close_matches(name, timm.list_models("*vit*"), n=3)
        raise ConfigError(
            f"vision.model: {name!r} is not one of {', '.join(sorted(MODELS))}, nor a ViT of timm"
            + (f"; similar names: {', '.join(like)}" if like else "")
        )
    return found
