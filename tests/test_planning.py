"""What is counted on tensors without content is what a real step holds and computes; choices follow from it by hand."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils.data import Dataset
from transformers import AutoTokenizer, RobertaConfig, RobertaModel

from tests.models.vqa_model import build_vqa_model
from tests.tiny_vqa import (
    tiny_pretrain_config,
    tiny_retrieval_config,
    tiny_vision,
    tiny_vqa_config,
    world,  # noqa: F401
)
from vl_absvit.config import FusionConfig, OptimConfig, PriorConfig, RunConfig, TextConfig
from vl_absvit.data.records import read_vocabulary
from vl_absvit.distributed import gather_objects, gather_with_grad, world_size
from vl_absvit.errors import ConfigError, InputError
from vl_absvit.planning.choices import (
    Choice,
    Rate,
    micro_batch_sizes,
    overrides,
    recommend,
    run_steps,
    step_seconds,
    try_choices,
)
from vl_absvit.planning.counter import Counter, Step
from vl_absvit.planning.flops import flop_counter
from vl_absvit.planning.measurement import PeakMemory, keep_freed_memory
from vl_absvit.planning.simulation import cuda_kernels, one_of
from vl_absvit.planning.step import bare_task, build_model, find_facts, make_batch, run_pass
from vl_absvit.planning.tally import Tally
from vl_absvit.tasks.classification import ClassificationTask
from vl_absvit.tasks.facts import Facts, Words
from vl_absvit.tasks.retrieval import RetrievalTask
from vl_absvit.tasks.vqa import VQATask
from vl_absvit.training.loop import accumulate_gradients, make_accelerator, train
from vl_absvit.training.optim import build_optimizer
from vl_absvit.training.run_dir import open_run

NOWHERE = Path("nowhere")
FACTS = Facts(samples=100, labels=7, text=Words(50, 1, 0, 2), assumed=())
CPU = torch.device("cpu")
CONFIGS = {
    "vqa": tiny_vqa_config(NOWHERE, NOWHERE, dropout=0.1),
    "retrieval": tiny_retrieval_config(NOWHERE, NOWHERE),
    "pretraining": tiny_pretrain_config(NOWHERE, NOWHERE),
}


def tally_of(compute: Callable[[Tensor], object]) -> Tally:
    """What ``compute`` does with a matrix of 10 x 10, without content, that is there already."""
    with FakeTensorMode():
        x = torch.empty(10, 10, requires_grad=True)
        with Tally([x]) as tally:
            compute(x)
    return tally


def test_bytes_alive_and_operations_by_hand():
    def compute(x):
        twice = x.detach() * 2  # 400 bytes
        product = twice @ twice  # another 400
        del twice
        return product.T[:3]  # a view

    tally = tally_of(compute)
    assert (tally.peak, tally.live, tally.flops) == (800, 0, 2 * 10**3)


def test_what_is_there_already_and_its_views_count_nothing():
    assert tally_of(lambda x: x.detach().T.add_(1)).peak == 0


def test_what_the_backward_pass_needs_stays_until_then():
    kept = []

    def compute(x):
        kept.append(x.exp().exp())  # both results are saved

    assert tally_of(compute).live == 800


def test_unknown_content_is_zero_and_known_content_is_itself():
    answers = []
    tally_of(lambda x: answers.extend([x.sum().item(), bool(x.any()), int(torch.tensor([5])[0])]))
    assert answers == [0, False, 5]
    with Tally():
        assert torch.tensor([3.0]).sum().item() == 3


def test_a_gpu_keeps_a_byte_per_dropped_element_and_no_attention_weights():
    def dropped(x):
        return F.dropout(x, 0.5)

    def attended(x):
        return F.scaled_dot_product_attention(*[x.view(1, 1, 25, 4)] * 3, torch.ones(25, 25) > 0, dropout_p=0.1)

    on_cpu = [tally_of(compute).peak for compute in (dropped, attended)]
    with cuda_kernels():
        on_gpu = [tally_of(compute).peak for compute in (dropped, attended)]
    assert on_gpu[0] == 400 + 100 and on_cpu[0] >= 400 + 400
    weights = 25 * 25 * 4
    assert on_gpu[1] < 2 * weights < on_cpu[1]  # the mask, as bool and as bias, is less than two of them
    assert F.dropout(torch.ones(3), 0.0).tolist() == [1, 1, 1]


def test_one_of_several_gathers_as_many_copies_and_leaves_nothing_behind():
    with pytest.raises(KeyError), FakeTensorMode(), Tally(), one_of(3):
        rows = torch.empty(4, 2, requires_grad=True)
        gathered = gather_with_grad(rows)
        gathered.sum().backward()
        assert gathered.shape == (12, 2) and rows.grad.shape == (4, 2)
        assert gather_objects(["a"]) == ["a"] * 3 and world_size() == 3
        raise KeyError
    assert world_size() == 1


@pytest.mark.slow
def test_more_processes_compare_more_and_their_gradients_lie_in_buckets():
    config = replace(CONFIGS["retrieval"], negative_images=0)
    alone, together = (Counter(config, FACTS, "cuda", processes) for processes in (1, 4))
    one, four = (counter.count(4, 1, precision="fp32", checkpointing=False) for counter in (alone, together))
    # Prior loss and hard captions: the products of 16 priors with the mean patches of 4 images, instead of 4; the
    # latter forward only, the former backward twice.
    compared = (16 - 4) * 4 * 16 * 2 * (1 + 3)
    assert four.flops - one.flops == compared
    # Hard images of other processes are looked at once more, and what is fed back is theirs.
    flops = [
        Counter(replace(config, negative_images=1), FACTS, "cuda", processes)
        .count(4, 1, precision="fp32", checkpointing=False)
        .flops
        for processes in (1, 4)
    ]
    with flop_counter() as look:
        images = make_batch(config, FACTS, 4, CPU).images
        build_model(config, FACTS).vision.look_once(images).tokens.sum().backward()
    assert flops[0] > one.flops and flops[1] - flops[0] > compared + look.get_total_flops()
    assert together.states.total + four.peak_bytes > alone.states.total + one.peak_bytes
    assert four.peak_bytes < one.peak_bytes + together.gradient_bytes, "gradients are counted once"
    assert alone.states.buckets == 0 and together.states.buckets == together.gradient_bytes


def assert_is_what_was_counted(step: Callable[[], None], model: torch.nn.Module, counted: Step) -> None:
    with Tally([*model.parameters(), *model.buffers()]) as tally:
        step()
    with flop_counter() as flops:
        step()
    assert counted.flops == flops.get_total_flops()
    # A real mean squared error keeps the storage of its terms on the CPU, one without content does not.
    assert counted.peak_bytes == pytest.approx(tally.peak, rel=0.03)


KINDS = [(task, *rest) for task in CONFIGS for rest in ((False, "fp32", 0), (True, "bf16", 1))]
FAST = [("vqa", False, "fp32", 0), ("pretraining", True, "bf16", 1)]


@pytest.mark.parametrize(
    ("task", "checkpointing", "precision", "looks_again_from"),
    [pytest.param(*kind, marks=() if kind in FAST else pytest.mark.slow) for kind in KINDS],
)
def test_a_counted_pass_computes_and_holds_what_a_real_one_does(task, checkpointing, precision, looks_again_from):
    run = replace(CONFIGS[task].run, precision=precision)
    vision = tiny_vision(width=64, image_size=128, looks_again_from=looks_again_from)
    config = replace(CONFIGS[task], run=run, vision=vision)
    counted = Counter(config, FACTS, "cpu").count(4, 1, precision=precision, checkpointing=checkpointing)
    AcceleratorState._reset_state(reset_partial_state=True)
    accelerator = Accelerator(cpu=True)
    bare = build_model(config, FACTS)
    bare.vision.set_grad_checkpointing(checkpointing)
    prepared = accelerator.prepare(bare)
    task = bare_task(config, FACTS, bare)

    def step():
        batch = make_batch(config, FACTS, 4, CPU)
        accelerator.backward(sum(task.losses(prepared, batch).values()))
        bare.zero_grad()

    assert_is_what_was_counted(step, bare, counted)


def test_states_are_the_parameters_and_both_moments():
    config = CONFIGS["vqa"]
    counter, model = Counter(config, FACTS, "cpu"), build_model(config, FACTS)
    optimizer = build_optimizer(model, bare_task(config, FACTS, model).lr_of(), config.optim)
    run_pass(config, FACTS, model, make_batch(config, FACTS, 2, CPU))
    optimizer.step()
    gradients = sum(parameter.grad.nbytes for parameter in model.parameters())
    moments = sum(value.nbytes for state in optimizer.state.values() for value in state.values() if value.ndim)
    buffers = sum(buffer.nbytes for buffer in model.buffers())
    assert counter.states == (sum(p.nbytes for p in model.parameters()) + buffers, moments, 0)
    assert counter.gradient_bytes == gradients


@pytest.mark.slow
@pytest.mark.parametrize("task", ["vqa", "retrieval"])
def test_a_step_of_several_passes_is_what_the_loop_does(task):
    config, passes = CONFIGS[task], 4
    counted = Counter(config, FACTS, "cpu").count(2, passes, precision="fp32", checkpointing=False)
    AcceleratorState._reset_state(reset_partial_state=True)
    accelerator = Accelerator(cpu=True, gradient_accumulation_steps=passes)
    bare = build_model(config, FACTS)

    def step():
        batches = [make_batch(config, FACTS, 2, CPU) for _ in range(passes)]
        accumulate_gradients(bare_task(config, FACTS, bare), bare, accelerator, batches, range(passes))
        bare.zero_grad()

    assert_is_what_was_counted(step, bare, counted)


@pytest.mark.slow
def test_recomputing_takes_memory_for_operations():
    config = replace(CONFIGS["vqa"], vision=tiny_vision(depth=3, image_size=96))
    counter = Counter(config, FACTS, "cuda")
    plain, recomputing = (
        counter.count(16, 1, precision="bf16", checkpointing=checkpointing) for checkpointing in (False, True)
    )
    assert recomputing.peak_bytes < plain.peak_bytes and recomputing.flops > plain.flops


def test_a_pretrained_text_encoder_has_the_sizes_of_its_folder(tmp_path):
    roberta = RobertaConfig(
        vocab_size=50, hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=24,
        max_position_embeddings=40, type_vocab_size=1,
    )  # fmt: skip
    RobertaModel(roberta, add_pooling_layer=False).save_pretrained(tmp_path)
    config = replace(CONFIGS["vqa"], text=TextConfig(model=str(tmp_path), max_tokens=24))
    facts = find_facts(replace(config, data=replace(config.data, root="nowhere")))
    model = build_model(config, facts)
    assert model.architecture == build_vqa_model(config, 3129, Words(50, 1, 0, 2)).architecture
    with pytest.raises(ConfigError, match="text.max_tokens 39 is more than the 38 positions"):
        find_facts(replace(config, text=replace(config.text, max_tokens=39)))


def test_a_text_encoder_or_tokenizer_that_cannot_pad_is_refused(world, tmp_path):  # noqa: F811
    roberta = {"model_type": "roberta", "vocab_size": 50, "pad_token_id": None}
    (tmp_path / "config.json").write_text(json.dumps(roberta))
    config = replace(CONFIGS["vqa"], text=TextConfig(model=str(tmp_path)))
    with pytest.raises(ConfigError, match=f"text.model {tmp_path}: expected a pad_token_id"):
        find_facts(config)
    tokenizer = AutoTokenizer.from_pretrained(world / "demo/tokenizer")
    tokenizer.pad_token = None
    tokenizer.save_pretrained(tmp_path / "tokenizer")
    with pytest.raises(InputError, match="the tokenizer has no pad token"):
        find_facts(replace(config, text=TextConfig(model=None, tokenizer=str(tmp_path / "tokenizer"))))


def test_sizes_are_read_from_what_is_prepared(world):  # noqa: F811
    vqa = tiny_vqa_config(world, NOWHERE)
    facts = find_facts(vqa)
    assert facts[:2] == (len(VQATask(vqa).train_set), len(read_vocabulary(vqa.data.root)))
    assert (facts.assumed, facts.first_look) == ((), None)
    retrieval = tiny_retrieval_config(world, NOWHERE)
    assert find_facts(retrieval)[:2] == (len(RetrievalTask(retrieval).train_set), None)
    pretraining = ClassificationTask(tiny_pretrain_config(world, NOWHERE))
    labels = len(pretraining.train_set.classes)
    assert find_facts(pretraining.config) == Facts(len(pretraining.train_set), labels, None, ())
    assert find_facts(vqa, samples=5).samples == 5
    with pytest.raises(InputError, match="expected prepared data of the kind captions, got 'vqav2'"):
        find_facts(replace(retrieval, data=vqa.data))
    with pytest.raises(InputError, match="there is no split 'dev'; it has"):
        find_facts(replace(vqa, data=replace(vqa.data, train_splits=("dev",))))


def test_what_is_assumed_is_said():
    vqa = replace(CONFIGS["vqa"], text=TextConfig(model="roberta-base"))
    facts = find_facts(vqa)
    assert (facts.samples, facts.labels, facts.text.hidden_size) == (None, 3129, 768)
    assert "3,129 answers, VQAv2's" in facts.assumed[0] and "published sizes of roberta-base" in facts.assumed[1]
    with pytest.raises(ConfigError, match="text.model bert: no such folder; sizes are known of roberta-base"):
        find_facts(replace(vqa, text=TextConfig(model="bert")))
    with pytest.raises(ConfigError, match="text.tokenizer nowhere/demo/tokenizer: no such folder"):
        find_facts(CONFIGS["vqa"])


def test_micro_batches_divide_what_falls_to_a_process():
    assert micro_batch_sizes(OptimConfig(batch_size=512), 8) == [1, 2, 4, 8, 16, 32, 64]
    assert micro_batch_sizes(OptimConfig(batch_size=24, micro_batch_size=6), 2, least=2) == [2, 4, 6, 12]
    assert micro_batch_sizes(OptimConfig(batch_size=24, micro_batch_size=5), 1) == [1, 2, 4, 8, 24]
    with pytest.raises(ConfigError, match="batch_size 24 does not divide into 5 processes; 20 or 25 would fit"):
        micro_batch_sizes(OptimConfig(batch_size=24), 5)


def made_up_count(samples: int, passes: int, *, precision: str, checkpointing: bool) -> Step:
    """10 bytes a sample, half of it in bf16 or recomputing; 100 more for several passes."""
    halved = (precision == "bf16") + checkpointing
    return Step(10 * samples // 2**halved + 100 * (passes > 1), passes * samples * (4 if checkpointing else 3))


def test_sizes_are_tried_from_the_largest_to_the_third_that_fits():
    tried = list(try_choices(made_up_count, OptimConfig(batch_size=64), 2, [1, 2, 4, 8, 16, 32], 1000, 1210))
    plain = [choice for choice in tried if choice.precision == "fp32" and not choice.checkpointing]
    assert [(c.micro_batch_size, c.passes, c.peak_bytes, c.fits) for c in plain] == [
        (32, 1, 1320, False), (16, 2, 1260, False), (8, 4, 1180, True), (4, 8, 1140, True), (2, 16, 1120, True),
    ]  # fmt: skip
    recomputing = [choice for choice in tried if choice.precision == "bf16" and choice.checkpointing]
    assert [choice.micro_batch_size for choice in recomputing] == [32, 16, 8]


@pytest.mark.parametrize(
    ("room", "micro_batch_size", "expected"),
    [
        (2000, 8, ("fp32", False, 32)),  # all fits: no recomputing, and as large as can be
        (1210, 8, ("fp32", False, 8)),  # the configured size fits without recomputing
        (1210, 16, ("fp32", True, 32)),  # it fits with recomputing only
        (1145, 16, ("fp32", True, 8)),  # it does not fit
        (1103, 16, ("bf16", True, 32)),  # nothing fits in the configured precision
        (1000, 16, None),
    ],
)
def test_precision_and_micro_batch_are_kept_if_possible_then_work_and_size_decide(room, micro_batch_size, expected):
    optim = OptimConfig(batch_size=64, micro_batch_size=micro_batch_size)
    tried = list(try_choices(made_up_count, optim, 2, micro_batch_sizes(optim, 2), 1000, room))
    chosen = recommend(tried, optim, 2, "fp32")
    assert (chosen and (chosen.precision, chosen.checkpointing, chosen.micro_batch_size)) == expected


def test_a_choice_as_options_and_as_time():
    choice = Choice("bf16", True, 16, 4, 10**9, 12 * 10**12, True)
    assert overrides(choice, "bf16") == "--optim.micro_batch_size 16 --vision.gradient_checkpointing true"
    assert overrides(choice, "fp32").endswith("--run.precision bf16")
    assert step_seconds(choice, Rate(6e12, 0.5, "by hand")) == 12 / 6 + 0.5
    assert run_steps(OptimConfig(batch_size=64, epochs=3), 200) == 9


class MadeUpTask(VQATask):
    """The real losses on made-up batches; notes the peak of memory when all steps are done."""

    def __init__(self, config, facts: Facts, memory: PeakMemory) -> None:
        self.config, self._memory, self.peak = config, memory, None
        self.model = build_model(config, facts)
        self.train_set = MadeUpSamples(config, facts)

    def evaluate(self, model):
        return None

    def save(self, folder):
        self.peak = self._memory.read()
        (folder / "model.safetensors").write_bytes(b"")


class MadeUpSamples(Dataset):
    """Two batches that are made when they are collated."""

    def __init__(self, config, facts: Facts) -> None:
        self._config, self._facts = config, facts

    def __len__(self):
        return 2 * self._config.optim.batch_size

    def __getitems__(self, indices):
        return indices

    def collate(self, samples):
        return make_batch(self._config, self._facts, len(samples), CPU)

    def set_epoch(self, epoch):
        pass


def middling_config(output: Path, precision: str, checkpointing: bool, batch_size: int):
    """Neither tiny nor large: a quarter of a GB in a step of a few seconds."""
    config = replace(
        CONFIGS["vqa"],
        vision=tiny_vision(width=192, depth=6, num_heads=3, image_size=160, gradient_checkpointing=checkpointing),
        text=TextConfig(model=None, tokenizer="none", width=192, depth=2, num_heads=3, max_tokens=24),
        fusion=FusionConfig(width=192, num_layers=2, num_heads=3),
        optim=OptimConfig(batch_size=batch_size, epochs=1),
        run=RunConfig(output=str(output), precision=precision, trackers=(), log_every=1),
    )
    return replace(config, data=replace(config.data, select_split=None))


def memory_of_training(output: Path, precision: str, checkpointing: bool, batch_size: int) -> int:
    """The most memory that two steps of a training run take beyond what was there before, in a process of its own."""
    # Freed memory goes back at once: how much of it the C library keeps for later says nothing about the need.
    keep_freed_memory(False)
    config = middling_config(output, precision, checkpointing, batch_size)
    # Libraries are loaded, and what they keep for these shapes is there.
    run_pass(config, FACTS, build_model(config, FACTS), make_batch(config, FACTS, batch_size, CPU))
    accelerator = make_accelerator(config.run)
    task = MadeUpTask(config, FACTS, PeakMemory(CPU))
    train(config, task, accelerator, open_run(config))
    return task.peak


@pytest.mark.slow
@pytest.mark.parametrize(("precision", "checkpointing", "batch_size"), [("fp32", True, 16), ("bf16", False, 8)])
def test_a_training_run_takes_the_memory_that_was_counted(fork_server, precision, checkpointing, batch_size, tmp_path):
    config = middling_config(tmp_path / "run", precision, checkpointing, batch_size)
    counter = Counter(config, FACTS, "cpu")
    step = counter.count(batch_size, 1, precision=precision, checkpointing=checkpointing)
    counted = counter.states.total + step.peak_bytes
    (measured,) = fork_server.call(memory_of_training, tmp_path / "run", precision, checkpointing, batch_size)
    # Above, there is room for the scratch memory of the machine's matrix library: 10 MB on one, 90 MB on another.
    assert 0.85 * counted < measured < 1.15 * counted + 96e6, (measured, counted)


def test_a_mask_with_a_threshold_is_counted_as_any_other():
    paper = replace(CONFIGS["vqa"], prior=PriorConfig(pool="lse"))
    config = replace(paper, vision=tiny_vision(mask="calibrated"))
    steps = [Counter(each, FACTS, "cpu").count(4, 1, precision="fp32", checkpointing=False) for each in (paper, config)]
    assert steps[1].flops == steps[0].flops and steps[1].peak_bytes >= steps[0].peak_bytes
