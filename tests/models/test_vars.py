"""Sparse reconstruction as attention: the equations by hand and by brute force, and what holds of every kind."""

import math

import pytest
import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from vl_absvit.errors import ConfigError
from vl_absvit.models.attention import KINDS, Performer, TopDownAttention, attention_layer
from vl_absvit.models.attention.fourier import filtered
from vl_absvit.models.attention.random_features import random_features
from vl_absvit.models.attention.sparse import (
    SparseProblem,
    energy,
    gelu_threshold,
    ista,
    row_sum_bound,
    soft_threshold,
)
from vl_absvit.models.attention.vars_static import gram_filter, released_bound
from vl_absvit.models.top_down import Steered
from vl_absvit.variants import VARIANTS

WIDTH, HEADS, GRID = 12, 3, (3, 4)
TOKENS = GRID[0] * GRID[1]
VARS = ["vars_s", "vars_d", "vars_sd"]
OTHERS = [kind for kind in KINDS if kind not in ("softmax", "position_aware", "global_filter")]


def make(kind: str, top_down: str = "absvit", **options) -> TopDownAttention:
    """A layer in which every parameter matters."""
    options |= {"grid": GRID} if KINDS[kind].needs_grid else {}
    attn = attention_layer(top_down, kind, **options)(WIDTH, HEADS, qkv_bias=True).double().eval()
    for parameter in attn.parameters():
        parameter.data += 0.3 * torch.randn_like(parameter)
    return attn


def tokens() -> Tensor:
    return torch.randn(2, TOKENS, WIDTH).double()


def signal() -> Steered:
    return Steered(torch.rand(2, TOKENS).double(), torch.ones(1, 1, 1).double(), tokens())


def never_rises(energies: Tensor) -> bool:
    """Whether no step raises it, up to rounding."""
    return bool((energies.diff(dim=0) <= 1e-12 * energies[:-1].abs()).all())


def test_thresholds_by_hand():
    x = torch.tensor([-3.0, -1.0, 0.5, 1.0, 4.0])
    torch.testing.assert_close(soft_threshold(x, 1.0), torch.tensor([-2.0, 0.0, 0.0, 0.0, 3.0]))
    below, far = gelu_threshold(torch.tensor([0.9, 8.0]), 1.0)
    assert below == pytest.approx(-0.1 * (1 + math.erf(-0.1 / 2**0.5)) / 2) and far == pytest.approx(7.0)


@pytest.mark.parametrize("kind", ["softmax", "position_aware", *OTHERS])
def test_the_mean_weight_of_a_value_is_what_the_mean_output_changes_with_it_after_every_step(kind):
    attn, x = make(kind), tokens()
    projections = attn.project(x)
    projections = projections._replace(values=30 * projections.values)

    def means(values: Tensor) -> Tensor:
        """Over tokens and channels, after every step, (steps + 1, B)."""
        given = projections._replace(values=values)
        if kind not in VARS:
            v = values.unflatten(-1, (HEADS, -1)).transpose(1, 2)
            return (attn.weights(given) @ v).mean(dim=(1, 2, 3))[None]
        found = attn.reconstruct(given, 4)
        if kind == "vars_s":
            return torch.stack([attn.synthesis(codes).mean(dim=(1, 2, 3, 4)) for codes in found.codes])
        return torch.stack([(found.dictionary @ codes).mean(dim=(1, 2, 3)) for codes in found.codes])

    weights = attn.mean_weights(projections, 4)
    assert weights.shape == (5 if kind in VARS else 1, 2, TOKENS) and weights.abs().max() > 1e-3
    with torch.no_grad():
        for token in (0, 7):
            step = torch.zeros_like(projections.values)
            step[:, token] = 1e-6
            slope = (means(projections.values + step) - means(projections.values - step)) / 2e-6
            torch.testing.assert_close(slope, weights[:, :, token], rtol=1e-4, atol=1e-7)
    if kind in VARS:
        torch.testing.assert_close(attn.mean_weights(projections, 2), weights[:3])


def test_the_mean_of_products_of_random_features_is_the_exponential_of_softmax():
    q, k = torch.randn(2, 1, 1, 1, 4).double()
    matrix = torch.randn(1, 4, 400_000).double()
    phi_q, phi_k = (random_features(x, matrix, unit_norm=False) for x in (q, k))
    expected = (q * k).sum() / 4**0.5
    assert (phi_q * phi_k).sum().log().item() == pytest.approx(expected.item(), abs=0.02)


def test_performer_is_the_rows_of_its_weights_over_the_values():
    attn, x = make("performer"), tokens()
    q, k, v = attn.qkv(x).reshape(2, TOKENS, 3, HEADS, 4).permute(2, 0, 3, 1, 4)
    q, k = (x / x.norm(dim=-1, keepdim=True) for x in (q, k))
    products = torch.einsum("bhnm,bhkm->bhnk", *(torch.exp(x @ attn.rand_matrix) for x in (q, k)))
    expected = products / products.sum(dim=-1, keepdim=True)
    torch.testing.assert_close(attn.weights(attn.project(x)), expected)
    torch.testing.assert_close(attn(x), attn.proj((expected @ v).transpose(1, 2).flatten(2)))


def test_performer_takes_time_linear_in_the_tokens():
    counts = []
    for number in (50, 100):
        with FlopCounterMode(display=False) as counter:
            make("performer")(torch.randn(1, number, WIDTH).double())
        counts.append(counter.get_total_flops())
    assert counts[1] == 2 * counts[0]


def test_performer_drops_attention_in_training_and_vars_refuses_to():
    attn, x = Performer(WIDTH, HEADS, attn_drop=0.5), tokens().float()
    assert not torch.equal(attn.train()(x), attn(x)) and torch.equal(attn.eval()(x), attn(x))
    for kind in VARS:
        options = {"grid": GRID} if kind != "vars_d" else {}
        with pytest.raises(ConfigError, match="attn_drop 0.5: VARS has no attention weights to drop"):
            KINDS[kind](WIDTH, HEADS, attn_drop=0.5, **options)


def test_ista_by_hand():
    # One atom of norm 2 and x = 3: b = 6, G = 4, L = 5, lambda = 1. u_0 = 5; 5 - (20 - 6) / 5 = 2.2, less 0.2.
    problem = SparseProblem(torch.tensor([[6.0]]), lambda u: 4 * u, torch.tensor(5.0), 1.0)
    codes = ista(problem, 1)
    torch.testing.assert_close(torch.stack(codes).flatten(), torch.tensor([5.0, 2.0]))
    energies = [energy(problem, u, torch.tensor([[3.0]])).item() for u in codes]
    assert energies == pytest.approx([(3 - 10) ** 2 / 2 + 5, (3 - 4) ** 2 / 2 + 2])


def test_the_energy_is_that_of_the_reconstruction_and_never_rises():
    attn, x = make("vars_d", generation="ista", steps=30), tokens()
    projections = attn.project(x)
    found = attn.reconstruct(projections)
    values = projections.values.unflatten(-1, (HEADS, -1)).transpose(1, 2)
    naive = [
        (values - found.dictionary @ u).square().sum(dim=(-2, -1)) / 2 + 0.3 * u.abs().sum(dim=(-2, -1))
        for u in found.codes
    ]
    energies = attn.energies(projections)
    torch.testing.assert_close(energies, torch.stack(naive))
    assert never_rises(energies) and (energies[-1] < energies[0]).all()
    eigenvalues = torch.linalg.eigvalsh(found.dictionary.mT @ found.dictionary)
    assert (found.problem.bound.flatten(1) >= eigenvalues[..., -1]).all()


def test_it_rises_where_the_step_is_too_long():
    found = make("vars_d", generation="ista").reconstruct(make("vars_d").project(tokens()))
    largest = torch.linalg.eigvalsh(found.dictionary.mT @ found.dictionary)[..., -1, None, None]
    target = torch.zeros(1, 1).double()  # a constant of the energy
    for share, falls in ((1.0, True), (0.3, False)):
        problem = found.problem._replace(bound=share * largest)
        energies = torch.stack([energy(problem, u, target) for u in ista(problem, 30)])
        assert bool((energies.diff(dim=0) <= 1e-9).all()) == falls


def test_the_row_sum_bounds_the_largest_eigenvalue_by_hand():
    assert row_sum_bound(torch.tensor([[2.0, -1.0], [-1.0, 3.0]])).tolist() == [[5.0]]


def naive_filter(kernel: Tensor, maps: Tensor) -> Tensor:
    """F(k) with numpy's conventions spelled out: real part of a whole inverse transform of the half spectrum."""
    rows, columns = maps.shape[-2:]
    half = torch.fft.fft2(maps)[..., : columns // 2 + 1]
    mixed = (half.unsqueeze(2) * kernel).sum(dim=3)
    weight = torch.full((columns // 2 + 1,), 2.0).double()
    weight[0] = 1
    if columns % 2 == 0:
        weight[-1] = 1
    up = torch.exp(2j * torch.pi * torch.outer(torch.arange(rows), torch.arange(rows)).double() / rows)
    phases = torch.outer(torch.arange(columns // 2 + 1), torch.arange(columns)).double() / columns
    across = torch.exp(2j * torch.pi * phases)
    across = (weight[:, None] * across).to(mixed.dtype)
    return (up.to(mixed.dtype) @ mixed @ across).real / (rows * columns)


@pytest.mark.parametrize("columns", [4, 5])
def test_filters_are_transforms_and_the_conjugate_is_the_adjoint_but_the_gram_filter_no_composition(columns):
    kernel = torch.randn(2, 3, 1, 4, columns // 2 + 1, dtype=torch.complex128)
    maps, codes = torch.randn(5, 2, 1, 4, columns).double(), torch.randn(5, 2, 3, 4, columns).double()
    torch.testing.assert_close(filtered(maps, kernel), naive_filter(kernel, maps))
    adjoint = kernel.conj().transpose(1, 2)
    torch.testing.assert_close((filtered(maps, kernel) * codes).sum(), (maps * filtered(codes, adjoint)).sum())
    composed, gram = filtered(filtered(codes, adjoint), kernel), naive_filter(gram_filter(kernel), codes)
    torch.testing.assert_close(filtered(codes, gram_filter(kernel)), gram)
    torch.testing.assert_close(filtered(codes, adjoint, kernel), gram)
    assert (composed - gram).norm() > 0.1 * gram.norm()


def test_a_static_energy_never_rises_under_a_true_bound_and_the_releases_bound_may_be_none():
    attn, x = make("vars_s", steps=30, lam=0.1), tokens()
    gram = gram_filter(torch.view_as_complex(attn.kernel.detach()))
    identity = torch.eye(5 * TOKENS).double().reshape(1, -1, 5, *GRID).transpose(0, 1)
    matrices = torch.stack([filtered(identity, g[None]).flatten(1) for g in gram])  # (D, A N, A N), symmetric
    torch.testing.assert_close(matrices, matrices.mT)
    true = torch.linalg.eigvalsh(matrices)[:, -1]
    attn.L = true
    projections = attn.project(x)
    energies = attn.energies(projections)
    assert never_rises(energies) and (energies[-1] < energies[0]).all()
    assert (released_bound(gram) < true).any()


@pytest.mark.parametrize("kind", VARS)
def test_the_top_down_input_is_reconstructed_from_the_bottom_up_dictionary(kind):
    attn, x, td = make(kind), tokens(), signal()
    plain, steered = attn.project(x), attn.project(x, td)
    torch.testing.assert_close(plain.queries_keys, steered.queries_keys)
    own = attn.qkv(td.tokens)[..., -WIDTH:]
    torch.testing.assert_close(steered.values, plain.values + own)
    torch.testing.assert_close(attn.steer(plain, td).values, steered.values)
    bottom_up, both = attn.reconstruct(plain), attn.reconstruct(steered)
    of_signal = attn.reconstruct(plain._replace(values=own))
    torch.testing.assert_close(both.problem.drive, bottom_up.problem.drive + of_signal.problem.drive)
    if kind != "vars_s":
        assert torch.equal(both.dictionary, bottom_up.dictionary)


@pytest.mark.parametrize("kind", OTHERS)
def test_a_signal_of_zero_differs_from_none_only_by_the_repeated_value_bias(kind):
    attn, x = make(kind), tokens()
    nothing = signal()._replace(direction=torch.zeros(2, TOKENS, WIDTH).double())
    assert not torch.allclose(attn.attend(attn.project(x, nothing)), attn(x))
    attn.qkv.bias.data[-WIDTH:] = 0
    torch.testing.assert_close(attn.attend(attn.project(x, nothing)), attn(x))


@pytest.mark.parametrize("top_down", VARIANTS)
@pytest.mark.parametrize("kind", OTHERS)
def test_every_kind_is_steered_by_every_variant_that_fits_it(kind, top_down):
    if (kind, top_down) == ("vars_s", "absvit_qkv"):
        with pytest.raises(ConfigError, match="vars_s has no queries to steer"):
            make(kind, top_down)
        return
    attn, x, td = make(kind, top_down), tokens(), signal()
    plain = attn.project(x)
    steered = attn.steer(plain, td)
    for ours, expected in zip(attn.project(x, td), steered, strict=True):
        torch.testing.assert_close(ours, expected)
    assert torch.equal(plain.queries_keys, steered.queries_keys) == (top_down != "absvit_qkv")
    assert not torch.allclose(attn.attend(steered), attn.attend(plain))


@pytest.mark.parametrize("kind", OTHERS)
def test_in_bf16_every_kind_gives_nearly_the_same_and_all_parameters_learn(kind):
    attn, x = make(kind).float().train(), tokens().float()
    expected = attn(x)
    with torch.autocast("cpu", torch.bfloat16):
        output = attn(x)
        loss = output.float().square().sum()
    assert (output - expected).norm() < 0.05 * expected.norm()
    loss.backward()
    assert all(parameter.grad.isfinite().all() and parameter.grad.any() for parameter in attn.parameters())


def test_a_generation_that_there_is_not_is_refused():
    with pytest.raises(ConfigError, match="generation: expected one of ista, linked, head, got 'tail'"):
        make("vars_d", generation="tail")
