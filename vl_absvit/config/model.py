"""The parts of a model. Names used in comments: B image-text pairs, N vision tokens, D vision width."""

from dataclasses import dataclass
from typing import Literal

from vl_absvit.config.checks import below_one, not_negative, positive, require
from vl_absvit.variants import VARIANTS, TopDown

Attention = Literal["softmax", "performer", "vars_s", "vars_d", "vars_sd"]
VARSGeneration = Literal["ista", "linked", "head"]
_VARS_OPTIONS = {
    "vars_penalty": ("vars_s", "vars_d", "vars_sd"),
    "vars_steps": ("vars_s", "vars_d", "vars_sd"),
    "vars_ratio": ("vars_d", "vars_sd"),
    "vars_generation": ("vars_d", "vars_sd"),
}  # field -> values of ``attention`` that use it


@dataclass(frozen=True, kw_only=True)
class VisionConfig:
    """The visual encoder: an AbSViT, or one of its baselines."""

    model: str = "absvit_base_patch16_224"
    """Name of a trunk: ``absvit_{tiny,small,base}_patch{16,8}_224``; ``absvit_FAMILY_{tiny,small,base}`` with rvt,
    rvt_plus, rvt_performer, fan, deit_star, gfnet or gfnet_star as family (``docs/trunks.md``); or any ViT of
    timm (``vit_base_patch16_clip_quickgelu_224.openai``, ``vit_small_patch14_reg4_dinov2.lvd142m``). Sizes can be
    changed by the fields below."""
    image_size: int = 224
    """Side of the square input, in pixels; the position table is resampled to it."""
    patch_size: int | None = None
    """Side of a patch in pixels; None keeps the model's own."""
    width: int | list[int] | None = None
    """Token width D, of a model in stages one per stage; None keeps the model's own."""
    depth: int | list[int] | None = None
    """Number of blocks, of a model in stages one per stage; None keeps the model's own. Weights of a trunk by timm's
    name are cut after that many."""
    num_heads: int | list[int] | None = None
    """Attention heads per block, of a model in stages one per stage; None keeps the model's own."""
    attention: Attention | None = None
    """How blocks mix tokens, on the trunks that ``docs/trunks.md`` names for each: ``softmax``; ``performer``, in time
    linear in the tokens; or VARS, sparse reconstruction from a static (``vars_s``), dynamic (``vars_d``) or twofold
    (``vars_sd``) dictionary, which reconstructs the top-down input, too. None keeps the model's own."""
    vars_penalty: float | None = None
    """Weight lambda of the codes' sizes; None takes the release's, 0.3 (``vars_s``: 3.5)."""
    vars_steps: int | None = None
    """Steps of the reconstruction; None takes the release's, 5 (``vars_s``: 3; paper: 3)."""
    vars_ratio: int | None = None
    """Dynamic atoms per channel of a head (``vars_d``, ``vars_sd``); None takes the release's, 2."""
    vars_generation: VARSGeneration | None = None
    """Form of the release (``vars_d``, ``vars_sd``): ``ista``, at first and in the paper; ``linked``, learned, of the
    commit that links its weights; ``head``, at its end, where queries have unit norm again. None takes ``head``. The
    release's weights are read only with one that is named, for they do not tell the last two apart."""
    top_down: TopDown = "absvit"
    """AbSViT or one of its baselines, all on the same trunk weights. ``none``: the plain ViT, which looks once.
    ``perceiver_io``: its output tokens, reweighted by the prior. ``feedback``: tokens fed back without reweighting, so
    that the second look knows no text. ``mask_att``: the prior mask multiplies the values of the second look.
    ``absvit``: reweighted tokens, fed back to the values. ``absvit_qkv``: to queries, keys and values."""
    modulation: Literal["reweight", "reweight_project"] = "reweight"
    """Form of step 2 where a prior reweights tokens (``perceiver_io``, ``absvit``, ``absvit_qkv``): the paper's, or the
    rank-one form of the released vision-language code."""
    gain: float = 10.0
    """Strength of the top-down signal: alpha of ``reweight`` (paper: 1 on ImageNet, 10 here), 5 for
    ``reweight_project``. ``feedback`` multiplies what it feeds back by it, ``perceiver_io`` the tokens that it gives;
    ``none`` and ``mask_att`` do not use it."""
    mask: Literal["cosine", "calibrated"] = "cosine"
    """The prior mask m of step 2. ``cosine``: the cosine of prior and token, clamped at 0 (paper). ``calibrated``: how
    far it is above a threshold that the prior loss trains, in [0, 1]: open on what is asked for, 0 elsewhere."""
    centred: bool = False
    """Compare priors with tokens less their mean over images of the training set, in the prior mask and the prior loss.
    Deep tokens of many pretrained ViTs share a large part: all their cosines with a prior are alike, and the mask is
    open everywhere. The mean is found once, where the start weights of the trunk hold none, and kept."""
    looks_again_from: int = 0
    """First block of the second look, counted from 0; 0 is the paper. Blocks below it receive no top-down signal, keep
    the states of the first look, and have no decoders."""
    weights: str | None = None
    """Start weights of the trunk: a file (``.safetensors``; ``.pth``, ``.pt`` or ``.bin`` of tensors alone), a folder
    with ``model.safetensors`` or ``pytorch_model.bin``, written by this project, timm, DeiT, MAE, DINO or transformers'
    ViT (for a model by timm's name also CLIP's and others'), or a safetensors one's name on the hub
    (``hf-hub:timm/vit_base_patch16_224.augreg_in1k``). ``timm`` downloads the ImageNet weights of the ``vit_`` twin, or
    those of the model's name; None starts from random weights.
    Positions and patches are resampled; a classifier keeps the rows of classes that a pretraining's folder names."""
    decoders: Literal["closed_form", "random"] = "closed_form"
    """How feedback decoders start where the start weights of the trunk hold none. ``closed_form``: fitted to what the
    trunk sees in images of the training set, so that what is fed back is what was seen there. ``random`` (paper):
    random weights, as without start weights."""
    image_statistics: Literal["backbone", "clip", "imagenet"] = "backbone"
    """Mean and standard deviation of pixels: the backbone's own, CLIP's (released vision-language weights), or
    ImageNet's (released ImageNet weights)."""
    drop_path: float = 0.0
    """Largest stochastic depth rate, reached in the last block, in [0, 1). RVT's last block of n has (n - 1) / n of it,
    every block of FAN all of it, as in their releases."""
    gradient_checkpointing: bool = False
    """Recompute block activations in the backward pass: less memory, more time."""

    def __post_init__(self) -> None:
        known = ", ".join(VARIANTS)
        require(self.top_down in VARIANTS, f"vision.top_down must be one of {known}, got {self.top_down}")
        positive("vision", image_size=self.image_size, patch_size=self.patch_size)
        positive("vision", width=self.width, depth=self.depth, num_heads=self.num_heads)
        positive("vision", vars_penalty=self.vars_penalty, vars_steps=self.vars_steps, vars_ratio=self.vars_ratio)
        not_negative("vision", gain=self.gain, looks_again_from=self.looks_again_from)
        below_one("vision", drop_path=self.drop_path)
        require(
            not self.looks_again_from or VARIANTS[self.top_down].looks_twice,
            f"vision.looks_again_from is {self.looks_again_from}, but vision.top_down {self.top_down} looks once",
        )
        for name, kinds in _VARS_OPTIONS.items():
            require(
                getattr(self, name) is None or self.attention in kinds,
                f"vision.{name} is {getattr(self, name)}, but vision.attention {self.attention} does not use it; "
                f"expected {', '.join(kinds)}",
            )


@dataclass(frozen=True, kw_only=True)
class TextConfig:
    """The text encoder: a RoBERTa or BERT, loaded, or a RoBERTa from scratch."""

    model: str | None = "roberta-base"
    """Folder or hub name (``roberta-base``, ``NAME@REVISION``) of a RoBERTa, XLM-RoBERTa, CamemBERT or BERT with its
    tokenizer; None builds a RoBERTa from scratch with the sizes below."""
    tokenizer: str | None = None
    """Folder or hub name of the tokenizer; None means the one beside ``model``, whose vocabulary another one must
    share."""
    width: int = 768
    """Token width when built from scratch."""
    depth: int = 12
    """Number of layers when built from scratch."""
    num_heads: int = 12
    """Attention heads per layer when built from scratch."""
    dropout: float = 0.1
    """Dropout of hidden states and attention when built from scratch."""
    max_tokens: int = 50
    """Longest text in tokens, ``<s>`` and ``</s>`` included; longer texts are cut and counted."""

    def __post_init__(self) -> None:
        positive("text", width=self.width, depth=self.depth, num_heads=self.num_heads)
        below_one("text", dropout=self.dropout)
        require(self.max_tokens >= 3, f"text.max_tokens must be at least 3, got {self.max_tokens}")
        require(
            self.model is not None or self.tokenizer is not None,
            "text.tokenizer is needed when text.model is null: a model from scratch has no tokenizer of its own",
        )
        require(
            self.width % self.num_heads == 0, f"text.width {self.width} does not divide into {self.num_heads} heads"
        )


@dataclass(frozen=True, kw_only=True)
class PriorConfig:
    """The prior xi: where it comes from and what trains it."""

    sentence: Literal["cls", "masked_mean", "eos", "padded_mean"] = "cls"
    """Sentence vector t: the ``<s>`` token (paper), the mean over real tokens, the first ``</s>`` token (released
    retrieval), or the mean over all positions, padding included (released VQA weights only)."""
    look: Literal["first", "second"] = "first"
    """Which look's tokens the prior loss compares with the prior."""
    pool: Literal["lse", "max", "mean", "cls"] = "mean"
    """What stands for an image in the prior loss: all its patches, by the log of their summed exponentials (a smooth
    maximum), the best-matching patch, the mean patch, or the CLS token. With the last two a calibrated mask is
    calibrated by the smooth maximum."""
    temperature: float = 0.07
    """Temperature of the contrastive prior loss."""
    blank_negatives: bool = False
    """Count as many blank images (cosine 0) as images as negatives, which keeps the best patch above the clamp's 0."""

    def __post_init__(self) -> None:
        positive("prior", temperature=self.temperature)


@dataclass(frozen=True, kw_only=True)
class FusionConfig:
    """The co-attention fusion encoder, trained from scratch."""

    width: int = 768
    """Width of both streams."""
    num_layers: int = 6
    """Co-attention layers per stream."""
    num_heads: int = 12
    """Attention heads per layer."""
    mlp_ratio: float = 4.0
    """Width of the feed-forward part over ``width``."""
    dropout: float = 0.1
    """Dropout of hidden states and attention weights."""

    def __post_init__(self) -> None:
        positive("fusion", width=self.width, num_layers=self.num_layers, num_heads=self.num_heads)
        positive("fusion", mlp_ratio=self.mlp_ratio)
        below_one("fusion", dropout=self.dropout)
        require(
            self.width % self.num_heads == 0, f"fusion.width {self.width} does not divide into {self.num_heads} heads"
        )
