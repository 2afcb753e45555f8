"""A run goes on where only places or the division of steps differ; what changes the result is refused with advice."""

from dataclasses import replace

import pytest

from vl_absvit.config import (
    DataConfig,
    FusionConfig,
    LearningRates,
    LossConfig,
    OptimConfig,
    RunConfig,
    TextConfig,
    VisionConfig,
)
from vl_absvit.errors import ConfigError
from vl_absvit.tasks.classification import PretrainConfig
from vl_absvit.tasks.retrieval import RetrievalConfig
from vl_absvit.tasks.vqa import VQAConfig
from vl_absvit.training.same_run import check_same_run, config_as_dict, defaults, flatten

BEFORE = VQAConfig(
    data=DataConfig(root="data", stream="shards"),
    run=RunConfig(output="run"),
    from_checkpoint="start",
    vision=VisionConfig(weights="trunk"),
    text=TextConfig(model="roberta", tokenizer="tokenizer"),
    optim=OptimConfig(batch_size=12, micro_batch_size=6, epochs=2),
)


def changed(**parts):
    """The config with fields of its groups changed: ``data={"root": "elsewhere"}``."""
    groups = {key: replace(getattr(BEFORE, key), **value) for key, value in parts.items() if isinstance(value, dict)}
    return replace(BEFORE, **(parts | groups))


@pytest.fixture
def run(tmp_path):
    (tmp_path / "checkpoints/last").mkdir(parents=True)
    return tmp_path


@pytest.mark.parametrize(
    "parts, remark",
    [
        (dict(data={"root": "elsewhere"}), "data.root was data, now it is elsewhere: the same data by its content"),
        (dict(data={"stream": "elsewhere"}), "data.stream was shards, now it is elsewhere"),
        (dict(vision={"weights": "elsewhere"}), "vision.weights was trunk, now it is elsewhere: neither is read"),
        (dict(vision={"weights": None}), "vision.weights was trunk, now it is None: neither is read"),
        (dict(from_checkpoint=None), "from_checkpoint was start, now it is None: neither is read"),
        (dict(text={"model": "elsewhere"}), "text.model was roberta, now it is elsewhere: neither is read"),
        (dict(text={"tokenizer": "elsewhere"}), "text.tokenizer was tokenizer, now it is elsewhere: neither is read"),
        (dict(optim={"micro_batch_size": 3}), "results are the same but for rounding and for what is drawn in"),
        (dict(vision={"gradient_checkpointing": True}), "vision.gradient_checkpointing was False, now it is True"),
    ],
)
def test_what_may_differ_is_said(run, parts, remark):
    (line,) = check_same_run(changed(**parts), config_as_dict(BEFORE), run)
    assert line.startswith(remark) or remark in line


def test_what_nothing_depends_on_may_differ_unsaid(run):
    other = changed(data={"images": "pictures", "num_workers": 0}, run={"log_every": 7, "output": "b", "resume": True})
    assert check_same_run(other, config_as_dict(BEFORE), run) == []


@pytest.mark.parametrize(
    "parts",
    [
        dict(optim={"epochs": 3}),
        dict(optim={"batch_size": 24}),
        dict(optim={"learning_rates": LearningRates(head=1e-3)}),
        dict(optim={"schedule": "cosine"}),
        dict(loss=LossConfig(prior=0.5)),
        dict(data={"train_splits": ("train", "val")}),
        dict(data={"stream": None}),
        dict(data={"augmentation": "none"}),
        dict(vision={"gain": 1.0}),
        dict(vision={"looks_again_from": 2}),
        dict(vision={"top_down": "none"}),
        dict(run={"precision": "fp32"}),
        dict(run={"evaluations_per_epoch": 2}),
    ],
)
def test_another_training_is_refused_and_starts_from_the_checkpoint(run, parts):
    with pytest.raises(ConfigError) as error:
        check_same_run(changed(**parts), config_as_dict(BEFORE), run)
    line = str(error.value)
    assert line.startswith(f"{run} was started with another config: ")
    assert line.endswith(
        "; leave it as it was to go on, or, to train on with the change, start a new run from it: "
        f"--from_checkpoint {run}/checkpoints/last --run.output NEW"
    )


@pytest.mark.parametrize(
    "parts, advice",
    [
        (dict(run={"seed": 3}, optim={"epochs": 3}), "with another seed it is another run: --run.output NEW"),
        (dict(vision={"width": 64}), "another model is another run: --run.output NEW"),
        (dict(text={"model": None}), "another model is another run: --run.output NEW"),
        (dict(fusion=FusionConfig(num_layers=3)), "another model is another run: --run.output NEW"),
    ],
)
def test_another_seed_or_model_is_another_run(run, parts, advice):
    with pytest.raises(ConfigError, match=advice):
        check_same_run(changed(**parts), config_as_dict(BEFORE), run)


def test_pretraining_goes_on_as_the_trunk_of_another_run(run):
    before = PretrainConfig(data=DataConfig(root="images"), run=BEFORE.run)
    with pytest.raises(ConfigError, match=f"--vision.weights {run}/checkpoints/last --run.output NEW"):
        check_same_run(replace(before, optim=OptimConfig(epochs=3)), config_as_dict(before), run)


def test_a_source_that_was_not_there_before_is_refused(run):
    before = replace(BEFORE, from_checkpoint=None)
    with pytest.raises(ConfigError, match=r"from_checkpoint \(was None, now 'start'\)"):
        check_same_run(BEFORE, config_as_dict(before), run)


def test_a_config_written_before_a_key_existed_had_its_default(run):
    written = config_as_dict(BEFORE)
    del written["data"]["samples_per_image"], written["optim"]["schedule"], written["vision"]
    written["start"] = written.pop("from_checkpoint")
    before = replace(BEFORE, vision=VisionConfig())  # whose mask is that of runs before there were others
    assert check_same_run(before, written, run) == []
    with pytest.raises(ConfigError, match=r"samples_per_image \(was 1, now 2\)"):
        check_same_run(changed(data={"samples_per_image": 2, "stream": None}), written | {"data": {}}, run)


def test_a_retrieval_run_from_before_there_were_negative_images_had_none(run):
    config = RetrievalConfig(data=DataConfig(root="data"), run=BEFORE.run)
    written = config_as_dict(config)
    del written["negative_images"]
    with pytest.raises(ConfigError, match=r"negative_images \(was 0, now 1\); leave it as it was to go on"):
        check_same_run(config, written, run)
    assert check_same_run(replace(config, negative_images=0), written, run) == []


@pytest.mark.parametrize("kind", [VQAConfig, RetrievalConfig, PretrainConfig])
def test_defaults_are_those_of_a_config_that_says_nothing(kind):
    made = flatten(config_as_dict(kind(data=DataConfig(root="a"), run=RunConfig(output="b"))))
    assert defaults(kind) | {"data.root": "a", "run.output": "b"} == made | {"run.resume": False}
