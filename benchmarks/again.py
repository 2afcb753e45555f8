"""What another text about a picture costs if only the last blocks look again, beside a second look in all of them.

All models have the same weights and differ in ``vision.looks_again_from``, m. The first look is there already; what is
timed is all that comes after it: of questions the text encoder, the second look, the fusion and the head; of pairs,
whose captions are encoded already as in a retrieval evaluation, the last three. Every model's answers are compared with
the naive ones before. BLIP's matching model of the same size stands beside them: its image is encoded, too, and its
text encoder reads the image's tokens with every caption. Shapes: R rounds.
"""

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any, Literal, NamedTuple, Unpack, cast

import numpy as np
import torch
from rich.console import Console
from torch import Tensor
from transformers import BlipConfig, BlipForImageTextRetrieval

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

QUESTION, PAIR, BLIP = "question", "pair", "BLIP's pair"
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


def run(
    *, size: Literal["tiny", "base"], image_size: int, texts: int, starts: Sequence[int], **common: Unpack[Common]
) -> None:
    """Measure, print the tables, write the JSON; the arguments are the command's options.

    Raises: as ``run_session``.
    """
    starts = sorted({0, *starts})
    told = {"benchmark": "again", "size": size, "image_size": image_size, "texts": texts, "starts": starts}
    run_session(told, partial(measure, size, image_size, texts, starts), lambda results: None, show, **common)


@torch.no_grad()
def measure(
    size: Literal["tiny", "base"], image_size: int, texts: int, starts: Sequence[int], turns: Turns
) -> dict[str, Any]:
    """Everything about one precision."""
    dtype = PRECISIONS[turns.precision]
    whole = random_model(size, HEAD, image_size=image_size).to(turns.device, dtype)
    asked = make_texts(texts, whole.vision.image_size[0], turns.device, dtype)
    sides, agreement = [matmul(turns.device, dtype)], {}
    for start in starts:
        model = random_model(size, HEAD, image_size=image_size, looks_again_from=start).to(turns.device, dtype)
        model.load_state_dict(whole.state_dict(), strict=False, assign=True)  # one set of weights in memory
        model.vision.fold()
        agreement[start] = compare(model, asked, turns.precision)
        sides.append(partial(take_turn, model, asked))
    sides.append(partial(take_blips_turn, random_blip(whole, image_size).to(turns.device, dtype), asked))
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


def random_blip(like: VLAbSViT, image_size: int) -> BlipForImageTextRetrieval:
    """BLIP for matching with random weights, with a text encoder of our size and an image encoder as wide as ours."""
    text = like.text.roberta.config
    width, layers, heads = text.hidden_size, text.num_hidden_layers, text.num_attention_heads
    sizes = {
        "hidden_size": width,
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
        "intermediate_size": 4 * width,
    }
    config = BlipConfig(
        text_config=sizes | {"encoder_hidden_size": width, "vocab_size": text.vocab_size},
        vision_config=sizes | {"image_size": image_size, "patch_size": 16},
        image_text_hidden_size=256,
    )
    return BlipForImageTextRetrieval(config).eval()


def take_blips_turn(model: BlipForImageTextRetrieval, asked: Asked, stage: Stage) -> None:
    """Read all captions with an image that was encoded once."""
    token_ids, is_token = asked.captions
    tokens = model.vision_model(asked.image)[0].expand(len(token_ids), -1, -1)
    with stage(BLIP):
        states = model.text_encoder(token_ids, attention_mask=is_token.long(), encoder_hidden_states=tokens)
        model.itm_head(states[0][:, 0])


def summarise(
    starts: Sequence[int], texts: int, agreement: Mapping[int, Mapping[str, float]], measured: Measurements
) -> dict[str, Any]:
    """Seconds and operations of a text at every m, and their share of those at m = 0, round by round."""
    seconds = {key: np.array(values) / texts for key, values in measured.seconds.items() if key != MATMUL}  # (R,) each
    blip = {"seconds": spread(seconds[BLIP])._asdict(), "flop": measured.flops[BLIP] / texts}
    result: dict[str, Any] = {"starts": {}, "blip": blip}
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
        result["starts"][str(start)][PAIR]["of_blips"] = spread(seconds[Key(start, PAIR)] / seconds[BLIP])._asdict()
    rate = spread(measured.flops[MATMUL] / np.array(measured.seconds[MATMUL]))
    return result | {"matmul_flop_per_second": rate._asdict()}


def show(console: Console, precision: str, result: dict[str, Any]) -> None:
    """One precision, a row for each m."""
    columns = *(f"{kind}{of}" for kind in (QUESTION, PAIR) for of in (", s", "", " (GFLOP)")), f"of {BLIP}"
    table = table_of(f"{precision}, m", *columns)
    for start, found in result["starts"].items():
        cells = []
        for cost in (found[QUESTION], found[PAIR]):
            operations = f"{cost['share_of_flop']:.2f} ({number(cost['flop'] / 1e9)})"
            cells += [span(cost["seconds"]), span(cost["share"]), operations]
        table.add_row(start, *cells, span(found[PAIR]["of_blips"]))
    console.print(table)
    largest = max(found["agreement"]["largest_difference"] for found in result["starts"].values())
    console.print(f"answers differ from the naive ones by at most {largest:.1e}")
    blip = result["blip"]
    console.print(f"{BLIP}: {span(blip['seconds'])} s, {number(blip['flop'] / 1e9)} GFLOP")
    console.print(f"a plain matrix product: {number(result['matmul_flop_per_second']['median'] / 1e9)} GFLOP/s\n")
