"""Start weights of the text encoder, read by transformers, and the account of them."""

import math
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from safetensors import safe_open
from torch import Tensor
from transformers.utils import cached_file
from transformers.utils import logging as transformers_logging

from vl_absvit.errors import InputError, first_line
from vl_absvit.models.load_report import Entry
from vl_absvit.models.text_encoder import KINDS


def read_text_weights(name: str, model_type: str) -> tuple[dict[str, Tensor], list[Entry]]:
    """Weights of a text encoder without pooler and language-model head. Missing ones are errors, not random.

    Args:
        name: folder or hub name.
        model_type: one of ``KINDS``.

    Returns:
        The state of the model, and the entries of the file's tensors.
    """
    model = KINDS[model_type].model
    try:
        with _quiet_transformers():
            loaded, report = model.from_pretrained(
                name, add_pooling_layer=False, output_loading_info=True, use_safetensors=True
            )
    except Exception as error:  # the library raises many kinds of errors for a strange config.json
        raise InputError(f"text.model {name}: its weights cannot be read: {first_line(error)}") from error
    if report["missing_keys"]:
        missing = sorted(report["missing_keys"])
        raise InputError(f"text.model {name}: {len(missing)} weights are missing, e.g. {missing[0]}")
    state, source = loaded.state_dict(), f"text.model {name}"
    entries = [Entry("loaded", source, f"text.roberta.{key}", value.numel()) for key, value in state.items()]
    sizes = _sizes_in(name)
    dropped = [key for key in sizes if _name_inside(key, model.base_model_prefix) not in state]
    return state, entries + [Entry("dropped", source, key, sizes[key], "no part of the encoder") for key in dropped]


def _name_inside(key: str, prefix: str) -> str:
    """The name in the encoder of a key in a file, which may be of a larger model and in an older form."""
    name = key.removeprefix(f"{prefix}.")
    return name.replace("LayerNorm.gamma", "LayerNorm.weight").replace("LayerNorm.beta", "LayerNorm.bias")


def _sizes_in(name: str) -> dict[str, int]:
    """The size of each tensor in the safetensors files of a model that transformers has read."""

    def find(file: str) -> str | None:
        return cached_file(name, file, local_files_only=True, _raise_exceptions_for_missing_entries=False)

    sizes: dict[str, int] = {}
    whole, index = find("model.safetensors"), find("model.safetensors.index.json")
    files = [whole] if whole else sorted(Path(index).parent.glob("model-*.safetensors")) if index else []
    for file in files:
        with safe_open(file, "pt") as weights:
            for key in weights.keys():  # noqa: SIM118
                sizes[key] = math.prod(weights.get_slice(key).get_shape())
    return sizes


@contextmanager
def _quiet_transformers() -> Iterator[None]:
    """Inside, transformers shows no progress bar and no report of its own."""
    verbosity, has_bar = transformers_logging.get_verbosity(), transformers_logging.is_progress_bar_enabled()
    transformers_logging.set_verbosity_error(), transformers_logging.disable_progress_bar()
    try:
        yield
    finally:
        transformers_logging.set_verbosity(verbosity)
        if has_bar:
            transformers_logging.enable_progress_bar()
