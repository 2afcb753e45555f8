"""A tiny VQAv2 in the official form, for tests to write, break and prepare."""

import json
from collections.abc import Sequence
from pathlib import Path

from PIL import Image

SUBSETS = {"train": "train2014", "val": "val2014", "test": "test2015", "test-dev": "test-dev2015"}
YES = ["yes"] * 10


def question(question_id: int, image_id: int, text: str = "Is it red?") -> dict:
    return {"question_id": question_id, "image_id": image_id, "question": text}


def annotation(question_id: int, image_id: int, answers: Sequence[str] = YES, common: str | None = None) -> dict:
    return {
        "question_id": question_id,
        "image_id": image_id,
        "question_type": "is it",
        "answer_type": "yes/no",
        "multiple_choice_answer": common or answers[0],
        "answers": [{"answer": a, "answer_confidence": "yes", "answer_id": i} for i, a in enumerate(answers, 1)],
    }


def questions_file(raw: Path, split: str) -> Path:
    return raw / f"v2_OpenEnded_mscoco_{SUBSETS[split]}_questions.json"


def annotations_file(raw: Path, split: str) -> Path:
    return raw / f"v2_mscoco_{SUBSETS[split]}_annotations.json"


def image_path(raw: Path, split: str, image_id: int) -> Path:
    folder = SUBSETS["test" if split == "test-dev" else split]
    return raw / folder / f"COCO_{folder}_{image_id:012d}.jpg"


def write_split(raw: Path, split: str, questions: list[dict], annotations: list[dict] | None = None) -> None:
    """The JSON files of a split, and a 12 x 8 image of its own shade for each image id."""
    raw.mkdir(parents=True, exist_ok=True)
    questions_file(raw, split).write_text(json.dumps({"info": {}, "questions": questions}))
    if annotations is not None:
        annotations_file(raw, split).write_text(json.dumps({"info": {}, "annotations": annotations}))
    for image_id in {question["image_id"] for question in questions}:
        path = image_path(raw, split, image_id)
        path.parent.mkdir(exist_ok=True)
        Image.new("RGB", (12, 8), (image_id % 256, 100, 200)).save(path)


def write_small_vqav2(raw: Path, images: int = 4, questions_per_image: int = 3) -> Path:
    """Train on images from 1, val from 101, unannotated test from 201, its first image also in test-dev."""
    for split, first in (("train", 1), ("val", 101), ("test", 201)):
        ids = [(image * 1000 + k, image) for image in range(first, first + images) for k in range(questions_per_image)]
        annotations = None
        if split != "test":
            answers = (["yes"] * 10, ["no"] * 7 + ["yes"] * 3, ["The Maybe."] * 2 + ["unsure"] * 8)
            annotations = [annotation(q, i, answers[q % 3]) for q, i in ids]
        write_split(raw, split, [question(q, i, f"Is thing {q} red?") for q, i in ids], annotations)
    write_split(raw, "test-dev", [question(201000, 201)])
    return raw


def write_many_questions(raw: Path, questions: int, images: int) -> None:
    """Train files of any number of annotated questions, without their images; takes turns among 5,000 answers."""
    raw.mkdir(parents=True, exist_ok=True)
    files = questions_file(raw, "train").open("w"), annotations_file(raw, "train").open("w")
    with files[0] as asked, files[1] as annotated:
        asked.write('{"questions": [')
        annotated.write('{"annotations": [')
        for k in range(questions):
            question_id, image_id = 1_000 * (k % images + 1) + k // images, k % images + 1
            text = f"What is number {k} beside the other things of this picture?"
            answers = [f"answer {(7 * k + n) % 5_000}" for n in range(10)]
            separator = "," if k else ""
            asked.write(separator + json.dumps(question(question_id, image_id, text)))
            annotated.write(separator + json.dumps(annotation(question_id, image_id, answers)))
        asked.write("]}")
        annotated.write("]}")
