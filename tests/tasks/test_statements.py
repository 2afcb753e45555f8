"""NLVR2 and SNLI-VE: gradients everywhere, official metrics, one text encoding for two images, passes and processes."""

import itertools
import json
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
import torch.nn.functional as F
from accelerate.state import AcceleratorState
from safetensors.torch import load_file
from torch import nn

from tests.distributed_helper import run_on_ranks
from tests.run_folders import assert_same_end, metrics
from tests.tiny_statements import CONFIGS, tiny_statement_config
from tests.tiny_vqa import tiny_vision, tiny_vqa_config
from vl_absvit.config import NLVR2Config, PriorConfig
from vl_absvit.errors import ConfigError, InputError
from vl_absvit.losses import calibration_loss, prior_loss
from vl_absvit.models.architecture import build_from_architecture
from vl_absvit.models.released import convert, read_released
from vl_absvit.tasks.base import epoch_batches, passes_per_step
from vl_absvit.tasks.model_card import model_card
from vl_absvit.tasks.prior_losses import Compared, Wordings, global_prior_loss, step_prior_losses
from vl_absvit.tasks.registry import TASKS, open_checkpoint
from vl_absvit.tasks.statements import judge
from vl_absvit.tasks.vqa import VQATask
from vl_absvit.training.loop import accumulate_gradients, make_accelerator, train
from vl_absvit.training.optim import param_groups
from vl_absvit.training.run_dir import open_run
from vl_absvit.variants import VARIANTS

KINDS = [*CONFIGS]


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    return tmp_path_factory.mktemp("statements")


@pytest.fixture
def make(world, base, tmp_path):
    """Makes the task of a kind."""
    return lambda kind, **parts: TASKS[kind](tiny_statement_config(kind, world, base, tmp_path / "run", **parts))


def first_batch(task):
    return next(iter(epoch_batches(task.config, task.train_set, 0, 0, 0, 1)))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("top_down", VARIANTS)
def test_every_trainable_parameter_has_a_rate_and_a_gradient(make, kind, top_down):
    task = make(kind, vision=tiny_vision(top_down=top_down))
    param_groups(task.model, task.lr_of(), 0.01)
    losses = task.losses(task.model, first_batch(task))
    sum(losses.values()).backward()
    assert [name for name, p in task.model.named_parameters() if p.requires_grad and p.grad is None] == []
    variant = VARIANTS[top_down]
    auxiliary = {"prior": kind == "snli_ve" and variant.uses_prior, "reconstruction": variant.feeds_back}
    assert list(losses) == [kind, *(name for name, has_use in auxiliary.items() if has_use)]


def test_a_sentence_is_read_with_each_image_alone_and_its_type(make):
    """Written out: two fusions, the second with its own type of images, one text encoding."""
    task = make("nlvr2")
    model, batch = task.model.eval(), first_batch(task)
    with torch.no_grad():
        model.head.second_image_type.normal_()
        texts, images = model.encode_texts(batch.token_ids, batch.is_token), batch.images[batch.image_index]
        pooled, usual = [], model.fusion.token_types.weight[1].clone()
        for seen, image_type in zip(images.chunk(2), (usual, model.head.second_image_type), strict=True):
            model.fusion.token_types.weight[1] = image_type
            looks = model.vision.look_twice(seen, texts.prior)
            pooled.append(model.fusion(texts.tokens, texts.is_token, looks.second.tokens).pooled)
        model.fusion.token_types.weight[1] = usual
        expected = model.head.classifier(torch.cat(pooled, dim=-1))
        torch.testing.assert_close(judge(model, batch).logits, expected)


def test_images_that_sentences_share_are_there_once(make):
    task = make("nlvr2")
    batch = task.train_set.collate(task.train_set.__getitems__([0, 1, 2, 3]))  # two pairs with two sentences each
    assert batch.images.shape[0] == 4 and batch.image_index.tolist() == [0, 0, 1, 1, 2, 2, 3, 3]
    assert batch.image_ids.tolist() == [task.train_set.image_ids[row, side] for side in (0, 1) for row in (0, 2)]


def test_the_second_image_s_type_starts_as_a_copy_of_the_first_s(make, world, tmp_path, caplog):
    task = make("nlvr2")
    assert torch.equal(task.model.head.second_image_type, task.model.fusion.token_types.weight[1])
    VQATask(tiny_vqa_config(world, tmp_path / "vqa")).save(checkpoint_folder(tmp_path / "start"))
    caplog.set_level("INFO")
    started = make("nlvr2", from_checkpoint=str(tmp_path / "start")).model
    types = load_file(tmp_path / "start/model.safetensors")["fusion.token_types.weight"]
    assert torch.equal(started.head.second_image_type, types[1]) and not torch.equal(types[1], types[0])
    assert "a copy of the type of first images" in caplog.text
    with torch.no_grad():
        started.head.second_image_type.add_(1)
    task.model = started
    task.save(checkpoint_folder(tmp_path / "own"))
    again = make("nlvr2", from_checkpoint=str(tmp_path / "own")).model
    assert torch.equal(again.head.second_image_type, types[1] + 1)


def checkpoint_folder(folder):
    folder.mkdir()
    return folder


class AlwaysLast(nn.Module):
    """Judges every statement to have the last label."""

    def __init__(self, labels):
        super().__init__()
        self.unused, self.labels = nn.Parameter(torch.zeros(1)), labels

    def forward(self, images, token_ids, is_token, image_index=None, pair=None):
        return SimpleNamespace(logits=F.one_hot(torch.full((len(token_ids),), self.labels - 1), self.labels).float())


def test_evaluation_is_the_official_metric_and_a_constant_answer_is_told(make, caplog):
    scores = make("nlvr2").evaluate(AlwaysLast(2))
    # In dev every group of a sentence has one pair of which it is true, and one of which it is false.
    assert scores == {"accuracy": 50, "consistency": 0, "balanced": pytest.approx(100 / 3), "unbalanced": 50}
    assert "every statement is judged to be True: the model tells nothing apart" in caplog.text
    scores = make("snli_ve").evaluate(AlwaysLast(3))
    assert scores == {
        "accuracy": pytest.approx(100 / 3), "accuracy/contradiction": 0, "accuracy/neutral": 0,
        "accuracy/entailment": 100,
    }  # fmt: skip


@pytest.mark.parametrize("kind", KINDS)
def test_a_blind_model_sees_the_mean_colour_and_its_checkpoint_says_so(make, kind):
    task = make(kind, blind=True)
    assert not first_batch(task).images.any() and task.training["blind"] is True
    assert first_batch(make(kind)).images.any() and "blind" not in make(kind).training


@pytest.mark.parametrize("kind", KINDS)
def test_a_saved_checkpoint_is_opened_and_has_its_labels_and_a_card(make, kind, tmp_path):
    task = make(kind)
    task.save(checkpoint_folder(tmp_path / "saved"))
    opened, batch = open_checkpoint(tmp_path / "saved"), first_batch(task)
    torch.testing.assert_close(judge(opened.model, batch).logits, judge(task.model.eval(), batch).logits)
    content = json.loads((tmp_path / "saved/config.json").read_text())
    words = {"nlvr2": ["False", "True"], "snli_ve": ["contradiction", "neutral", "entailment"]}
    assert content["head"]["labels"] == words[kind]
    assert "evaluate-statements" in model_card(tmp_path / "saved", "mine")
    content["head"]["labels"].reverse()
    (tmp_path / "saved/config.json").write_text(json.dumps(content))
    with pytest.raises(InputError, match="expected a head for the labels"):
        open_checkpoint(tmp_path / "saved")


def test_a_prior_loss_on_two_images_is_refused(world, base, tmp_path):
    config = tiny_statement_config("nlvr2", world, base, tmp_path)
    with pytest.raises(ConfigError, match="loss.prior is 1.0, but a sentence of NLVR2 is about two images"):
        replace(config, loss=replace(config.loss, prior=1.0))
    with pytest.raises(ConfigError, match="data.samples_per_image is 2"):
        replace(config, data=replace(config.data, samples_per_image=2))
    assert isinstance(config, NLVR2Config) and config.loss.reconstruction > 0


def test_only_entailed_hypotheses_are_positives_by_hand():
    """Texts 0 and 2 are entailed; 1 contradicts; 3 says of another image what 0 says, and is entailed, too."""
    similarity = torch.randn(4, 3)
    ids, columns = torch.tensor([10, 10, 20, 30]), torch.tensor([10, 20, 30])
    own = torch.tensor([0, 0, 1, 2])
    wordings = Wordings(torch.tensor([5, 6, 7, 5]), torch.tensor([True, False, True, True]))
    also = torch.tensor([[1, 0, 1], [0, 0, 0], [0, 1, 0], [1, 0, 1]]).bool()
    expected = [
        F.cross_entropy(similarity[0, [0, 1]][None], torch.tensor([0])),
        F.cross_entropy(similarity[2][None], torch.tensor([1])),
        F.cross_entropy(similarity[3, [1, 2]][None], torch.tensor([1])),
    ]
    arguments = similarity, ids, columns, own
    loss = prior_loss(*arguments, 1.0, also_true=also, is_counted=wordings.are_true)
    torch.testing.assert_close(loss, torch.stack(expected).mean())
    opened = calibration_loss(*arguments, torch.zeros(1), 1.0, also, wordings.are_true)
    others = similarity[[0, 2, 2, 3], [1, 0, 2, 1]]
    missed = F.softplus(-similarity[[0, 2, 3], [0, 1, 2]]).mean()
    torch.testing.assert_close(opened, 16 * missed + F.softplus(others).mean())
    nothing = torch.zeros(4, dtype=torch.bool)
    assert prior_loss(*arguments, 1.0, is_counted=nothing) == 0
    assert calibration_loss(*arguments, torch.zeros(1), 1.0, is_counted=nothing) == 0


def some_pass(rows: slice) -> Compared:
    generator = torch.Generator().manual_seed(0)
    prior, tokens = (torch.randn(8, *shape, generator=generator) for shape in ((6,), (5, 6)))
    wordings = Wordings(
        torch.tensor([1, 2, 1, 3, 4, 5, 2, 6])[rows], torch.tensor([1, 1, 1, 0, 0, 1, 1, 0]).bool()[rows]
    )
    ids = torch.arange(8)[rows]
    own = torch.arange(len(ids))
    return Compared(prior[rows], tokens[rows], own, ids, 1, torch.full((1,), 0.1), wordings)


def loss_of_a_rank(world_size: int) -> list[float]:
    rank = torch.distributed.get_rank()
    size = 8 // world_size
    return [global_prior_loss(some_pass(slice(rank * size, rank * size + size)), PriorConfig()).item()]


def test_the_prior_loss_of_entailed_texts_is_that_of_all_passes_and_processes():
    config = PriorConfig()
    whole = global_prior_loss(some_pass(slice(8)), config)
    halves = step_prior_losses([some_pass(slice(4)), some_pass(slice(4, 8))], config)
    assert [half.value.item() for half in halves] == pytest.approx([whole.item()] * 2)
    assert run_on_ranks(loss_of_a_rank, 2, 2) == [[pytest.approx(whole.item())]] * 2


def gradients_of_a_step(task):
    AcceleratorState._reset_state(reset_partial_state=True)
    accelerator = make_accelerator(task.config.run)
    accelerator.gradient_accumulation_steps = passes = passes_per_step(task.config.optim, 1)
    batches = list(itertools.islice(epoch_batches(task.config, task.train_set, 0, 0, 0, 1), passes))
    accumulate_gradients(task, task.model.train(), accelerator, batches, range(passes))
    return torch.cat([each.grad.flatten() for each in task.model.parameters() if each.grad is not None])


@pytest.fixture
def _on_the_cpu(monkeypatch):
    monkeypatch.setenv("ACCELERATE_USE_CPU", "true")


@pytest.mark.usefixtures("_on_the_cpu")
@pytest.mark.parametrize("kind", KINDS)
def test_a_step_in_two_passes_has_the_gradient_of_one(make, kind):
    one, two = (gradients_of_a_step(make(kind, micro_batch_size=size)) for size in (None, 2))
    assert (two - one).norm() < 2e-4 * one.norm()


def finish(task):
    AcceleratorState._reset_state(reset_partial_state=True)
    accelerator = make_accelerator(task.config.run)
    train(task.config, task, accelerator, open_run(task.config))


@pytest.mark.slow
@pytest.mark.usefixtures("_on_the_cpu")
@pytest.mark.parametrize("kind", KINDS)
def test_a_run_that_goes_on_ends_as_one_that_was_not_stopped(world, base, tmp_path, kind):
    config = tiny_statement_config(kind, world, base, tmp_path / "whole")
    finish(TASKS[kind](config))
    assert {"select/accuracy"} < set(metrics(tmp_path / "whole")[-1])
    stopped = replace(config, run=replace(config.run, output=str(tmp_path / "stopped")))
    task = TASKS[kind](stopped)
    epoch_steps = len(task.train_set) // 4
    task.losses = stop_after(task.losses, epoch_steps)
    with pytest.raises(KeyboardInterrupt):
        finish(task)
    resumed = replace(stopped, run=replace(stopped.run, resume=True))
    last = tmp_path / "stopped/checkpoints/last"
    AcceleratorState._reset_state(reset_partial_state=True)
    accelerator = make_accelerator(resumed.run)
    run = open_run(resumed)
    train(resumed, TASKS[kind](resumed, last), accelerator, run)
    assert_same_end(tmp_path / "whole", tmp_path / "stopped")


def stop_after(losses, calls):
    left = iter(range(calls))

    def limited(*arguments):
        if next(left, None) is None:
            raise KeyboardInterrupt
        return losses(*arguments)

    return limited


@pytest.mark.parametrize(("precision", "dtype", "bound"), [("f32", torch.float32, 1e-5), ("f64", torch.float64, 1e-10)])
@pytest.mark.parametrize(("case", "images"), [("nlvr2", ["image_0", "image_1"]), ("snli", ["image"])])
def test_converted_models_give_the_authors_logits(golden, case, images, precision, dtype, bound):
    folder = golden / f"meter/micro_{case}_feedback_2"
    if not folder.is_dir():
        pytest.skip("no reference outputs of this task")
    inputs, expected = (load_file(folder / f"{name}.safetensors") for name in ("inputs", f"outputs_{precision}"))
    conversion = convert(read_released(folder / "checkpoint.ckpt"), num_heads=3, text_heads=5)
    model = build_from_architecture(conversion.config, "test").to(dtype)
    model.load_state_dict(conversion.state)
    shown = torch.cat([inputs[name] for name in images]).to(dtype)
    ids, is_token = inputs["text_ids"], inputs["text_masks"].bool()
    rows, nothing = torch.arange(len(shown)), torch.zeros(len(ids))
    batch = SimpleNamespace(
        images=shown, image_index=rows, token_ids=ids, is_token=is_token, labels=nothing, statement_ids=nothing
    )
    ours = judge(model.eval(), batch).logits.detach()
    theirs = expected[next(name for name in expected if name.endswith(f"{case}_logits"))]
    assert ((ours - theirs).abs().max() / theirs.abs().max()).item() < bound
