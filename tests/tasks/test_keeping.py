"""First looks and text vectors that are kept: steps on them equal steps that compute and round them."""

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from accelerate.state import AcceleratorState
from torch import Tensor

from tests.distributed_helper import run_on_ranks
from tests.tasks.test_zeroed_losses import train_steps
from tests.tiny_vqa import FAST, tiny_pretrain_config, tiny_retrieval_config, tiny_vision, tiny_vqa_config
from vl_absvit.config import VisionLanguageConfig
from vl_absvit.data import kept_rows
from vl_absvit.data.kept_rows import KeptRows
from vl_absvit.data.records import ImageTable
from vl_absvit.errors import ConfigError, InputError
from vl_absvit.planning.counter import Counter
from vl_absvit.planning.step import find_facts, make_batch
from vl_absvit.tasks.base import Task, epoch_batches, in_groups, passes_per_step
from vl_absvit.tasks.retrieval import RetrievalTask
from vl_absvit.tasks.vqa import VQATask
from vl_absvit.training.loop import accumulate_gradients, make_accelerator

KINDS = {"vqa": (tiny_vqa_config, VQATask), "retrieval": (tiny_retrieval_config, RetrievalTask)}


def kept(config: VisionLanguageConfig, folder: Path | None, **rates: float) -> VisionLanguageConfig:
    """A config with a frozen trunk, and with a folder for its first looks."""
    data = replace(config.data, keep_frozen=None if folder is None else str(folder))
    optim = replace(config.optim, learning_rates=replace(FAST, **{"vision": 0.0, **rates}))
    return replace(config, data=data, optim=optim)


def ready(
    kind: str, world: Path, tmp_path: Path, folder: Path | None = None,
    vision=None, micro_batch_size=None, **rates: float,
) -> Task:  # fmt: skip
    """A task that has made what it keeps."""
    make, task = KINDS[kind]
    config = make(world, tmp_path, vision=vision or tiny_vision(), micro_batch_size=micro_batch_size)
    made = task(kept(config, folder, **rates))
    made.get_ready()
    return made


def gradients(task: Task, batch) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Losses and gradients of a pass in training mode."""
    task.model.train().zero_grad()
    torch.manual_seed(0)
    terms = task.losses(task.model, batch)
    sum(terms.values()).backward()
    named = task.model.named_parameters()
    return terms, {name: weight.grad.clone() for name, weight in named if weight.grad is not None}


@pytest.mark.parametrize(
    ("kind", "vision"),
    [("vqa", {}), ("vqa", {"looks_again_from": 1}), ("vqa", {"top_down": "none"}), ("retrieval", {})],
)
def test_a_step_on_what_was_kept_is_one_that_computes_and_rounds_it(world, tmp_path, kind, vision):
    vision = tiny_vision(**vision)
    task = ready(kind, world, tmp_path, tmp_path / "kept", vision, text=0.0)
    plain = ready(kind, world, tmp_path, None, vision, text=0.0)
    rows = np.linspace(0, len(task.train_set) - 1, 4).astype(int).tolist()
    batch, seen = (each.train_set.collate(each.train_set.__getitems__(rows)) for each in (task, plain))
    plain.model.eval()
    with torch.no_grad():
        vectors = plain.model.text(seen.token_ids, seen.is_token) * seen.is_token.unsqueeze(-1)
        looks = plain.model.vision.first_look_to_keep(seen.images)
    computed = seen._replace(images=looks, token_ids=vectors.bfloat16())
    # Passes of other sizes may round the last bit of fp32 otherwise, and so, now and then, that of bf16.
    for found, expected in ((batch.images, computed.images), (batch.token_ids, computed.token_ids)):
        assert found.dtype == torch.bfloat16 and (found != expected).float().mean() < 0.01
        torch.testing.assert_close(found, expected, atol=1e-6, rtol=2**-7)
    found, expected = gradients(task, batch), gradients(plain, computed)
    torch.testing.assert_close(found, expected, atol=1e-4, rtol=1e-3)
    # The step on pictures and ids differs by the rounding.
    terms, _ = gradients(plain, seen)
    torch.testing.assert_close(found[0], terms, atol=0.02, rtol=0.02)


@pytest.mark.parametrize("kind", KINDS)
def test_a_step_in_passes_is_one_in_a_single_pass(world, tmp_path, monkeypatch, kind):
    monkeypatch.setenv("ACCELERATE_USE_CPU", "true")
    found = []
    for size in (None, 2):
        task = ready(kind, world, tmp_path, tmp_path / "kept", text=0.0, micro_batch_size=size)
        AcceleratorState._reset_state(reset_partial_state=True)
        accelerator = make_accelerator(task.config.run)
        batches = epoch_batches(task.config, task.train_set, 0, 0, 0, 1)
        passes = passes_per_step(task.config.optim, 1)
        accelerator.gradient_accumulation_steps = passes
        accumulate_gradients(task, task.model.train(), accelerator, next(in_groups(batches, passes)), range(passes))
        named = task.model.named_parameters()
        found.append({name: weight.grad for name, weight in named if name.startswith(("prior", "head", "vision.mask"))})
    torch.testing.assert_close(*found, atol=1e-5, rtol=1e-3)


def test_pictures_are_read_once_and_then_no_more(world, tmp_path, monkeypatch, caplog):
    caplog.set_level("INFO")
    opened, opens = [], ImageTable.open
    monkeypatch.setattr(ImageTable, "open", lambda table, ids, *how: opened.extend(ids) or opens(table, ids, *how))
    task = ready("vqa", world, tmp_path, tmp_path / "kept", vision=tiny_vision(decoders="random"))
    images = np.unique(task.train_set.image_ids)
    assert sorted(opened) == images.tolist()
    assert f"the first look at {len(images)} images in {tmp_path}/kept/first_looks, 0.00 GB of the disk" in caplog.text
    assert "vectors of texts are not kept, for the text encoder is trained" in caplog.text
    assert train_steps(task.config, task) == []
    ready("retrieval", world, tmp_path, tmp_path / "others", text=0.0)  # the trunk of another task has random weights
    opened.clear()
    again = ready("vqa", world, tmp_path, tmp_path / "kept", vision=tiny_vision(decoders="random"))
    again.train_set.__getitems__([0, 5])
    assert opened == [] and f"images are in {tmp_path}/kept/first_looks" in caplog.text


def test_work_that_was_interrupted_goes_on(world, tmp_path, monkeypatch):
    monkeypatch.setattr(kept_rows, "FILE_BYTES", 600)  # two images
    write = KeptRows.write

    def interrupted(rows: KeptRows, file: int, content: list[Tensor]) -> None:
        if file == 2:
            raise KeyboardInterrupt
        write(rows, file, content)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(KeptRows, "write", interrupted)
        ready("vqa", world, tmp_path, tmp_path / "kept")
    written = []
    monkeypatch.setattr(
        KeptRows, "write", lambda rows, file, content: written.append(file) or write(rows, file, content)
    )
    task = ready("vqa", world, tmp_path, tmp_path / "kept")
    assert len(written) > 1 and written == list(range(2, 2 + len(written)))
    whole = ready("vqa", world, tmp_path, tmp_path / "whole")
    for one, other in zip(*(each.train_set.__getitems__(range(9)) for each in (task, whole)), strict=True):
        assert torch.equal(one.image, other.image)


@pytest.mark.parametrize(
    ("changed", "part"),
    [
        ({"seed": 1}, "trunk"),
        ({"precision": "bf16"}, "precision"),
    ],
)
def test_what_another_trunk_made_is_refused(world, tmp_path, changed, part):
    ready("vqa", world, tmp_path, tmp_path / "kept")
    config = kept(tiny_vqa_config(world, tmp_path), tmp_path / "kept")
    task = VQATask(replace(config, run=replace(config.run, **changed)))
    with pytest.raises(InputError, match=f"first_looks: was made with another {part}: .*; name another folder"):
        task.get_ready()


def test_what_the_same_weights_made_in_other_heads_is_refused(world, tmp_path):
    ready("vqa", world, tmp_path, tmp_path / "kept", text=0.0)
    with pytest.raises(InputError, match="first_looks: was made with another first looks by: .*, 2 heads, .*, 4 heads"):
        ready("vqa", world, tmp_path, tmp_path / "kept", tiny_vision(num_heads=4), text=0.0)
    config = kept(tiny_vqa_config(world, tmp_path), tmp_path / "kept", text=0.0)
    task = VQATask(replace(config, text=replace(config.text, num_heads=2 * config.text.num_heads)))
    with pytest.raises(InputError, match="texts: was made with another computed by"):
        task.get_ready()


def test_what_other_pictures_or_texts_gave_is_refused(world, tmp_path, monkeypatch):
    task = ready("vqa", world, tmp_path, tmp_path / "kept", text=0.0)
    monkeypatch.setattr(task.train_set, "token_ids", lambda: [[0, 2]])
    with pytest.raises(InputError, match="texts: was made with another texts"):
        task.get_ready()
    sizes = ImageTable.bytes_of
    monkeypatch.setattr(ImageTable, "bytes_of", lambda table, ids: sizes(table, ids) + 1)
    with pytest.raises(InputError, match="first_looks: was made with another images"):
        task.get_ready()


def test_a_disk_without_room_is_said_before_anything_is_made(world, tmp_path, monkeypatch):
    monkeypatch.setattr("shutil.disk_usage", lambda path: SimpleNamespace(free=10))
    with pytest.raises(InputError, match="there is no room for the first look at"):
        ready("vqa", world, tmp_path, tmp_path / "kept")
    assert [path.name for path in (tmp_path / "kept").rglob("*") if path.is_file()] == ["request.json"]


def tiny(**changes) -> VisionLanguageConfig:
    """A config that keeps, with fields of its groups changed."""
    config = kept(tiny_vqa_config(Path("world"), Path("run")), Path("kept"), text=0.0)
    return replace(config, **{group: replace(getattr(config, group), **fields) for group, fields in changes.items()})


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"data": {"augmentation": "randaugment"}}, "data.augmentation randaugment makes another image in every epoch"),
        ({"data": {"stream": "shards"}}, "data.stream shards is read from beginning to end"),
        ({"optim": {"learning_rates": FAST}}, "expected vision in optim.freeze, got a learning rate of 0.003"),
        ({"vision": {"drop_path": 0.1}}, "vision.drop_path 0.1 draws the blocks of every look anew"),
        ({"prior": {"sentence": "padded_mean"}}, "which prior.sentence padded_mean needs"),
    ],
)
def test_what_would_be_wrong_is_refused_in_one_line(changed, message):
    with pytest.raises(ConfigError, match=f"^data.keep_frozen .*{message}"):
        tiny(**changed)


def test_other_tasks_keep_nothing(world, tmp_path):
    config = tiny_pretrain_config(world, tmp_path)
    with pytest.raises(ConfigError, match="data.keep_frozen here is for finetuning on VQA and retrieval"):
        replace(config, data=replace(config.data, keep_frozen="here"))


@pytest.mark.parametrize("kind", KINDS)
def test_the_planner_counts_batches_of_what_is_kept(world, tmp_path, kind):
    task = ready(kind, world, tmp_path, tmp_path / "kept", text=0.0)
    facts = find_facts(task.config)
    made = make_batch(task.config, facts, 2, torch.device("cpu"))
    real = task.train_set.collate(task.train_set.__getitems__([0, -1]))
    for name in ("images", "token_ids"):
        found, expected = getattr(made, name), getattr(real, name)
        assert found.dtype == expected.dtype and found.shape[-1] == expected.shape[-1]
    plain = kept(task.config, None, text=0.0)
    steps = [
        Counter(config, find_facts(config), "cpu").count(2, 2, precision="fp32", checkpointing=False)
        for config in (task.config, plain)
    ]
    assert steps[0].flops < 0.8 * steps[1].flops


def keep_and_take_steps(world: str, output: str) -> list[float]:
    """Both tasks, with hard images of the other process; sums of weights after two steps."""
    kept_rows.FILE_BYTES, found = 600, []
    for kind in KINDS:
        task = ready(kind, Path(world), Path(output), Path(output) / f"kept of {kind}", text=0.0)
        assert train_steps(task.config, task) == []
        found.append(sum(weight.double().sum().item() for weight in task.model.parameters()))
    return found


@pytest.mark.slow
def test_two_processes_make_each_part_once_and_both_read_all(world, tmp_path, monkeypatch):
    monkeypatch.setattr(kept_rows, "FILE_BYTES", 600)
    first, second = run_on_ranks(keep_and_take_steps, 2, str(world), str(tmp_path / "two"))
    assert first == pytest.approx(second)
    monkeypatch.setenv("ACCELERATE_USE_CPU", "true")
    assert first == pytest.approx(keep_and_take_steps(str(world), str(tmp_path / "one")), rel=1e-4)
    one, two = (
        {path.relative_to(tmp_path / name) for path in (tmp_path / name).rglob("*.bf16")} for name in ("one", "two")
    )
    assert len(one) > 8 and one == two
