"""Decoders that start weights do not bring are fitted to the training set's images, alike in every process."""

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.distributed_helper import run_on_ranks
from tests.tiny_vqa import tiny_pretrain_config, tiny_retrieval_config, tiny_vision, tiny_vqa_config
from vl_absvit.data.image_loader import choose
from vl_absvit.distributed import gather_objects, is_main
from vl_absvit.errors import InputError
from vl_absvit.models.closed_form import fit_to_moments, look_moments
from vl_absvit.models.prior import prior_similarity
from vl_absvit.prepare.stream_shards import StreamOptions, write_stream_shards
from vl_absvit.tasks import first_look_fit
from vl_absvit.tasks.classification import ClassificationTask
from vl_absvit.tasks.retrieval import RetrievalTask
from vl_absvit.tasks.vqa import VQATask
from vl_absvit.variants import VARIANTS

FEW = 20  # more than the tiny world has scenes, fewer than it has single objects
FEED_BACK = [name for name, variant in VARIANTS.items() if variant.feeds_back]
KINDS = {
    "vqa": (tiny_vqa_config, VQATask),
    "retrieval": (tiny_retrieval_config, RetrievalTask),
    "pretraining": (tiny_pretrain_config, ClassificationTask),
}


@pytest.fixture(scope="session")
def trunk(world, tmp_path_factory) -> str:
    """Weights of a trunk without decoders."""
    folder = tmp_path_factory.mktemp("trunk")
    ClassificationTask(tiny_pretrain_config(world, folder, vision=tiny_vision(top_down="none"))).save(folder)
    return str(folder)


def started(kind: str, world, output, **vision):
    make, task = KINDS[kind]
    return task(make(world, output, vision=tiny_vision(**vision)))


def decoders_of(task) -> dict[str, torch.Tensor]:
    return task.model.vision.decoders.state_dict()


@pytest.fixture(autouse=True)
def few_images(monkeypatch):
    monkeypatch.setattr(first_look_fit, "IMAGES", FEW)


@pytest.mark.parametrize(
    "kind, top_down", [*(("vqa", each) for each in FEED_BACK), ("retrieval", "absvit"), ("pretraining", "absvit")]
)
def test_a_trunk_without_decoders_starts_with_those_fitted_to_its_training_images(
    world, tmp_path, caplog, trunk, kind, top_down
):
    caplog.set_level("INFO")
    task = started(kind, world, tmp_path, weights=trunk, top_down=top_down)
    if kind == "pretraining":
        places = choose(len(task.train_set), FEW, seed=0)
        images = torch.stack([sample.image for sample in task.train_set.__getitems__(places)])
    else:
        _, first = np.unique(task.train_set.image_ids, return_index=True)
        images = torch.stack([sample.image for sample in task.train_set.__getitems__(first.tolist())])
    expected = fit_to_moments(look_moments(task.model.vision, [images]))
    for depth, decoder in enumerate(task.model.vision.decoders):
        torch.testing.assert_close(decoder.reconstruct.weight, expected.reconstruct[depth].float())
        torch.testing.assert_close(decoder.transform.weight, expected.transform[depth].float())
    source = f"  vision.decoders closed form, on {len(images)} images of the training set\n"
    assert f"{source}    fitted     feedback decoders        4          1,024  vision.decoders.0." in caplog.text
    (said,) = [each.message for each in caplog.records if each.message.startswith("decoders fitted")]
    explained = " ".join(f"{share:.2f}" for share in expected.normed_explained)
    assert said.endswith(f"normed inputs {explained} (T)")


@pytest.mark.parametrize("kind", KINDS)
def test_random_decoders_are_those_of_the_seed_and_nothing_else_depends_on_the_choice(world, tmp_path, trunk, kind):
    fitted = started(kind, world, tmp_path, weights=trunk).model.state_dict()
    drawn = started(kind, world, tmp_path, weights=trunk, decoders="random").model.state_dict()
    scratch = started(kind, world, tmp_path).model.state_dict()
    for name, value in drawn.items():
        assert torch.equal(value, fitted[name]) == (".decoders." not in name), name
        assert ".decoders." not in name or torch.equal(value, scratch[name]), name


@pytest.mark.parametrize("kind", KINDS)
def test_images_are_looked_at_without_augmentation(world, tmp_path, trunk, kind):
    make, task = KINDS[kind]
    config = make(world, tmp_path, vision=tiny_vision(weights=trunk))
    augmentation = "imagenet" if kind == "pretraining" else "randaugment"
    augmented = replace(config, data=replace(config.data, augmentation=augmentation))
    expected = decoders_of(task(config))
    for name, value in decoders_of(task(augmented)).items():
        assert torch.equal(value, expected[name]), name


def test_a_centred_trunk_starts_with_the_mean_token_of_its_training_images_and_keeps_it(world, tmp_path, caplog, trunk):
    caplog.set_level("INFO")
    task = started("vqa", world, tmp_path, weights=trunk, centred=True, top_down="mask_att")
    _, first = np.unique(task.train_set.image_ids, return_index=True)
    images = torch.stack([sample.image for sample in task.train_set.__getitems__(first.tolist())])
    vision = task.model.vision
    with torch.no_grad():
        tokens = vision.eval().look_once(images).tokens
    torch.testing.assert_close(vision.mean_token, vision.token_grid().patches(tokens).mean(dim=(0, 1)))
    source = f"  vision.mean_token closed form, on {len(images)} images of the training set\n"
    assert f"{source}    fitted     prior                    1             16  vision.mean_token" in caplog.text
    with torch.no_grad():
        vision.mean_token += 1
    task.save(tmp_path)
    again = VQATask.load(tmp_path).model
    assert torch.equal(again.vision.mean_token, vision.mean_token)
    prior, look = torch.randn(3, 16), vision.look_once(images)
    torch.testing.assert_close(
        again.compare(prior, look),
        prior_similarity(prior, look.tokens - vision.mean_token, again.pool, look.prefix_tokens),
    )


def test_decoders_that_are_there_stay(world, tmp_path, trunk, caplog):
    task = started("vqa", world, tmp_path, weights=trunk)
    with torch.no_grad():
        for weight in task.model.vision.decoders.parameters():
            weight.normal_()
    task.save(tmp_path)
    caplog.clear(), caplog.set_level("INFO")
    config = tiny_vqa_config(world, tmp_path)
    others = [
        started("vqa", world, tmp_path, weights=str(tmp_path)),
        started("pretraining", world, tmp_path, weights=str(tmp_path)),
        VQATask(replace(config, from_checkpoint=str(tmp_path))),
    ]
    for other in others:
        for name, value in decoders_of(other).items():
            assert torch.equal(value, decoders_of(task)[name]), name
    VQATask(config, checkpoint=tmp_path)  # goes on: its weights come later
    assert "fitted" not in caplog.text and "closed form" not in caplog.text


def test_a_whole_model_that_fed_nothing_back_starts_with_fitted_decoders(world, tmp_path, caplog):
    started("vqa", world, tmp_path, top_down="mask_att").save(tmp_path)
    caplog.set_level("INFO")
    VQATask(replace(tiny_vqa_config(world, tmp_path), from_checkpoint=str(tmp_path)))
    assert "  vision.decoders closed form, on " in caplog.text


@pytest.mark.parametrize("top_down", ["absvit", "none", "mask_att"])
def test_where_the_trunk_is_random_nothing_is_fitted_and_it_is_said_once(world, tmp_path, caplog, top_down):
    caplog.set_level("INFO")
    started("vqa", world, tmp_path, top_down=top_down)
    said = "the trunk starts from random weights, to which no decoders can be fitted: theirs are random, too"
    assert caplog.text.count(said) == (top_down == "absvit") and "fitted to" not in caplog.text


def test_streamed_images_are_looked_at(world, tmp_path, trunk, caplog):
    options = StreamOptions(data=world / "prepared", shards=4)
    write_stream_shards(options, tmp_path / "shards", lambda items, total, description: iter(items))
    config = tiny_vqa_config(world, tmp_path, vision=tiny_vision(weights=trunk))
    expected = decoders_of(VQATask(config))
    caplog.set_level("INFO")
    streamed = VQATask(replace(config, data=replace(config.data, stream=str(tmp_path / "shards"))))
    for name, value in decoders_of(streamed).items():  # all images of the tiny world, in another order
        torch.testing.assert_close(value, expected[name], rtol=1e-3, atol=1e-5)
    assert f"closed form, on {len(streamed.train_set.image_ids)} images of the training set" in caplog.text


def fit_or_fail(world: str, output: str, trunk: str, image: str) -> tuple[list[torch.Tensor], str]:
    """The decoders that a process starts with, and its complaint where a picture is gone."""
    task = started("vqa", Path(world), output, weights=trunk)
    gone = Path(image)
    gone.rename(gone.with_suffix(".away")) if is_main() else None
    gather_objects([0])
    try:
        started("vqa", Path(world), output, weights=trunk)
    except InputError as error:
        return [weight.data for weight in task.model.vision.decoders.parameters()], str(error)
    return [], "no complaint"


@pytest.mark.slow
def test_processes_start_with_the_same_decoders_and_complain_alike(world, tmp_path, trunk):
    shutil.copytree(world, tmp_path / "world")
    for manifest in (tmp_path / "world/prepared").rglob("manifest.json"):
        manifest.write_text(manifest.read_text().replace(str(world), str(tmp_path / "world")))
    task = started("vqa", tmp_path / "world", tmp_path, weights=trunk)
    image = next((tmp_path / "world/demo/vqav2").rglob(f"*train*{int(task.train_set.image_ids[0]):012d}*"))
    (first, complaint), second = run_on_ranks(fit_or_fail, 2, str(tmp_path / "world"), str(tmp_path), trunk, str(image))
    assert second[1] == complaint and str(image) in complaint
    alone = task.model.vision.decoders.parameters()
    for one, other, expected in zip(first, second[0], alone, strict=True):
        assert torch.equal(one, other) and torch.equal(one, expected)
