"""Compiled training computes what uncompiled training computes, for batches of any shape, and saves the same names."""

import pytest
import torch
from torch._dynamo.utils import counters

from benchmarks.every_task import DROPPING, TINY, Trial
from vl_absvit.config import DataConfig, RunConfig, VisionConfig
from vl_absvit.errors import ConfigError
from vl_absvit.tasks.classification import PretrainConfig
from vl_absvit.tasks.retrieval import RetrievalConfig
from vl_absvit.tasks.vqa import VQAConfig
from vl_absvit.training.compiled import uncompiled

CPU = torch.device("cpu")
RUN = {"data": DataConfig(root="none"), "run": RunConfig(output="none", compile=True)}


@pytest.fixture
def quickly(monkeypatch):
    """Capture and differentiate as always, and generate no code, which takes minutes."""
    compile_module = torch.nn.Module.compile
    monkeypatch.setattr(torch.nn.Module, "compile", lambda self, options: compile_module(self, backend="aot_eager"))


@pytest.mark.slow
def test_losses_are_those_of_the_code_as_it_was_written(quickly):
    torch._dynamo.reset()
    counters.clear()
    plain, fast = (
        Trial("vqa", "absvit", CPU, passes=2, size=DROPPING, compiled=compiled) for compiled in (False, True)
    )
    for number in range(2):
        assert fast.step(number) == pytest.approx(plain.step(number), rel=1e-4)
    assert fast.model.state_dict().keys() == plain.model.state_dict().keys(), "so that checkpoints stay what they are"
    for samples in (4, 12):  # other numbers of images and lengths of texts
        fast.size = TINY._replace(samples=samples)
        fast.step()
    assert counters["stats"]["unique_graphs"] <= 4
    with uncompiled(fast.model):
        before = counters["stats"]["unique_graphs"]
        fast.evaluate()
        assert counters["stats"]["unique_graphs"] == before


@pytest.mark.parametrize("kind", [RetrievalConfig, PretrainConfig])
def test_other_tasks_are_not_compiled(kind):
    with pytest.raises(ConfigError, match="run.compile is for finetuning on VQA alone"):
        kind(**RUN)


def test_compiling_and_checkpointing_exclude_each_other():
    with pytest.raises(ConfigError, match="run.compile and vision.gradient_checkpointing exclude each other"):
        VQAConfig(**RUN, vision=VisionConfig(gradient_checkpointing=True))
