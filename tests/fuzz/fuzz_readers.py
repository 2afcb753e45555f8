"""Coverage-guided fuzzing of what reads foreign files; run by hand, since it needs atheris and has no end.

    python -m venv /tmp/fuzz && /tmp/fuzz/bin/pip install atheris -e .
    PYTHONPATH=. /tmp/fuzz/bin/python tests/fuzz/fuzz_readers.py json /tmp/found_json -max_total_time=300
    PYTHONPATH=. /tmp/fuzz/bin/python tests/fuzz/fuzz_readers.py checkpoint /tmp/found_checkpoint -max_total_time=300

Everything after the folder goes to libFuzzer. The folder keeps the inputs that reached something new; an empty one is
begun with the corpus of tests/hostile. The first byte of an input chooses its reader, the rest is the file. A reader
may accept a file or raise ``InputError``; all else, a crash and a hang included, is a finding, which libFuzzer saves.
"""

import io
import json
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import atheris
import timm  # noqa: F401  (libraries come first, so that they are left as they are)
import torch
import transformers  # noqa: F401
from torch._weights_only_unpickler import Unpickler

with atheris.instrument_imports(include=["vl_absvit"]):
    from vl_absvit.data.answers import AnswerVocabulary
    from vl_absvit.data.json_files import read_json
    from vl_absvit.errors import InputError
    from vl_absvit.evaluation.submission import check_questions, check_upload
    from vl_absvit.evaluation.vqa_accuracy import check_annotations
    from vl_absvit.looking.export_reader import read_index
    from vl_absvit.looking.own_texts import read_requests
    from vl_absvit.models.released import convert, read_released
    from vl_absvit.prepare import caption_lists, karpathy_source, vqa_hat_source
    from vl_absvit.prepare.sets import coco
    from vl_absvit.tasks.vl_checkpoint import Preprocessing

from tests.hostile.corpus import bad_checkpoints, hostile_json, repacked
from tests.prepare.raw_captions import image_record
from tests.prepare.raw_vqav2 import annotation, question
from tests.tiny_released import released_classifier

QUESTIONS = {"info": {}, "questions": [question(7000, 7), question(7001, 7)]}
SEEDS = {
    "questions": QUESTIONS,
    "annotations": {"annotations": [annotation(7000, 7)]},
    "captions": {"images": [image_record("coco", 1, "train")], "dataset": "coco"},
    "caption lists": [{"image": "flickr30k-images/1.jpg", "caption": ["A dog.", "A cat."]}],
    "human attention": {"questions": [question(70, 7)]},
    "vocabulary": {
        "format": 1, "size": 1, "min_count": 9, "normaliser": "meter-1", "answers": ["yes"], "sha256": "0",
    },
    "preprocessing": {"image_size": 32, "image_mean": [0.5] * 3, "image_std": [0.5] * 3, "max_tokens": 8},
    "submission": [{"question_id": 7000, "answer": "yes"}],
    "index": {"id": "1", "box": [0, 0, 1, 1], "image_size": [3, 4], "npz": "1.npz", "confidence": 0.5},
    "requests": {"image": "a.png", "question": "What?"},
}  # fmt: skip


def captions(file: Path) -> None:
    list(karpathy_source.read_images(file, "coco")[1])


def annotations(file: Path) -> None:
    list(coco.read_annotations(file))
    check_annotations(read_json(file, dict).get("annotations"))


def questions(file: Path) -> None:
    list(coco.read_questions(file))
    check_questions(read_json(file), "test-dev", str(file))


def index(file: Path) -> None:
    file.replace(file.with_name("index.jsonl"))
    read_index(file.parent)


JSON: dict[str, Callable[[Path], object]] = {
    "questions": questions,
    "annotations": annotations,
    "captions": captions,
    "caption lists": lambda file: list(caption_lists.read_captions(file, "flickr30k")),
    "human attention": lambda file: list(vqa_hat_source.read_questions(file)),
    "vocabulary": AnswerVocabulary.from_published,
    "preprocessing": Preprocessing.load,
    "submission": lambda file: check_upload(file, [7000]),
    "index": index,
    "requests": read_requests,
}


def released(file: Path) -> None:
    convert(read_released(file), num_heads=4, text_heads=4)


def fuzz_json(folder: Path, data: bytes) -> None:
    """Hand a file to one of the readers of JSON."""
    if data:
        file = folder / "a.json"
        file.write_bytes(data[1:])
        JSON[list(JSON)[data[0] % len(JSON)]](file)


def fuzz_checkpoint(folder: Path, data: bytes) -> None:
    """Read a file as it is, or with its bytes as the pickle of an archive that is whole."""
    if data:
        file = folder / "a.pth"
        if data[0] % 2:
            repacked(file, data[1:])
        else:
            file.write_bytes(data[1:])
        released(file)


def seeds(target: str, folder: Path) -> list[bytes]:
    """Inputs to begin with."""
    if target == "json":
        texts = [json.dumps(SEEDS[name]) for name in JSON]
        hostile = [[text.encode(), *(content for content, _ in hostile_json(text).values())] for text in texts]
        return [bytes([number]) + content for number, contents in enumerate(hostile) for content in contents]
    _, state = released_classifier()
    torch.save({"model": state, "epoch": 3}, whole := io.BytesIO())
    torch.save({"model": state}, old := io.BytesIO(), _use_new_zipfile_serialization=False)
    files = [path.read_bytes() for path in bad_checkpoints(folder / "bad", folder / "made by an attack").values()]
    pickles = [b"\x80\x02}q\x00X\x05\x00\x00\x00modelq\x01}q\x02s.", b"\x80\x02}(K\x01(K\x02K\x03tu."]
    return [b"\0" + content for content in (whole.getvalue(), old.getvalue(), *files)] + [
        b"\1" + each for each in pickles
    ]


def main() -> None:
    Unpickler.load = atheris.instrument_func(Unpickler.load)
    target, found = sys.argv.pop(1), Path(sys.argv[1])
    found.mkdir(parents=True, exist_ok=True)
    folder = Path(tempfile.mkdtemp(dir="/dev/shm" if Path("/dev/shm").is_dir() else None))
    if not any(found.iterdir()):
        for number, content in enumerate(seeds(target, folder)):
            (found / f"seed-{number:03d}").write_bytes(content)
    read = {"json": fuzz_json, "checkpoint": fuzz_checkpoint}[target]

    def try_one(data: bytes) -> None:
        try:
            read(folder, data)
        except InputError:
            pass
        assert not (folder / "made by an attack").exists(), "something in a file was run"

    atheris.Setup(sys.argv, try_one)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
