"""Segmentation: it learns, goes on bit by bit, does not depend on passes or processes, and refuses what it must."""

import json
import shutil
from dataclasses import replace
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
import torch
from accelerate.state import AcceleratorState
from torch import nn

from tests.distributed_helper import run_on_ranks
from tests.run_folders import assert_same_end, metrics
from tests.run_script import run_script
from tests.tasks.test_zeroed_losses import train_steps
from tests.tiny_segmentation import pixels, tiny_segmentation_config  # noqa: F401
from tests.tiny_vqa import tiny_vision, write_config
from vl_absvit.config import PicturesConfig, SegmentationLossConfig, UPerNetConfig, VisionConfig
from vl_absvit.data.labelled_pixels import LabelledPicture, LabelledPictures, PictureDataset, PixelBatch
from vl_absvit.distributed import rank, sum_over_processes, world_size
from vl_absvit.errors import ConfigError, InputError
from vl_absvit.evaluation.chunk_store import FileChunkStore
from vl_absvit.evaluation.segmentation_metrics import count_pixels
from vl_absvit.models.architecture import build_random_segmenter
from vl_absvit.models.pixel_scores import enlarge
from vl_absvit.planning.measurement import PeakMemory, keep_freed_memory
from vl_absvit.planning.step import build_model, find_facts, make_batch, run_pass
from vl_absvit.tasks import kept_counts, segmentation_evaluation
from vl_absvit.tasks.base import epoch_batches, owner_of, passes_per_step
from vl_absvit.tasks.model_card import model_card
from vl_absvit.tasks.registry import open_checkpoint, task_of
from vl_absvit.tasks.segmentation import SegmentationTask
from vl_absvit.tasks.segmentation_evaluation import Showing, judge, predict, ratios_of, showing_of
from vl_absvit.training.loop import launch
from vl_absvit.variants import VARIANTS

RVT = tiny_vision(model="absvit_rvt_tiny", image_size=64, width=[8, 16], depth=[1, 1], num_heads=[1, 2], gain=1.0)
VARS_S = tiny_vision(model="absvit_deit_star_tiny", attention="vars_s", vars_penalty=0.1, gain=1.0)


@pytest.fixture(autouse=True)
def _on_the_cpu(monkeypatch):
    monkeypatch.setenv("ACCELERATE_USE_CPU", "true")


def run(config) -> Path:
    AcceleratorState._reset_state(reset_partial_state=True)
    launch(config, SegmentationTask)
    return Path(config.run.output)


@pytest.fixture(scope="module")
def finished(pixels, tmp_path_factory):  # noqa: F811
    """The config of a run in bf16 with dropout, and its folder."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ACCELERATE_USE_CPU", "true")
        head = UPerNetConfig(channels=8, auxiliary_channels=6, dropout=0.1)
        config = tiny_segmentation_config(pixels, tmp_path_factory.mktemp("finished") / "run", head=head)
        config = replace(config, run=replace(config.run, precision="bf16"))
        return config, run(config)


def test_every_loss_is_logged_and_the_best_checkpoint_has_its_score(finished):
    config, folder = finished
    steps = [line for line in metrics(folder) if "decode" in line]
    assert {"decode", "auxiliary", "reconstruction"} <= set(steps[0])
    checkpoint = open_checkpoint(folder / "checkpoints/best")
    assert checkpoint.classes == ["ground", "red", "blue"] and checkpoint.colours[1] == (128, 0, 0)
    task = SegmentationTask(config)
    best = max(line["select/miou"] for line in metrics(folder) if "select/miou" in line)
    task.model = checkpoint.model
    assert task.evaluate(task.model)["miou"] == pytest.approx(best)


def test_a_run_goes_on_bit_by_bit_and_not_with_other_labels(finished, pixels, tmp_path):  # noqa: F811
    config, whole = finished
    folder = Path(shutil.copytree(whole, tmp_path / "run"))
    shutil.rmtree(folder / "checkpoints/last")
    (folder / "checkpoints/last.previous").rename(folder / "checkpoints/last")
    going_on = replace(config, run=replace(config.run, output=str(folder), resume=True))
    other = Path(shutil.copytree(pixels, tmp_path / "other"))
    manifest = (other / "manifest.json").read_text()
    (other / "manifest.json").write_text(manifest.replace('"blue"', '"green"'))
    with pytest.raises(
        InputError, match="has other classes than checkpoint .* --from_checkpoint .*last --run.output NEW"
    ):
        run(replace(going_on, data=replace(config.data, root=str(other))))
    shutil.copyfile(other / "val.parquet", other / "train.parquet")
    (other / "manifest.json").write_text(manifest)
    with pytest.raises((InputError, ConfigError), match="train has other content|both in data.train_splits"):
        run(replace(going_on, data=replace(config.data, root=str(other))))
    run(going_on)
    assert_same_end(folder, whole)


def gradients(config) -> dict[str, torch.Tensor]:
    """Of the losses of the first step's passes."""
    task = SegmentationTask(config)
    task.model.train()
    batches = list(islice(epoch_batches(config, task.train_set, 0, 0, 0, 1), passes_per_step(config.optim, 1)))
    ahead = task.look_ahead(batches, []) if len(batches) > 1 else [None]
    for batch, seen in zip(batches, ahead, strict=True):
        (sum(task.losses(task.model, batch, seen).values()) / len(batches)).backward()
    return {name: weight.grad for name, weight in task.model.named_parameters()}


def without_batch_statistics(model: nn.Module) -> None:
    """Norms that do not depend on the batch."""
    for module in model.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            module.training = False


@pytest.mark.parametrize("mean", ["valid", "all"])
def test_losses_of_several_passes_are_means_over_the_whole_batch(pixels, tmp_path, monkeypatch, mean):  # noqa: F811
    train = nn.Module.train

    def train_but_norms(self, mode=True):
        train(self, mode)
        without_batch_statistics(self)
        return self

    monkeypatch.setattr(nn.Module, "train", train_but_norms)
    loss = SegmentationLossConfig(mean=mean)
    one, two = (
        gradients(tiny_segmentation_config(pixels, tmp_path, micro_batch_size=size, loss=loss)) for size in (None, 2)
    )
    for name, gradient in one.items():
        torch.testing.assert_close(gradient, two[name], msg=name, rtol=1e-4, atol=1e-6)


def test_batches_do_not_depend_on_loader_processes(pixels, tmp_path):  # noqa: F811
    config = tiny_segmentation_config(pixels, tmp_path)
    several = replace(config, data=replace(config.data, num_workers=2))
    alone, shared = (
        list(epoch_batches(each, SegmentationTask(each).train_set, 1, 0, 0, 1)) for each in (config, several)
    )
    assert len(alone) == 2
    for one, other in zip(alone, shared, strict=True):
        assert torch.equal(one.images, other.images) and torch.equal(one.labels, other.labels)


def test_an_all_void_batch_costs_nothing(pixels, tmp_path):  # noqa: F811
    task = SegmentationTask(tiny_segmentation_config(pixels, tmp_path))
    batch = PixelBatch(torch.randn(2, 3, 32, 32), torch.full((2, 32, 32), 255, dtype=torch.uint8))
    losses = task.losses(task.model.train(), batch)
    assert losses["decode"] == losses["auxiliary"] == 0 and losses["reconstruction"] > 0
    sum(losses.values()).backward()
    assert all(torch.isfinite(weight.grad).all() for weight in task.model.parameters())


def test_a_pass_of_one_image_is_refused(pixels, tmp_path):  # noqa: F811
    with pytest.raises(ConfigError, match="a forward pass has 1 image, and batch norms need at least 2"):
        SegmentationTask(tiny_segmentation_config(pixels, tmp_path, micro_batch_size=1))


@pytest.mark.parametrize(
    ("parts", "complaint"),
    [
        (
            {"augmentation": "randaugment"},
            "changes pictures without their labels; in segmentation it is pixels or none",
        ),
        ({"vision": tiny_vision(mask="calibrated")}, "in segmentation it is cosine"),
        ({"optim": {"freeze": ("text",)}}, "optim.freeze names text, which segmentation does not have"),
    ],
)
def test_contradictions_are_one_line(tmp_path, parts, complaint):
    with pytest.raises(ConfigError, match=complaint):
        tiny_segmentation_config(tmp_path, tmp_path, **parts)


@pytest.mark.parametrize(
    ("sizes", "complaint"),
    [
        ({"stride": (8, 8)}, "there is no pictures.window to move"),
        ({"window": (8, 8), "stride": (9, 8)}, "leaves out pixels between windows"),
        ({"longest": 8, "shortest": 9}, "pictures.shortest 9 is more than longest 8"),
        ({"crop": (0, 8)}, "pictures.crop must be positive"),
    ],
)
def test_sizes_that_cannot_be_are_one_line(sizes, complaint):
    with pytest.raises(ConfigError, match=complaint):
        PicturesConfig(**sizes)


def test_a_trunk_of_one_size_sees_windows_of_it(pixels, tmp_path):  # noqa: F811
    config = tiny_segmentation_config(pixels, tmp_path, vision=RVT, pictures=PicturesConfig(longest=200, shortest=90))
    task = SegmentationTask(config)
    assert task.showing == Showing((64, 64), (43, 43))
    scores = task.evaluate(task.model.eval())
    assert 0 <= scores["miou"] <= 100
    with pytest.raises(ConfigError, match=r"pictures.crop \(32, 64\): .* its own size alone, \(64, 64\); leave it out"):
        showing_of(PicturesConfig(crop=(32, 64)), RVT)


@pytest.mark.parametrize("vision", [tiny_vision(gain=1.0), RVT])
def test_a_picture_of_any_size_gets_a_class_for_every_pixel(pixels, tmp_path, vision):  # noqa: F811
    task = SegmentationTask(tiny_segmentation_config(pixels, tmp_path, vision=vision))
    model, side = task.model.eval(), vision.image_size
    for size in ((side, side), (side - 3, 2 * side + 5), (1, side)):
        picture = LabelledPicture(0, [torch.randn(1, 3, *size)], (size[0] + 9, 17), None)
        for showing in (task.showing, Showing((side, side), (side // 2, side // 2), mirrored=True)):
            found = predict(model, picture, showing)
            assert found.shape == picture.size and found.dtype == np.uint8 and found.max() < 3


def test_scales_are_read():
    assert ratios_of("0.5,1") == (0.5, 1.0)
    for wrong in ("", "x", "1,1", "0", "inf"):
        with pytest.raises(ConfigError, match="--scales: expected numbers from 0.1 to 10"):
            ratios_of(wrong)


def test_the_planner_s_step_reaches_every_parameter(pixels, tmp_path):  # noqa: F811
    config = tiny_segmentation_config(pixels, tmp_path)
    facts = find_facts(config)
    assert task_of(config) is SegmentationTask and (facts.samples, facts.labels) == (9, 3)
    model = build_model(config, facts)
    run_pass(config, facts, model, make_batch(config, facts, 2, torch.device("cpu")))
    assert all(weight.grad is not None for weight in model.parameters())


def test_its_card_says_what_it_is(finished):
    card = model_card(finished[1] / "checkpoints/best", "mine")
    assert "semantic segmentation" in card and "UPerNet, 8 channels, on blocks 0, 0, 1, 1" in card
    assert "evaluate-segmentation --checkpoint mine" in card and "| miou |" in card


def of_a_rank(root: str, size: int) -> dict:
    """Losses, gradients as DDP leaves them, statistics and an evaluation of this rank's part of a batch."""
    config = tiny_segmentation_config(Path(root), Path("none"))
    task = SegmentationTask(replace(config, optim=replace(config.optim, batch_size=size)))
    task.model.train()
    batch = next(iter(epoch_batches(task.config, task.train_set, 0, 0, rank(), world_size())))
    losses = task.losses(task.model, batch)
    sum(losses.values()).backward()
    gradients = {name: weight.grad.clone() for name, weight in task.model.named_parameters()}
    for gradient in gradients.values():
        if world_size() > 1:
            torch.distributed.all_reduce(gradient)
            gradient /= world_size()
    statistics = {name: value for name, value in task.model.named_buffers() if "running" in name}
    return {"gradients": gradients, "statistics": statistics, "scores": task.evaluate(task.model.eval())}


@pytest.mark.slow
def test_two_processes_are_one(pixels):  # noqa: F811
    one, two = of_a_rank(str(pixels), 4), run_on_ranks(of_a_rank, 2, str(pixels), 4)
    for found in two:
        for part in ("gradients", "statistics"):
            for name, value in one[part].items():
                torch.testing.assert_close(found[part][name], value, rtol=1e-3, atol=2e-5, msg=name)
        assert found["scores"] == pytest.approx(one["scores"])


ZEROED = [
    *((each, ("reconstruction",)) for each in VARIANTS), ("absvit", ("auxiliary",)),
    ("absvit", ("reconstruction", "auxiliary")),
]  # fmt: skip


def train_without(root: str, output: str) -> list[list[str]]:
    """For each of ``ZEROED``, parameters in training without a gradient, and those that are not in training."""
    found = []
    for top_down, zeroed in ZEROED:
        loss = SegmentationLossConfig(**dict.fromkeys(zeroed, 0.0))
        vision = tiny_vision(gain=1.0, top_down=top_down)
        task = SegmentationTask(tiny_segmentation_config(Path(root), Path(output), vision=vision, loss=loss))
        assert (task.model.auxiliary_head is None) == ("auxiliary" in zeroed)
        resting = [name for name, weight in task.model.named_parameters() if not weight.requires_grad]
        found.append([*train_steps(task.config, task), *resting])
    return found


@pytest.mark.slow
def test_no_zeroed_loss_leaves_two_processes_waiting_for_a_gradient(pixels, tmp_path):  # noqa: F811
    assert run_on_ranks(train_without, 2, str(pixels), str(tmp_path)) == [[[] for _ in ZEROED]] * 2


@pytest.mark.parametrize("parts", [("vision",), ("head",), ("vision", "feedback", "prior")])
def test_frozen_parts_stay_bit_by_bit_their_batch_norms_too(pixels, tmp_path, parts):  # noqa: F811
    config = tiny_segmentation_config(pixels, tmp_path, optim={"freeze": parts}, vision=RVT)
    task = SegmentationTask(config)
    before = {name: value.clone() for name, value in task.model.state_dict().items()}
    assert train_steps(config, task) == []
    rates, after = task.lr_of(), task.model.state_dict()
    resting = {name for name in before if rates[owner_of(name, rates)] == 0}
    still = {name for name in before if torch.equal(before[name], after[name])}
    assert resting <= still and any("running_mean" in name for name in resting)
    assert not any("running_mean" in name for name in still - resting)


def with_norms_in_the_trunk(root: str, kind: str) -> dict[str, torch.Tensor]:
    """A step's gradients, as DDP leaves them, and statistics, of a trunk with batch norms of tokens and maps."""
    vision = {"rvt": RVT, "vars_s": VARS_S}[kind]
    config = tiny_segmentation_config(Path(root), Path("none"), vision=vision)
    task = SegmentationTask(config)
    task.model.train()
    batch = next(iter(epoch_batches(config, task.train_set, 0, 0, rank(), world_size())))
    sum(task.losses(task.model, batch).values()).backward()
    found = {name: weight.grad for name, weight in task.model.named_parameters()}
    found = {name: sum_over_processes(gradient) / world_size() for name, gradient in found.items()}
    return found | dict(task.model.named_buffers())


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["rvt", "vars_s"])
def test_two_processes_are_one_with_batch_norms_in_the_trunk(pixels, kind):  # noqa: F811
    one, (two, _) = (
        with_norms_in_the_trunk(str(pixels), kind),
        run_on_ranks(with_norms_in_the_trunk, 2, str(pixels), kind),
    )
    assert one.keys() == two.keys()
    for name, value in one.items():
        torch.testing.assert_close(two[name], value, rtol=1e-3, atol=1e-4, msg=name)


def started(pixels, folder: Path, start: Path, **parts) -> SegmentationTask:  # noqa: F811
    return SegmentationTask(tiny_segmentation_config(pixels, folder, from_checkpoint=str(start), **parts))


def test_a_run_starts_from_a_whole_segmenter_whose_rows_follow_their_classes(
    finished, pixels, tmp_path, caplog  # noqa: F811
):  # fmt: skip
    caplog.set_level("INFO")
    start = Path(shutil.copytree(finished[1] / "checkpoints/best", tmp_path / "start"))
    before = open_checkpoint(start).model.state_dict()
    same = started(pixels, tmp_path, start).model.state_dict()
    assert all(torch.equal(value, same[name]) for name, value in before.items())
    assert "has other classes" not in caplog.text
    content = json.loads((start / "config.json").read_text())
    content["segmenter"]["classes"] = ["blue", "sea", "ground"]
    (start / "config.json").write_text(json.dumps(content))
    task = started(pixels, tmp_path, start)
    for name in ("head.classifier.1.weight", "auxiliary_head.classifier.1.bias"):
        now = task.model.state_dict()[name]
        assert torch.equal(now[[0, 2]], before[name][[2, 0]]) and not torch.equal(now[1], before[name][1])
    assert "2 of 3 classes known to the start weights" in caplog.text and "1 dropped ('sea')" in caplog.text
    assert task.training["start"]["dataset"] == "folder" and task.training["vision_weights"] is None
    without = started(pixels, tmp_path, start, loss=SegmentationLossConfig(auxiliary=0.0))
    assert torch.equal(without.model.head.fpn_bottleneck.conv.weight, before["head.fpn_bottleneck.conv.weight"])


def test_what_is_no_segmenter_to_start_from_is_one_line(finished, pixels, tmp_path):  # noqa: F811
    with pytest.raises(InputError, match="there is no config.json; expected a folder such as RUN/checkpoints/best"):
        started(pixels, tmp_path, finished[1])
    (tmp_path / "config.json").write_text('{"format": 1, "classes": ["cat"]}')
    with pytest.raises(InputError, match="expected a segmenter, got an image classifier; vision.weights takes the tru"):
        started(pixels, tmp_path, tmp_path)
    other = UPerNetConfig(channels=16, auxiliary_channels=6, dropout=0.0)
    with pytest.raises(InputError, match="not the weights of the configured model"):
        started(pixels, tmp_path, finished[1] / "checkpoints/best", head=other)


@pytest.fixture
def interrupted(monkeypatch):
    """Have an evaluation end before its n-th picture, and keep what was counted after each; the pictures it saw."""
    monkeypatch.setattr(kept_counts, "SECONDS_BETWEEN", 0.0)
    seen = []

    def before(number: int | None) -> list[int]:
        def predict_until(model, picture, showing):
            if number is not None and len(seen) + 1 == number:
                raise KeyboardInterrupt
            seen.append(picture.place)
            return predict(model, picture, showing)

        seen.clear()
        monkeypatch.setattr(segmentation_evaluation, "predict", predict_until)
        return seen

    return before


def test_an_interrupted_evaluation_goes_on_with_the_pictures_that_are_left(
    finished, pixels, tmp_path, interrupted, capfd  # noqa: F811
):  # fmt: skip
    def evaluate(name: str, *more: object) -> int:
        options = ("--checkpoint", finished[1] / "checkpoints/best", "--data", pixels, "--num-workers", "0")
        options += ("--output", tmp_path / f"{name}.json", "--predictions", tmp_path / name)
        return run_script("scripts/evaluate_segmentation.py", *options, *more)

    assert evaluate("whole") == 0
    interrupted(3)
    assert evaluate("parts") == 130
    assert not (tmp_path / "parts").exists() and not (tmp_path / "parts.json").exists()
    seen = interrupted(2)
    assert evaluate("parts") == 130 and seen == [2]
    seen = interrupted(None)
    capfd.readouterr()
    assert evaluate("parts") == 0 and seen == [3]
    assert "going on with the interrupted evaluation in" in capfd.readouterr().out
    whole, parts = (json.loads((tmp_path / f"{name}.json").read_text()) for name in ("whole", "parts"))
    assert parts.pop("went_on_after_interruption") and not whole.pop("went_on_after_interruption")
    assert {key: whole[key] for key in whole if key not in ("seconds", "notes")} == {
        key: parts[key] for key in parts if key not in ("seconds", "notes")
    }
    for file in sorted((tmp_path / "whole").rglob("*.png")):
        assert file.read_bytes() == (tmp_path / "parts" / file.relative_to(tmp_path / "whole")).read_bytes()
    assert len(list((tmp_path / "parts").rglob("*"))) == 4 and not list(tmp_path.glob("*.partial"))
    interrupted(4)
    assert evaluate("other") == 130
    seen = interrupted(None)
    assert evaluate("other", "--scales", "0.5,1") == 0 and seen == [0, 1, 2, 3], "another evaluation starts over"
    (tmp_path / "full").mkdir()
    (tmp_path / "full/mine.txt").write_text("")
    assert evaluate("full") == 1 and "expected a new or empty folder" in capfd.readouterr().err


def judged(root: str, checkpoint: str, folder: str) -> tuple[list[list[int]], list[int]]:
    """An evaluation that goes on with what is in a folder, in this process's part; and the pictures that it saw."""
    task, seen = open_checkpoint(Path(checkpoint)), []
    dataset = PictureDataset(LabelledPictures(root, ["val"]), task.transform)
    take = lambda picture, _: seen.append(picture.place)  # noqa: E731
    store = FileChunkStore(Path(folder) / "x")
    return judge(task.model, dataset, Showing(), 0, None, take, store).tolist(), seen


@pytest.mark.slow
def test_an_evaluation_goes_on_with_another_number_of_processes(finished, pixels, tmp_path):  # noqa: F811
    checkpoint, folder = str(finished[1] / "checkpoints/best"), str(tmp_path)
    FileChunkStore(tmp_path / "x").start({})
    one, _ = judged(str(pixels), checkpoint, folder)
    kept = FileChunkStore(tmp_path / "x")
    found = kept.get("00000000")
    assert kept.names() == ["00000000"] and found[9:].tolist() == [0, 1, 2, 3]
    kept.remove()
    kept.start({})
    task = open_checkpoint(Path(checkpoint))
    alone = PictureDataset(LabelledPictures(pixels, ["val"]), task.transform)
    (first,) = alone.__getitems__([2])
    counts = count_pixels(predict(task.model, first, Showing()), first.label, 3)
    kept.put("00000002", np.concatenate([counts.ravel(), [2]]))
    two = run_on_ranks(judged, 2, str(pixels), checkpoint, folder)
    assert [counts for counts, _ in two] == [one, one] and [seen for _, seen in two] == [[0, 1], [3]]


def memory_of(side: int, plain: bool) -> int:
    """Bytes that the classification of a picture takes, of 150 classes and as large as this, seen at 512 pixels."""
    keep_freed_memory(False)
    vision = VisionConfig(model="absvit_tiny_patch16_224", image_size=512, gain=1.0)
    head = UPerNetConfig(channels=64)  # its own maps are small beside 150 classes at full size
    model = build_random_segmenter(vision, 150, head, has_auxiliary=False).eval()
    model.vision.fold()
    image = torch.randn(1, 3, 512, 512)

    def classified(size: tuple[int, int]) -> None:
        if plain:
            enlarge(enlarge(model(image).logits, (512, 512)), size).argmax(1)
        else:
            predict(model, LabelledPicture(0, [image], size, None), Showing())

    with torch.no_grad():
        classified((512, 512))  # libraries are loaded
        memory = PeakMemory(torch.device("cpu"))
        classified((side, side))
        return memory.read()


@pytest.mark.slow
def test_150_classes_of_a_large_picture_take_little_memory(fork_server, record_property):
    (plain,), (ours,), (large,) = (
        fork_server.call(memory_of, *case) for case in ((1024, True), (1024, False), (1448, False))
    )
    record_property("bytes", f"1,024 pixels: {plain:,} all at once, {ours:,}; 1,448: {large:,}")
    assert ours < 0.6 * plain and plain > 4 * 150 * 1024**2
    assert large < 0.4 * 4 * 150 * 1448**2


@pytest.mark.slow
def test_the_program_evaluates_and_writes_predictions(finished, pixels, tmp_path, capfd):  # noqa: F811
    options = ("--checkpoint", finished[1] / "checkpoints/best", "--data", pixels, "--num-workers", "0")
    options += ("--precision", "bf16", "--output", tmp_path / "val.json")
    assert run_script("scripts/evaluate_segmentation.py", *options, "--predictions", tmp_path / "pngs") == 0
    result = json.loads((tmp_path / "val.json").read_text())
    best = max(line["select/miou"] for line in metrics(finished[1]) if "select/miou" in line)
    assert result["miou"] == pytest.approx(best) and result["pictures"] == 4
    assert len(list((tmp_path / "pngs").glob("val_*.png"))) == 4
    assert run_script("scripts/evaluate_segmentation.py", *options, "--scales", "0.5,1", "--mirrored") == 0
    capfd.readouterr()
    assert run_script("scripts/evaluate_segmentation.py", *options, "--scales", "x") == 2
    assert "--scales: expected numbers" in capfd.readouterr().err
    file = write_config(
        replace(finished[0], run=replace(finished[0].run, output=str(tmp_path / "new"))), tmp_path / "c.yaml"
    )
    assert run_script("vl-absvit", "train", "--config", file, "--optim.epochs", "1") == 0
    assert (tmp_path / "new/checkpoints/last/config.json").is_file()
