"""Attention of the VARS release in its own block gives what the authors' code recorded, step by step."""

from functools import partial

import pytest
import torch
from torch import Tensor, nn

from tests.models.vars_cases import PRECISIONS, Case, read_case
from vl_absvit.models.attention import TopDownBlock, VARSSBlock, attention_layer
from vl_absvit.models.attention.random_features import random_features
from vl_absvit.models.attention.vars_static import gram_filter, normalised, released_bound
from vl_absvit.models.conv_mlp import ConvMlp

DYNAMIC = [
    "vars_d_block", "vars_d_block_steps3_ratio1", "vars_d_block_no_feature_norm", "vars_d_block_ista",
    "vars_sd_block", "vars_sd_block_no_feature_norm", "vars_sd_block_ista",
]  # fmt: skip
STATIC = ["vars_s_block", "vars_s_block_odd"]
GENERATIONS = {"ista": "ista", "norm": "linked"}  # by a case's last word; the others are of the last one
KINDS = {"Performer_Block": "performer", "VARS_D_Block": "vars_d", "VARS_SD_Block": "vars_sd", "VARS_S_Block": "vars_s"}
OPTIONS = {"lam": "lam", "num_step": "steps", "rand_feat_dim_ratio": "ratio", "int_dim_ratio": "atoms"}
NOT_READ = ("attn.L", "kernel_norm")  # stored in the release's files, read by nothing
RELEASED_STATIC = {"attn.qkv": "v", "attn.norm": "norm1.bn", "norm2": "norm2.bn", "attn": "", "mlp": "mlp"}


@pytest.fixture
def case(golden, request) -> Case:
    name, precision = request.param
    return read_case(golden / "vars" / name, precision)


def each(names: list[str]) -> pytest.MarkDecorator:
    """Run a test on these cases in both precisions."""
    pairs = [(name, precision) for name in names for precision in PRECISIONS]
    return pytest.mark.parametrize("case", pairs, indirect=True, ids=["-".join(pair) for pair in pairs])


def options_of(meta: dict) -> dict:
    """Arguments of the attention layer."""
    kind, grid = KINDS[meta["module"]], (meta["grid"], meta["grid"])
    found = (
        {}
        if kind == "performer"
        else {ours: meta["options"][name] for name, ours in OPTIONS.items() if name in meta["options"]}
    )
    if kind in ("vars_d", "vars_sd"):
        found["generation"] = GENERATIONS.get(meta["case"].split("_")[-1], "head")
    return found | ({"grid": grid} if kind in ("vars_s", "vars_sd") else {})


def released_name(name: str) -> str:
    """The release's name of a parameter of a block with VARS-S."""
    part = next(part for part in RELEASED_STATIC if name.startswith(part))
    return (RELEASED_STATIC[part] + name.removeprefix(part)).removeprefix(".")


def make_block(case: Case) -> TopDownBlock:
    """The recorded block with its weights, in the precision of the comparison."""
    meta, kind = case.meta, KINDS[case.meta["module"]]
    block = (VARSSBlock if kind == "vars_s" else TopDownBlock)(
        meta["dim"], meta["num_heads"], meta["mlp_ratio"], qkv_bias=meta["qkv_bias"],
        norm_layer=partial(nn.LayerNorm, eps=1e-6), attn_layer=attention_layer("absvit", kind, **options_of(meta)),
        mlp_layer=partial(ConvMlp, grid=(meta["grid"], meta["grid"])),
    )  # fmt: skip
    released = names(block, kind == "vars_s")
    state = {name: case.state[released[name]] for name in block.state_dict()}
    assert case.state.keys() - set(released.values()) <= set(NOT_READ)
    block.load_state_dict(state)
    return block.to(case.precision.dtype).eval()


def names(block: TopDownBlock, is_static: bool) -> dict[str, str]:
    """Names here -> the release's."""
    return {name: released_name(name) if is_static else name for name in block.state_dict()}


def run(case: Case, block: TopDownBlock) -> dict[str, Tensor]:
    """Output and gradients of a block, under recorded names."""
    x = case.inputs["input"].requires_grad_()
    output = block(x)
    (output * case.inputs["loss_weight"]).sum().backward()
    gradients = case.gradients(block, names(block, isinstance(block, VARSSBlock)))
    return {"output": output, "grad.input": x.grad, **gradients}


@each(["performer_block"])
def test_performer_gives_the_authors_features_attention_outputs_and_gradients(case):
    block = make_block(case)
    projections = block.project(case.inputs["input"])
    phi_q, phi_k = (random_features(x, block.attn.rand_matrix) for x in block.attn._queries_and_keys(projections))
    steps = {"phi_q": phi_q, "phi_k": phi_k, "attention": block.attn.weights(projections)}
    case.assert_equal(steps | {"attn_out": block.attn.attend(projections)} | run(case, block))


@each(DYNAMIC)
def test_dynamic_dictionaries_give_the_authors_codes_outputs_and_gradients(case):
    block = make_block(case)
    projections = block.project(case.inputs["input"])
    found = block.attn.reconstruct(projections)
    dictionary, problem, codes = found.dictionary, found.problem, found.codes
    unit = torch.eye(dictionary.shape[-1], dtype=dictionary.dtype)
    is_learned = block.attn.generation.is_learned
    before = [u - (problem.times_gram(u) - problem.drive) / problem.bound for u in codes[:-1]]
    ours = {
        "P": dictionary,
        "b": problem.drive,
        "gram": dictionary.mT @ dictionary,
        "gram_learned" if is_learned else "gram": problem.times_gram(unit),
        "L": problem.bound * (block.attn.learned_L if is_learned else 1),
        "u_steps": torch.stack(codes),
        "before_shrink": torch.stack(before),
        "recon": found.values,
        "attn_out": block.attn.attend(projections),
    }
    case.assert_equal(ours | run(case, block))


@each(STATIC)
def test_static_dictionaries_give_the_authors_codes_outputs_and_gradients(case):
    block = make_block(case)
    attn, x = block.attn, case.inputs["input"]
    problem, codes = attn.reconstruct(block.project(x))
    ours = {
        "b": problem.drive,
        "gram": torch.view_as_real(gram_filter(torch.view_as_complex(attn.kernel))),
        "u_steps": torch.stack(codes),
        "recon": attn.synthesis(codes[-1]),
        "after_attention": x + attn(x),
    }
    case.assert_equal({name: tensor for name, tensor in ours.items() if name in case.expected} | run(case, block))


@each(STATIC)
def test_the_static_kernel_has_the_authors_norm_and_bound_and_the_bound_follows_it(case):
    block = make_block(case).float()
    kernel = torch.view_as_complex(case.state["kernel"].float())
    block.attn.norm.num_batches_tracked.zero_()
    before = block.attn.L.clone()
    ours = {
        "kernel_normalised": torch.view_as_real(normalised(kernel, case.meta["grid"] ** 2)),
        "L_of_kernel": released_bound(gram_filter(kernel)),
    }
    block.train()(case.inputs["input"].float())
    ours["L_after_update"] = block.attn.L
    loose = case._replace(precision=PRECISIONS["f32"])  # the release computes these in fp32
    loose.assert_equal(ours)
    after = block.attn.L.clone()
    block(case.inputs["input"].float())
    assert torch.equal(block.attn.L, after) and not torch.equal(before, after)  # the next 99 passes change nothing
