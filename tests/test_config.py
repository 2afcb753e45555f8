"""Every value out of range is refused under its key, and contradictions are, too."""

import math

import pytest

from vl_absvit.config import (
    AugmentationConfig,
    DataConfig,
    FusionConfig,
    LossConfig,
    OptimConfig,
    PretrainConfig,
    PriorConfig,
    RetrievalConfig,
    RetrievalLossConfig,
    RunConfig,
    TextConfig,
    VisionConfig,
)
from vl_absvit.errors import ConfigError
from vl_absvit.tasks.vqa import VQAConfig
from vl_absvit.variants import VARIANTS

GROUPS = {
    "vision": VisionConfig,
    "text": TextConfig,
    "prior": PriorConfig,
    "fusion": FusionConfig,
    "loss": LossConfig,
    "optim": OptimConfig,
    "augmentation": AugmentationConfig,
    "data": lambda **values: DataConfig(**{"root": "prepared", **values}),
    "run": lambda **values: RunConfig(**{"output": "runs/x", **values}),
}
POSITIVE = """
    vision.image_size vision.patch_size vision.width vision.depth vision.num_heads vision.vars_penalty
    vision.vars_steps vision.vars_ratio text.width text.depth text.num_heads
    prior.temperature fusion.width fusion.num_layers fusion.num_heads fusion.mlp_ratio optim.batch_size
    optim.micro_batch_size optim.epochs optim.eps optim.max_grad_norm run.log_every run.evaluations_per_epoch
""".split()
NOT_NEGATIVE = """
    vision.gain vision.looks_again_from loss.prior loss.reconstruction optim.weight_decay data.num_workers run.seed
    augmentation.color_jitter augmentation.mixup augmentation.cutmix
""".split()
BELOW_ONE = """
    vision.drop_path text.dropout fusion.dropout optim.warmup_fraction augmentation.label_smoothing
""".split()


def refuse(key: str, value: object, message: str) -> None:
    group, name = key.split(".")
    with pytest.raises(ConfigError) as error:
        GROUPS[group](**{name: value})
    assert message in str(error.value) and str(value) in str(error.value) and "\n" not in str(error.value)


@pytest.mark.parametrize("key", POSITIVE)
def test_what_must_be_positive_is_neither_zero_nor_negative(key):
    for value in (0, -1, math.nan, math.inf):
        refuse(key, value, f"{key} must be positive")


@pytest.mark.parametrize("key", NOT_NEGATIVE)
def test_what_may_be_zero_is_not_negative(key):
    group, name = key.split(".")
    assert getattr(GROUPS[group](**{name: 0}), name) == 0
    for value in (-1, math.nan, math.inf):
        refuse(key, value, f"{key} must be at least 0")


@pytest.mark.parametrize("key", BELOW_ONE)
def test_shares_and_rates_are_below_one(key):
    for value in (-0.1, 1.0, math.nan):
        refuse(key, value, f"{key} must be in [0, 1)")


@pytest.mark.parametrize(
    "key, value, message",
    [
        ("vision.top_down", "up", "vision.top_down must be one of none, perceiver_io, feedback, mask_att, absvit,"),
        ("text.max_tokens", 2, "text.max_tokens must be at least 3"),
        ("text.num_heads", 5, "text.width 768 does not divide into 5 heads"),
        ("text.model", None, "text.tokenizer is needed when text.model is null"),
        ("fusion.num_heads", 5, "fusion.width 768 does not divide into 5 heads"),
        ("optim.betas", (0.9, 1.5), "optim.betas[1] must be in [0, 1), got 1.5"),
        ("data.train_splits", (), "data.train_splits is empty"),
        ("data.train_splits", ("train", "val", "train"), "names a split more than once: train, val, train"),
        ("data.train_splits", ("train", "minival"), "data.select_split 'minival' is also trained on"),
        ("augmentation.random_erasing", 1.1, "augmentation.random_erasing must be in [0, 1], got 1.1"),
        ("augmentation.random_erasing", -0.1, "augmentation.random_erasing must be in [0, 1], got -0.1"),
    ],
)
def test_contradictions_are_one_line(key, value, message):
    group, name = key.split(".")
    with pytest.raises(ConfigError) as error:
        GROUPS[group](**{name: value})
    assert message in str(error.value) and "\n" not in str(error.value)


@pytest.mark.parametrize("config", [VQAConfig, RetrievalConfig])
@pytest.mark.parametrize("top_down", VARIANTS)
def test_the_second_look_is_compared_only_where_the_text_changes_it(config, top_down):
    parts = {
        "data": DataConfig(root="prepared"),
        "run": RunConfig(output="runs/x"),
        "vision": VisionConfig(top_down=top_down),
    }
    assert config(**parts).prior.look == "first"
    if top_down in ("mask_att", "absvit", "absvit_qkv"):
        assert config(prior=PriorConfig(look="second"), **parts).prior.look == "second"
    else:
        with pytest.raises(ConfigError, match=f"prior.look is second, but vision.top_down {top_down} has no second"):
            config(prior=PriorConfig(look="second"), **parts)


def test_a_calibrated_mask_goes_with_any_pooling_of_the_first_look():
    parts = {"data": DataConfig(root="prepared"), "run": RunConfig(output="runs/x")}
    for pool in ("lse", "max", "mean", "cls"):
        assert VQAConfig(prior=PriorConfig(pool=pool), **parts).vision.mask == "calibrated"
    with pytest.raises(ConfigError, match="calibrated on the first look, but prior.look is second"):
        VQAConfig(prior=PriorConfig(look="second"), **parts)


def test_a_mask_is_open_on_all_that_a_caption_tells_of():
    config = RetrievalConfig(data=DataConfig(root="prepared"), run=RunConfig(output="runs/x"))
    assert (config.vision.mask, config.prior.pool) == ("cosine", "mean")


@pytest.mark.parametrize("top_down", VARIANTS)
def test_a_prior_that_nothing_trains_is_refused(top_down):
    parts = {"data": DataConfig(root="prepared"), "run": RunConfig(output="runs/x")}
    parts["loss"] = RetrievalLossConfig(prior=0)
    if top_down in ("none", "feedback"):
        with pytest.raises(ConfigError, match=f"nothing else trains the prior where vision.top_down is {top_down}"):
            RetrievalConfig(vision=VisionConfig(top_down=top_down), **parts)
    else:
        RetrievalConfig(vision=VisionConfig(top_down=top_down), **parts)


@pytest.mark.parametrize("mosaic, message", [(0, "mosaic must be positive"), (3, "224 does not divide into a mosaic")])
def test_a_mosaic_must_fit_into_the_image(mosaic, message):
    with pytest.raises(ConfigError, match=message):
        PretrainConfig(data=DataConfig(root="objects"), run=RunConfig(output="runs/x"), mosaic=mosaic)


@pytest.mark.parametrize("crop_pct", [0, 1.1, -0.5, math.nan])
def test_the_evaluation_sees_something_and_no_more_than_all(crop_pct):
    with pytest.raises(ConfigError, match="crop_pct must be in"):
        PretrainConfig(data=DataConfig(root="objects"), run=RunConfig(output="runs/x"), crop_pct=crop_pct)


@pytest.mark.parametrize("config", [VQAConfig, RetrievalConfig])
def test_pictures_that_a_text_speaks_of_are_not_mirrored(config):
    with pytest.raises(ConfigError, match="data.augmentation imagenet mirrors pictures"):
        config(data=DataConfig(root="prepared", augmentation="imagenet"), run=RunConfig(output="runs/x"))


@pytest.mark.parametrize(
    "augmentation, strength",
    [(name, s) for name in ("none", "randaugment") for s in ({"auto_augment": "original"}, {"color_jitter": 0.4})]
    + [("randaugment", {"random_erasing": 0.25})],
)
def test_what_changes_pictures_is_refused_where_it_would_have_no_effect(augmentation, strength):
    data, run = DataConfig(root="images", augmentation=augmentation), RunConfig(output="runs/x")
    (name,) = strength
    with pytest.raises(
        ConfigError, match=f"augmentation.{name} .* needs data.augmentation imagenet, got {augmentation}"
    ):
        PretrainConfig(data=data, run=run, augmentation=AugmentationConfig(**strength))


@pytest.mark.parametrize("alpha", ["mixup", "cutmix"])
def test_a_mosaic_is_not_mixed_again(alpha):
    with pytest.raises(ConfigError, match="mosaic 2 and augmentation.mixup .* or cutmix .* exclude each other"):
        PretrainConfig(
            data=DataConfig(root="images"),
            run=RunConfig(output="runs/x"),
            mosaic=2,
            augmentation=AugmentationConfig(**{alpha: 0.5}),
        )


@pytest.mark.parametrize("parts", [{"data": DataConfig(root="images", augmentation="none")}, {"mosaic": 2}])
def test_copies_of_a_picture_are_no_copies_of_its_pixels_nor_of_a_mosaic(parts):
    usual = {"data": DataConfig(root="images"), "run": RunConfig(output="runs/x"), "pooling": "avg"}
    assert PretrainConfig(**usual, augmentation=AugmentationConfig(repeats=3)).augmentation.repeats == 3
    with pytest.raises(ConfigError, match="augmentation.repeats 3 needs data.augmentation, got .*, and no mosaic, got"):
        PretrainConfig(**usual | parts, augmentation=AugmentationConfig(repeats=3))
    with pytest.raises(ConfigError, match="augmentation.repeats must be positive, got 0"):
        AugmentationConfig(repeats=0)


def test_parts_to_freeze_are_the_models():
    data, run, optim = DataConfig(root="objects"), RunConfig(output="runs/x"), OptimConfig(freeze=("vision", "text"))
    rates = VQAConfig(data=data, run=run, optim=optim).optim.rates
    assert (rates.vision, rates.text, rates.fusion) == (0, 0, optim.learning_rates.fusion)
    with pytest.raises(ConfigError, match="^optim.freeze names text, which pretraining does not have"):
        PretrainConfig(data=data, run=run, optim=optim)
