"""The demo world on disk, in the official formats and file names of the real data sets.

``make_demo_world`` writes one folder: VQAv2 (``vqav2``), two caption worlds (``coco``, ``flickr30k``), human attention
maps (``vqa_hat``), an ImageFolder of single objects (``single_objects``), two objects side by side (``pairs``) and a
RoBERTa tokenizer (``tokenizer``). What is in an image depends on the seed, the part and the image's number alone, so
that the number of processes changes nothing.
"""

import json
from collections.abc import Iterable
from concurrent.futures import Executor
from functools import partial
from itertools import product
from pathlib import Path
from typing import NamedTuple

import numpy as np

from vl_absvit.data.json_files import write_json
from vl_absvit.demo.captions import WORLDS, write_captions
from vl_absvit.demo.human_attention import write_hat
from vl_absvit.demo.language import Question, ask, human_answers
from vl_absvit.demo.made_whole import Track, make_whole, workers_of
from vl_absvit.demo.scene import (
    CELL,
    COLOURS,
    PLAIN,
    SHAPES,
    TEXTURES,
    draw,
    generator,
    sample_pair,
    sample_scene,
    sample_sheet,
    save_jpeg,
)

FORMAT = 10
QUESTIONS_PER_SCENE = 6
VQA_SPLITS = {"train2014": "train", "val2014": "val", "test2015": "test"}
LICENCE = {"url": "http://creativecommons.org/publicdomain/zero/1.0/", "name": "CC0 1.0"}
KINDS = tuple(product(COLOURS, TEXTURES, SHAPES))
NOTHING = 54
"""Share of empty images among single objects: so many beside one image of each kind."""
CLASSES = (*("_".join(kind) for kind in KINDS), "nothing")


class VQAScene(NamedTuple):
    image_id: int
    questions: list[Question]
    answers: list[list[dict]]  # per question ten official answer records


def make_demo_world(output: Path, *, seed: int, scenes: int, workers: int, track: Track) -> bool:
    """Write the demo world to ``output``, or leave it alone where the same world is there already.

    Args:
        scenes: VQA training images; all other parts scale with it.
        workers: processes that draw.

    Returns:
        True if the world was written, False if it was there.

    Raises:
        InputError: ``output`` holds something else.
    """
    arguments = {"format": FORMAT, "seed": seed, "scenes": scenes}
    return make_whole(output, arguments, lambda folder: _write(folder, seed, scenes, workers, track))


def _write(folder: Path, seed: int, scenes: int, workers: int, track: Track) -> dict[str, int]:
    """All parts of the world. Returns counts."""
    with workers_of(workers) as pool:
        vqa, counts = write_vqa(folder / "vqav2", seed, scenes, pool, track)
        texts = [question.text for scene in vqa["train2014"] for question in scene.questions]
        for world in WORLDS:
            images = write_captions(folder / world.dataset, world, seed, scenes, pool, track)
            texts += [s["raw"] for image in images if image["split"] == "train" for s in image["sentences"]]
            counts |= {
                f"{world.dataset}/{name}/images": sum(i["split"] == name for i in images) for name in world.splits
            }
        counts |= write_single_objects(folder / "single_objects", seed, scenes, pool, track)
    counts |= write_pairs(folder / "pairs", seed, max(4, scenes // 30))
    for subset in ("train2014", "val2014"):
        some = vqa[subset][: max(4, scenes // 40)]
        counts |= write_hat(folder / "vqa_hat", subset, some, seed, _head(subset, "1.0"))
    write_tokenizer(folder / "tokenizer", texts)
    return counts


def write_vqa(
    folder: Path, seed: int, scenes: int, pool: Executor, track: Track
) -> tuple[dict[str, list[VQAScene]], dict[str, int]]:
    """VQAv2's files; test images have questions and no annotations. Returns the scenes of every subset, and counts.

    Beside them ``demo_objects.json`` has the boxes and ``demo_kinds.json`` the kind of every question, by its id.
    """
    vqa: dict[str, list[VQAScene]] = {}
    counts: dict[str, int] = {}
    boxes, kinds = {}, {}
    for subset, images in zip(VQA_SPLITS, (scenes, max(4, scenes // 8), max(4, scenes // 16)), strict=True):
        (folder / subset).mkdir(parents=True)
        work = pool.map(partial(_make_vqa_image, folder, subset, seed), range(images), chunksize=32)
        made = list(track(work, images, f"vqav2/{subset}"))
        questions, annotations = [], []
        for scene in made:
            for k, (question, answers) in enumerate(zip(scene.questions, scene.answers, strict=True)):
                ids = {"image_id": scene.image_id, "question_id": scene.image_id * 1000 + k}
                questions.append({**ids, "question": question.text})
                annotations.append(_annotation(ids, question, answers))
                boxes[str(ids["question_id"])] = question.boxes
                kinds[str(ids["question_id"])] = question.kind
        _write_questions(folder, subset, questions)
        if subset == "test2015":
            few = {scene.image_id for scene in made[::3]}
            _write_questions(folder, "test-dev2015", [q for q in questions if q["image_id"] in few])
        else:
            content = {**_head(subset), "annotations": annotations}
            write_json(folder / f"v2_mscoco_{subset}_annotations.json", content)
        counts |= {f"vqav2/{subset}/images": images, f"vqav2/{subset}/questions": len(questions)}
        vqa[subset] = made
    write_json(folder / "demo_objects.json", boxes)
    write_json(folder / "demo_kinds.json", kinds)
    return vqa, counts


def vqa_image_id(subset: str, number: int) -> int:
    """Image ids differ between the subsets and from those of the ``coco`` world."""
    return 4 * number + 1 + list(VQA_SPLITS).index(subset)


def _make_vqa_image(folder: Path, subset: str, seed: int, number: int) -> VQAScene:
    rng = generator(seed, subset, number)
    scene = sample_scene(rng, VQA_SPLITS[subset])
    image_id = vqa_image_id(subset, number)
    save_jpeg(draw(scene, PLAIN, rng), folder / subset / f"COCO_{subset}_{image_id:012d}.jpg")
    questions = ask(scene, rng, QUESTIONS_PER_SCENE)
    return VQAScene(image_id, questions, [_answer_records(question.answer, rng) for question in questions])


def _answer_records(truth: str, rng: np.random.Generator) -> list[dict]:
    given = human_answers(truth, rng)
    return [
        {"answer": a.answer, "answer_confidence": a.confidence, "answer_id": k} for k, a in enumerate(given, start=1)
    ]


def _annotation(ids: dict, question: Question, answers: list[dict]) -> dict:
    return {
        "question_type": question.question_type,
        "multiple_choice_answer": question.answer,
        "answers": answers,
        "image_id": ids["image_id"],
        "answer_type": question.answer_type,
        "question_id": ids["question_id"],
    }


def _head(subset: str, version: str = "2.0") -> dict:
    info = {"description": "Demo world in the layout of the VQA dataset.", "url": "", "version": version, "year": 2014,
            "contributor": "vl_absvit", "date_created": "2014-01-01 00:00:00"}  # fmt: skip
    return {"info": info, "license": LICENCE, "data_type": "mscoco", "data_subtype": subset}


def _write_questions(folder: Path, subset: str, questions: list[dict]) -> None:
    content = {**_head(subset), "task_type": "Open-Ended", "questions": questions}
    write_json(folder / f"v2_OpenEnded_mscoco_{subset}_questions.json", content)


def write_single_objects(folder: Path, seed: int, scenes: int, pool: Executor, track: Track) -> dict[str, int]:
    """An ImageFolder of single objects, ``{train,val}/<colour>_<texture>_<shape>/*.png``, and ``nothing``.

    Returns counts.
    """
    counts = {}
    for split, sheets in (("train", max(40, scenes // 3)), ("val", max(20, scenes // 30))):
        for name in CLASSES:
            (folder / split / name).mkdir(parents=True)
        work = pool.map(partial(_make_sheet, folder / split, seed, f"single_{split}"), range(sheets), chunksize=16)
        counts[f"single_objects/{split}/images"] = 9 * sum(1 for _ in track(work, sheets, f"single_objects/{split}"))
    return counts


def _make_sheet(folder: Path, seed: int, part: str, number: int) -> None:
    """Nine objects of consecutive classes drawn in one image, which is cut into its cells."""
    rng = generator(seed, part, number)
    order = [*KINDS, *[None] * NOTHING]
    kinds = [order[(9 * number + cell) % len(order)] for cell in rng.permutation(9)]
    image = draw(sample_sheet(rng, kinds), PLAIN, rng)
    for cell, kind in enumerate(kinds):
        x, y = CELL * (cell % 3), CELL * (cell // 3)
        name = "_".join(kind) if kind else "nothing"
        image.crop((x, y, x + CELL, y + CELL)).save(folder / name / f"{number:05d}_{cell}.png", compress_level=1)


def write_pairs(folder: Path, seed: int, count: int) -> dict[str, int]:
    """Images of two objects, one in each half, and ``pairs.json`` with their classes and boxes. Returns counts."""
    folder.mkdir(parents=True)
    pairs = []
    for number in range(count):
        rng = generator(seed, "pair", number)
        things, name = sample_pair(rng), f"{number:04d}.png"
        draw(things, PLAIN, rng).save(folder / name)
        left, right = (f"{thing.colour}_{thing.texture}_{thing.shape}" for thing in things)
        pairs.append({"file": name, "left": left, "right": right, "boxes": [thing.box for thing in things]})
    write_json(folder / "pairs.json", pairs)
    return {"pairs/images": count}


def write_tokenizer(folder: Path, texts: Iterable[str], vocabulary: int = 700) -> None:
    """A byte-level BPE tokenizer trained on ``texts``, as a folder that transformers loads as RoBERTa's."""
    from tokenizers import ByteLevelBPETokenizer
    from transformers import RobertaTokenizer

    trained = ByteLevelBPETokenizer()
    special = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]
    trained.train_from_iterator(texts, vocab_size=vocabulary, special_tokens=special, show_progress=False)
    parts = json.loads(trained.to_str())["model"]
    merges = [tuple(merge) for merge in parts["merges"]]
    RobertaTokenizer(vocab=parts["vocab"], merges=merges, model_max_length=64).save_pretrained(folder)
