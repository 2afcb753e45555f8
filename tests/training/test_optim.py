"""Parameter groups and the learning-rate schedule."""

import json
from pathlib import Path

import pytest
import torch
from timm.scheduler import CosineLRScheduler
from torch import nn

from tests.tiny_vqa import tiny_vision
from vl_absvit.config import OptimConfig, UPerNetConfig, VisionConfig
from vl_absvit.errors import ConfigError
from vl_absvit.models.architecture import build_random_classifier, build_random_segmenter
from vl_absvit.models.released.segmentation import KEYS
from vl_absvit.training.optim import build_optimizer, describe_groups, lr_factor, param_groups, rate_factor

SCHEDULES = Path(__file__).parents[2] / "../shared/golden/meter/schedules.json"


def nested_model() -> nn.Module:
    """vision (trunk, norm, decoders, a query parameter) and a head."""
    vision = nn.Module()
    vision.trunk, vision.norm = nn.Linear(2, 2), nn.LayerNorm(2)
    vision.decoders = nn.ModuleList([nn.Linear(2, 2, bias=False)])
    vision.prior = nn.Parameter(torch.zeros(2))
    model = nn.Module()
    model.vision, model.head = vision, nn.Linear(2, 3)
    return model


RATES = {"vision": 0.1, "vision.decoders": 0.2, "vision.prior": 0.3, "head": 0.4}


def test_the_longest_path_owns_a_parameter():
    model = nested_model()
    groups = {group["name"]: group for group in param_groups(model, RATES, 0.01)}
    assert groups["vision/decay"]["params"] == [model.vision.trunk.weight]
    assert groups["vision.decoders/decay"]["params"] == [model.vision.decoders[0].weight]
    assert groups["vision.prior/no_decay"]["params"] == [model.vision.prior]
    assert {name: group["peak_lr"] for name, group in groups.items() if name.startswith("head")} == {
        "head/decay": 0.4,
        "head/no_decay": 0.4,
    }


def test_every_trainable_parameter_is_in_exactly_one_group():
    model = nested_model()
    model.head.bias.requires_grad = False
    grouped = [id(p) for group in param_groups(model, RATES, 0.01) for p in group["params"]]
    assert sorted(grouped) == sorted(id(p) for p in model.parameters() if p.requires_grad)


def test_norms_and_biases_are_not_decayed():
    for group in param_groups(nested_model(), RATES, 0.01):
        assert {p.ndim >= 2 for p in group["params"]} == {group["weight_decay"] == 0.01}


@pytest.mark.parametrize("decay_positions", [True, False])
def test_positions_and_cls_token_are_decayed_unless_the_config_says_otherwise(decay_positions):
    model = build_random_classifier(tiny_vision(), 3, pooling="token", norm_follows=False)
    config = OptimConfig(weight_decay=0.5, decay_positions=decay_positions)
    groups = build_optimizer(model, {"vision": 0.1}, config).param_groups
    decay_of = {id(p): group["weight_decay"] for group in groups for p in group["params"]}
    for name, parameter in model.named_parameters():
        is_position = name in ("vision.pos_embed", "vision.cls_token")
        is_decayed = decay_positions if is_position else parameter.ndim >= 2
        assert decay_of.pop(id(parameter)) == 0.5 * is_decayed, name
    assert not decay_of


@pytest.mark.parametrize(
    "model, pooling, exempt",
    [
        ("deit_star_tiny", "avg", "pos_embed"),
        ("gfnet_tiny", "avg", "pos_embed"),
        ("fan_tiny", "token", "cls_token"),
        ("rvt_small", "avg", None),
    ],
)
def test_other_trunks_exempt_what_their_releases_exempt(model, pooling, exempt):
    sizes = {"width": 16, "depth": 1, "num_heads": 2, "image_size": 32, "top_down": "none"}
    vision = VisionConfig(model=f"absvit_{model}", **sizes)
    classifier = build_random_classifier(vision, 3, pooling=pooling, norm_follows=False)
    config = OptimConfig(weight_decay=0.5, decay_positions=False)
    groups = build_optimizer(classifier, {"vision": 0.1}, config).param_groups
    undecayed = {id(p) for group in groups for p in group["params"] if group["weight_decay"] == 0}
    names = {name for name, p in classifier.named_parameters() if p.ndim >= 2 and id(p) in undecayed}
    assert names == ({f"vision.{exempt}"} if exempt else set())


def test_a_parameter_without_a_rate_stops_the_run():
    with pytest.raises(ConfigError, match="no learning rate covers the parameter head.weight"):
        param_groups(nested_model(), {"vision": 0.1}, 0.01)


def test_a_module_path_is_not_a_prefix_of_letters():
    with pytest.raises(ConfigError, match="parameter vision.prior"):
        param_groups(nested_model(), {"vis": 0.1, "head": 0.1}, 0.01)


@pytest.mark.parametrize("rates", [RATES | {"text": 0.1}, RATES | {"head": float("nan")}, RATES | {"head": -1.0}])
def test_a_rate_for_nothing_or_of_no_sense_is_refused(rates):
    with pytest.raises(ConfigError, match="the learning rate of (text|head)"):
        param_groups(nested_model(), rates, 0.01)


def test_what_is_out_of_training_may_have_a_rate_of_0_and_all_may_not():
    model = nested_model()
    model.head.requires_grad_(False)
    groups = param_groups(model, RATES | {"head": 0.0}, 0.01)
    assert not any(group["name"].startswith("head") for group in groups) and groups
    with pytest.raises(ConfigError, match="every learning rate is 0 .vision, .*: there is nothing to train"):
        param_groups(model.requires_grad_(False), dict.fromkeys(RATES, 0.0), 0.01)


def test_the_table_names_every_group_with_its_size():
    table = describe_groups(param_groups(nested_model(), RATES, 0.01))
    assert "vision.decoders/decay" in table and "0.01" in table
    head = next(line for line in table.splitlines() if "head/decay" in line)
    assert head.split("│")[1:-1] == [cell for cell in head.split("│")[1:-1] if cell.strip()]
    assert [cell.strip() for cell in head.split("│")[2:-1]] == ["0.4", "0.01", "1", "6"]


def test_the_schedule_by_hand():
    assert [lr_factor(step, 10, 0.2) for step in range(11)] == [
        0,
        0.5,
        1,
        7 / 8,
        6 / 8,
        5 / 8,
        4 / 8,
        3 / 8,
        2 / 8,
        1 / 8,
        0,
    ]
    assert lr_factor(0, 3, 0.0) == 1


def test_the_cosine_by_hand():
    rates = [lr_factor(step, 20, 0.2, "cosine") for step in (0, 1, 4, 8, 12, 16, 20)]
    quarter = (1 + 2**-0.5) / 2  # of the cosine's way
    assert rates == pytest.approx([0, 1 / 4, 1, quarter, 1 / 2, 1 - quarter, 0], abs=1e-15)


@pytest.mark.parametrize("schedule", ["linear", "cosine"])
def test_a_rate_rises_once_and_never_again(schedule):
    rates = [lr_factor(step, 50, 0.1, schedule) for step in range(51)]
    assert rates[0] == rates[50] == 0 and rates[5] == 1
    assert rates[:6] == sorted(rates[:6]) and rates[5:] == sorted(rates[5:], reverse=True)


def test_first_and_last_share_by_hand():
    assert [lr_factor(step, 10, 0.2, "linear", 0.1, 0.02) for step in (0, 1, 2, 6, 10)] == pytest.approx(
        [0.1, 0.55, 1, 0.51, 0.02]
    )
    rates = [lr_factor(step, 20, 0.2, "cosine", 0.1, 0.02) for step in (0, 2, 4, 12, 20)]
    assert rates == pytest.approx([0.1, 0.55, 1, 0.51, 0.02])


@pytest.mark.parametrize("schedule, late", [("timm", 0), ("timm_late", 1)])
def test_rates_of_epochs_are_those_of_timms_scheduler_stepped_as_in_the_releases(schedule, late):
    peak, first, last, epochs, warmup, steps = 1e-3, 1e-6, 1e-5, 30, 5, 3
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=peak)
    theirs = CosineLRScheduler(optimizer, t_initial=epochs, lr_min=last, warmup_t=warmup, warmup_lr_init=first)
    config = OptimConfig(
        epochs=epochs,
        warmup_fraction=warmup / epochs,
        schedule=schedule,
        first_share=first / peak,
        last_share=last / peak,
    )
    rates = []
    for epoch in range(epochs):
        wanted = optimizer.param_groups[0]["lr"]
        ours = [peak * rate_factor(epoch * steps + step, steps, config) for step in range(steps)]
        assert ours == pytest.approx([wanted] * steps, rel=1e-12)
        theirs.step(epoch + 1 - late)  # timm's own loop names the epoch that comes, the releases the one that went
        rates.append(wanted)
    # The release's quirk as it was measured: two epochs at the first rate, and the peak in epoch 6.
    assert rates[: 1 + late] == [first] * (1 + late) and rates.index(max(rates)) == warmup + late


def test_rates_of_epochs_need_whole_epochs_of_warm_up():
    with pytest.raises(ValueError, match="0.1 of 25 epochs is 2.5 epochs of warm-up"):
        OptimConfig(epochs=25, warmup_fraction=0.1, schedule="timm")
    for name in ("first_share", "last_share"):
        with pytest.raises(ValueError, match=rf"optim.{name} must be in \[0, 1\], got 1.5"):
            OptimConfig(**{name: 1.5})


@pytest.mark.parametrize(
    "name, schedule", [("poly1_warm0.1_100", "linear"), ("poly1_warm0.1_37", "linear"), ("cosine", "cosine")]
)
def test_the_schedule_is_meters(name, schedule):
    if not SCHEDULES.exists():
        pytest.skip("the golden schedules are not here")
    golden = json.loads(SCHEDULES.read_text())[name]
    base, total = golden["config"]["learning_rate"], golden["max_steps"]
    for step, rates in enumerate(golden["lr_per_step_per_group"][: total + 1]):  # past its end, METER's cosine rises
        assert base * lr_factor(step, total, 0.1, schedule) == pytest.approx(rates[0], rel=1e-12, abs=1e-20)


@pytest.mark.parametrize("name", ["pascal_voc", "cityscapes", "ade20k"])
def test_a_line_throughout_is_the_schedule_of_the_authors_segmentation_code(golden, name):
    recorded = json.loads((golden / "segmentation/schedules.json").read_text())["release_schedules"][name]
    total, base = recorded["iterations"], recorded["base_lr"]
    warmup, first = recorded["warmup_iterations"] / total, recorded["warmup_ratio"]
    for step, rate in recorded["step_and_lr"]:
        assert base * lr_factor(step, total, warmup, "linear_throughout", first) == pytest.approx(rate, rel=1e-9)


def test_a_line_throughout_by_hand():
    factors = [lr_factor(step, 10, 0.2, "linear_throughout", 0.1, 0.02) for step in (0, 1, 2, 5, 10)]
    assert factors == pytest.approx([0.1, 0.55 * 0.902, 0.804, 0.51, 0.02])


@pytest.mark.parametrize("name, top_down", [("ViT_Top_Down", "absvit"), ("ViT_Bottom_Up", "none")])
def test_decay_of_vectors_makes_the_groups_of_the_authors_segmentation_code(golden, name, top_down):
    recorded = json.loads((golden / "segmentation/parameter_groups.json").read_text())[name]["groups"]
    vision = VisionConfig(model="absvit_base_patch16_224", image_size=512, top_down=top_down)
    with torch.device("meta"):
        model = build_random_segmenter(vision, 150, UPerNetConfig(), has_auxiliary=True)
    config = OptimConfig(weight_decay=0.01, decay_positions=False, decay_vectors=True)
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    rates = {"vision": 6e-5, "head": 6e-5, "auxiliary_head": 6e-5}
    groups = {0.0: set(), 0.01: set()}
    for group in build_optimizer(model, rates, config).param_groups:
        groups[group["weight_decay"]] |= {names[id(parameter)] for parameter in group["params"]}
    for decay, found in groups.items():
        assert found == {KEYS.ours(each) for each in recorded[f"lr 6e-05 weight_decay {decay}"]}
