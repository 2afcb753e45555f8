"""The whole model: a visual encoder steered by a text prior, RoBERTa, co-attention fusion and a task head.

[AbS 2.6], Figure 3. Shapes: I images, B texts, T text tokens, N image tokens, D vision width, A answers.
"""

import json
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Literal, NamedTuple

import torch
import torch.nn.functional as F
from huggingface_hub import PyTorchModelHubMixin
from huggingface_hub.constants import CONFIG_NAME, SAFETENSORS_SINGLE_FILE
from safetensors import SafetensorError
from torch import Tensor, nn

from vl_absvit.errors import InputError, one_line
from vl_absvit.hub import find
from vl_absvit.models.empty_weights import empty_parameters, fill
from vl_absvit.models.fusion import CoAttentionFusion
from vl_absvit.models.heads import MatchScores, NLVR2Head, PretrainingHead
from vl_absvit.models.looks import FirstLook, TwoLooks, VisionModel, VisualEncoder
from vl_absvit.models.prior import PriorProjection, prior_similarity
from vl_absvit.models.text_encoder import TextEncoder

CARD_OF_A_MODEL_ALONE = """---
{{ card_data }}
---
The architecture and the weights of a vl_absvit model, and no more: `VLAbSViT.from_pretrained` reads them. To evaluate
or finetune it, the tokenizer, `preprocessor_config.json`, `training.json` and, for VQA, `answers.json` of its
checkpoint are needed, too; `vl-absvit push-to-hub --checkpoint FOLDER` uploads them all.
"""


class Texts(NamedTuple):
    """Encoded texts."""

    tokens: Tensor  # (B, T, text width)
    is_token: Tensor  # (B, T), True at real tokens
    prior: Tensor | None  # (B, D); None if the vision uses no prior and nothing is compared with it

    def take(self, rows: Tensor | slice) -> "Texts":
        """The texts of these rows."""
        return Texts(self.tokens[rows], self.is_token[rows], None if self.prior is None else self.prior[rows])


class Pairs(NamedTuple):
    """Pairs of a text and an image. For NLVR2 they are those with first images and then those with second ones."""

    texts: Texts  # of B pairs
    image_index: Tensor | None  # (B,), row of the image of each text; None means B = I in the same order
    hidden: "HiddenWords | None" = None  # of the first pairs, whose words are to be guessed, and which are not judged
    compared: Tensor | None = None  # priors to give out in place of those of ``texts``


class HiddenWords(NamedTuple):
    """Words to guess in the first texts of some pairs."""

    pairs: int  # H, of which there are
    positions: Tensor  # (M,), of the tokens among all H * T


class VLOutput(NamedTuple):
    """The result of one forward pass, for B pairs of text and image."""

    logits: Tensor | MatchScores  # of the head: (B, A) for VQA
    prior: Tensor | None  # (B, D); None if the vision uses no prior and nothing is compared with it
    looks: TwoLooks  # the first look at I images; the second for B pairs, or I images if texts do not change it
    reconstruction: Tensor | None  # (), the reconstruction loss if requested
    text_to_image: list[Tensor] | None  # fusion layers x (B, H, T, N), attention of text to image, if requested
    transform: Tensor | None = None  # (), the transform loss if requested
    words: Tensor | None = None  # (M, V), logits of hidden words if there are any


class VLAbSViT(
    VisionModel,
    PyTorchModelHubMixin,
    library_name="vl_absvit",
    tags=["visual-question-answering", "image-text-retrieval", "absvit"],
    model_card_template=CARD_OF_A_MODEL_ALONE,
):
    """A vision-language model that looks where the text asks.

    Args:
        vision: the visual encoder, AbSViT or one of its baselines.
        text: the text encoder.
        prior: maps sentence vectors to priors; None if the vision uses no prior.
        pool: pooling of an image's first look where priors are compared with it.
        fusion: the fusion encoder.
        head: maps pooled fusion features (B, 2 x fusion width) to logits.
        padded_length: tokens to which texts are padded if the sentence vector counts padding (``padded_mean``); else
            None.
        architecture: everything that is needed to build the same modules, as JSON; saved as ``config.json``.
    """

    def __init__(
        self,
        *,
        vision: VisualEncoder,
        text: TextEncoder,
        prior: PriorProjection | None,
        pool: Literal["lse", "max", "mean", "cls"],
        fusion: CoAttentionFusion,
        head: nn.Module,
        architecture: dict,
        padded_length: int | None = None,
    ) -> None:
        super().__init__()
        self.vision = vision
        self.text = text
        self.prior = prior
        self.pool = pool
        self.fusion = fusion
        self.head = head
        self.architecture = architecture
        self.padded_length = padded_length

    def forward(
        self,
        images: Tensor,
        token_ids: Tensor,
        is_token: Tensor,
        image_index: Tensor | None = None,
        pair: Callable[[Texts, FirstLook], tuple[FirstLook, Pairs]] | None = None,
        need_reconstruction: bool = False,
        need_transform: bool = False,
    ) -> VLOutput:
        """Read texts about images.

        Args:
            images: distinct images of the batch, (I, 3, height, width), or what was kept of the first look at them
                (``VisualEncoder.first_look_to_keep``).
            token_ids: text ids, (B, T), or tokens t_j that were kept, (B, T, text width).
            is_token: True at real tokens, (B, T).
            image_index: row of ``images`` for each text, (B,); None means B = I in the same order.
            pair: replaces ``image_index``: makes pairs of the encoded texts and the first look, and may add looks at
                further images.
            need_reconstruction: also compute the decoders' reconstruction loss, if there are decoders.
            need_transform: also compute their transform loss.
        """
        texts = self.encode_texts(token_ids, is_token)
        first = self.vision.look_once(images)
        first, pairs = (first, Pairs(texts, image_index)) if pair is None else pair(texts, first)
        out = self.read(first, pairs)
        if not (self.vision.feeds_back and (need_reconstruction or need_transform)):
            return out
        assert out.looks.second is not None, "variants that feed back look twice"
        states = out.looks.second.states
        if out.looks.prior_mask is None:  # rows are images; those that ``pair`` added do not count
            states = [state[: len(images)] for state in states]
        losses = self.vision.decoder_losses(states, need_reconstruction, need_transform)
        return out._replace(**losses._asdict())

    def encode_texts(self, token_ids: Tensor, is_token: Tensor) -> Texts:
        """Token vectors and priors of texts, given their ids (B, T), or the token vectors that were kept, (B, T, D).

        They do not depend on images.
        """
        if token_ids.is_floating_point():
            assert self.padded_length is None, "vectors of padding are not kept"
            tokens = token_ids.to(self.text.dtype)
            return Texts(tokens, is_token, None if self.prior is None else self.prior(tokens, is_token))
        length, missing = token_ids.shape[1], max(0, (self.padded_length or 0) - token_ids.shape[1])
        padded_ids = F.pad(token_ids, (0, missing), value=self.text.roberta.config.pad_token_id)
        padded_is_token = F.pad(is_token, (0, missing))
        tokens = self.text(padded_ids, padded_is_token)
        prior = None
        if self.prior is not None:  # a batch may be padded to more than ``padded_length``
            prior = self.prior(tokens[:, : self.padded_length], padded_is_token[:, : self.padded_length])
        return Texts(tokens[:, :length], is_token, prior)

    def compare(self, prior: Tensor, first: FirstLook) -> Tensor:
        """The dual encoder: cosine of every prior (B, D) with every first look, (B, I), in fp32."""
        return prior_similarity(prior, self.vision.less_mean(first.tokens), self.pool, first.prefix_tokens)

    def read(self, first: FirstLook, pairs: Pairs, need_weights: bool = False) -> VLOutput:
        """Look again with the prior of each text, fuse the tokens of image and text, and apply the head."""
        return self.judge(self.vision.look_again(first, pairs.texts.prior, pairs.image_index), pairs, need_weights)

    def judge(self, looks: TwoLooks, pairs: Pairs, need_weights: bool = False) -> VLOutput:
        """The part of ``read`` after both looks: fusion and head.

        With ``need_weights`` the fusion also gives the attention of text to image tokens.
        """
        texts, image_index, hidden, priors = pairs
        seen = looks.seen(image_index)
        types = words = None
        if hidden is not None:
            guessed, rest = slice(hidden.pairs), slice(hidden.pairs, None)
            tokens = self.fusion.text_tokens(texts.tokens[guessed], texts.is_token[guessed], seen[guessed])
            assert isinstance(self.head, PretrainingHead), "hidden words are guessed in pretraining"
            words = self.head.mlm(tokens.flatten(0, 1)[hidden.positions])
            texts, seen = texts.take(rest), seen[rest]
        if isinstance(self.head, NLVR2Head):
            types = self.head.image_types(self.fusion.image_type, len(seen))
        fused = self.fusion(
            texts.tokens, texts.is_token, seen, pooled_only=True, need_weights=need_weights, image_types=types
        )
        priors = texts.prior if priors is None else priors
        return VLOutput(self.head(fused.pooled), priors, looks, None, fused.text_to_image, words=words)

    def save_weights(self, folder: Path) -> None:
        """Write ``config.json`` and ``model.safetensors`` into an existing folder. ``from_pretrained`` reads them.

        Evaluation and finetuning also need tokenizer, preprocessing and answers, which a task saves beside them.
        """
        (folder / CONFIG_NAME).write_text(json.dumps(self.architecture, indent=2) + "\n", encoding="utf-8")
        super()._save_pretrained(folder)

    def _save_pretrained(self, save_directory: Path) -> None:
        self.save_weights(save_directory)

    def push_to_hub(self, repo_id: str, **_: object) -> str:
        """Refuse: a model alone cannot be evaluated. ``vl-absvit push-to-hub`` uploads a whole checkpoint folder."""
        raise InputError(
            f"{repo_id}: a model alone has no tokenizer, preprocessing or answers, so that nobody could evaluate it; "
            "vl-absvit push-to-hub --checkpoint FOLDER uploads all of a run's checkpoint"
        )

    @classmethod
    def from_pretrained(  # type: ignore[override]  # checkpoints hold all arguments of the constructor
        cls,
        name: str | Path,
        *,
        revision: str | None = None,
        map_location: str | torch.device = "cpu",
        strict: bool = True,
        cache_dir: str | Path | None = None,
        token: str | bool | None = None,
        local_files_only: bool = False,
        force_download: bool = False,
    ) -> "VLAbSViT":
        """A saved model, in evaluation mode.

        Args:
            name: its folder, or its name on the hub, ``lab/absvit-vqa`` or ``lab/absvit-vqa@REVISION``.
            revision: branch, tag or commit on the hub, if the name has none.
            map_location: device to load to.
            strict: whether missing and unknown weights are errors.
            cache_dir, token, local_files_only, force_download: as in ``huggingface_hub.snapshot_download``.

        Raises:
            InputError: there is no such model, or its weights do not fit its architecture.
        """
        from vl_absvit.models.architecture import (
            build_from_architecture,  # the builder knows this class, not the other way round
        )

        wanted = name if revision is None else f"{name}@{revision}"
        folder = find(
            wanted, "model", only=(CONFIG_NAME, SAFETENSORS_SINGLE_FILE), cache_dir=cache_dir, token=token,
            local_files_only=local_files_only, force_download=force_download,
        ).path  # fmt: skip
        try:
            config = json.loads((folder / CONFIG_NAME).read_text(encoding="utf-8"))
        except OSError as error:
            expected = "a folder written by save_pretrained, or a name on the hub such as lab/absvit-vqa"
            raise InputError(f"{wanted}: no {CONFIG_NAME} there ({error.strerror}); expected {expected}") from error
        except (ValueError, RecursionError) as error:
            raise InputError(f"{folder / CONFIG_NAME}: expected JSON: {error}") from error
        with empty_parameters() if strict else nullcontext():  # what a file lacks starts from random weights
            model = build_from_architecture(config, location=f"{folder / CONFIG_NAME}")
        weights = folder / SAFETENSORS_SINGLE_FILE
        try:
            if strict:
                fill(model, weights)
            else:
                cls._load_as_safetensor(model, str(weights), "cpu", strict)
        except (OSError, RuntimeError, SafetensorError) as error:
            reason = one_line(error)[:300]
            raise InputError(
                f"{weights}: does not fit the architecture in {CONFIG_NAME} beside it: {reason}"
            ) from error
        return model.eval().to(map_location)
