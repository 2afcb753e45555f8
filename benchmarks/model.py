"""Parameters and operations of ViT and AbSViT beside those of the naive formulas, and beside the paper's; and of all
other trunks beside theirs (``trunks.py``).

One forward pass in evaluation, from one random image to class logits, the trainable query its prior, with random
weights. Operations are those that ``torch.utils.flop_counter`` counts: matrix products, convolutions and the two
products of attention, not norms, softmax and sums. It counts two per multiply-add; here, as in papers, each counts one.
"""

from pathlib import Path
from typing import NamedTuple, cast

import timm
import torch
from rich.console import Console
from rich.progress import Progress
from torch import Tensor

from benchmarks import naive
from benchmarks.measure import FlopCounter, describe_machine
from benchmarks.tables import table_of
from benchmarks.trunks import as_records, measure_trunks, show_trunks
from vl_absvit.cli import progress
from vl_absvit.data.json_files import make_room, write_json
from vl_absvit.models.top_down import have_signal
from vl_absvit.models.trunks.vit import AbSViT
from vl_absvit.variants import VARIANTS, TopDown

GAIN = 10.0  # strong enough for the top-down signal to show in the outputs that are compared
LARGEST_DIFFERENCE = 1e-5  # between the outputs of both sides, relative to the largest output
MODELS: list[tuple[str, TopDown]] = [
    (size, top_down) for size in ("tiny", "small", "base") for top_down in ("none", "absvit")
]
PAPER = {  # [AbS] Table 2: parameters (M), FLOPs (G)
    ("tiny", "none"): (6, 1.3),
    ("tiny", "absvit"): (7, 2.6),
    ("small", "none"): (22, 4.2),
    ("small", "absvit"): (26, 9.8),
    ("base", "none"): (87, 17.2),
    ("base", "absvit"): (99, 38.9),
}
CAPTION = """\
G: 10^9 multiply-adds of matrix products, convolutions and attention for one image of 224 px, from pixels through all \
tokens of every look to class logits, in evaluation. torch.utils.flop_counter counts each as two; halved here.
naive: two whole passes, every decoder on all tokens, the top-down input through a whole qkv.
here: the same outputs (largest relative difference {difference:.0e}) with one folded matrix per block, for the tokens \
alone whose prior mask is not 0: {shares} of the random image counted, others on others.
all tokens: the same for an image on which the mask is 0 nowhere. folding: once, while the weights stay as they are.
The paper does not say how it counts. Without the two products of attention itself, ViT-Ti is 1.07, ViT-S 4.24 and \
ViT-B 16.85: its 1.3 counts them, its 4.2 does not, its 17.2 lies between. AbSViT-Ti 2.6 is 2 x 1.3 and leaves nothing \
for the decoders, 0.17. AbSViT-S 9.8 is less than two passes and the decoders, 9.89; AbSViT-B 38.9 is more, 37.91, and \
less than the naive way. AbSViT-B has 24 decoders of 0.59 M beside ViT-B's 86.6 M: 100.7 M, not 99."""


class Cost(NamedTuple):
    """What one model takes; operations are multiply-adds for one image."""

    parameters: int
    naive: int
    evaluation: int
    all_tokens: int  # evaluation where every token has a signal
    folding: int  # once per weights
    with_signal: float  # share of the tokens that are fed back; 0 for a ViT
    difference: float  # between naive output tokens and those of evaluation, relative to the largest


def run(*, output: Path | None) -> None:
    """Count, compare, print the table and write the JSON; the argument is the command's option.

    Raises:
        RuntimeError: the two sides do not compute the same.
    """
    if output is not None:
        make_room(output)
    with progress() as bar:
        costs, of_trunks = measure_all(bar), measure_trunks(bar)
    show(Console(), costs)
    show_trunks(Console(), of_trunks)
    if output is not None:
        results = [
            {"size": size, "model": VARIANTS[top_down].label}
            | cost._asdict()
            | dict(zip(("paper_parameters_m", "paper_flops_g"), PAPER[size, top_down], strict=True))
            for (size, top_down), cost in costs.items()
        ]
        told: dict[str, object] = {"benchmark": "model", "operations": "multiply-adds", "image_size": 224, "images": 1}
        told |= {"machine": describe_machine(torch.device("cpu")), "results": results}
        write_json(output, told | {"trunks": as_records(of_trunks)}, indent=1)


def measure_all(bar: Progress) -> dict[tuple[str, TopDown], Cost]:
    """All models, by size and variant."""
    return {model: measure(*model) for model in bar.track(MODELS, description="models")}


@torch.no_grad()
def measure(size: str, top_down: TopDown) -> Cost:
    """Count one model's operations on the CPU.

    Raises:
        RuntimeError: the two sides do not compute the same.
    """
    torch.manual_seed(0)
    name = f"absvit_{size}_patch16_224"
    model = cast(AbSViT, timm.create_model(name, top_down=top_down, gain=GAIN)).eval()
    image, counter = torch.randn(1, 3, 224, 224), FlopCounter()
    with counter.stage("naive"):
        expected = naive_tokens(model, image)
        model.head(expected[:, 0])
    with counter.stage("folding"):
        model.fold()
    with counter.stage("evaluation"):
        looks = model.look_twice(image)
        model.forward_head(looks.seen(None))
    with torch.device("meta"):  # without values, no token is known to be without signal
        worst, nothing = cast(AbSViT, timm.create_model(name, top_down=top_down)).eval(), torch.empty(1, 3, 224, 224)
    worst.fold()
    with counter.stage("all tokens"):
        worst(nothing)
    count = {name: flops // 2 for name, flops in counter.flops.items()}
    return Cost(
        parameters=sum(parameter.numel() for parameter in model.parameters()),
        naive=count["naive"],
        evaluation=count["evaluation"],
        all_tokens=count["all tokens"],
        folding=count["folding"],
        with_signal=float(have_signal(looks.signals[0]).float().mean()) if looks.signals else 0.0,
        difference=check_agreement(expected, looks.seen(None), f"{VARIANTS[top_down].label} {size}"),
    )


def naive_tokens(model: AbSViT, images: Tensor) -> Tensor:
    """Tokens of the last look as the formulas stand, (I, N, D), for images (I, 3, height, width)."""
    if not model.looks_twice:
        return naive.look(model, naive.embed(model, images), None).tokens
    assert model.prior is not None, "it has a query of its own"
    return naive.look_twice(model, images, model.prior.expand(len(images), -1), "reweight", GAIN).second.tokens


def check_agreement(expected: Tensor, found: Tensor, where: str) -> float:
    """Largest difference over the largest value expected.

    Raises:
        RuntimeError: it is too large for the two sides to be compared.
    """
    difference = float((found - expected).abs().max() / expected.abs().max())
    if not difference <= LARGEST_DIFFERENCE:
        raise RuntimeError(f"{where}: naive and own outputs differ by {difference:.2g} of the largest")
    return difference


def show(console: Console, costs: dict[tuple[str, TopDown], Cost]) -> None:
    """One row per model, and what the columns mean."""
    table = table_of("", "M parameters", "paper", "G naive", "paper", "here", "all tokens", "folding")
    for (size, top_down), cost in costs.items():
        parameters, flops = PAPER[size, top_down]
        naive_way, here, all_tokens, folding = (
            f"{count / 1e9:.2f}" for count in (cost.naive, cost.evaluation, cost.all_tokens, cost.folding)
        )
        numbers = (f"{cost.parameters / 1e6:.1f}", str(parameters), naive_way, str(flops), here, all_tokens, folding)
        table.add_row(f"{VARIANTS[top_down].label} {size}", *numbers, end_section=top_down == "absvit")
    console.print(table)
    shares = [f"{cost.with_signal:.0%}" for cost in costs.values() if cost.with_signal]
    difference = max(cost.difference for cost in costs.values())
    console.print(CAPTION.format(difference=difference, shares=", ".join(shares)))
