"""What can happen to a folder: each function makes, or is, a change to be applied to one."""

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from vl_absvit.data.answers import AnswerVocabulary

Damage = Callable[[Path], object]


def cut_short(name: str) -> Damage:
    return lambda folder: (folder / name).write_bytes((folder / name).read_bytes()[:300])


def emptied(name: str) -> Damage:
    return lambda folder: (folder / name).write_bytes(b"")


def removed(name: str) -> Damage:
    return lambda folder: (folder / name).unlink()


def replaced(name: str, text: str) -> Damage:
    return lambda folder: (folder / name).write_text(text)


def copied(source: str, name: str) -> Damage:
    return lambda folder: shutil.copy(folder / source, folder / name)


def answers_in_another_order(folder: Path) -> None:
    vocabulary = AnswerVocabulary.load(folder / "answers.json")
    replace(vocabulary, answers=vocabulary.answers[::-1]).save(folder / "answers.json")
