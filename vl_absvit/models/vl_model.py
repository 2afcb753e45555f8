"""The whole model: AbSViT steered by a text prior, RoBERTa, co-attention fusion and a task head.

[AbS 2.6], Figure 3. Shapes: I images, B texts, T text tokens, N image tokens, D vision width, A answers.
"""

import json
from pathlib import Path
from typing import NamedTuple

from huggingface_hub import PyTorchModelHubMixin, hf_hub_download
from huggingface_hub.constants import CONFIG_NAME, SAFETENSORS_SINGLE_FILE
from safetensors import SafetensorError
from torch import Tensor, nn

from vl_absvit.errors import InputError
from vl_absvit.models.absvit import AbSViT
from vl_absvit.models.fusion import CoAttentionFusion
from vl_absvit.models.prior import PriorProjection
from vl_absvit.models.text_encoder import TextEncoder
from vl_absvit.models.top_down import per_text, reconstruction_loss


class VLOutput(NamedTuple):
    """What one forward pass gives."""

    logits: Tensor  # (B, A)
    prior: Tensor | None  # (B, D); None for a plain ViT
    prior_mask: Tensor | None  # (B, N), clamped cosine of prior and first-look tokens
    first_look: Tensor  # (I, N, D) tokens
    second_look: Tensor | None  # (B, N, D) tokens
    reconstruction: Tensor | None  # (), the reconstruction loss if asked for


class VLAbSViT(
    nn.Module,
    PyTorchModelHubMixin,
    library_name="vl_absvit",
    tags=["visual-question-answering", "absvit"],
):
    """A vision-language model that looks where the text asks.

    Args:
        vision: the visual encoder; without feedback decoders it is the bottom-up baseline.
        text: the text encoder.
        prior: sentence vector to prior; None for the bottom-up baseline.
        fusion: the fusion encoder.
        head: pooled fusion features (B, 2 x fusion width) to logits.
        architecture: everything needed to build the same modules again, as JSON; saved as ``config.json``.
    """

    def __init__(
        self,
        *,
        vision: AbSViT,
        text: TextEncoder,
        prior: PriorProjection | None,
        fusion: CoAttentionFusion,
        head: nn.Module,
        architecture: dict,
    ) -> None:
        super().__init__()
        self.vision = vision
        self.text = text
        self.prior = prior
        self.fusion = fusion
        self.head = head
        self.architecture = architecture

    def forward(
        self,
        images: Tensor,
        token_ids: Tensor,
        is_token: Tensor,
        image_index: Tensor | None = None,
        need_reconstruction: bool = False,
    ) -> VLOutput:
        """Answer B questions about I images.

        Args:
            images: distinct images of the batch, (I, 3, height, width).
            token_ids: text ids, (B, T).
            is_token: True at real tokens, (B, T).
            image_index: row of ``images`` each text is about, (B,); None means B = I in the same order.
            need_reconstruction: also compute the decoders' reconstruction loss.
        """
        text = self.text(token_ids, is_token)
        prior = None if self.prior is None else self.prior(text, is_token)
        looks = self.vision.look_twice(images, prior, image_index)
        seen = per_text(looks.first.tokens, image_index) if looks.second is None else looks.second.tokens
        fused = self.fusion(text, is_token, seen)
        return VLOutput(
            logits=self.head(fused.pooled),
            prior=prior,
            prior_mask=looks.prior_mask,
            first_look=looks.first.tokens,
            second_look=None if looks.second is None else looks.second.tokens,
            reconstruction=(
                reconstruction_loss(self.vision.decoders, looks.second.states)
                if need_reconstruction and looks.second is not None
                else None
            ),
        )

    def _save_pretrained(self, save_directory: Path) -> None:
        (save_directory / CONFIG_NAME).write_text(json.dumps(self.architecture, indent=2) + "\n", encoding="utf-8")
        super()._save_pretrained(save_directory)

    @classmethod
    def _from_pretrained(
        cls, *, model_id: str, map_location: str = "cpu", strict: bool = True, config: dict | None = None, **hub
    ) -> "VLAbSViT":
        from vl_absvit.models.build import (
            build_from_architecture,  # the builder knows this class, not the other way round
        )

        if config is None:
            raise InputError(f"{model_id}: no {CONFIG_NAME} there; expected a folder written by save_pretrained")
        model = build_from_architecture(config, where=f"{model_id}/{CONFIG_NAME}")
        if Path(model_id).is_dir():
            weights = Path(model_id) / SAFETENSORS_SINGLE_FILE
        else:
            hub = {key: hub[key] for key in ("revision", "cache_dir", "force_download", "token", "local_files_only")}
            weights = Path(hf_hub_download(model_id, SAFETENSORS_SINGLE_FILE, **hub))
        try:
            return cls._load_as_safetensor(model, str(weights), map_location, strict)
        except (OSError, RuntimeError, SafetensorError) as error:
            reason = " ".join(str(error).split())[:300]
            raise InputError(
                f"{weights}: does not fit the architecture in {CONFIG_NAME} beside it: {reason}"
            ) from error
