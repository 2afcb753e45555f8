"""Configs with folders in place of names on the hub. Weights and tokenizers are fetched into these folders."""

from dataclasses import replace
from typing import TypeVar

from vl_absvit.config import TaskConfig, TextConfig, VisionLanguageConfig
from vl_absvit.errors import ConfigError, InputError
from vl_absvit.hub import TEXTS, WEIGHTS_AND_TEXTS, find
from vl_absvit.tasks.changed_use import log_changed_trunk
from vl_absvit.tasks.vl_checkpoint import check_start

AnyConfig = TypeVar("AnyConfig", bound=TaskConfig)
WithTexts = TypeVar("WithTexts", bound=VisionLanguageConfig)


def fetched_trunk(config: AnyConfig) -> AnyConfig:
    """The config with a folder in place of the name on the hub of ``vision.weights``.

    Raises:
        InputError: the weights are neither here nor on the hub.
    """
    if config.vision.weights in (None, "timm"):
        return config
    weights = str(find(config.vision.weights, "vision.weights").path)
    log_changed_trunk(weights, config.vision)
    return replace(config, vision=replace(config.vision, weights=weights))


def fetched(config: WithTexts) -> WithTexts:
    """The config with a folder in place of every name on the hub. Only files that the run reads are fetched.

    Raises:
        InputError: a part is neither here nor on the hub.
        ConfigError: the same for ``text.model``.
    """
    start = config.from_checkpoint
    if start is not None:
        folder = str(find(start, "from_checkpoint").path)
        config = replace(config, from_checkpoint=folder)
        check_start(folder)
    else:
        config = fetched_trunk(config)
    return replace(config, text=_fetched_text(config.text, reads_weights=start is None))


def _fetched_text(text: TextConfig, reads_weights: bool) -> TextConfig:
    if text.model is not None:
        only = WEIGHTS_AND_TEXTS if reads_weights else TEXTS
        try:
            model = find(text.model, "text.model", only=only, is_text=True).path
        except InputError as error:
            reason = str(error).removeprefix(f"text.model {text.model}: ")
            raise ConfigError(f"text.model {text.model}: no text encoder there: {reason}") from error
        text = replace(text, model=str(model))
    if text.tokenizer is not None:
        text = replace(text, tokenizer=str(find(text.tokenizer, "tokenizer", only=TEXTS, is_text=True).path))
    return text
