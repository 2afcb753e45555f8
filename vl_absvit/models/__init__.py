"""The model, part by part. Importing this package registers the ``absvit_`` models with timm."""

from vl_absvit.models.trunks import registry as registry  # registration happens on import
from vl_absvit.models.vl_model import VLAbSViT, VLOutput

__all__ = ["VLAbSViT", "VLOutput"]
