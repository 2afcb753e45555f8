"""Recorded cases of the releases of VARS, RVT, FAN and GFNet: read, and compared with what is computed here."""

import json
from pathlib import Path
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from torch import Tensor, nn

from vl_absvit.models.looks import VisualEncoder

CANCELLING = ("learned_L", "learned_lam", "mlp.q.weight")  # gradients are sums of cancelling terms, which fp64 decides


class Precision(NamedTuple):
    """What a case is compared in, and how nearly: largest difference over the reference's largest value."""

    dtype: torch.dtype
    outputs: float
    gradients: float
    cancelling: float

    def bound(self, name: str) -> float:
        """Of a tensor's difference."""
        if not name.startswith("grad."):
            return self.outputs
        return self.cancelling if name.endswith(CANCELLING) else self.gradients


PRECISIONS = {"f32": Precision(torch.float32, 1e-5, 5e-5, 2e-4), "f64": Precision(torch.float64, 1e-10, 1e-10, 1e-10)}


class Case(NamedTuple):
    """A recorded case; parameters have the release's names."""

    meta: dict[str, Any]
    state: dict[str, Tensor]
    inputs: dict[str, Tensor]
    expected: dict[str, Tensor]
    precision: Precision

    def assert_equal(self, ours: dict[str, Tensor]) -> None:
        """Every tensor of ``ours`` is the recorded one of its name."""
        errors = {name: relative(tensor, self.expected[name]) for name, tensor in ours.items()}
        wrong = {name: error for name, error in errors.items() if not error < self.precision.bound(name)}
        assert not wrong, wrong

    def gradients(self, module: nn.Module, released: dict[str, str]) -> dict[str, Tensor]:
        """Gradients of a module's parameters, under recorded names; none is missing and none is new.

        Args:
            released: the release's name of each name here, where it is another one.
        """
        found = {f"grad.{released.get(name, name)}": value.grad for name, value in module.named_parameters()}
        recorded = {name for name in self.expected if name.startswith("grad.")}
        assert found.keys() == recorded - {"grad.input", "grad.input_cells"}
        return found


def read_case(folder: Path, precision: str) -> Case:
    """The case in a folder; floating-point inputs and weights are in the precision of the comparison."""
    chosen = PRECISIONS[precision]
    tensors = {name: load_file(folder / f"{name}.safetensors") for name in ("state_dict", "inputs")}
    for table in tensors.values():
        table |= {name: value.to(chosen.dtype) for name, value in table.items() if value.is_floating_point()}
    meta, expected = (
        json.loads((folder / "meta.json").read_text()),
        load_file(folder / f"outputs_{precision}.safetensors"),
    )
    return Case(meta, tensors["state_dict"], tensors["inputs"], expected, chosen)


def relative(ours: Tensor, expected: Tensor) -> float:
    """Largest difference over the reference's largest value."""
    assert ours.numel() == expected.numel(), f"{tuple(ours.shape)} is not {tuple(expected.shape)}"
    return ((ours.detach() - expected.reshape(ours.shape)).abs().max() / expected.abs().max()).item()


def two_looks(case: Case, model: VisualEncoder, images: Tensor) -> dict[str, Tensor]:
    """Both looks and their losses, under recorded names; ``train_loss`` is the sum of all."""
    looks, target = model.look_twice(images), case.inputs["target"]
    logits = [model.forward_head(look.tokens) for look in (looks.first, looks.second)]
    ce = torch.stack([F.cross_entropy(each, target) for each in logits])
    var_loss = 0.1 * model.decoder_losses(looks.second.states, True, False).reconstruction
    found = {"pass1_tokens": looks.first.tokens, "pass2_tokens": looks.second.tokens, "mask": looks.prior_mask}
    found |= {"logits_pass1": logits[0], "logits_pass2": logits[1], "ce": ce, "var_loss": var_loss}
    found |= {f"td.{number}": signal.tokens for number, signal in enumerate(looks.signals)}
    for look, tokens in ((1, looks.first), (2, looks.second)):
        found |= {f"pass{look}_out.{number}": output for number, output in enumerate(model.outputs(tokens.states))}
    return found | {"train_loss": ce.mean() + var_loss}
