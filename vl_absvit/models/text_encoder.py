"""The text encoder: a RoBERTa or BERT of transformers behind boolean masks. Shapes: B texts, T tokens, D width."""

from collections.abc import Mapping
from typing import Any, NamedTuple, TypeAlias

import torch
from torch import Tensor, nn
from transformers import (
    BertConfig,
    BertModel,
    CamembertConfig,
    CamembertModel,
    PreTrainedTokenizerBase,
    RobertaConfig,
    RobertaModel,
    XLMRobertaConfig,
    XLMRobertaModel,
)

TextModelConfig: TypeAlias = RobertaConfig | XLMRobertaConfig | CamembertConfig | BertConfig


class Kind(NamedTuple):
    """Classes of transformers for one ``model_type``."""

    label: str
    config: type[Any]  # a ``TextModelConfig``
    model: type[Any]


KINDS = {
    "roberta": Kind("RoBERTa", RobertaConfig, RobertaModel),
    "xlm-roberta": Kind("XLM-RoBERTa", XLMRobertaConfig, XLMRobertaModel),
    "camembert": Kind("CamemBERT", CamembertConfig, CamembertModel),
    "bert": Kind("BERT", BertConfig, BertModel),
}
"""Encoders that take ids and a mask and give a vector per token, by transformers' ``model_type``."""


def longest_text(config: TextModelConfig) -> int:
    """Tokens of the longest text. RoBERTa's positions begin at the padding id + 1, BERT's at 0."""
    first = 0 if config.model_type == "bert" else config.pad_token_id + 1
    return config.max_position_embeddings - first


def unfit(tokenizer: PreTrainedTokenizerBase, config: Mapping[str, Any]) -> str | None:
    """The difference between the special tokens of tokenizer and text encoder, in words; None if there is none.

    They matter: RoBERTa's positions begin at the padding id, and ``<s>`` and ``</s>`` stand for the whole text.

    Args:
        config: the encoder's configuration as JSON; ids that it leaves out, as BERT's does, are not compared.
    """
    begin, end = tokenizer.bos_token_id, tokenizer.eos_token_id
    for name, found, expected in (
        ("<pad>", tokenizer.pad_token_id, config.get("pad_token_id")),
        ("<s>", tokenizer.cls_token_id if begin is None else begin, config.get("bos_token_id")),
        ("</s>", tokenizer.sep_token_id if end is None else end, config.get("eos_token_id")),
    ):
        if expected is not None and found != expected:
            has = "none" if found is None else f"token {found}"
            return f"{name} is token {expected} of the text encoder, the tokenizer has {has}"
    return None


class TextEncoder(nn.Module):
    """One of ``KINDS`` without its pooler, always named ``roberta``.

    Args:
        config: architecture of the model; weights start random.
    """

    def __init__(self, config: TextModelConfig) -> None:
        super().__init__()
        self.roberta = KINDS[config.model_type].model(config, add_pooling_layer=False)
        self.width = config.hidden_size
        self.max_tokens = longest_text(config)

    @property
    def dtype(self) -> torch.dtype:
        """Precision of the weights."""
        return next(self.parameters()).dtype

    def forward(self, token_ids: Tensor, is_token: Tensor) -> Tensor:
        """Tokens t_j, (B, T, D), of ids (B, T) whose real positions are True in ``is_token`` (B, T)."""
        mask = is_token.long()
        if not is_token.is_cpu and self.roberta.config._attn_implementation == "sdpa":
            # transformers would check on the GPU whether a mask of two dimensions masks anything. The host would wait.
            mask = is_token[:, None, None, :].expand(-1, -1, is_token.shape[1], -1)
        tokens: Tensor = self.roberta(input_ids=token_ids, attention_mask=mask).last_hidden_state
        return tokens
