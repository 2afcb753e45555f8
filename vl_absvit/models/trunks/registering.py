"""Names for ``timm.create_model``."""

from collections.abc import Iterable, Mapping
from typing import Any

from timm.models import build_model_with_cfg, generate_default_cfgs, register_model
from torch import nn


def register(module: str, name: str, model: type[nn.Module], arguments: Mapping[str, Any], **options: Any) -> None:
    """Have ``timm.create_model`` make a model of this name.

    Args:
        module: name of the module whose ``default_cfgs`` say what timm knows of the model's weights.
        arguments: of the model, unless a call says otherwise.
        options: of timm's builder.
    """

    stages = arguments["depth"] if isinstance(arguments["depth"], list) else range(arguments["depth"])
    usual = min(3, len(stages))  # maps; of stages where there are several, else of blocks

    def create(pretrained: bool = False, **kwargs: Any) -> nn.Module:
        getters = {"out_indices": kwargs.pop("out_indices", usual), "feature_cls": "getter"}
        return build_model_with_cfg(model, name, pretrained, feature_cfg=getters, **options, **{**arguments, **kwargs})

    create.__name__, create.__module__ = name, module
    register_model(create)


def without_weights(forms: Iterable[str]) -> dict[str, Any]:
    """``default_cfgs`` for both names of every form: timm knows of no weights of theirs."""
    return generate_default_cfgs({name: {} for form in forms for name in (f"absvit_{form}", form)})


def register_twins(module: str, model: type[nn.Module], forms: Mapping[str, Mapping[str, Any]]) -> None:
    """Have ``timm.create_model`` make two models of every form: ``absvit_FORM`` looks twice, FORM once.

    Args:
        module: as ``register`` takes it.
        forms: name -> arguments of the model.
    """
    for form, arguments in forms.items():
        register(module, f"absvit_{form}", model, arguments)
        register(module, form, model, {**arguments, "top_down": "none"})
