"""Decoders that start weights do not bring are fitted to the training set's images, alike in every process."""

import numpy as np
import pytest
import torch

from tests.tiny_vqa import (
    tiny_pretrain_config,
    tiny_retrieval_config,
    tiny_vision,
    tiny_vqa_config,
)
from vl_absvit.models.closed_form import fit_to_moments, look_moments
from vl_absvit.tasks.classification import ClassificationTask
from vl_absvit.tasks.retrieval import RetrievalTask
from vl_absvit.tasks.vqa import VQATask

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


@pytest.mark.parametrize("top_down", ["absvit", "feedback", "absvit_qkv"])
@pytest.mark.parametrize("kind", KINDS)
def test_a_trunk_without_decoders_starts_with_those_fitted_to_its_training_images(
    world, tmp_path, caplog, trunk, kind, top_down
):
    caplog.set_level("INFO")
    task = started(kind, world, tmp_path, weights=trunk, top_down=top_down)
    if kind == "pretraining":
        images = torch.stack([sample.image for sample in task.train_set.__getitems__(range(len(task.train_set)))])
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
