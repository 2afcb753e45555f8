"""The authors' own numbers that are committed (tests/references): outputs, losses, gradients, training, recall.

More cases and fp32 are tested where the full set lies beside the checkout.
"""

import json
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from torch import Tensor

from tests.tiny_released import released_config
from vl_absvit.evaluation.retrieval_metrics import retrieval_recalls
from vl_absvit.models import VLAbSViT
from vl_absvit.models.architecture import build_from_architecture
from vl_absvit.models.released import rebuild_classifier
from vl_absvit.models.released.imagenet import KEYS as CLASSIFIER_KEYS
from vl_absvit.models.released.imagenet import convert_imagenet
from vl_absvit.models.released.vision_language import convert_vision_language
from vl_absvit.models.released.vision_language_keys import KEYS
from vl_absvit.models.top_down import feed_back, reconstruction_loss
from vl_absvit.training.optim import lr_factor

FOLDER = Path(__file__).parent / "references"
HEADS = {
    "vqa": ("vqa_classifier",),
    "matching": ("itm_score", "rank_output"),
    "pretraining": ("itm_score", "mlm_score"),
}
ALL_HEADS = ("vqa_classifier", "itm_score", "rank_output", "mlm_score")
RECONSTRUCTION = 0.3  # weight of the reconstruction loss in the recorded runs
BOUND = 1e-10


def relative(ours: Tensor, expected: Tensor) -> float:
    """Largest difference over the reference's largest value."""
    ours, expected = ours.detach(), expected.reshape(ours.shape)
    return ((ours - expected).abs().max() / expected.abs().max()).item()


def part(tensors: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """The tensors below a prefix, without it."""
    return {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}


def assert_equal(ours: dict[str, Tensor], expected: dict[str, Tensor]) -> None:
    """All of ``expected``, and nothing but it, within the bound of fp64."""
    assert ours.keys() == expected.keys()
    assert {name: error for name in ours if not (error := relative(ours[name], expected[name])) < BOUND} == {}


def without_key_bias(name: str, gradient: Tensor) -> Tensor:
    """A gradient without the part that is zero but for rounding: shifting all keys alike changes no attention."""
    if not name.endswith("attn.qkv.bias"):
        return gradient
    query, _, value = gradient.chunk(3)
    return torch.cat([query, value])


@pytest.fixture(scope="module")
def numbers() -> dict:
    return json.loads((FOLDER / "numbers.json").read_text())


@pytest.fixture(scope="module")
def recorded() -> dict[str, Tensor]:
    return load_file(FOLDER / "vision_language.safetensors")


def build(recorded: dict[str, Tensor], kind: str) -> VLAbSViT:
    """The recorded model of a kind of head, in fp64."""
    others = tuple(head for head in ALL_HEADS if head not in HEADS[kind])
    state = {name: tensor for name, tensor in part(recorded, "state.").items() if not name.startswith(others)}
    conversion = convert_vision_language(state, released_config(kind), 4, 4, kind)
    model = build_from_architecture(conversion.config, kind).double()
    model.load_state_dict(conversion.state)
    return model.eval()


def test_the_classifier_gives_the_authors_outputs_losses_and_gradients():
    recorded = load_file(FOLDER / "imagenet.safetensors")
    conversion = convert_imagenet(part(recorded, "state."), 4, "imagenet")
    model = rebuild_classifier(conversion.config, conversion.state).double()
    images, target = recorded["input.image"].double(), recorded["input.target"]
    looks, out = model.vision.look_twice(images), model(images, need_reconstruction=True)
    steered = model.vision.modulate(looks.first.tokens, model.vision.prior.expand(len(images), -1))
    reconstruction = 0.1 * out.reconstruction
    supervised = [F.cross_entropy(logits, target) for logits in (out.first_logits, out.second_logits)]
    loss = sum(supervised) / 2 + reconstruction
    loss.backward()
    gradients = {
        f"grad.{CLASSIFIER_KEYS.released(name)}": parameter.grad for name, parameter in model.named_parameters()
    }
    outputs = {
        "pass1_tokens": looks.first.tokens,
        "mask": looks.prior_mask,
        "td": torch.stack([signal.tokens for signal in feed_back(model.vision.decoders, steered)]),
        "pass2_tokens": looks.second.tokens,
        "logits_pass1": out.first_logits,
        "logits_pass2": out.second_logits,
        "var_loss": reconstruction,
        "train_loss": loss,
    }
    ours, expected = outputs | gradients, part(recorded, "output.")
    for results in (ours, expected):
        results |= {name: without_key_bias(name, results[name]) for name in gradients}
    assert_equal(ours, expected)


def read(model: VLAbSViT, images: Tensor, ids: Tensor, masks: Tensor, image_index: Tensor | None = None) -> dict:
    """Everything that is compared of one forward pass, under the recorded names."""
    texts = model.encode_texts(ids, masks.bool())
    looks = model.vision.look_twice(images.double(), texts.prior, image_index)
    fused = model.fusion(texts.tokens, texts.is_token, looks.second.tokens)
    return {
        "prompt": model.prior.sentence_vector(texts.tokens, texts.is_token),
        "vit_tokens": looks.second.tokens,
        "text_feats": fused.text,
        "image_feats": fused.image,
        "cls_feats": fused.pooled,
        "var_loss": RECONSTRUCTION * reconstruction_loss(model.vision.decoders, looks.second.states),
    }


def bce(logits: Tensor, targets: Tensor) -> Tensor:
    """The VQA loss in the precision of the logits; the project's own computes in fp32."""
    return F.binary_cross_entropy_with_logits(logits, targets.to(logits.dtype), reduction="none").sum(dim=1).mean()


def test_the_vqa_model_gives_the_authors_answers(recorded):
    model, expected = build(recorded, "vqa"), part(recorded, "output.vqa.")
    image, ids, masks = (recorded[f"input.{name}"] for name in ("image", "text_ids", "text_masks"))
    ours = read(model, image, ids, masks)
    targets, loss = expected.pop("vqa_targets"), expected.pop("vqa_loss")
    assert_equal(ours | {"vqa_logits": model.head(ours["cls_feats"])}, expected)
    logits = model(image.double(), ids, masks.bool()).logits
    assert relative(logits, expected["vqa_logits"]) < BOUND
    assert relative(bce(logits, targets), loss) < 1e-6  # which the release computes in fp32


def test_the_retrieval_model_gives_the_authors_scores(recorded):
    model, expected = build(recorded, "matching"), part(recorded, "output.irtr.")
    texts = ["text", *(f"false_text_{number}" for number in range(3))]
    ids, masks = (
        torch.stack([recorded[f"input.{text}_{kind}"] for text in texts], dim=1).flatten(0, 1)
        for kind in ("ids", "masks")
    )
    ours = read(model, recorded["input.image"], ids, masks, torch.arange(4).repeat_interleave(4))
    scores = model.head.rank(ours["cls_feats"]).view(4, 4)
    ours |= {"score": scores, "irtr_loss": F.cross_entropy(scores, torch.zeros(4, dtype=torch.long))}
    assert_equal({name: ours[name] for name in expected}, expected)


@pytest.mark.parametrize("kind", ["matching", "pretraining"])
def test_the_matching_heads_give_the_authors_logits(recorded, kind):
    model, expected = build(recorded, kind), part(recorded, "output.itm.")
    labels = expected.pop("itm_labels")
    images = torch.where(labels[:, None, None, None] == 1, recorded["input.image"], recorded["input.false_image_0"])
    ours = read(model, images, recorded["input.text_ids"], recorded["input.text_masks"])
    logits = model.head.itm(ours["cls_feats"])
    ours |= {"itm_logits": logits, "itm_loss": F.cross_entropy(logits, labels.long())}
    assert_equal({name: ours[name] for name in expected}, expected)


def test_the_pretrained_model_gives_the_authors_masked_words(recorded):
    model, expected = build(recorded, "pretraining"), part(recorded, "output.mlm.")
    ours = read(model, recorded["input.image"], recorded["input.text_ids_mlm"], recorded["input.text_masks"])
    logits = model.head.mlm(ours["text_feats"])
    labels = recorded["input.text_labels_mlm"].flatten()
    ours |= {"mlm_logits": logits, "mlm_loss": F.cross_entropy(logits.flatten(0, 1), labels, ignore_index=-100)}
    assert_equal({name: ours[name] for name in expected}, expected)


class OldAdamW:
    """The optimizer of the release: epsilon before the bias correction, decay after the update."""

    def __init__(self, groups: list[dict]) -> None:
        self.groups, self.state, self.steps = groups, {}, 0

    @torch.no_grad()
    def step(self, rates: list[float]) -> None:
        """One step with a learning rate for every group."""
        self.steps += 1
        for group, rate in zip(self.groups, rates, strict=True):
            beta1, beta2 = group["betas"]
            scale = rate * (1 - beta2**self.steps) ** 0.5 / (1 - beta1**self.steps)
            for parameter in group["params"]:
                zeros = torch.zeros_like(parameter), torch.zeros_like(parameter)
                mean, square = self.state.setdefault(parameter, zeros)
                mean.mul_(beta1).add_(parameter.grad, alpha=1 - beta1)
                square.mul_(beta2).addcmul_(parameter.grad, parameter.grad, value=1 - beta2)
                parameter.addcdiv_(mean, square.sqrt().add_(group["eps"]), value=-scale)
                parameter.mul_(1 - rate * group["weight_decay"])


def test_a_training_gives_the_authors_gradients_rates_and_losses(recorded, numbers):
    run, tensors = numbers["training"], load_file(FOLDER / "training.safetensors")
    model = build(recorded, "vqa")
    parameters = {KEYS["vqa"].released(name): parameter for name, parameter in model.named_parameters()}
    groups = [
        group | {"params": [parameters[name] for name in group["names"] if name in parameters]}
        for group in run["groups"]
    ]
    optimizer = OldAdamW(groups)
    assert len(run["steps"]) == 6  # the first with a rate of 0
    for step, expected in enumerate(run["steps"]):
        batch = part(tensors, f"batch.{step}.")
        is_token = batch["text_masks"].bool()
        out = model(batch["image"].double(), batch["text_ids"], is_token, need_reconstruction=True)
        losses = {"vqa_loss": bce(out.logits, batch["targets"]), "var_loss": RECONSTRUCTION * out.reconstruction}
        assert {name: loss.item() for name, loss in losses.items()} == pytest.approx(expected["losses"], rel=1e-7), step
        model.zero_grad()
        sum(losses.values()).backward()
        if step == 0:
            gradients = {name: value for name, value in part(tensors, "grad.").items() if not name.endswith("key.bias")}
            pairs = {name: (parameters[name].grad, gradients[name]) for name in gradients}
            ours, theirs = (
                {name: without_key_bias(name, pair[side]) for name, pair in pairs.items()} for side in (0, 1)
            )
            assert_equal(ours, theirs)
        rates = [group["initial_lr"] * lr_factor(step, run["max_steps"], run["warmup"]) for group in groups]
        assert rates == pytest.approx(expected["lrs"], rel=1e-12, abs=0)
        optimizer.step(rates)


def test_learning_rates_are_the_authors_at_every_step(numbers):
    schedule = numbers["schedule"]
    config, steps = schedule["config"], schedule["max_steps"]
    head, fusion, feedback = (config[f"lr_mult_{name}"] for name in ("head", "cross_modal", "feedback"))
    for step, rates in enumerate(schedule["lr_per_step_per_group"]):
        factor = config["learning_rate"] * lr_factor(step, steps, config["warmup_steps"])
        ours = [factor * multiplier for multiplier in (1, 1, head, head, fusion, fusion, feedback)]
        assert ours == pytest.approx(rates, rel=1e-12, abs=0), step


@pytest.mark.parametrize("case", ["2", "3"])
def test_recall_is_the_authors_and_ties_count_against_the_model(numbers, case):
    table, expected = part(load_file(FOLDER / "recall.safetensors"), f"{case}."), numbers["recall"][case]
    ours = retrieval_recalls(table["scores"].double().numpy(), table["text_img"].numpy())
    theirs = {name: 100 * expected[name] for name in ours}
    if expected["kind"] != "ties":
        assert ours == pytest.approx(theirs, rel=1e-6)
    else:
        assert all(ours[name] <= theirs[name] + 1e-4 for name in ours) and ours["ir_r1"] < theirs["ir_r1"]


def test_the_selection_is_small():
    assert sum(file.stat().st_size for file in FOLDER.iterdir()) <= 2_000_000
