"""RVT, with every attention and with its top-down input, gives what was recorded of the released parts."""

import pytest
import timm
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import vl_absvit.models  # noqa: F401  # registers the models
from tests.models.vars_cases import PRECISIONS, Case, read_case, two_looks
from vl_absvit.models.attention import VARSSBlock
from vl_absvit.models.conv_mlp import ConvMlp
from vl_absvit.models.looks import VisualEncoder
from vl_absvit.models.trunks.patch_trunk import make_block

KINDS = {"self-att": "softmax", "perf": "performer"}  # the release's names where they are others
OPTIONS = {"lam": "lam", "num_step": "steps", "rand_feat_dim_ratio": "ratio"}
TRUNKS = [
    "rvt/two_stage",
    "vars/rvt_star_perf",
    "vars/rvt_star_vars_d",
    "vars/rvt_star_vars_sd",
    "vars/rvt_star_vars_s",
]
ASSEMBLED = {"prompt": "prior", "linear": "reconstruct", "linear2": "transform"}
cases = pytest.mark.parametrize("precision", PRECISIONS)


def make(case: Case, top_down: str = "none", **options) -> VisualEncoder:
    """The recorded trunk, without weights."""
    meta = case.meta
    kind = meta.get("attention", "self-att")
    if kind in ("vars_d", "vars_sd"):
        given = {ours: meta["options"][name] for name, ours in OPTIONS.items()}
        options["attention_options"] = given | {"generation": "head"}
    widths = [base * heads for base, heads in zip(meta["base_dims"], meta["heads"], strict=True)]
    model = timm.create_model(
        "absvit_rvt_tiny", img_size=meta["image_size"], embed_dim=widths, depth=meta["depth"], num_heads=meta["heads"],
        mlp_ratio=meta["mlp_ratio"], num_classes=meta["classes"], top_down=top_down,
        attention=KINDS.get(kind, kind), **options,
    )  # fmt: skip
    return model.to(case.precision.dtype).eval()


def load(model: nn.Module, state: dict[str, Tensor]) -> dict[str, str]:
    """Load a released state whole, and give the release's name of each weight here."""
    found = model.read_foreign(state)
    model.load_state_dict(found.state)
    assert all(weight.name.rsplit(".", 1)[1] in ("L", "kernel_norm") for weight in found.dropped)
    released = {id(value): name for name, value in state.items()}
    return {name: released[id(value)] for name, value in found.state.items()}


def images_of(case: Case) -> Tensor:
    return (case.inputs["image_int8"].to(case.precision.dtype) / 32).requires_grad_()


def gradient_of_cells(images: Tensor) -> Tensor:
    """Summed over cells of 4 x 4 pixels."""
    return F.avg_pool2d(images.grad, 4) * 16


def without_key_bias(name: str, gradient: Tensor) -> Tensor:
    """A gradient without the part that is zero but for rounding: shifting all keys alike changes no attention."""
    if not (name.endswith("attn.qkv.bias") and len(gradient) % 3 == 0):
        return gradient
    query, _, value = gradient.chunk(3)
    return torch.cat([query, value])


def compare(case: Case, ours: dict[str, Tensor], has_softmax: bool) -> None:
    """All of ``ours``, without what is zero; in fp32 no gradients of the embedding were recorded."""
    ours = {name: value for name, value in ours.items() if name in case.expected or name[:16] != "grad.patch_embed"}
    expected = dict(case.expected)
    if has_softmax:
        for table in (ours, expected):
            table |= {name: without_key_bias(name, table[name]) for name in ours}
    case._replace(expected=expected).assert_equal(ours)


@cases
@pytest.mark.parametrize("name", TRUNKS)
def test_whole_trunks_give_the_authors_tokens_logits_and_gradients(golden, name, precision):
    case = read_case(golden / name, precision)
    model, images = make(case), images_of(case)
    released = load(model, case.state)
    states = model.look_once(images).states
    grid, outputs = model.grids()[0], iter(zip(model.outputs(states), model.all_blocks, strict=True))
    ours = {"embedded": states[0].mT.unflatten(-1, grid)}
    for number, stage in enumerate(model.stages):
        start = model.state_before(model.blocks_of(number).start)
        if number:
            ours[f"pooled.{number - 1}"] = states[start].mT.unflatten(-1, model.grids()[number])
        for place in range(len(stage.blocks)):
            output, block = next(outputs)
            ours[f"tokens.{number}.{place}"] = output
            if not isinstance(block, VARSSBlock):
                ours[f"attn_out.{number}.{place}"] = block.attn.attend(block.project(states[start + place]))
    logits = model(images)
    (logits * case.inputs["loss_weight"]).sum().backward()
    ours |= {"features": model.forward_head(states[-1], pre_logits=True), "output": logits}
    ours |= {f"grad.{released[name]}": value.grad for name, value in model.named_parameters()}
    ours["grad.input_cells"] = gradient_of_cells(images)
    compare(case, ours, has_softmax=name == "rvt/two_stage")


@cases
def test_a_block_with_position_aware_scaling_gives_the_authors_output_and_gradients(golden, precision):
    case = read_case(golden / "rvt/plus_block", precision)
    meta, grid = case.meta, (case.meta["grid"], case.meta["grid"])
    block = make_block(
        meta["dim"], meta["num_heads"], top_down="none", attention="position_aware", options={}, grid=grid,
        mlp_ratio=meta["mlp_ratio"], drop_path=0.0, mlp_layer=lambda **sizes: ConvMlp(grid=grid, **sizes),
    ).to(case.precision.dtype).eval()  # fmt: skip
    block.load_state_dict(case.state)
    x = case.inputs["input"].requires_grad_()
    output = block(x)
    (output * case.inputs["loss_weight"]).sum().backward()
    ours = {"output": output, "attn_out": block.attn.attend(block.project(x)), "grad.input": x.grad}
    ours |= {f"grad.{name}": value.grad for name, value in block.named_parameters() if name != "attn.att_mask"}
    mask = block.attn.att_mask.grad[0]
    ours |= {"grad_row0.attn.att_mask": mask[0], "grad_sum.attn.att_mask": mask.sum(dim=-1)}
    compare(case, ours, has_softmax=False)  # scaled keys are no longer shifted alike


def load_assembled(model: VisualEncoder, state: dict[str, Tensor]) -> dict[str, str]:
    """Load a recorded state with feedback whole, and give the recorded name of each weight here."""
    crossing = {f"stage_decoders.{s}.weight": model.blocks_of(s + 1).start for s in range(len(model.stages) - 1)}
    released = {}
    for theirs in state:
        parts = theirs.split(".")
        renamed = ".".join(ASSEMBLED.get(part, part) if parts[0] in ("decoders", "prompt") else part for part in parts)
        released[f"decoders.{crossing[theirs]}.cross.weight" if theirs in crossing else renamed] = theirs
    model.load_state_dict({name: state[theirs] for name, theirs in released.items()})
    return released


@cases
@pytest.mark.parametrize("name", ["rvt/top_down", "rvt/top_down_two_stage"])
def test_the_top_down_input_gives_both_looks_losses_and_gradients(golden, name, precision):
    case = read_case(golden / name, precision)
    model, images = make(case, "absvit", gain=float(case.meta["alpha"])), images_of(case)
    released = load_assembled(model, case.state)
    ours = two_looks(case, model, images)
    ours["train_loss"].backward()
    ours |= {f"grad.{released[name]}": value.grad for name, value in model.named_parameters() if value.grad is not None}
    ours["grad.input_cells"] = gradient_of_cells(images)
    learning = {name for name, value in model.named_parameters() if value.grad is not None}
    assert learning == {name for name, _ in model.named_parameters()}
    compare(case, ours, has_softmax=True)
