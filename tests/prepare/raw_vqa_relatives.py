"""A tiny folder of each of VQAv2's relatives, in the form that it is published in."""

import json
from pathlib import Path

from PIL import Image

from tests.prepare.raw_vqav2 import annotation, question
from vl_absvit.prepare.coco_images import official_file

ANSWERS = (["yes"] * 10, ["no"] * 6 + ["yes"] * 4, ["red"] * 5 + ["a cat"] * 5)


def picture(raw: Path, file: str) -> None:
    (raw / file).parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (12, 8)).save(raw / file)


def write(raw: Path, name: str, content: object) -> None:
    (raw / name).parent.mkdir(parents=True, exist_ok=True)
    (raw / name).write_text(json.dumps(content))


def write_vqa_v1(raw: Path) -> Path:
    """Three questions on each of two images of train and of val, ids as in VQA v1."""
    for subset, images in (("train2014", (1, 2)), ("val2014", (11, 12))):
        ids = [(image * 10 + k, image) for image in images for k in range(3)]
        asked = [question(q, image) for q, image in ids]
        write(raw, f"OpenEnded_mscoco_{subset}_questions.json", {"questions": asked})
        multiple = [each | {"multiple_choices": ["yes", "no"]} for each in asked]
        write(raw, f"MultipleChoice_mscoco_{subset}_questions.json", {"questions": multiple})
        answered = [annotation(q, image, ANSWERS[q % 3]) for q, image in ids]
        write(raw, f"mscoco_{subset}_annotations.json", {"annotations": answered})
        for image in images:
            picture(raw, official_file(subset, image))
    return raw


def write_okvqa(raw: Path) -> Path:
    """As VQA v1, without the multiple-choice answer, each answer also as it was given."""
    write_vqa_v1(raw)
    for path in raw.glob("*.json"):
        if path.name.startswith("MultipleChoice"):
            path.unlink()
    for path in raw.glob("mscoco_*.json"):
        content = json.loads(path.read_text())
        for record in content["annotations"]:
            del record["multiple_choice_answer"]
            for answer in record["answers"]:
                answer["raw_answer"] = f"{answer['answer']}s"
        path.write_text(json.dumps(content))
    return raw


def write_vqacp(raw: Path, version: str = "v2") -> Path:
    """Train and test share the image 1, and both have images of COCO's train and val; lists at the top level."""
    parts = {
        "train": ((1000, 1, "train2014"), (2000, 2, "val2014")),
        "test": ((1001, 1, "train2014"), (3000, 3, "val2014")),
    }
    for split, records in parts.items():
        asked = [question(q, image) | {"coco_split": folder} for q, image, folder in records]
        answered = [annotation(q, image, ANSWERS[q % 3]) | {"coco_split": folder} for q, image, folder in records]
        write(raw, f"vqacp_{version}_{split}_questions.json", asked)
        write(raw, f"vqacp_{version}_{split}_annotations.json", answered)
        for _, image, folder in records:
            picture(raw, official_file(folder, image))
    return raw


def write_vizwiz(raw: Path) -> Path:
    """Three pictures with a question each in every split; test has no answers."""
    for split in ("train", "val", "test"):
        records = []
        for n in range(3):
            name = f"VizWiz_{split}_{n:08d}.jpg"
            record = {"image": name, "question": "What is this?"}
            if split != "test":
                answers = [{"answer": answer, "answer_confidence": "yes"} for answer in ANSWERS[n]]
                record |= {"answers": answers, "answerable": int(n < 2), "answer_type": "other"}
            records.append(record)
            picture(raw, f"{split}/{name}")
        write(raw, f"{split}.json", records)
    return raw
