"""Trunks give what tests/references holds of them; more is tested where the full set lies beside the checkout."""

import json

import torch
from safetensors.torch import load_file

from tests.models import test_fan, test_rvt_reference, test_vars_reference
from tests.models.vars_cases import PRECISIONS, Case, two_looks
from tests.test_references import FOLDER, part


def committed(name: str) -> Case:
    """A case of the selection, in fp64."""
    tensors = {key: value.double() if value.is_floating_point() else value
               for key, value in part(load_file(FOLDER / "trunks.safetensors"), f"{name}.").items()}  # fmt: skip
    meta = json.loads((FOLDER / "numbers.json").read_text())["trunks"][name]
    parts = (part(tensors, f"{section}.") for section in ("state", "input", "output"))
    return Case(meta, *parts, PRECISIONS["f64"])


def test_rvt_and_fan_give_both_looks_losses_and_the_gradient_of_the_image():
    for name, tests in (("rvt/top_down_two_stage", test_rvt_reference), ("fan/top_down", test_fan)):
        case = committed(name)
        make = tests.make if tests is test_rvt_reference else tests.recorded
        model, images = make(case, "absvit", gain=1.0), test_rvt_reference.images_of(case)
        tests.load_assembled(model, case.state)
        ours = two_looks(case, model, images)
        ours["train_loss"].backward()
        ours["grad.input_cells"] = test_rvt_reference.gradient_of_cells(images)
        case.assert_equal({name: ours[name] for name in case.expected})


def test_a_block_with_vars_gives_the_codes_of_every_step_and_the_gradient_of_its_input():
    case = committed("vars/vars_d_block")
    block, x = test_vars_reference.make_block(case), case.inputs["input"].requires_grad_()
    found = block.attn.reconstruct(block.project(x))
    output = block(x)
    (output * case.inputs["loss_weight"]).sum().backward()
    case.assert_equal({"u_steps": torch.stack(found.codes), "output": output, "grad.input": x.grad})
