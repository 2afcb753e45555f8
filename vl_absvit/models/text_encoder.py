"""The text encoder: transformers' RoBERTa behind boolean masks. Shapes: B texts, T tokens, D width."""

from torch import Tensor, nn
from transformers import RobertaConfig, RobertaModel


def longest_text(config: RobertaConfig) -> int:
    """Tokens of the longest text that has positions: RoBERTa counts them from the padding id + 1."""
    return config.max_position_embeddings - config.pad_token_id - 1


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
        return self.roberta(input_ids=token_ids, attention_mask=is_token.long()).last_hidden_state
