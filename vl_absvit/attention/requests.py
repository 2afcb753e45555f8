"""Questions of one's own about pictures of one's own, as lines of a file."""

import re
from pathlib import Path
from typing import NamedTuple

from vl_absvit.data.bounded import check_ordinary
from vl_absvit.data.json_files import form_name
from vl_absvit.data.strict_json import MAX_CHARACTERS, parse, shown
from vl_absvit.errors import InputError

_FILE_NAME = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]{0,99}")
_KEYS = ("image", "question", "id")


class Request(NamedTuple):
    """A question of one's own."""

    id: str
    image: Path
    question: str
    where: str  # it was read, for messages


def read_requests(path: str | Path) -> list[Request]:
    """The lines of a JSON Lines file: ``{"image": path, "question": text}``, and an ``id`` if not the line's number.

    A relative path counts from the file's folder if such a picture exists there, else from the current folder.

    Raises:
        InputError: the file cannot be read or has no line, or a line is not of this form; names the line.
    """
    path = Path(path)
    try:
        check_ordinary(path)
        lines = path.read_text(encoding="utf-8-sig").split("\n")
    except InputError as error:
        raise InputError(f"{path}: {error}") from error
    except OSError as error:
        raise InputError(f"{path}: {error.strerror or error}") from error
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: expected JSON Lines in UTF-8: {error}") from error
    requests: list[Request] = []
    for number, line in enumerate(lines, start=1):
        if line.strip():
            requests.append(_parse(line, path, number))
    if not requests:
        raise InputError(f'{path}: expected lines such as {{"image": "a.jpg", "question": "What is it?"}}, got none')
    place = {}
    for request in requests:
        # Names that differ in case alone are the same file on some systems.
        earlier = place.setdefault(request.id.lower(), request.where)
        if earlier != request.where:
            raise InputError(f"{request.where}: the id {request.id!r} is also that of {earlier}")
    return requests


def make_request(image: str | Path, question: object, where: str, id: object = "1") -> Request:
    """A checked request.

    Raises:
        InputError: the question is empty or endless, the id is no name for a file, or the picture cannot be read.
    """
    if not isinstance(question, str) or not question.strip():
        raise InputError(f"{where}: expected a question, got {shown(question)}")
    if len(question) > MAX_CHARACTERS:
        raise InputError(f"{where}: the question has {len(question):,} characters, the limit is {MAX_CHARACTERS:,}")
    try:
        question.encode()
    except UnicodeEncodeError as error:
        raise InputError(f"{where}: expected a question that UTF-8 can hold: {error.reason}") from error
    id = str(id) if type(id) is int else id
    if not isinstance(id, str) or not _FILE_NAME.fullmatch(id):
        raise InputError(
            f"{where}: expected an id of at most 100 letters, digits, '-', '_' and '.', which names the files, "
            f"got {shown(id)}"
        )
    if not Path(image).is_file():
        raise InputError(f"{where}: there is no picture {image}")
    return Request(id, Path(image).resolve(), question, where)


def _parse(line: str, path: Path, number: int) -> Request:
    where = f"{path}:{number}"
    try:
        content = parse(line)
    except ValueError as error:
        raise InputError(f"{where}: expected JSON: {error}") from error
    if not isinstance(content, dict):
        raise InputError(f"{where}: expected an object, got {form_name(content)}")
    if unknown := [key for key in content if key not in _KEYS]:
        raise InputError(f"{where}: expected the keys {', '.join(_KEYS)}, got {shown(unknown[0])}")
    image = content.get("image")
    if not isinstance(image, str) or not image or "\0" in image:
        raise InputError(f"{where}: expected the path of a picture under 'image', got {shown(image)}")
    beside = path.parent / image
    return make_request(
        beside if beside.is_file() else image, content.get("question"), where, content.get("id", number)
    )
