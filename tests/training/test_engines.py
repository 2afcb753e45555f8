"""Engines: the same training, and checkpoints that do not tell under which engine they were written."""

import importlib
import json
import os
import shutil
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace
from typing import NamedTuple

import pytest
import torch
from accelerate.state import AcceleratorState, PartialState
from accelerate.utils import DistributedType
from safetensors.torch import load_file
from torch import nn

from tests.distributed_helper import run_on_ranks
from tests.run_folders import assert_same_end, metrics
from tests.run_script import ROOT
from tests.scripts.test_engine_configs import handed_on
from tests.tiny_tasks import KINDS, tiny_config
from tests.tiny_vqa import (
    tiny_vqa_config,
    world,  # noqa: F401
    write_config,
)
from vl_absvit.config import RunConfig, TaskConfig
from vl_absvit.errors import ConfigError
from vl_absvit.models.fusion import Pooler
from vl_absvit.precision import arithmetic
from vl_absvit.tasks.registry import task_of
from vl_absvit.tasks.vqa import VQAConfig, load_checkpoint
from vl_absvit.training import loop
from vl_absvit.training.checkpoint import check_whole
from vl_absvit.training.engines import check_accumulation, check_precision, model_to_train, set_up_engine
from vl_absvit.training.run_dir import open_run

HAS_DEEPSPEED = find_spec("deepspeed") is not None
needs_deepspeed = pytest.mark.skipif(not HAS_DEEPSPEED, reason="DeepSpeed is not installed")
FSDP = {
    "ACCELERATE_USE_FSDP": "true",
    "FSDP_VERSION": "2",
    "FSDP_CPU_RAM_EFFICIENT_LOADING": "false",
    "FSDP_RESHARD_AFTER_FORWARD": "true",
    "FSDP_AUTO_WRAP_POLICY": "TRANSFORMER_BASED_WRAP",
}
ZERO2 = {"ACCELERATE_USE_DEEPSPEED": "true", "ACCELERATE_DEEPSPEED_ZERO_STAGE": "2"}
ZERO3 = ZERO2 | {"ACCELERATE_DEEPSPEED_ZERO_STAGE": "3"}


def at_work(engine: DistributedType) -> SimpleNamespace:
    return SimpleNamespace(distributed_type=engine, state=SimpleNamespace(fsdp_plugin=SimpleNamespace()))


@pytest.mark.parametrize("variable, name", [("ACCELERATE_USE_FSDP", "FSDP"), ("ACCELERATE_USE_DEEPSPEED", "DEEPSPEED")])
def test_an_engine_that_was_asked_for_and_is_not_at_work_is_refused(monkeypatch, variable, name):
    monkeypatch.setenv(variable, "true")
    with pytest.raises(ConfigError, match=f"told to use {name}, but MULTI_CPU is what is at work"):
        set_up_engine(at_work(DistributedType.MULTI_CPU))


def test_fsdp_on_the_cpu_does_not_fall_back_in_silence(monkeypatch):
    for name, value in {**FSDP, "ACCELERATE_USE_CPU": "true"}.items():
        monkeypatch.setenv(name, value)
    for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK"):
        monkeypatch.delenv(name, raising=False)
    AcceleratorState._reset_state(reset_partial_state=True)
    with pytest.raises(ConfigError, match="told to use FSDP, but NO is what is at work here"):
        loop.make_accelerator()


@pytest.mark.parametrize(
    "engine, variable, value, message",
    [
        ("FSDP", "FSDP_VERSION", "1", "FSDP_VERSION=1, expected 2"),
        ("FSDP", "FSDP_CPU_RAM_EFFICIENT_LOADING", "true", "every process builds the whole model"),
        ("FSDP", "FSDP_OFFLOAD_PARAMS", "true", "could not be saved whole"),
        ("FSDP", "FSDP_AUTO_WRAP_POLICY", "SIZE_BASED_WRAP", "expected transformer_based_wrap"),
        ("FSDP", "FSDP_TRANSFORMER_CLS_TO_WRAP", "TopDownBlock", "expected nothing"),
        ("FSDP", "FSDP_ACTIVATION_CHECKPOINTING", "true", "other random numbers"),
        ("DEEPSPEED", "ACCELERATE_DEEPSPEED_OFFLOAD_OPTIMIZER_DEVICE", "nvme", "could not be saved whole"),
        ("DEEPSPEED", "ACCELERATE_DEEPSPEED_CONFIG_FILE", "z.json", "the run's config says this"),
        ("DEEPSPEED", "ACCELERATE_GRADIENT_CLIPPING", "0.5", "the run's config says this"),
    ],
)
def test_settings_that_would_break_a_promise_are_refused(monkeypatch, engine, variable, value, message):
    for name, usual in {**(FSDP if engine == "FSDP" else ZERO3), variable: value}.items():
        monkeypatch.setenv(name, usual)
    with pytest.raises(ConfigError, match=message):
        set_up_engine(at_work(DistributedType(engine)))


@pytest.mark.parametrize(
    "said, precision, fits",
    [("no", "bf16", True), ("bf16", "bf16", True), ("bf16", "fp32", False), ("fp16", "bf16", False)],
)
def test_another_precision_of_the_launcher_is_refused(monkeypatch, said, precision, fits):
    monkeypatch.setenv("ACCELERATE_MIXED_PRECISION", said)
    if fits:
        return check_precision(precision)
    with pytest.raises(ConfigError, match=f"mixed precision {said}, but run.precision is {precision}"):
        check_precision(precision)


@pytest.mark.parametrize("said", ["4", "auto"])
def test_accumulation_that_the_launcher_asks_for_is_refused(monkeypatch, tmp_path, said):
    config = RunConfig(output=str(tmp_path), precision="fp32", trackers=())
    monkeypatch.setenv("ACCELERATE_GRADIENT_ACCUMULATION_STEPS", said)
    with pytest.raises(ConfigError, match=f"gradient_accumulation_steps {said}; .* optim.micro_batch_size say"):
        loop.make_accelerator(config)
    monkeypatch.setenv("ACCELERATE_GRADIENT_ACCUMULATION_STEPS", "1")  # what accelerate config writes
    check_accumulation()


def test_bf16_begins_again_where_deepspeed_ends_autocast():
    cpu, whole = torch.device("cpu"), nn.Linear(2, 2)
    model = model_to_train(SimpleNamespace(distributed_type=DistributedType.DEEPSPEED, device=cpu), whole, "bf16")
    with arithmetic("fp32", cpu):  # as DeepSpeed does around the model's forward pass
        assert model(torch.ones(1, 2)).dtype == torch.bfloat16
        assert whole(torch.ones(1, 2)).dtype == torch.float32


def config_of(world: Path, output: Path, resume: bool = False, dropout: float = 0.1) -> VQAConfig:  # noqa: F811
    """Two epochs of two steps of two passes on two processes. The large epsilon keeps AdamW from blowing up what is
    only rounding: the gradient of a key's bias is 0, for it moves all scores of a query alike."""
    config = tiny_vqa_config(world, output, micro_batch_size=6, dropout=dropout, resume=resume)
    return replace(config, optim=replace(config.optim, batch_size=24, eps=1e-4))


def config_of_other(kind: str, world: Path, output: Path, passes: int) -> TaskConfig:  # noqa: F811
    """Training on pairs or statements with this number of passes a step on two processes."""
    config = tiny_config(kind, world, Path(f"{output}-data-{os.environ['RANK']}"), output)
    size = config.optim.batch_size // (2 * passes)
    return replace(config, optim=replace(config.optim, micro_batch_size=size, eps=1e-4))


def finetune(config: TaskConfig, engine: str) -> list[str]:
    """Train in this process of several under an engine; how its parameters are divided."""
    AcceleratorState._reset_state(reset_partial_state=True)
    prepare, kinds = loop.prepare, set()

    def prepare_and_look(accelerator, *arguments):
        if accelerator.distributed_type == DistributedType.DEEPSPEED:  # else so small a model stays whole
            accelerator.state.deepspeed_plugin.deepspeed_config["zero_optimization"] |= {
                "stage3_param_persistence_threshold": 0
            }
        prepared = prepare(accelerator, *arguments)
        for parameter in prepared[0].parameters():
            kinds.add(parameter.ds_status.name if hasattr(parameter, "ds_id") else type(parameter).__name__)
        return prepared

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(loop, "prepare", prepare_and_look)
        for name, value in {"ddp": {}, "fsdp": FSDP, "zero2": ZERO2, "zero3": ZERO3}[engine].items():
            patch.setenv(name, value)
        if engine != "ddp":
            patch.delenv("ACCELERATE_USE_CPU")
            patch.setenv("ACCELERATE_TORCH_DEVICE", "cpu")
        if engine.startswith("zero"):  # which would compile how processes of a CPU talk; those of GPUs do without
            patch.setattr(importlib.import_module("deepspeed.comm.torch"), "build_shm_op", lambda: None)
        if engine == "fsdp":  # which accelerate chooses on GPUs alone
            patch.setattr(PartialState, "_prepare_backend", lambda *_: ("gloo", DistributedType.MULTI_GPU))
        accelerator = loop.make_accelerator(config.run)
        loop.train(config, task_of(config)(config), accelerator, open_run(config))
    return sorted(kinds)


def go_back(run: Path, copy: Path) -> Path:
    """A copy of a finished run as it was before its second half; the first process makes it."""
    if os.environ["RANK"] == "0":
        shutil.copytree(run, copy)
        shutil.rmtree(copy / "checkpoints/last")
        (copy / "checkpoints/last.previous").rename(copy / "checkpoints/last")
    torch.distributed.barrier()
    return copy


def train_under(engines: list[str], resumed: list[list[str]], world: str, folder: str) -> dict[str, list[str]]:  # noqa: F811
    """A run under each engine, then the second half of some under another; how each one's parameters were divided."""
    kinds = {engine: finetune(config_of(Path(world), Path(folder, engine)), engine) for engine in engines}
    for before, after in resumed:
        copy = go_back(Path(folder, before), Path(folder, f"{before}-{after}"))
        finetune(config_of(Path(world), copy, resume=True), after)
    return kinds


def train_in_bf16(engines: list[str], world: str, folder: str) -> dict[str, list[str]]:  # noqa: F811
    """A run under each engine; of what kind the products in its forward passes were."""
    kinds, seen = {}, set()

    def forward_and_tell(pooler: Pooler, tokens: torch.Tensor) -> torch.Tensor:
        product = pooler.linear(tokens[:, 0])
        seen.add(str(product.dtype))
        return torch.tanh(product)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Pooler, "forward", forward_and_tell)
        for engine in engines:
            config = config_of(Path(world), Path(folder, engine))
            finetune(replace(config, run=replace(config.run, precision="bf16")), engine)
            kinds[engine] = sorted(seen)
            seen.clear()
    return kinds


def assert_same_training(run: Path, other: Path) -> None:
    """The same numbers up to rounding, and the same folders."""
    for line, expected in zip(metrics(run), metrics(other), strict=True):
        assert line == pytest.approx(expected, rel=1e-5), run
    for name in ("last/model", "best/model", "last/training_state"):
        tensors, expected = (load_file(each / "checkpoints" / f"{name}.safetensors") for each in (run, other))
        assert tensors.keys() == expected.keys()
        for key, value in expected.items():
            torch.testing.assert_close(tensors[key], value, rtol=1e-4, atol=1e-6, msg=f"{run}: {name} {key}")
    for name in ("last", "best"):
        check_whole(run / "checkpoints" / name)
        assert {file.name for file in (run / "checkpoints" / name).iterdir()} == {
            file.name for file in (other / "checkpoints" / name).iterdir()
        }


def assert_loads_in_one_process(checkpoint: Path) -> None:
    model, tensors = load_checkpoint(checkpoint).model, load_file(checkpoint / "model.safetensors")
    assert sum(parameter.numel() for parameter in model.parameters()) == sum(
        value.numel() for value in tensors.values()
    )
    for name, parameter in model.named_parameters():
        assert parameter.dtype == torch.float32 and torch.equal(parameter, tensors[name])


OTHERS = [(kind, passes) for kind in KINDS for passes in (1, 2)]


def train_others(engines: list[str], world: str, folder: str) -> None:  # noqa: F811
    """Runs on pairs and on statements under each engine."""
    for engine in engines:
        for kind, passes in OTHERS:
            finetune(config_of_other(kind, Path(world), Path(folder, f"{kind}-{passes}-{engine}"), passes), engine)


class Trained(NamedTuple):
    """Finished runs under every engine that is there, as ``train_all`` made them."""

    folder: Path
    kinds: dict[str, list[str]]  # by engine: how its parameters were divided
    products: dict[str, list[str]]  # by engine: of what kind the products in its forward passes were in bf16


def train_all(has_deepspeed: bool, world: str, folder: str) -> list[dict[str, list[str]]]:  # noqa: F811
    """Runs under every engine, second halves of some under another one, and runs in bf16."""
    kinds = train_under(["ddp", "fsdp"], [["fsdp", "fsdp"], ["ddp", "fsdp"], ["fsdp", "ddp"]], world, folder)
    products = train_in_bf16(["ddp", "fsdp", *["zero3"] * has_deepspeed], world, f"{folder}/bf16")
    train_others(["ddp", "fsdp", *["zero3"] * has_deepspeed], world, folder)
    if has_deepspeed:
        resumed = [["zero2", "zero2"], ["zero3", "zero3"], ["ddp", "zero3"], ["zero3", "zero2"]]
        kinds |= train_under(["zero2", "zero3"], resumed, world, folder)
    return [kinds, products]


@pytest.fixture(scope="module")
def trained(world, tmp_path_factory) -> Trained:  # noqa: F811
    """In two processes, which train one run after the other: each engine costs its first use once."""
    folder = tmp_path_factory.mktemp("engines")
    (kinds, products), _ = run_on_ranks(train_all, 2, HAS_DEEPSPEED, str(world), str(folder))
    return Trained(folder, kinds, products)


@pytest.mark.slow
def test_fsdp2_trains_like_ddp_and_goes_on_exactly(trained):
    assert trained.kinds["ddp"] == ["Parameter"] and trained.kinds["fsdp"] == ["DTensor"]
    for run in ("fsdp", "ddp-fsdp", "fsdp-ddp"):
        assert_same_training(trained.folder / run, trained.folder / "ddp")
    assert_same_end(trained.folder / "fsdp-fsdp", trained.folder / "fsdp")
    assert_loads_in_one_process(trained.folder / "fsdp/checkpoints/best")


@pytest.mark.slow
@needs_deepspeed
def test_zero_trains_like_ddp_and_goes_on_exactly(trained):
    assert trained.kinds["zero2"] == ["Parameter"] and trained.kinds["zero3"] == ["NOT_AVAILABLE"]
    for run in ("zero2", "zero3", "ddp-zero3", "zero3-zero2"):
        assert_same_training(trained.folder / run, trained.folder / "ddp")
    for engine in ("zero2", "zero3"):
        assert_same_end(trained.folder / f"{engine}-{engine}", trained.folder / engine)
        assert_loads_in_one_process(trained.folder / engine / "checkpoints/best")


@pytest.mark.slow
@pytest.mark.parametrize(("kind", "passes"), OTHERS)
def test_pairs_and_statements_train_under_every_engine_like_under_ddp(trained, kind, passes):
    for engine in ("fsdp", *["zero3"] * HAS_DEEPSPEED):
        assert_same_training(trained.folder / f"{kind}-{passes}-{engine}", trained.folder / f"{kind}-{passes}-ddp")


@pytest.mark.slow
def test_in_bf16_every_engine_trains_like_ddp(trained):
    first, *others = trained.products
    assert first == "ddp" and others == ["fsdp", *["zero3"] * HAS_DEEPSPEED]
    assert set(map(tuple, trained.products.values())) == {("torch.bfloat16",)}
    expected = metrics(trained.folder / "bf16/ddp")
    for engine in others:
        for line, same in zip(metrics(trained.folder / "bf16" / engine), expected, strict=True):
            assert line == pytest.approx(same, rel=5e-3), engine


@pytest.mark.slow
@needs_deepspeed
def test_the_script_under_zero_2_ends_like_under_ddp_and_goes_on_in_one_process(fork_server, world, tmp_path):  # noqa: F811
    for engine in ("ddp", "deepspeed_zero2"):
        config = config_of(world, tmp_path / engine, dropout=0.0)  # which draws other numbers in one process
        arguments = ("--config", write_config(config, tmp_path / f"{engine}.yaml"))
        told = handed_on(ROOT / f"configs/accelerate/{engine}.yaml") | {"ACCELERATE_USE_CPU": "false"}
        told = {name: value for name, value in told.items() if name.startswith("ACCELERATE")}
        outcome = fork_server.run("scripts/finetune_vqa.py", *arguments, processes=2, environment=told)
        assert outcome.codes == [0, 0], outcome.output[-3000:]
    assert_same_training(tmp_path / "deepspeed_zero2", tmp_path / "ddp")
    assert_loads_in_one_process(tmp_path / "deepspeed_zero2/checkpoints/best")
    assert json.loads((tmp_path / "deepspeed_zero2/environment.json").read_text())[0]["processes"] == 2
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RANK", "0")
        patch.setenv("ACCELERATE_USE_CPU", "true")
        patch.delenv("LOCAL_RANK", raising=False)
        patch.delenv("WORLD_SIZE", raising=False)
        patch.setattr(torch.distributed, "barrier", lambda: None)
        copy = go_back(tmp_path / "deepspeed_zero2", tmp_path / "resumed")
        assert finetune(config_of(world, copy, resume=True, dropout=0.0), "ddp") == ["Parameter"]
    assert_same_training(copy, tmp_path / "ddp")
