"""Six optimizer steps of the authors' pretraining and NLVR2 finetuning, from their start weights, by their update rule.

Their old AdamW is written out here; grouping is METER's, in which every parameter has a rate.
"""

import json
import math
from types import SimpleNamespace

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from vl_absvit.losses import itm_loss, label_loss, masked_word_losses
from vl_absvit.models.architecture import build_from_architecture
from vl_absvit.models.released.vision_language import convert_vision_language
from vl_absvit.models.released.vision_language_keys import KEYS
from vl_absvit.models.vl_model import HiddenWords, Pairs
from vl_absvit.tasks.statements import judge

CASES = {"train_mlm_itm": "pretraining", "train_nlvr2": "nlvr2"}
BETAS, EPS = (0.9, 0.98), 1e-8
GRADIENT_OF_ROUNDING = ("key.bias", "attn.qkv.bias")
"""Biases whose gradient is zero but for rounding, wholly or in the part of the keys."""


@pytest.fixture(params=CASES)
def run(request, golden):
    """A recorded training: kind, trace, and our model with its start weights, in fp64."""
    folder = golden / "meter" / request.param
    if not folder.is_dir():
        pytest.skip("no recorded training of this task")
    trace = json.loads((folder / "trace_f64_meter_groups.json").read_text())
    kind = CASES[request.param]
    state = load_file(folder / "init_state_f32.safetensors")
    config = trace["config"] | {"tokenizer": "roberta-base"}
    conversion = convert_vision_language(state, config, 3, 4, request.param)
    model = build_from_architecture(conversion.config, request.param).double()
    model.load_state_dict(conversion.state)
    # They were recorded without dropout.
    return SimpleNamespace(folder=folder, trace=trace, kind=kind, model=model.eval(), config=config)


def losses_of(model, kind: str, batch: dict[str, Tensor], told: dict) -> dict[str, Tensor]:
    ids, is_token = batch["text_ids"], batch["text_masks"].bool()
    samples = len(ids)
    if kind == "nlvr2":
        shown = torch.cat([batch["image_0"], batch["image_1"]]).double()
        inputs = SimpleNamespace(images=shown, image_index=torch.arange(2 * samples), token_ids=ids, is_token=is_token)
        return {"nlvr2_loss": label_loss(judge(model, inputs).logits, torch.tensor(told["answers"]))}
    is_match = torch.tensor(told["itm_labels"]).bool()
    shown = torch.cat(
        [batch["image"], torch.where(is_match[:, None, None, None], batch["image"], batch["false_image_0"])]
    )
    hidden = (batch["text_labels_mlm"] != -100).flatten().nonzero().squeeze(1)

    def pair(texts, first):
        return first, Pairs(texts, torch.arange(2 * samples), HiddenWords(samples, hidden))

    both = torch.cat([batch["text_ids_mlm"], ids]), is_token.repeat(2, 1)
    out = model(shown.double(), *both, pair=pair)
    words = masked_word_losses(out.words, batch["text_labels_mlm"].flatten()[hidden])
    return {"mlm_loss": words.mean(), "itm_loss": itm_loss(out.logits, is_match)}


def step(parameters: dict[str, Tensor], moments: dict, rates: dict[str, tuple[float, float]], number: int) -> None:
    """The update of transformers 4.10's AdamW: weights decay after the step, by the new value."""
    bias = math.sqrt(1 - BETAS[1] ** number) / (1 - BETAS[0] ** number)
    with torch.no_grad():
        for name, weight in parameters.items():
            rate, decay = rates[name]
            first, second = moments.setdefault(name, (torch.zeros_like(weight), torch.zeros_like(weight)))
            first.mul_(BETAS[0]).add_(weight.grad, alpha=1 - BETAS[0])
            second.mul_(BETAS[1]).addcmul_(weight.grad, weight.grad, value=1 - BETAS[1])
            weight.sub_(rate * bias * first / (second.sqrt() + EPS))
            weight.sub_(rate * decay * weight)


def test_a_recorded_training_is_followed(run):
    groups = run.trace["optimizer"]["groups"]
    own = dict(run.model.named_parameters())
    group_of = {KEYS[run.kind].ours(name): number for number, group in enumerate(groups) for name in group["names"]}
    if run.kind == "nlvr2":  # a row of their table of token types
        group_of["head.second_image_type"] = group_of["fusion.token_types.weight"]
    assert own.keys() <= group_of.keys()
    moments: dict = {}
    for number, recorded in enumerate(run.trace["trace"]):
        batch = load_file(run.folder / f"batches/step{number}.safetensors")
        told = json.loads((run.folder / f"batches/step{number}.json").read_text())
        terms = losses_of(run.model, run.kind, batch, told)
        assert {name: term.item() for name, term in terms.items()} == pytest.approx(recorded["losses"], rel=1e-9)
        run.model.zero_grad()
        sum(terms.values()).backward()
        rates = {name: (recorded["lrs"][group_of[name]], groups[group_of[name]]["weight_decay"]) for name in own}
        trained = {name: weight for name, weight in own.items() if weight.grad is not None}
        step(trained, moments, rates, number + 1)
    final = load_file(run.folder / "final_state_f64_meter_groups.safetensors")
    expected = convert_vision_language(final, run.config, 3, 4, "final").state
    for name, weight in own.items():
        if not name.endswith(GRADIENT_OF_ROUNDING):
            difference = (weight - expected[name]).abs().max() / expected[name].abs().max()
            assert difference < 1e-9, name
