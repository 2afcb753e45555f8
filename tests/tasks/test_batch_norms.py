"""Trunks with batch norms in steps of several passes: what looks ahead is not counted twice."""

import itertools

import pytest
import torch

from tests.tiny_pairs import tiny_pairs_config
from tests.tiny_vqa import tiny_retrieval_config, tiny_vqa_config
from vl_absvit.config import VisionConfig
from vl_absvit.tasks.base import epoch_batches
from vl_absvit.tasks.pairs import PairsTask
from vl_absvit.tasks.retrieval import RetrievalTask
from vl_absvit.tasks.vqa import VQATask

RVT = VisionConfig(model="absvit_rvt_small", image_size=32, width=16, depth=2, num_heads=2)


@pytest.mark.parametrize(
    "task_class, config_of, micro_batch_size",
    [(VQATask, tiny_vqa_config, 6), (RetrievalTask, tiny_retrieval_config, 2), (PairsTask, tiny_pairs_config, 4)],
)
def test_a_look_ahead_leaves_the_statistics_and_sees_what_the_pass_will_see(
    world, tmp_path, monkeypatch, task_class, config_of, micro_batch_size
):
    monkeypatch.setenv("ACCELERATE_USE_CPU", "true")
    task = task_class(config_of(world, tmp_path, micro_batch_size=micro_batch_size, vision=RVT))
    batches = list(itertools.islice(epoch_batches(task.config, task.train_set, 0, 0, 0, 1), 2))
    vision, seen = task.model.train().vision, []
    before = {name: value.clone() for name, value in vision.named_buffers()}
    handle = vision.all_blocks[-1].register_forward_hook(lambda module, inputs, output: seen.append(output.detach()))
    task.look_ahead(batches, seeds=[5, 6])
    handle.remove()
    for name, value in vision.named_buffers():
        assert torch.equal(value, before[name]), name
    for batch, ahead in zip(batches, seen[:: len(seen) // 2], strict=True):
        torch.testing.assert_close(vision.look_once(batch.images).states[-1], ahead)
    counts = {int(value) for name, value in vision.named_buffers() if name.endswith("num_batches_tracked")}
    assert counts == {2}
