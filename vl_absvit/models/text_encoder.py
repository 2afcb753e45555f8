"""The text encoder: transformers' RoBERTa behind boolean masks. Shapes: B texts, T tokens, D width."""

from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn
from transformers import PreTrainedTokenizerBase, RobertaConfig, RobertaModel


def longest_text(config: RobertaConfig) -> int:
    """Tokens of the longest text. RoBERTa's positions begin at the padding id + 1."""
    return config.max_position_embeddings - config.pad_token_id - 1


def unfit(tokenizer: PreTrainedTokenizerBase, config: Mapping[str, Any]) -> str | None:
    """The difference between the special tokens of tokenizer and text encoder, in words; None if there is none.

    They matter: RoBERTa's positions begin at the padding id, and ``<s>`` and ``</s>`` stand for the whole text.

    Args:
        config: the encoder's ``RobertaConfig`` as JSON; ids that it leaves out are not compared.
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
    """RoBERTa without its pooler.

    Args:
        config: architecture of the ``RobertaModel``; weights start random.
    """

    def __init__(self, config: RobertaConfig) -> None:
        super().__init__()
        self.roberta = RobertaModel(config, add_pooling_layer=False)
        self.width = config.hidden_size
        self.max_tokens = longest_text(config)

    def forward(self, token_ids: Tensor, is_token: Tensor) -> Tensor:
        """Tokens t_j, (B, T, D), of ids (B, T) whose real positions are True in ``is_token`` (B, T)."""
        mask = is_token.long()
        if not is_token.is_cpu and self.roberta.config._attn_implementation == "sdpa":
            # transformers would check on the GPU whether a mask of two dimensions masks anything. The host would wait.
            mask = is_token[:, None, None, :].expand(-1, -1, is_token.shape[1], -1)
        return self.roberta(input_ids=token_ids, attention_mask=mask).last_hidden_state
