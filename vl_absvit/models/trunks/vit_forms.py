"""Visual encoders of other programs, renamed to timm's ViTs.

Known names are timm's, those of DeiT (also distilled), MAE and DINO, which add to timm's, those of CLIP's release, and
those of transformers' ViT, DeiT, DINOv2, CLIP and SigLIP. Other names in a file are errors. LayerNorm's epsilon is
timm's, whatever the other program used. Shapes: N patches, D width.
"""

import math
import re
from collections.abc import Mapping

import torch
from torch import Tensor

from vl_absvit.errors import InputError
from vl_absvit.models.trunks.base import Dropped, ForeignTrunk

_KERNELS = r"patch_embed\.proj|embeddings\.patch_embeddings\.projection|embeddings\.patch_embedding|(?P<clip>conv1)"
PATCHES = rf"(?:(?P<prefix>.+)\.)?(?:{_KERNELS})\.weight"
RELEASED = r"decoders\.[0-9]+\.linear2?\.weight"
NO_USE = {  # weights beside the trunk: pattern -> description
    r"head_dist\..+": "DeiT's classifier of the distillation token",
    r"dist_token": "DeiT's distillation token",
    r"mask_token|masked_embed": "the token of masked patches",
    r"decoder_.+": "MAE's decoder",
    r"pre_logits\..+": "a layer before an older classifier",
    r"pooler\..+": "transformers' pooler",
    r"attn_pool\..+": "the pooling before the file's classifier",
    r"visual_projection": "CLIP's projection into the space of its texts",
}
LAYER = r"(?:encoder\.layer|layers)\.([0-9]{1,4})\."
TRANSFORMERS = {  # transformers' name (on disk, or in memory since version 5) -> timm's
    r"embeddings\.cls_token": "cls_token",
    r"embeddings\.distillation_token": "dist_token",
    r"embeddings\.mask_token": "mask_token",
    r"embeddings\.register_tokens": "reg_token",
    r"embeddings\.position_embeddings": "pos_embed",
    r"embeddings\.patch_embeddings\.projection\.(weight|bias)": r"patch_embed.proj.\1",
    LAYER + r"attention\.(?:attention\.(query|key|value)|([qkv])_proj)\.(weight|bias)": r"blocks.\1.attn.\2\3.\4",
    LAYER + r"attention\.(?:output\.dense|o_proj)\.(weight|bias)": r"blocks.\1.attn.proj.\2",
    LAYER + r"(?:intermediate\.dense|mlp\.fc1)\.(weight|bias)": r"blocks.\1.mlp.fc1.\2",
    LAYER + r"(?:output\.dense|mlp\.fc2)\.(weight|bias)": r"blocks.\1.mlp.fc2.\2",
    LAYER + r"(?:layernorm_before|norm1)\.(weight|bias)": r"blocks.\1.norm1.\2",
    LAYER + r"(?:layernorm_after|norm2)\.(weight|bias)": r"blocks.\1.norm2.\2",
    LAYER + r"layer_scale([12])\.lambda1": r"blocks.\1.ls\2.gamma",
    r"layernorm\.(weight|bias)": r"norm.\1",
}
CLIP_LAYER = r"encoder\.layers\.([0-9]{1,4})\."
TRANSFORMERS_CLIP = {  # and SigLIP
    r"embeddings\.class_embedding": "cls_token",
    r"embeddings\.position_embedding\.weight": "pos_embed",
    r"embeddings\.patch_embedding\.(weight|bias)": r"patch_embed.proj.\1",
    r"pre_layrnorm\.(weight|bias)": r"norm_pre.\1",
    r"post_layernorm\.(weight|bias)": r"norm.\1",
    r"head\.((?:probe|attention|layernorm|mlp).*)": r"attn_pool.\1",
    CLIP_LAYER + r"self_attn\.([qkv])_proj\.(weight|bias)": r"blocks.\1.attn.\2.\3",
    CLIP_LAYER + r"self_attn\.out_proj\.(weight|bias)": r"blocks.\1.attn.proj.\2",
    CLIP_LAYER + r"layer_norm([12])\.(weight|bias)": r"blocks.\1.norm\2.\3",
    CLIP_LAYER + r"mlp\.(fc[12])\.(weight|bias)": r"blocks.\1.mlp.\2.\3",
}
RELEASED_LAYER = r"transformer\.resblocks\.([0-9]{1,4})\."
RELEASED_CLIP = {  # and OpenCLIP
    r"class_embedding": "cls_token",
    r"positional_embedding": "pos_embed",
    r"conv1\.weight": "patch_embed.proj.weight",
    r"ln_pre\.(weight|bias)": r"norm_pre.\1",
    r"ln_post\.(weight|bias)": r"norm.\1",
    r"proj": "visual_projection",
    RELEASED_LAYER + r"attn\.in_proj_(weight|bias)": r"blocks.\1.attn.qkv.\2",
    RELEASED_LAYER + r"attn\.out_proj\.(weight|bias)": r"blocks.\1.attn.proj.\2",
    RELEASED_LAYER + r"ln_([12])\.(weight|bias)": r"blocks.\1.norm\2.\3",
    RELEASED_LAYER + r"ls_([12])\.gamma": r"blocks.\1.ls\2.gamma",
    RELEASED_LAYER + r"mlp\.c_fc\.(weight|bias)": r"blocks.\1.mlp.fc1.\2",
    RELEASED_LAYER + r"mlp\.c_proj\.(weight|bias)": r"blocks.\1.mlp.fc2.\2",
}
ADDED_TO_TIMMS = {  # by the releases of DINOv2 and DeiT-III
    r"register_tokens": "reg_token",
    r"(blocks\.[0-9]{1,4})\.gamma_([12])": r"\1.ls\2.gamma",
    r"(blocks\.[0-9]{1,4})\.mlp\.w12\.(weight|bias)": r"\1.mlp.fc1.\2",
    r"(blocks\.[0-9]{1,4})\.mlp\.w3\.(weight|bias)": r"\1.mlp.fc2.\2",
}
NAMES = {  # a name that only files of one kind have -> names there -> timm's
    "embeddings.patch_embeddings.projection.weight": TRANSFORMERS,
    "embeddings.patch_embedding.weight": TRANSFORMERS_CLIP,
    "conv1.weight": RELEASED_CLIP,
    "patch_embed.proj.weight": ADDED_TO_TIMMS,
}
_TABLES = {"cls_token", "pos_embed"}
FUSED = "transformers' queries, keys and values in one"
AFTER_POOLING = "the file's norm stands after the mean over patches; here it is on every token"
WITHOUT_DISTILLATION = "without the row of DeiT's distillation token"
NO_BIASES = "the file has none: zeros"
WITHOUT_CLS = "the file's table has no row for CLS: zeros, which add nothing to that token"


def as_plain_vit(state: Mapping[str, Tensor]) -> ForeignTrunk:
    """The ViT in a state of another program, with CLS token and positions, and with the file's grid and patch size.

    Raises ``InputError`` if there is none, more than one, or one of another form.
    """
    found = as_timms_vit(state)
    useful, remarks, dropped = found.state, found.remarks, found.dropped
    if "pos_embed" in useful:
        is_distilled = any(weight.reason == NO_USE["dist_token"] for weight in dropped)
        positions, remark = _with_cls_row(useful["pos_embed"], is_distilled)
        if remark == WITHOUT_DISTILLATION:
            gone = Dropped(f"{found.prefix}pos_embed[:, 1]", positions.shape[2], NO_USE["dist_token"], tensors=0)
            dropped = [*dropped, gone]
        if remark:
            useful["pos_embed"], remarks["pos_embed"] = positions, remark
    useful, settled = _in_our_blocks(useful)
    return ForeignTrunk(useful, remarks | settled, found.prefix, dropped)


def as_timms_vit(state: Mapping[str, Tensor]) -> ForeignTrunk:
    """The ViT in a state of another program, in timm's names and otherwise as it is.

    Raises ``InputError`` if there is none, or more than one.
    """
    prefix = _prefix(state)
    inside = {key.removeprefix(prefix): value for key, value in state.items() if key.startswith(prefix)}
    if any(re.fullmatch(RELEASED, key) for key in inside):
        raise InputError("a file of the authors' release; vl-absvit convert-released makes a folder of it")
    beside = f"beside the trunk, which is {prefix}*"
    dropped = [Dropped(key, value.numel(), beside) for key, value in state.items() if not key.startswith(prefix)]
    inside, remarks = _in_timms_names(inside)
    useful: dict[str, Tensor] = {}
    for key, value in inside.items():
        reason = next((why for pattern, why in NO_USE.items() if re.fullmatch(pattern, key)), None)
        if reason is None:
            useful[key] = value
        else:
            dropped.append(Dropped(prefix + key, value.numel(), reason))
    for name in ("weight", "bias"):
        if f"fc_norm.{name}" in useful and f"norm.{name}" not in useful:
            useful[f"norm.{name}"], remarks[f"norm.{name}"] = useful.pop(f"fc_norm.{name}"), AFTER_POOLING
    return ForeignTrunk(useful, remarks, prefix, dropped)


def _prefix(state: Mapping[str, Tensor]) -> str:
    """The prefix of the names of the one ViT in a state. Of DINO's two, the teacher counts."""
    matches = [match for key in state if (match := re.fullmatch(PATCHES, key))]
    prefixes = {match["prefix"] or "" for match in matches if not match["clip"] or _is_clips(match, state)}
    found = sorted(prefixes)
    if len(found) == 2 and found[0].replace("student", "teacher") == found[1]:
        found = found[1:]
    if not found:
        examples = ", ".join(list(state)[:3]) or "nothing"
        raise InputError(
            f"no ViT in it that is known: there is no patch_embed.proj.weight, but {examples}; a ViT of timm, DeiT, "
            "MAE, DINO or transformers is read as it is, another one once timm has loaded it and "
            "safetensors.torch.save_file has written its state_dict()"
        )
    if len(found) > 1:
        names = " and ".join(f"{prefix}.*" if prefix else "the top level" for prefix in found)
        raise InputError(f"{len(found)} ViTs in it, under {names}: expected one; write the one you want into a file")
    return f"{found[0]}." if found[0] else ""


def _is_clips(match: re.Match[str], state: Mapping[str, Tensor]) -> bool:
    """Whether a first convolution is that of CLIP's ViT, not of a ResNet."""
    return f"{match.string.removesuffix('conv1.weight')}class_embedding" in state


def _in_timms_names(state: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], dict[str, str]]:
    """The state with timm's names, and remarks on changes other than names."""
    table = next(names for kernel, names in NAMES.items() if kernel in state)
    named: dict[str, Tensor] = {}
    for key, value in state.items():
        matches = ((re.fullmatch(pattern, key), name) for pattern, name in table.items())
        name = next((match.expand(name) for match, name in matches if match), key)
        name = re.sub(r"\.attn\.([qkv])(?:uery|ey|alue)\.", r".attn.\1.", name)
        if name in named:
            raise InputError(f"{key} and another key are both {name} in timm")
        named[name] = value
    if table in (TRANSFORMERS_CLIP, RELEASED_CLIP):  # whose tokens and positions lack the leading dimensions
        named |= {name: named[name][(None,) * (3 - named[name].ndim)] for name in named.keys() & _TABLES}
    remarks = {}
    for name in [name for name in named if ".attn.q." in name]:
        parts = [name.replace(".attn.q.", f".attn.{part}.") for part in "qkv"]
        if all(part in named for part in parts):
            fused = name.replace(".attn.q.", ".attn.qkv.")
            named[fused], remarks[fused] = torch.cat([named.pop(part) for part in parts]), FUSED
    return named, remarks


def _with_cls_row(positions: Tensor, has_distillation: bool) -> tuple[Tensor, str]:
    """A position table with a row for CLS before the rows of a square grid, (1, 1 + N, D), and a remark on changes."""
    if positions.ndim != 3:
        raise InputError(f"pos_embed: expected a table of rows and columns, got {tuple(positions.shape)}")
    rows = positions.shape[1]
    if has_distillation and is_square(rows - 2):
        return torch.cat([positions[:, :1], positions[:, 2:]], dim=1), WITHOUT_DISTILLATION
    if is_square(rows - 1) and not has_distillation:
        return positions, ""
    if is_square(rows):
        return torch.cat([torch.zeros_like(positions[:, :1]), positions], dim=1), WITHOUT_CLS
    tokens = "CLS and the distillation token" if has_distillation else "CLS"
    raise InputError(f"pos_embed has {rows} rows: expected those of a square grid, with or without rows for {tokens}")


def is_square(number: int) -> bool:
    """Whether this may be the number of patches of a square picture."""
    return number > 0 and math.isqrt(number) ** 2 == number


def _in_our_blocks(state: dict[str, Tensor]) -> tuple[dict[str, Tensor], dict[str, str]]:
    """The same encoder without LayerScale and with biases of queries, keys and values, and remarks on changes."""
    blocks = {int(match[1]) for key in state if (match := re.fullmatch(r"blocks\.([0-9]{1,4})\..+", key))}
    has_scales = any(re.fullmatch(r"blocks\.[0-9]+\.ls[12]\.gamma", key) for key in state)
    has_biases = any(key.endswith(".attn.qkv.bias") for key in state)
    if not blocks or (has_biases and not has_scales):
        return state, {}
    settled, zeros = in_our_form(state, "blocks.", max(blocks) + 1, "LayerScale")
    if has_biases:  # a file that lacks only some biases is damaged, so they are not filled in
        settled = {key: value for key, value in settled.items() if key not in zeros}
    remarks = {key: "LayerScale multiplied in" for key in settled if settled[key] is not state.get(key)}
    return settled, remarks | {key: NO_BIASES for key in zeros if key in settled}


def in_our_form(
    state: Mapping[str, Tensor], prefix: str, depth: int, location: str
) -> tuple[dict[str, Tensor], list[str]]:
    """The same encoder without LayerScale and with all biases, which is the one form of block here.

    LayerScale multiplies the output of a linear layer, so it is multiplied into that layer's weights, in fp64. Missing
    biases of queries, keys and values are zeros.

    Args:
        prefix: prefix of the blocks' names, before their numbers.
        depth: number of blocks.
        location: the file, for messages.

    Returns:
        The state, and the names of the biases that are new.

    Raises:
        InputError: a scale has another size than its layer's output.
    """
    state, new = dict(state), []
    for block in (f"{prefix}{number}" for number in range(depth)):
        for scale, layer in (("ls1", "attn.proj"), ("ls2", "mlp.fc2")):
            gamma = state.pop(f"{block}.{scale}.gamma", None)
            for name in (f"{block}.{layer}.weight", f"{block}.{layer}.bias"):
                if gamma is not None and name in state:
                    state[name] = _scaled(state[name], gamma, f"{location}: {block}.{scale}")
        weight, bias = (f"{block}.attn.qkv.{name}" for name in ("weight", "bias"))
        if weight in state and bias not in state:
            state[bias] = torch.zeros(state[weight].shape[:1], dtype=state[weight].dtype)
            new.append(bias)
    return state, new


def _scaled(value: Tensor, gamma: Tensor, location: str) -> Tensor:
    """The rows of a weight, or the numbers of a bias, times the scale of each output."""
    if gamma.shape != value.shape[:1] or gamma.ndim != 1:
        raise InputError(f"{location}: a scale of shape {tuple(gamma.shape)} for a layer of shape {tuple(value.shape)}")
    return (value.double() * gamma.double().view(-1, *[1] * (value.ndim - 1))).to(value.dtype)
