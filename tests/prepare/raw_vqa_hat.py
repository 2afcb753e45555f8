"""A tiny VQA-HAT in the published form, for tests to write, break and prepare."""

import json
from collections.abc import Iterable
from pathlib import Path

import numpy as np
from PIL import Image

from vl_absvit.prepare.vqa_hat import HATOptions, prepare_vqa_hat

WIDTH, HEIGHT = 12, 8


def blob(seed: int) -> np.ndarray:
    """A human map of its own for every seed, 8-bit."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[0:HEIGHT, 0:WIDTH]
    at_y, at_x = rng.uniform(0, HEIGHT), rng.uniform(0, WIDTH)
    attention = np.exp(-((y - at_y) ** 2 + (x - at_x) ** 2) / 8) + 0.05 * rng.random((HEIGHT, WIDTH))
    return np.rint(255 * attention / attention.max()).astype(np.uint8)


def question(question_id: int, text: str = "What is it?") -> dict:
    return {"question_id": question_id, "image_id": question_id // 10, "question": text}


def questions_file(raw: Path, subset: str = "val2014") -> Path:
    return raw / f"OpenEnded_mscoco_{subset}_questions.json"


def write_questions(raw: Path, questions: Iterable[dict], subset: str = "val2014") -> None:
    questions_file(raw, subset).write_text(json.dumps({"info": {}, "questions": list(questions)}))


def write_map(raw: Path, name: str, grey: np.ndarray) -> None:
    (raw / "maps").mkdir(exist_ok=True)
    Image.fromarray(grey).save(raw / "maps" / f"{name}.png")


def image_path(raw: Path, image_id: int, subset: str = "val2014") -> Path:
    return raw / subset / f"COCO_{subset}_{image_id:012d}.jpg"


def write_image(raw: Path, image_id: int, subset: str = "val2014") -> None:
    path = image_path(raw, image_id, subset)
    path.parent.mkdir(exist_ok=True)
    Image.new("RGB", (WIDTH, HEIGHT), (image_id % 256, 100, 200)).save(path)


def write_small_hat(raw: Path, images: Iterable[int] = (1, 2, 3)) -> Path:
    """Val: of three questions about each image, two with three maps each, the third with none."""
    raw.mkdir()
    ids = [10 * image + k for image in images for k in range(3)]
    write_questions(raw, (question(q, f"What is thing {q}?") for q in reversed(ids)))
    for question_id in ids:
        write_image(raw, question_id // 10)
        if question_id % 10 < 2:
            for n in (1, 2, 3):
                write_map(raw, f"{question_id}_{n}", blob(10 * question_id + n))
    return raw


def prepare(raw: Path, output: Path, subset: str = "val2014", workers: int = 1, **options: object) -> dict:
    places = {"maps": raw / "maps", "questions": questions_file(raw, subset), "images": raw}
    return prepare_vqa_hat(HATOptions(**places | options), output, workers)
