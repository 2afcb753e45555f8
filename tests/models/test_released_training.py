"""The authors' training, as recorded: parameters, optimizer groups, schedule, gradients, steps and recall."""

import json
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from torch import Tensor

from vl_absvit.config import LearningRates, OptimConfig
from vl_absvit.evaluation.retrieval_metrics import retrieval_recalls
from vl_absvit.losses import vqa_loss
from vl_absvit.models.architecture import build_from_architecture
from vl_absvit.models.released.vision_language import convert_vision_language
from vl_absvit.models.released.vision_language_keys import KEYS
from vl_absvit.models.top_down import reconstruction_loss
from vl_absvit.tasks.retrieval import RetrievalTask
from vl_absvit.tasks.vqa import VQATask
from vl_absvit.training.optim import lr_factor, param_groups

BASE_RATE = 1e-5
# The recorded runs multiply the base rate by 10 for the fusion and by 3 for feedback and prior.
RATES = {"vision": 1e-5, "text": 1e-5, "fusion": 1e-4, "feedback": 3e-5, "prior": 3e-5}
TASKS = {"vqa": (VQATask, RATES | {"head": 5e-4}), "matching": (RetrievalTask, RATES | {"head": 5e-5})}
UNUSED = {"vit_model.head.weight", "vit_model.head.bias"} | {
    f"text_transformer.pooler.dense.{name}" for name in ("weight", "bias")
}
DIFFERENCES = {  # released name -> (their multiplier and weight decay, ours); None: in no group
    "vqa": {
        "token_type_embeddings.weight": ((1, 0.01), (10, 0.01)),  # theirs with the base, ours with the fusion it is in
        "vqa_classifier.1.weight": ((50, 0.01), (50, 0.0)),  # a norm, which theirs decays
        "vit_model.prompt_decoder.bias": (None, (3, 0.0)),  # theirs never learns
    },
    "matching": {
        "token_type_embeddings.weight": ((1, 0.01), (10, 0.01)),
        "vit_model.prompt_decoder.bias": (None, (3, 0.0)),
        "rank_output.weight": ((1, 0.01), (5, 0.01)),  # their groups do not know it as a head
        "rank_output.bias": ((1, 0.0), (5, 0.0)),
    },
}
FROZEN = {"vqa": set(), "matching": {"itm_score.fc.weight", "itm_score.fc.bias"}}  # theirs does not train these


@pytest.fixture(params=["vqa", "matching"])
def base(request, golden):
    """The recorded base model of a kind, and its conversion without any values."""
    name = {"vqa": "vqa", "matching": "irtr"}[request.param]
    recorded = json.loads((golden / f"meter/parameter_lists/base_{name}_absvit.json").read_text())
    shapes = recorded["parameters"] | recorded["state_dict_extra_buffers"]
    state = {key: torch.empty(shape, device="meta") for key, shape in shapes.items()}
    conversion = convert_vision_language(state, recorded["config"], None, None, "base")
    with torch.device("meta"):
        model = build_from_architecture(conversion.config, "base")
    return SimpleNamespace(kind=request.param, recorded=recorded, conversion=conversion, model=model)


def test_base_models_have_the_authors_parameters(base):
    ignored = {entry.key: entry.parameters for entry in base.conversion.entries if entry.status == "ignored"}
    assert set(ignored) == UNUSED | set(base.recorded["state_dict_extra_buffers"])
    count = sum(parameter.numel() for parameter in base.model.parameters())
    assert count + sum(ignored[key] for key in UNUSED) == base.recorded["n_params"]
    ours = {KEYS[base.kind].ours(key) for key in base.recorded["parameters"] if key not in UNUSED}
    assert ours == {name for name, _ in base.model.named_parameters()}
    assert not [entry for entry in base.conversion.entries if entry.status == "new"]
    assert base.conversion.preprocessing["max_tokens"] == {"vqa": 50, "matching": 40}[base.kind]
    assert base.conversion.config["text"]["num_attention_heads"] == 12


def groups_of(base) -> dict[str, tuple[float, float]]:
    """Multiplier of the base rate and weight decay of every parameter, by its released name."""
    task, rates = TASKS[base.kind]
    config = SimpleNamespace(optim=OptimConfig(learning_rates=LearningRates(**rates)))
    lr_of = task.lr_of(SimpleNamespace(config=config, model=base.model))
    name_of = {parameter: KEYS[base.kind].released(name) for name, parameter in base.model.named_parameters()}
    groups = param_groups(base.model, lr_of, config.optim.weight_decay)
    return {
        name_of[parameter]: (round(group["peak_lr"] / BASE_RATE, 6), group["weight_decay"])
        for group in groups
        for parameter in group["params"]
    }


def test_optimizer_groups_are_the_authors_but_for_named_differences(base):
    optimizer = base.recorded["optimizer"]
    theirs: dict[str, tuple[float, float] | None] = {entry["name"]: None for entry in optimizer["in_no_group"]}
    for group in optimizer["groups"]:
        theirs |= {name: (group["lr_multiplier"], group["weight_decay"]) for name in group["names"]}
    ours = groups_of(base)
    assert theirs.keys() - ours.keys() == UNUSED and not ours.keys() - theirs.keys()
    differences = {name: (theirs[name], ours[name]) for name in ours if theirs[name] != ours[name]}
    assert differences == DIFFERENCES[base.kind]
    assert set(optimizer["requires_grad_false"]) == FROZEN[base.kind]
    group, config = optimizer["groups"][0], OptimConfig()
    assert (tuple(group["betas"]), group["eps"]) == (config.betas, config.eps)
    assert config.weight_decay == 0.01


@pytest.mark.parametrize("recipe", ["poly1_warm0.1_100", "poly1_warm10_100", "poly1_warm0.1_37"])
def test_learning_rates_are_the_authors_at_every_step(golden, recipe):
    recorded = json.loads((golden / "meter/schedules.json").read_text())[recipe]
    config, steps = recorded["config"], recorded["max_steps"]
    warmup = config["warmup_steps"] if config["warmup_steps"] < 1 else config["warmup_steps"] / steps
    multipliers = [
        1,
        1,
        *[config["lr_mult_head"]] * 2,
        *[config["lr_mult_cross_modal"]] * 2,
        config["lr_mult_feedback"],
    ]
    for step, rates in enumerate(recorded["lr_per_step_per_group"]):
        ours = [config["learning_rate"] * multiplier * lr_factor(step, steps, warmup) for multiplier in multipliers]
        assert ours == pytest.approx(rates, rel=1e-12, abs=0), step


def test_the_schedules_that_this_project_does_not_offer_are_these(golden):
    recorded = json.loads((golden / "meter/schedules.json").read_text())
    others = {name: entry["config"] for name, entry in recorded.items() if not name.startswith("poly1")}
    assert {name: (entry["decay_power"], entry["end_lr"]) for name, entry in others.items()} == {
        "poly2_end1e-7": (2, 1e-7),
        "cosine": ("cosine", 0),
    }


@pytest.fixture
def trained(golden):
    """The recorded run in a precision: our model at its start, its batches and everything that it recorded."""

    def make(precision: str) -> SimpleNamespace:
        folder = golden / "meter/train_vqa"
        trace = json.loads((folder / f"trace_{precision}.json").read_text())
        conversion = convert_vision_language(
            load_file(folder / "init_state_f32.safetensors"), trace["config"], 4, 4, "train_vqa"
        )
        model = build_from_architecture(conversion.config, "train_vqa")
        model.load_state_dict(conversion.state)
        dtype = {"f32": torch.float32, "f64": torch.float64}[precision]
        return SimpleNamespace(folder=folder, trace=trace, model=model.to(dtype).eval(), dtype=dtype)

    return make


def losses(run, step: int) -> dict[str, Tensor]:
    """Both losses of the recorded batch of a step; the model is in evaluation mode, for the run has no dropout."""
    inputs = load_file(run.folder / f"batches/step{step}.safetensors")
    labels = json.loads((run.folder / f"batches/step{step}.json").read_text())
    targets = torch.zeros(len(labels["text"]), 17)
    for row, (names, scores) in enumerate(zip(labels["vqa_labels"], labels["vqa_scores"], strict=True)):
        targets[row, names] = torch.tensor(scores)
    out = run.model(inputs["image"].to(run.dtype), inputs["text_ids"], inputs["text_masks"].bool())
    # Ours computes in fp32 whatever the model; so that fp64 shows more, this is the same in the model's precision.
    vqa = F.binary_cross_entropy_with_logits(out.logits, targets.to(run.dtype), reduction="none").sum(dim=1).mean()
    torch.testing.assert_close(vqa_loss(out.logits, targets), vqa.float(), rtol=1e-6, atol=0)
    return {"vqa_loss": vqa, "var_loss": 0.3 * reconstruction_loss(run.model.vision.decoders, out.looks.second.states)}


def without_key_bias(name: str, gradient: Tensor) -> Tensor | None:
    """A gradient without the part that is zero but for rounding: shifting all keys alike changes no attention."""
    if name.endswith("key.bias"):
        return None
    if name.endswith("attn.qkv.bias"):
        query, _, value = gradient.chunk(3)
        return torch.cat([query, value])
    return gradient


def bound_of(name: str, precision: str) -> float:
    """Largest difference over the largest value; in fp32 the authors' own gradients of attention are 2e-5 from fp64."""
    is_attention_weight = name.startswith("cross_modal") and (".query." in name or ".key." in name)
    return 1e-10 if precision == "f64" else 5e-5 if is_attention_weight else 1e-5


@pytest.mark.parametrize("precision", ["f32", "f64"])
def test_gradients_of_a_step_are_the_authors(trained, precision):
    run = trained(precision)
    sum(losses(run, 0).values()).backward()
    expected = load_file(run.folder / f"grads_step0_{precision}.safetensors")
    ours = {KEYS["vqa"].released(name): parameter.grad for name, parameter in run.model.named_parameters()}
    assert ours.keys() == expected.keys()
    for name, gradient in ours.items():
        gradient, reference = (without_key_bias(name, tensor) for tensor in (gradient, expected[name]))
        if gradient is not None:
            assert relative(gradient, reference) < bound_of(name, precision), name


def relative(a: Tensor, b: Tensor) -> float:
    """Largest difference over the reference's largest value."""
    return ((a - b).abs().max() / b.abs().max()).item()


class OldAdamW:
    """The optimizer of the release: epsilon before the bias correction, decay after the update."""

    def __init__(self, groups: list[dict]) -> None:
        self.groups, self.state, self.steps = groups, {}, 0

    @torch.no_grad()
    def step(self, rates: list[float]) -> None:
        """One step with a learning rate for every group."""
        self.steps += 1
        for group, rate in zip(self.groups, rates, strict=True):
            (beta1, beta2), eps = group["betas"], group["eps"]
            scale = rate * (1 - beta2**self.steps) ** 0.5 / (1 - beta1**self.steps)
            for parameter in group["params"]:
                mean, square = self.state.setdefault(
                    parameter, (torch.zeros_like(parameter), torch.zeros_like(parameter))
                )
                mean.mul_(beta1).add_(parameter.grad, alpha=1 - beta1)
                square.mul_(beta2).addcmul_(parameter.grad, parameter.grad, value=1 - beta2)
                parameter.addcdiv_(mean, square.sqrt().add_(eps), value=-scale)
                parameter.add_(parameter, alpha=-rate * group["weight_decay"])


@pytest.mark.parametrize(("precision", "bound"), [("f32", 1e-5), ("f64", 1e-7)])
def test_five_steps_with_the_authors_update_rule_give_their_losses_and_weights(trained, precision, bound):
    run = trained(precision)
    config, steps = run.trace["config"], run.trace["max_steps"]
    parameters = dict(run.model.named_parameters())
    groups = [
        group | {"params": [parameters[KEYS["vqa"].ours(name)] for name in group["names"] if name not in UNUSED]}
        for group in run.trace["optimizer"]["groups"]
    ]
    optimizer = OldAdamW(groups)
    for recorded in run.trace["trace"]:
        step = recorded["step"]
        terms = losses(run, step)
        assert {name: term.item() for name, term in terms.items()} == pytest.approx(recorded["losses"], rel=bound), step
        run.model.zero_grad()
        sum(terms.values()).backward()
        rates = [group["initial_lr"] * lr_factor(step, steps, config["warmup_steps"]) for group in groups]
        assert rates == pytest.approx(recorded["lrs"], rel=1e-12, abs=0)
        optimizer.step(rates)
    final = load_file(run.folder / f"final_state_{precision}.safetensors")
    for name, parameter in parameters.items():
        released = KEYS["vqa"].released(name)
        ours, theirs = (without_key_bias(released, tensor) for tensor in (parameter.detach(), final[released]))
        if ours is not None:
            assert relative(ours, theirs) < bound_of(released, precision), released


CASES = [(0, "random"), (1, "planted"), (2, "planted"), (3, "ties"), (4, "planted")]


@pytest.mark.parametrize(("case", "kind"), CASES)
def test_recall_is_the_authors_but_for_ties(golden, case, kind):
    recorded = json.loads((golden / "meter/recall/results.json").read_text())[case]
    table = load_file(golden / f"meter/recall/case{case}.safetensors")
    scores, image_of_caption = table["scores"].double().numpy(), table["text_img"].numpy()
    assert recorded["kind"] == kind
    ours = retrieval_recalls(scores, image_of_caption)
    theirs = {name: 100 * recorded[name] for name in ours}
    if kind != "ties":
        assert ours == pytest.approx(theirs, rel=1e-6)
        return
    assert all(ours[name] <= theirs[name] + 1e-4 for name in ours) and ours["ir_r1"] < theirs["ir_r1"]
    assert all(
        theirs[name] <= value + 1e-4 for name, value in recalls_with_ties_for_us(scores, image_of_caption).items()
    )


def recalls_with_ties_for_us(scores: np.ndarray, image_of_caption: np.ndarray) -> dict[str, float]:
    """Recalls where every tie counts as a hit."""
    recalls = {}
    for name, table, matches in (
        ("ir", scores.T, image_of_caption[:, None] == np.arange(len(scores))),
        ("tr", scores, image_of_caption == np.arange(len(scores))[:, None]),
    ):
        own = np.where(matches, table, -np.inf).max(axis=1, keepdims=True)
        better = ((table > own) & ~matches).sum(axis=1)
        recalls |= {f"{name}_r{k}": 100 * float((better < k).mean()) for k in (1, 5, 10)}
    return recalls
