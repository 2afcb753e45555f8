"""Parameters and operations of other trunks: the releases' numbers, and what attention costs by hand."""

import pytest

from benchmarks.trunks import MODELS, Model, Published, measure_trunk

NOWHERE = Published("by hand", 0, 0)


@pytest.mark.parametrize(
    "name, options, parameters",
    [
        ("rvt_tiny", {"attention": "vars_d"}, 8_029_312),
        ("rvt_small", {"attention": "vars_sd"}, 22_967_104),
        ("fan_tiny", {}, 7_319_920),
        ("gfnet_tiny", {}, 7_511_784),
    ],
)
def test_parameters_are_the_releases(name, options, parameters):
    assert measure_trunk(Model(name, name, options, NOWHERE)).parameters == parameters


def test_what_vars_d_and_performer_change_is_what_one_counts_by_hand():
    tokens, width, heads, depth = 196, 384, 6, 12
    channels, atoms, steps = width // heads, 2 * width // heads, 5
    costs = {
        kind: measure_trunk(Model(kind, "rvt_small", {"attention": kind}, NOWHERE)).operations
        for kind in ("softmax", "performer", "vars_d")
    }
    softmax = tokens * 3 * width**2 + 2 * tokens**2 * width
    features = tokens * channels * atoms
    performer = tokens * 3 * width**2 + heads * (2 * features + 2 * tokens * atoms * channels + tokens * atoms)
    gram, learned = tokens * atoms**2, 2 * atoms**3
    vars_d = tokens * 2 * width**2 + heads * (
        features + gram + learned + 2 * tokens * atoms * channels + steps * atoms**2 * channels
    )
    assert costs["performer"] - costs["softmax"] == depth * (performer - softmax)
    assert costs["vars_d"] - costs["softmax"] == depth * (vars_d - softmax)


def test_every_row_says_whose_it_is_and_what_does_not_fit_is_said():
    assert len({model.label for model in MODELS}) == len(MODELS)
    for model in MODELS:
        assert model.published.source in ("AbS", "VARS") and model.published.parameters_m > 1
    remarked = {model.label for model in MODELS if model.remark}
    assert {"RVT-Ti* VARS-S", "RVT-Ti* VARS-SD", "DeiT-Ti* VARS-SD", "AbS-FAN-T"} <= remarked
    assert not {"RVT-Ti", "RVT-Ti* VARS-D", "DeiT-Ti* VARS-D", "AbS-RVT-B"} & remarked
