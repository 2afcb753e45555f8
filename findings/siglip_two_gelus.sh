#!/usr/bin/env bash
# timm 1.0.31 and transformers 5.24.0 compute SigLIP's blocks with two GELUs: one set of weights, two sets of tokens.
#
# SigLIP was trained with the tanh form of GELU (JAX's default). transformers' SiglipVisionConfig says so (gelu_pytorch_tanh). timm's
# vit_base_patch16_siglip_224 and its siblings of the first SigLIP leave their activation at timm's default, the exact GELU; only some
# names, among them so400m and SigLIP 2, say gelu_tanh. A state dict carries no activation, so nothing complains.
# Naive guess: the same weights under the same model's name give the same tokens in both libraries, up to rounding.
# Seen at random weights, fp32: no difference if transformers is told "gelu", 2.2e-4 of a token as both are shipped. Small, but a hundred
# times rounding, so that a parity test of a correct conversion fails.
# Remedy: choose the activation together with the weights: timm.create_model(..., act_layer="gelu_tanh"), or hidden_act="gelu".
# Installs about 3 GB into a temporary folder.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check --no-cache-dir torch==2.15.0 torchvision==0.29.2 timm==1.0.31 \
  transformers==5.24.0 numpy==2.3.5
cat >"$folder/try.py" <<'PY'
import timm
import torch
from transformers import SiglipVisionConfig, SiglipVisionModel


def in_timms_names(model: SiglipVisionModel) -> dict[str, torch.Tensor]:
    """The state without the pooling head."""
    state, parts = {}, {}
    names = {"embeddings.patch_embedding": "patch_embed.proj", "embeddings.position_embedding.weight": "pos_embed"}
    names |= {"encoder.layers": "blocks", "layer_norm": "norm", "self_attn.out_proj": "attn.proj", "post_layernorm": "norm"}
    for name, value in model.state_dict().items():
        for theirs, timms in names.items():
            name = name.replace(theirs, timms)
        if "self_attn." in name:
            block, kind = name.split(".self_attn.")
            parts.setdefault(f"{block}.attn.qkv.{kind.split('.')[1]}", {})[kind[0]] = value
        elif not name.startswith("head."):
            state[name] = value
    state["pos_embed"] = state["pos_embed"][None]
    return state | {name: torch.cat([part[letter] for letter in "qkv"]) for name, part in parts.items()}


@torch.no_grad()
def difference(**config: str) -> float:
    torch.manual_seed(0)
    model = SiglipVisionModel(SiglipVisionConfig(image_size=224, patch_size=16, **config)).eval()
    twin = timm.create_model("vit_base_patch16_siglip_224", global_pool="", num_classes=0).eval()
    twin.load_state_dict(in_timms_names(model))  # strict: every weight has its place
    images = torch.randn(2, 3, 224, 224)
    tokens, others = model(pixel_values=images).last_hidden_state, twin.forward_features(images)
    return ((tokens - others).norm(dim=-1) / tokens.norm(dim=-1)).max().item()


as_shipped, exact = difference(), difference(hidden_act="gelu")
print(f"largest difference of a token, over its size: as shipped {as_shipped:.1e}, both with the exact GELU {exact:.1e}")
raise SystemExit(not (exact < 1e-5 and as_shipped > 5e-5))
PY
"$folder/venv/bin/python" "$folder/try.py" || { echo "no longer so"; exit 1; }
