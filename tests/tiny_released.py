"""Tiny checkpoints in the released names: random models of ours, renamed by the inverted key maps."""

import sys
from pathlib import Path

import pytest
import timm
import torch
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from torch import Tensor
from transformers import PreTrainedTokenizerFast, RobertaConfig

import vl_absvit.models  # noqa: F401  (registers the models)
from vl_absvit.models.architecture import build_from_architecture
from vl_absvit.models.released.imagenet import KEYS as CLASSIFIER_KEYS
from vl_absvit.models.released.vision_language_keys import KEYS

ANSWERS, WORDS, WIDTH, TEXT_WIDTH, FUSION_WIDTH = 17, 100, 16, 24, 32
HEADS = {"vqa": {"num_answers": ANSWERS}, "matching": {}, "pretraining": {"vocab_size": WORDS}, "nlvr2": {}, "snli": {}}
CONFIG = {  # what the release reads of METER's configuration, and more
    "exp_name": "tiny", "datasets": ["vqa"], "image_size": 32, "patch_size": 8, "max_text_len": 12,
    "tokenizer": "roberta-base", "is_clip": False, "is_swin": False, "is_vit": True, "vit": "absvit_tiny",
    "val_transform_keys": ["clip"], "hidden_size": FUSION_WIDTH, "num_heads": 4, "num_top_layer": 2, "mlp_ratio": 2,
    "drop_rate": 0.1, "feedback": True, "load_path": "", "vit_path": "",
}  # fmt: skip
UNUSED = {  # what every released vision-language model holds and nothing reads
    "vit_model.head.weight": (10, WIDTH),
    "vit_model.head.bias": (10,),
    "text_transformer.pooler.dense.weight": (TEXT_WIDTH, TEXT_WIDTH),
    "text_transformer.pooler.dense.bias": (TEXT_WIDTH,),
    "text_transformer.embeddings.position_ids": (1, 40),
}


def tiny_tokenizer(words: int = WORDS) -> PreTrainedTokenizerFast:
    """As many tokens as the tiny models have: RoBERTa's special ones, and one for every character that still fits."""
    characters = [chr(code) for code in range(31, 127)][: words - 4]
    vocabulary = {token: number for number, token in enumerate(["<s>", "<pad>", "</s>", "<unk>", *characters])}
    backend = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    backend.pre_tokenizer = pre_tokenizers.Split("", "isolated")
    backend.post_processor = processors.RobertaProcessing(
        ("</s>", 2), ("<s>", 0), trim_offsets=False, add_prefix_space=False
    )
    return PreTrainedTokenizerFast(tokenizer_object=backend, pad_token="<pad>", bos_token="<s>", eos_token="</s>")


def tiny_model(kind: str, feedback: bool = True) -> torch.nn.Module:
    """A model of ours with a released architecture, every parameter random."""
    text = RobertaConfig(
        vocab_size=WORDS, hidden_size=TEXT_WIDTH, num_hidden_layers=2, num_attention_heads=4, intermediate_size=48,
        max_position_embeddings=40, type_vocab_size=1, layer_norm_eps=1e-5, pad_token_id=1,
    )  # fmt: skip
    steering = {"modulation": "reweight_project", "gain": 5.0} if feedback else {"top_down": "none"}
    vision = {"model": "absvit_tiny_patch8_224", "image_size": 32, "width": WIDTH, "depth": 2, "num_heads": 4}
    architecture = {
        "format": 2,
        "vision": vision | steering,
        "text": text.to_dict(),
        "sentence": ("padded_mean" if kind == "vqa" else "eos") if feedback else None,
        "pool": "cls",
        "fusion": {"width": FUSION_WIDTH, "num_layers": 2, "num_heads": 4, "mlp_ratio": 2.0, "dropout": 0.1},
        "head": {"kind": kind, **HEADS[kind]},
    }
    model = build_from_architecture(architecture, "tiny")
    return shaken(model)


def shaken(model: torch.nn.Module) -> torch.nn.Module:
    """The model in evaluation mode, no two of its parameters alike."""
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.1)
    return model.eval()


def released_state(kind: str, feedback: bool = True) -> tuple[torch.nn.Module, dict[str, Tensor]]:
    """A model of ours, and its weights as the release would save them."""
    model = tiny_model(kind, feedback)
    ours = model.state_dict()
    if kind == "nlvr2":  # three token types in one table
        types = torch.cat([ours["fusion.token_types.weight"], ours.pop("head.second_image_type")[None]])
        ours["fusion.token_types.weight"] = types
    released = {KEYS[kind].released(key): value for key, value in ours.items()}
    return model, released | {key: torch.randn(shape) for key, shape in UNUSED.items()}


def released_config(kind: str, feedback: bool = True, **changes) -> dict:
    """METER's configuration of such a run."""
    datasets = {"matching": ["f30k"], "pretraining": ["coco", "vg", "sbu", "gcc"]}.get(kind, [kind])
    return CONFIG | {"datasets": datasets, "feedback": feedback} | changes


def save_lightning(path: Path, state: dict[str, Tensor], config: dict) -> Path:
    """A file of the form that Lightning writes, with a class of its own as a key."""
    name = "pytorch_lightning.callbacks.model_checkpoint"
    module = type(sys)(name)
    module.ModelCheckpoint = type("ModelCheckpoint", (), {"__module__": name})
    content = {
        "epoch": 1,
        "state_dict": state,
        "callbacks": {module.ModelCheckpoint: {"monitor": "val/the_metric", "best_model_score": torch.tensor(0.5)}},
        "optimizer_states": [{"state": {0: {"exp_avg": torch.zeros(3)}}}],
        "hparams_name": "kwargs",
        "hyper_parameters": {"config": config},
    }
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(sys.modules, "pytorch_lightning", type(sys)("pytorch_lightning"))
        patch.setitem(sys.modules, "pytorch_lightning.callbacks", type(sys)("pytorch_lightning.callbacks"))
        patch.setitem(sys.modules, name, module)
        torch.save(content, path)
    return path


def released_classifier(feedback: bool = True, **options) -> tuple[torch.nn.Module, dict[str, Tensor]]:
    """A classifier of timm's form with trained-looking weights, and these in the released names."""
    sizes = {"img_size": 32, "patch_size": 8, "embed_dim": WIDTH, "depth": 2, "num_heads": 4, "num_classes": 7}
    top_down = "absvit" if feedback else "none"
    model = shaken(timm.create_model("absvit_tiny_patch8_224", top_down=top_down, **(sizes | options)))
    names = {f"vision.{key}": value for key, value in model.state_dict().items()}
    released = {}
    for key, value in names.items():
        # The map knows the norm after the pooling by the name of the one before it.
        name = key.removeprefix("vision.") if ".fc_norm." in key else CLASSIFIER_KEYS.released(key)
        released[name] = value
    return model, released
