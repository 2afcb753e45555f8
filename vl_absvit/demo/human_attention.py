"""Human-like attention maps for the demo world's VQA scenes, in VQA-HAT's layout.

A map is made of Gaussian blobs on the objects that a question names. Annotators differ: each is a little off, now and
then looks elsewhere as well or misses an object, and some maps are constant, as in the real data. VQA-HAT goes with
VQA v1, whose question ids are ``image_id * 10 + k``.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from vl_absvit.data.json_files import write_json
from vl_absvit.demo.scene import SIDE, generator

QUESTIONS_PER_IMAGE = 3
MAPS_PER_QUESTION = {"train2014": 1, "val2014": 3}
CONSTANT_SHARE = 0.03


def human_map(boxes: Sequence[Sequence[int]], rng: np.random.Generator) -> np.ndarray:
    """One annotator's attention to the boxes (x0, y0, x1, y1), 8-bit grey values, (96, 96); rarely constant."""
    if rng.random() < CONSTANT_SHARE:
        return np.full((SIDE, SIDE), rng.choice([0, 255]), dtype=np.uint8)
    seen = [box for box in boxes if len(boxes) == 1 or rng.random() > 0.12] or [boxes[0]]
    y, x = np.mgrid[0:SIDE, 0:SIDE] + 0.5
    attention = np.zeros((SIDE, SIDE))
    for x0, y0, x1, y1 in seen:
        centre_x, centre_y = rng.normal([(x0 + x1) / 2, (y0 + y1) / 2], 0.12 * (x1 - x0))
        spread = rng.uniform(0.3, 0.5) * (x1 - x0)
        attention += rng.uniform(0.7, 1.0) * _blob(x, y, centre_x, centre_y, spread)
    if rng.random() < 0.25:
        stray_x, stray_y = rng.uniform(0, SIDE, size=2)
        attention += rng.uniform(0.2, 0.6) * _blob(x, y, stray_x, stray_y, rng.uniform(6, 12))
    return (255 * attention / attention.max()).round().astype(np.uint8)


def _blob(x: np.ndarray, y: np.ndarray, centre_x: float, centre_y: float, spread: float) -> np.ndarray:
    return np.exp(-((x - centre_x) ** 2 + (y - centre_y) ** 2) / (2 * spread**2))


def write_hat(folder: Path, subset: str, scenes: Sequence, seed: int, head: dict) -> dict[str, int]:
    """Maps ``vqahat_{train,val}/{question_id}_{n}.png`` and the v1 question file of one subset; returns counts.

    Args:
        scenes: VQA scenes with ``image_id`` and ``questions``; the first questions of each become v1 questions.
        head: the fields of the question file above its questions.
    """
    name = f"vqahat_{subset.removesuffix('2014')}"
    (folder / name).mkdir(parents=True)
    questions, maps, constant = [], 0, 0
    for scene in scenes:
        for k, question in enumerate(scene.questions[:QUESTIONS_PER_IMAGE]):
            question_id = scene.image_id * 10 + k
            questions.append({"question": question.text, "image_id": scene.image_id, "question_id": question_id})
            if not question.boxes:
                continue
            for n in range(1, MAPS_PER_QUESTION[subset] + 1):
                grey = human_map(question.boxes, generator(seed, f"hat {n}", question_id))
                Image.fromarray(grey).save(folder / name / f"{question_id}_{n}.png")
                maps, constant = maps + 1, constant + int(grey.min() == grey.max())
    content = {**head, "task_type": "Open-Ended", "questions": questions}
    write_json(folder / f"OpenEnded_mscoco_{subset}_questions.json", content)
    prefix = f"vqa_hat/{subset}"
    return {f"{prefix}/questions": len(questions), f"{prefix}/maps": maps, f"{prefix}/constant_maps": constant}
