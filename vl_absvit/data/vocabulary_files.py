"""Read answer vocabularies that other people published: the list of answers in the order of their labels.

JSON files hold a list of answers (LXMERT, ALBEF), an object answer -> label or label -> answer, both objects in a list
(openvqa), or ``id2label`` as a model's ``config.json`` (ViLT, BridgeTower). The lines of text files are
``{"answer": ..., "label": ...}`` (VLMo, BEiT-3's ``answer2label.txt``), or answers alone in the order of their labels
(mmf). All may be gzipped.
"""

from collections import Counter
from itertools import zip_longest
from pathlib import Path
from typing import Any

from vl_absvit.data.json_files import form_name, parse_lines, read_text
from vl_absvit.data.strict_json import parse, shown
from vl_absvit.errors import InputError

_OF_MODELS = ("id2label", "label2id")
_OF_DATA = ("label2ans", "ans2label", "label2answer", "answer2label")
"""Keys of vocabularies in larger objects."""
_PICKLES = (".pkl", ".pickle", ".p")


def read_answers(path: str | Path) -> tuple[str, ...]:
    """The answers of a file, by label.

    Raises:
        InputError: the file has none of the forms above, an answer occurs twice, or the labels are not 0 to n - 1.
    """
    path = Path(path)
    if path.suffix in _PICKLES and path.is_file():
        raise InputError(
            f"{path}: is a pickle, which can run anything when it is opened, and is not; where you trust it: python -c "
            f"\"import json, pickle; json.dump(pickle.load(open('{path}', 'rb')), open('{path.with_suffix('.json')}', "
            "'w'))\""
        )
    text = read_text(path, "expected JSON or lines of text in UTF-8")
    if _is_of_records(text):
        return checked_answers(_by_label(_records_by_line(text, path), path), path)
    if ".json" not in path.suffixes and not text.lstrip().startswith(("[", "{")):
        # Nothing after the last line break is a line. An empty line between others is the empty answer.
        lines = text.rstrip("\r\n")
        return checked_answers([line.removesuffix("\r") for line in lines.split("\n")] if lines else [], path)
    try:
        content = parse(text)
    except ValueError as error:
        raise InputError(f"{path}: expected JSON in UTF-8: {error}") from error
    return answers_in(content, path)


def answers_in(content: Any, path: str | Path) -> tuple[str, ...]:
    """The answers of a JSON value, by label.

    Args:
        path: its file, for messages.

    Raises:
        InputError: see ``read_answers``.
    """
    first, *others = (_answers_of(table, path) for table in _tables(content))
    for label, answers in enumerate(zip_longest(first, *others)):
        if len(set(answers)) > 1:
            words = " and ".join("nothing" if answer is None else shown(answer) for answer in answers)
            raise InputError(f"{path}: its two tables differ: the answer of label {label} is {words}")
    return first


def _tables(content: Any) -> list[Any]:
    """The vocabulary, twice if a file holds it in both directions."""
    if isinstance(content, dict):
        # Of a model's two tables, only id2label counts. Its label2id may be a leftover.
        of_models, of_data = ([content[key] for key in keys if key in content] for keys in (_OF_MODELS, _OF_DATA))
        return of_models[:1] or of_data or [content]
    if isinstance(content, list) and len(content) == 2 and all(isinstance(part, dict) for part in content):
        return [content] if all(map(_is_record, content)) else content
    return [content]


def _answers_of(content: Any, path: str | Path) -> tuple[str, ...]:
    """The answers of one table or list, by label."""
    if isinstance(content, list) and content and all(_is_record(part) for part in content):
        content = _by_label([(record["answer"], record["label"]) for record in content], path)
    if isinstance(content, dict):
        content = _by_label(_pairs(content), path)
    if not isinstance(content, list):
        raise InputError(f"{path}: expected a list of answers or an object of labels, got {form_name(content)}")
    return checked_answers(content, path)


def checked_answers(answers: object, path: str | Path) -> tuple[str, ...]:
    """The given answers, checked.

    Raises:
        InputError: they are not a list of different strings, or the list is empty.
    """
    if not isinstance(answers, list):
        raise InputError(f"{path}: expected a list of answers, got {form_name(answers)}")
    if not answers:
        raise InputError(f"{path}: there are no answers")
    for label, answer in enumerate(answers):
        if not isinstance(answer, str):
            raise InputError(f"{path}: answer {label} is {form_name(answer)}, not a string")
    repeated = [answer for answer, count in Counter(answers).items() if count > 1]
    if repeated:
        raise InputError(f"{path}: the answer {shown(repeated[0])} occurs more than once")
    return tuple(answers)


def _is_of_records(text: str) -> bool:
    """Whether the first line is a record."""
    try:
        return _is_record(parse(text.lstrip().split("\n", 1)[0]))
    except ValueError:
        return False


def _is_record(value: object) -> bool:
    return isinstance(value, dict) and isinstance(value.get("answer"), str) and "label" in value


def _records_by_line(text: str, path: Path) -> list[tuple[str, Any]]:
    """Answer and label of every line that is not empty."""
    pairs = []
    for number, record in parse_lines(text, path):
        if not _is_record(record):
            raise InputError(f'{path}:{number}: expected {{"answer": text, "label": number}}, got {shown(record)}')
        pairs.append((record["answer"], record["label"]))
    return pairs


def _pairs(table: dict[str, Any]) -> list[tuple[Any, Any]]:
    """Answer and label of every entry. Keys are labels if they are the numbers from 0 and all values are texts."""
    if set(table) == {str(label) for label in range(len(table))} and all(isinstance(a, str) for a in table.values()):
        return [(answer, int(label)) for label, answer in table.items()]
    return list(table.items())


def _by_label(pairs: list[tuple[Any, Any]], path: str | Path) -> list[Any]:
    labels: list[int] = []
    for answer, given in pairs:
        label = _label(given)
        if label is None:
            found = shown(given) if isinstance(given, str) else form_name(given)
            raise InputError(f"{path}: expected an integer label for the answer {shown(answer)}, got {found}")
        labels.append(label)
    if sorted(labels) != list(range(len(labels))):
        raise InputError(f"{path}: expected the labels 0 to {len(labels) - 1}, each once")
    answer_of = {label: answer for label, (answer, _) in zip(labels, pairs, strict=True)}
    return [answer_of[label] for label in range(len(labels))]


def _label(value: object) -> int | None:
    if isinstance(value, str) and value.isascii() and value.isdigit() and len(value) < 10:
        return int(value)
    return value if type(value) is int else None
