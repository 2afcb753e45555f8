"""Parameters and operations of RVT, FAN, DeiT*, GFNet* and GFNet beside the papers' tables, bottom-up and with top-down
attention, and what VARS and Performer change.

One forward pass in evaluation from one image of 224 px to class logits, all tokens with a signal, decoders folded.
Counted are matrix products, convolutions and the two products of softmax attention, as in ``model.py``; not Fourier
transforms, which VARS-S and GFNet take, norms, exponentials, thresholds and sums.
"""

from typing import Any, NamedTuple, cast

import timm
import torch
from rich.console import Console
from rich.progress import Progress

from benchmarks.measure import FlopCounter
from benchmarks.tables import table_of
from vl_absvit.models.looks import VisualEncoder


class Published(NamedTuple):
    """A row of a paper's table."""

    source: str  # VARS: [VARS] Table 1.2; AbS: [AbS] Table 2.2
    parameters_m: float
    flops_g: float


class Model(NamedTuple):
    """A trunk as ``timm.create_model`` makes it."""

    label: str
    name: str
    options: dict[str, Any]
    published: Published
    remark: str = ""  # where the released modules cannot have given the paper's numbers


class TrunkCost(NamedTuple):
    """What a trunk takes; operations are multiply-adds for one image."""

    parameters: int  # that can be trained
    operations: int


NOT_RELEASED = "not the released static dictionary"


def _vars(label: str, trunk: str, attention: str | None, parameters: float, flops: float, remark: str = "") -> Model:
    options: dict[str, Any] = {} if attention is None else {"attention": attention}
    return Model(label, trunk, options, Published("VARS", parameters, flops), remark)


def _pair(
    label: str, trunk: str, before: tuple[float, float], after: tuple[float, float], remark: str = ""
) -> list[Model]:
    """A trunk bottom-up and with top-down attention."""
    return [
        Model(label, trunk, {}, Published("AbS", *before)),
        Model(f"AbS-{label}", f"absvit_{trunk}", {"gain": 1.0}, Published("AbS", *after), remark),
    ]


MODELS: list[Model] = [
    *_pair("RVT-Ti", "rvt_tiny", (9, 1.3), (11, 2.7)),
    *_pair("RVT-S", "rvt_small", (22, 4.3), (26, 10.4)),
    *_pair("RVT-B", "rvt_base", (86, 17.7), (100, 39.5)),
    *_pair("FAN-T", "fan_tiny", (7, 1.3), (9, 2.9), "0.8 M more than two matrices per block, unexplained"),
    *_pair("FAN-S", "fan_small", (28, 5.3), (32, 11.4)),
    *_pair("FAN-B", "fan_base", (54, 10.4), (62, 21.8)),
    _vars("RVT-Ti*", "rvt_performer_tiny", None, 8.6, 1.3),
    _vars("RVT-Ti* VARS-S", "rvt_tiny", "vars_s", 9.2, 1.0, "3 atoms per channel, where the release has 5"),
    _vars("RVT-Ti* VARS-D", "rvt_tiny", "vars_d", 8.0, 1.2),
    _vars("RVT-Ti* VARS-SD", "rvt_tiny", "vars_sd", 9.2, 1.5, NOT_RELEASED),
    _vars("DeiT-Ti*", "deit_star_tiny", None, 5.7, 1.3),
    _vars("DeiT-Ti* VARS-S", "deit_star_tiny", "vars_s", 6.8, 1.0, NOT_RELEASED),
    _vars("DeiT-Ti* VARS-D", "deit_star_tiny", "vars_d", 5.4, 1.4),
    _vars("DeiT-Ti* VARS-SD", "deit_star_tiny", "vars_sd", 5.8, 1.4, NOT_RELEASED),
    _vars("GFNet-Ti", "gfnet_tiny", None, 7.5, 1.3),
    _vars("GFNet-Ti*", "gfnet_star_tiny", None, 7.5, 1.3, "GFNet-Ti's own row, repeated"),
    _vars("GFNet-Ti* VARS-D", "gfnet_star_tiny", "vars_d", 9.8, 1.9, "another trunk than the one assembled here"),
    _vars("GFNet-Ti* VARS-SD", "gfnet_star_tiny", "vars_sd", 10.4, 1.9, NOT_RELEASED),
]
CAPTION = """\
G: 10^9 multiply-adds for one image of 224 px, from pixels to class logits, in evaluation; a top-down signal on all \
tokens, decoders folded. Fourier transforms (VARS-S, GFNet) are not counted. AbS: [AbS] Table 2.2, VARS: [VARS] Table \
1.2. DeiT*, GFNet* and top-down attention on RVT and FAN were not released: these are put together here \
(docs/trunks.md). The last column says why the paper's number of parameters cannot be the released modules'."""


def measure_trunks(bar: Progress) -> dict[str, TrunkCost]:
    """All models, by label."""
    return {model.label: measure_trunk(model) for model in bar.track(MODELS, description="trunks")}


@torch.no_grad()
def measure_trunk(model: Model) -> TrunkCost:
    """Count one trunk without computing it."""
    counter = FlopCounter()
    with torch.device("meta"):
        encoder = cast(VisualEncoder, timm.create_model(model.name, **model.options)).eval()
        image = torch.empty(1, 3, 224, 224)
    encoder.fold()
    with counter.stage(model.label):
        encoder(image)
    parameters = sum(each.numel() for each in encoder.parameters())
    return TrunkCost(parameters, counter.flops[model.label] // 2)


def as_records(costs: dict[str, TrunkCost]) -> list[dict[str, Any]]:
    """Every row as JSON."""
    return [
        {"model": model.label, "name": model.name, "options": model.options}
        | costs[model.label]._asdict()
        | {f"paper_{name}": value for name, value in model.published._asdict().items()}
        | {"remark": model.remark}
        for model in MODELS
    ]


def show_trunks(console: Console, costs: dict[str, TrunkCost]) -> None:
    """One row per model, and what the columns mean."""
    table = table_of("", "M parameters", "paper", "G here", "paper", "of", "does not fit the release")
    table.columns[-1].justify = "left"
    for model in MODELS:
        cost, published = costs[model.label], model.published
        ours = f"{cost.parameters / 1e6:.2f}", f"{cost.operations / 1e9:.2f}"
        papers = f"{published.parameters_m:g}", f"{published.flops_g:g}"
        table.add_row(model.label, ours[0], papers[0], ours[1], papers[1], published.source, model.remark)
    console.print(table)
    console.print(CAPTION)
