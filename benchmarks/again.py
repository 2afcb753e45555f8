"""What another text about a picture costs if only the last blocks look again, beside a second look in all of them.

All models have the same weights and differ in ``vision.looks_again_from``, m. The first look is there already; what is
timed is all that comes after it: of questions the text encoder, the second look, the fusion and the head; of pairs,
whose captions are encoded already as in a retrieval evaluation, the last three. Every model's answers are compared with
the naive ones before. Shapes: R rounds.
"""

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any, Literal, NamedTuple, Unpack, cast

import numpy as np
import torch
from rich.console import Console
from torch import Tensor

from benchmarks.agreement import check_outputs
from benchmarks.measure import MATMUL, PRECISIONS, Measurements, Stage, Turns, matmul, spread, take_turns
from benchmarks.naive import VQA_TOKENS, naive_forward, pad
from benchmarks.samples import ANSWERS, Workload, captioned_images, questions_about
from benchmarks.session import Common, run_session
from benchmarks.synthetic import PAD, random_model
from benchmarks.tables import number, span, table_of
from vl_absvit.data.collate import pad_texts
from vl_absvit.models import VLAbSViT
from vl_absvit.models.vl_model import Pairs

QUESTION, PAIR = "question", "pair"
HEAD = {"kind": "vqa", "num_answers": ANSWERS}
COMPARED = 2  # questions that the naive side answers, too


class Key(NamedTuple):
    """What a stage belongs to."""

    start: int  # m
    kind: str  # question or pair


class Asked(NamedTuple):
    """A picture, and padded texts about it."""

    image: Tensor  # (1, 3, height, width)
    questions: tuple[Tensor, Tensor]  # token ids and their mask
    captions: tuple[Tensor, Tensor]


def run(*, size: Literal["tiny", "base"], texts: int, starts: Sequence[int], **common: Unpack[Common]) -> None:
    """Measure, print the tables, write the JSON; the arguments are the command's options.

    Raises: as ``run_session``.
    """
    starts = sorted({0, *starts})
    told = {"benchmark": "again", "size": size, "texts": texts, "starts": starts}
    run_session(told, partial(measure, size, texts, starts), lambda results: None, show, **common)


@torch.no_grad()
def measure(size: Literal["tiny", "base"], texts: int, starts: Sequence[int], turns: Turns) -> dict[str, Any]:
    """Everything about one precision."""
    dtype = PRECISIONS[turns.precision]
    whole = random_model(size, HEAD).to(turns.device, dtype)
    asked = make_texts(texts, whole.vision.image_size[0], turns.device, dtype)
    sides, agreement = [matmul(turns.device, dtype)], {}
    for start in starts:
        model = random_model(size, HEAD, looks_again_from=start).to(turns.device, dtype)
        model.load_state_dict(whole.state_dict(), strict=False, assign=True)  # one set of weights in memory
        model.vision.fold()
        agreement[start] = compare(model, asked, turns.precision)
        sides.append(partial(take_turn, model, asked))
    return summarise(starts, texts, agreement, take_turns(sides, turns.device, turns.repeats, turns.advance))


def make_texts(number_of_texts: int, resolution: int, device: torch.device, dtype: torch.dtype) -> Asked:
    """As many questions, and as many captions, about one picture."""
    work = Workload(1, number_of_texts, resolution)
    (captioned,), questions = captioned_images(work), questions_about(work)
    texts = [sample.token_ids for sample in questions], captioned.texts
    asked, written = (pad_texts(some, PAD) for some in texts)
    return Asked(captioned.image[None].to(device, dtype), _to(device, *asked), _to(device, *written))


def _to(device: torch.device, token_ids: Tensor, is_token: Tensor) -> tuple[Tensor, Tensor]:
    return token_ids.to(device), is_token.to(device)


def compare(model: VLAbSViT, asked: Asked, precision: str) -> dict[str, float]:
    """How far answers differ from the naive ones."""
    token_ids, is_token = (tensor[:COMPARED] for tensor in asked.questions)
    index = torch.zeros(len(token_ids), dtype=torch.long, device=token_ids.device)
    ours = cast(Tensor, model(asked.image, token_ids, is_token, index).logits)
    padded = pad(model, token_ids, is_token, VQA_TOKENS)
    naive = naive_forward(model, asked.image.expand(len(token_ids), -1, -1, -1), *padded).logits
    return check_outputs(naive.float().cpu().numpy(), ours.float().cpu().numpy(), precision)


def take_turn(model: VLAbSViT, asked: Asked, stage: Stage) -> None:
    """Read all questions, and all captions, about a picture that was looked at once."""
    start, first = model.vision.looks_again_from, model.vision.look_once(asked.image)
    captions = model.encode_texts(*asked.captions)
    index = torch.zeros(len(captions.tokens), dtype=torch.long, device=asked.image.device)
    with stage(Key(start, QUESTION)):
        model.read(first, Pairs(model.encode_texts(*asked.questions), index))
    with stage(Key(start, PAIR)):
        model.read(first, Pairs(captions, index))


def summarise(
    starts: Sequence[int], texts: int, agreement: Mapping[int, Mapping[str, float]], measured: Measurements
) -> dict[str, Any]:
    """Seconds and operations of a text at every m, and their share of those at m = 0, round by round."""
    seconds = {key: np.array(values) / texts for key, values in measured.seconds.items() if key != MATMUL}  # (R,) each
    result: dict[str, Any] = {"starts": {}}
    for start in starts:
        result["starts"][str(start)] = {"agreement": dict(agreement[start])} | {
            kind: {
                "seconds": spread(seconds[Key(start, kind)])._asdict(),
                "share": spread(seconds[Key(start, kind)] / seconds[Key(0, kind)])._asdict(),
                "flop": measured.flops[Key(start, kind)] / texts,
                "share_of_flop": measured.flops[Key(start, kind)] / measured.flops[Key(0, kind)],
            }
            for kind in (QUESTION, PAIR)
        }
    rate = spread(measured.flops[MATMUL] / np.array(measured.seconds[MATMUL]))
    return result | {"matmul_flop_per_second": rate._asdict()}


def show(console: Console, precision: str, result: dict[str, Any]) -> None:
    """One precision, a row for each m."""
    table = table_of(f"{precision}, m", *(f"{kind}{of}" for kind in (QUESTION, PAIR) for of in (", s", "", " (GFLOP)")))
    for start, found in result["starts"].items():
        cells = []
        for cost in (found[QUESTION], found[PAIR]):
            operations = f"{cost['share_of_flop']:.2f} ({number(cost['flop'] / 1e9)})"
            cells += [span(cost["seconds"]), span(cost["share"]), operations]
        table.add_row(start, *cells)
    console.print(table)
    largest = max(found["agreement"]["largest_difference"] for found in result["starts"].values())
    console.print(f"answers differ from the naive ones by at most {largest:.1e}")
    console.print(f"a plain matrix product: {number(result['matmul_flop_per_second']['median'] / 1e9)} GFLOP/s\n")
