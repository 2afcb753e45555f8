"""The user's own questions or captions about the user's own pictures, as lines of a file; or pictures of a folder."""

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal, NamedTuple

from vl_absvit.data.json_files import read_text
from vl_absvit.data.picture_folder import PicturesByTail, find_pictures
from vl_absvit.data.strict_json import MAX_CHARACTERS, shown
from vl_absvit.errors import InputError
from vl_absvit.looking.json_lines import read_json_lines

_FILE_NAME = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]{0,99}")
_NO_FILE_NAME = re.compile(r"[^A-Za-z0-9._-]")
_LONGEST_NAME = 90  # leaves room for a number behind it
TextKind = Literal["question", "caption", "picture"]
"""What is asked about a picture: a text of a kind, or nothing but the picture."""
EXAMPLES = {"question": "What is it?", "caption": "a red ring"}


class Request(NamedTuple):
    """A question or caption of the user."""

    id: str
    image: Path
    text: str
    source: str  # the file and line that it was read from, for messages
    more: Mapping[str, Any] = MappingProxyType({})  # further keys of its line


def read_requests(path: str | Path, kind: TextKind = "question") -> list[Request]:
    """Read a JSON Lines file of ``{"image": path, "question": text}``; without an ``id`` the line's number is the id.

    A caption stands under ``caption``, or else under ``question``. A relative path starts at the file's folder if that
    picture exists, else at the current folder. Other keys, such as an ``answer``, are kept.

    Raises:
        InputError: the file cannot be read, has no line, or has a line of another form; the message names the line.
    """
    path = Path(path)
    requests = [_request_of(content, path, number, kind) for number, content in read_json_lines(path)]
    if not requests:
        raise InputError(f'{path}: expected lines such as {{"image": "a.jpg", "{kind}": "{EXAMPLES[kind]}"}}, got none')
    source_of: dict[str, str] = {}
    for request in requests:
        # Some systems take names that differ in case alone for the same file.
        earlier = source_of.setdefault(request.id.lower(), request.source)
        if earlier != request.source:
            raise InputError(f"{request.source}: the id {request.id!r} is also that of {earlier}")
    return requests


def make_request(
    image: str | Path, text: object, source: str, id: object = "1", kind: TextKind = "question"
) -> Request:
    """A checked request.

    Raises:
        InputError: the text is empty or too long, the id cannot name a file, or the picture does not exist.
    """
    if not isinstance(text, str) or not text.strip():
        raise InputError(f"{source}: expected a {kind}, got {shown(text)}")
    if len(text) > MAX_CHARACTERS:
        raise InputError(f"{source}: the {kind} has {len(text):,} characters, the limit is {MAX_CHARACTERS:,}")
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise InputError(f"{source}: expected a {kind} that UTF-8 can hold: {error.reason}") from error
    id = str(id) if type(id) is int else id
    if not isinstance(id, str) or not _FILE_NAME.fullmatch(id):
        raise InputError(
            f"{source}: expected an id of at most 100 letters, digits, '-', '_' and '.', which names the files, "
            f"got {shown(id)}"
        )
    if not Path(image).is_file():
        raise InputError(f"{source}: there is no picture {image}")
    return Request(id, Path(image).resolve(), text, source)


def read_names(path: Path) -> list[str]:
    """The names in a list of pictures, one a line, such as VOC's ``ImageSets/Segmentation/val.txt``.

    Raises:
        InputError: it cannot be read, has no name, or has one twice.
    """
    names = [line.strip() for line in read_text(path, "expected a list of names in UTF-8").splitlines() if line.strip()]
    if not names:
        raise InputError(f"{path}: expected names of pictures, one a line, got none")
    twice = [name for name, times in Counter(names).items() if times > 1]
    if twice:
        raise InputError(f"{path}: {twice[0]!r:.80} is listed twice")
    return names


def picture_requests(place: str | Path, names: Sequence[str] | None = None) -> list[Request]:
    """A picture, or all those below a folder, by path. The text of each is its path below the folder.

    Args:
        names: of the pictures to take, the ends of their paths, with or without suffix; None takes all.

    Its id is the path without suffix, with ``-`` for ``/`` and ``_`` for what a file's name should not have. The second
    one of an id gets ``.2``.

    Raises:
        InputError: there is no picture, one has a name that is not in UTF-8, or a name is not that of one.
    """
    place = Path(place)
    if place.is_file():
        files = [place.name]
    else:
        found = find_pictures(place)
        files = [picture.file for picture in found.pictures]
        if found.misnamed:
            raise InputError(f"{place}: {found.misnamed[0].file}: the name is not in UTF-8; rename it")
        if not files:
            others = f", but {found.others:,} other files" if found.others else ""
            raise InputError(f"{place}: expected pictures, found none{others}")
    if names is not None:
        by_tail = PicturesByTail(place, files)
        files = [by_tail.must_find(name) for name in names]
    folder = place.parent if place.is_file() else place
    requests: list[Request] = []
    times: Counter[str] = Counter()
    for file in files:
        name = _NO_FILE_NAME.sub("_", Path(file).with_suffix("").as_posix().replace("/", "-"))
        id = name.lstrip(".")[-_LONGEST_NAME:] or "_"
        while times[id.lower()]:
            times[id.lower()] += 1
            id = f"{id}.{times[id.lower()]}"
        times[id.lower()] += 1
        requests.append(Request(id, (folder / file).resolve(), file, str(folder / file)))
    return requests


def passed_on(more: Mapping[str, Any], taken: set[str]) -> dict[str, Any]:
    """Further keys of a request under their own names, with ``given_`` before those that the index uses itself."""
    passed = {}
    for name, value in more.items():
        while name in taken:
            name = f"given_{name}"
        taken = taken | {name}
        passed[name] = value
    return passed


def _request_of(content: Mapping[str, Any], path: Path, number: int, kind: TextKind) -> Request:
    """The request of a line of a file."""
    source = f"{path}:{number}"
    text_key = "question" if kind not in content and "question" in content else kind
    keys = ("image", text_key, "id")
    more = {key: value for key, value in content.items() if key not in keys}
    # Unknown keys are kept as the user's notes. They are refused if the text is missing: then one may be a misspelling.
    unknown = [key for key in more if text_key not in content or key in EXAMPLES]
    if unknown:
        raise InputError(f"{source}: expected the keys {', '.join(keys)}, got {shown(unknown[0])}")
    image = content.get("image")
    if not isinstance(image, str) or not image or "\0" in image:
        raise InputError(f"{source}: expected the path of a picture under 'image', got {shown(image)}")
    beside = path.parent / image
    found = beside if beside.is_file() else image
    request = make_request(found, content.get(text_key), source, content.get("id", number), kind)
    return request._replace(more=more)
