"""The authors' training, as recorded: parameters and optimizer groups, and which schedules there are."""

import json
from types import SimpleNamespace

import pytest
import torch

from vl_absvit.config import LearningRates, OptimConfig
from vl_absvit.models.architecture import build_from_architecture
from vl_absvit.models.released.vision_language import convert_vision_language
from vl_absvit.models.released.vision_language_keys import KEYS
from vl_absvit.tasks.retrieval import RetrievalTask
from vl_absvit.tasks.vqa import VQATask
from vl_absvit.training.optim import param_groups

BASE_RATE = 1e-5
# The recorded runs multiply the base rate by 10 for the fusion and by 3 for feedback and prior.
RATES = {"vision": 1e-5, "text": 1e-5, "fusion": 1e-4, "feedback": 3e-5, "prior": 3e-5}
TASKS = {"vqa": (VQATask, RATES | {"head": 5e-4}), "matching": (RetrievalTask, RATES | {"head": 5e-5})}
UNUSED = {"vit_model.head.weight", "vit_model.head.bias"} | {
    f"text_transformer.pooler.dense.{name}" for name in ("weight", "bias")
}
DIFFERENCES = {  # released name -> (their multiplier and weight decay, ours); None: in no group
    "vqa": {
        "token_type_embeddings.weight": ((1, 0.01), (10, 0.01)),  # theirs with the base, ours with the fusion it is in
        "vqa_classifier.1.weight": ((50, 0.01), (50, 0.0)),  # a norm, which theirs decays
        "vit_model.prompt_decoder.bias": (None, (3, 0.0)),  # theirs never learns
    },
    "matching": {
        "token_type_embeddings.weight": ((1, 0.01), (10, 0.01)),
        "vit_model.prompt_decoder.bias": (None, (3, 0.0)),
        "rank_output.weight": ((1, 0.01), (5, 0.01)),  # their groups do not know it as a head
        "rank_output.bias": ((1, 0.0), (5, 0.0)),
    },
}
FROZEN = {"vqa": set(), "matching": {"itm_score.fc.weight", "itm_score.fc.bias"}}  # theirs does not train these


@pytest.fixture(params=["vqa", "matching"])
def base(request, golden):
    """The recorded base model of a kind, and its conversion without any values."""
    name = {"vqa": "vqa", "matching": "irtr"}[request.param]
    recorded = json.loads((golden / f"meter/parameter_lists/base_{name}_absvit.json").read_text())
    shapes = recorded["parameters"] | recorded["state_dict_extra_buffers"]
    state = {key: torch.empty(shape, device="meta") for key, shape in shapes.items()}
    conversion = convert_vision_language(state, recorded["config"], None, None, "base")
    with torch.device("meta"):
        model = build_from_architecture(conversion.config, "base")
    return SimpleNamespace(kind=request.param, recorded=recorded, conversion=conversion, model=model)


def test_base_models_have_the_authors_parameters(base):
    ignored = {entry.key: entry.parameters for entry in base.conversion.entries if entry.status == "ignored"}
    assert set(ignored) == UNUSED | set(base.recorded["state_dict_extra_buffers"])
    count = sum(parameter.numel() for parameter in base.model.parameters())
    assert count + sum(ignored[key] for key in UNUSED) == base.recorded["n_params"]
    ours = {KEYS[base.kind].ours(key) for key in base.recorded["parameters"] if key not in UNUSED}
    assert ours == {name for name, _ in base.model.named_parameters()}
    assert not [entry for entry in base.conversion.entries if entry.status == "new"]
    assert base.conversion.preprocessing["max_tokens"] == {"vqa": 50, "matching": 40}[base.kind]
    assert base.conversion.config["text"]["num_attention_heads"] == 12


def groups_of(base) -> dict[str, tuple[float, float]]:
    """Multiplier of the base rate and weight decay of every parameter, by its released name."""
    task, rates = TASKS[base.kind]
    config = SimpleNamespace(optim=OptimConfig(learning_rates=LearningRates(**rates)))
    lr_of = task.lr_of(SimpleNamespace(config=config, model=base.model))
    name_of = {parameter: KEYS[base.kind].released(name) for name, parameter in base.model.named_parameters()}
    groups = param_groups(base.model, lr_of, config.optim.weight_decay)
    return {
        name_of[parameter]: (round(group["peak_lr"] / BASE_RATE, 6), group["weight_decay"])
        for group in groups
        for parameter in group["params"]
    }


def test_optimizer_groups_are_the_authors_but_for_named_differences(base):
    optimizer = base.recorded["optimizer"]
    theirs: dict[str, tuple[float, float] | None] = {entry["name"]: None for entry in optimizer["in_no_group"]}
    for group in optimizer["groups"]:
        theirs |= {name: (group["lr_multiplier"], group["weight_decay"]) for name in group["names"]}
    ours = groups_of(base)
    assert theirs.keys() - ours.keys() == UNUSED and not ours.keys() - theirs.keys()
    differences = {name: (theirs[name], ours[name]) for name in ours if theirs[name] != ours[name]}
    assert differences == DIFFERENCES[base.kind]
    assert set(optimizer["requires_grad_false"]) == FROZEN[base.kind]
    group, config = optimizer["groups"][0], OptimConfig()
    assert (tuple(group["betas"]), group["eps"]) == (config.betas, config.eps)
    assert config.weight_decay == 0.01


def test_the_schedules_that_this_project_does_not_offer_are_these(golden):
    recorded = json.loads((golden / "meter/schedules.json").read_text())
    others = {name: entry["config"] for name, entry in recorded.items() if not name.startswith("poly1")}
    assert {name: (entry["decay_power"], entry["end_lr"]) for name, entry in others.items()} == {
        "poly2_end1e-7": (2, 1e-7),
        "cosine": ("cosine", 0),
    }
