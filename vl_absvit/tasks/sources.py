"""What a run starts from, wherever that is: names on the hub become the folders that they are fetched into."""

from dataclasses import replace

from vl_absvit.config import PretrainConfig, TextConfig
from vl_absvit.errors import ConfigError, InputError
from vl_absvit.hub import TEXTS, WEIGHTS_AND_TEXTS, find
from vl_absvit.tasks.base import RunnableConfig
from vl_absvit.tasks.checkpoint import check_start


def fetched(config: RunnableConfig) -> RunnableConfig:
    """The config with a folder in place of every name on the hub; nothing is fetched that the run does not read.

    Raises:
        InputError: something is neither here nor to be had from there.
        ConfigError: the same of ``text.model``.
    """
    start = None if isinstance(config, PretrainConfig) else config.from_checkpoint
    if start is not None:
        config = replace(config, from_checkpoint=str(find(start, "from_checkpoint").path))
        check_start(config.from_checkpoint)
    elif config.vision.weights not in (None, "timm"):
        weights = str(find(config.vision.weights, "vision.weights").path)
        config = replace(config, vision=replace(config.vision, weights=weights))
    if isinstance(config, PretrainConfig):
        return config
    return replace(config, text=_fetched_text(config.text, reads_weights=start is None))


def _fetched_text(text: TextConfig, reads_weights: bool) -> TextConfig:
    if text.model is not None:
        only = WEIGHTS_AND_TEXTS if reads_weights else TEXTS
        try:
            model = find(text.model, "text.model", only=only, is_text=True).path
        except InputError as error:
            reason = str(error).removeprefix(f"text.model {text.model}: ")
            raise ConfigError(f"text.model {text.model}: no RoBERTa there: {reason}") from error
        text = replace(text, model=str(model))
    if text.tokenizer is not None:
        text = replace(text, tokenizer=str(find(text.tokenizer, "tokenizer", only=TEXTS, is_text=True).path))
    return text
