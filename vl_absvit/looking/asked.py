"""Questions as they come, a line each, and what is said of each as a record for a line of JSON.

A line is the question itself, or JSON: the question as a string, or an object with ``question``, ``image`` if it is
about a picture of its own, and any other keys, which go into the record.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any, BinaryIO, NamedTuple

from vl_absvit.data.bounded import read_picture
from vl_absvit.data.json_files import form_name, six_digits
from vl_absvit.data.strict_json import MAX_CHARACTERS, parse, shown
from vl_absvit.errors import InputError
from vl_absvit.looking.live_model import LiveModel, Reply
from vl_absvit.looking.own_texts import passed_on

TAKEN = {"image", "question", "answers", "cut", "npz", "png", "error"}
"""Keys of a record; those of a line that have such a name get ``given_`` before it."""
MAX_LINE = 4 * MAX_CHARACTERS  # bytes


class Asked(NamedTuple):
    """A question, or the reason why a line holds none."""

    source: str  # where it stands, for messages
    question: str | None
    image: str | None = None  # as the line names it; None for a question about all pictures
    more: Mapping[str, Any] = MappingProxyType({})  # the line's other keys
    error: str | None = None


class Answered(NamedTuple):
    """A question about one picture, and the model's reply or the reason why there is none."""

    asked: Asked
    image: str | None  # as it was named
    file: Path | None
    reply: Reply | None
    error: str | None = None

    def record(self, files: Mapping[str, str]) -> dict[str, Any]:
        """A line's content.

        Args:
            files: that were written about the answer.
        """
        said: dict[str, Any] = {"error": self.error}
        if self.reply is not None:
            best = [{"answer": text, "confidence": six_digits(share)} for text, share in self.reply.answers]
            said = {"answers": best, "cut": self.reply.is_cut, **files}
        return {"image": self.image, "question": self.asked.question, **said} | passed_on(self.asked.more, TAKEN)


def read_asked(stream: BinaryIO, name: str) -> Iterator[Asked]:
    """The question of every line that is not blank, as soon as the line is there.

    Args:
        name: of the stream, for messages.
    """
    number = 0
    while line := stream.readline(MAX_LINE + 1):
        number += 1
        source = f"{name}:{number}"
        if len(line) > MAX_LINE:
            while line and not line.endswith(b"\n"):
                line = stream.readline(MAX_LINE)
            yield Asked(source, None, error=f"the line has more than {MAX_LINE:,} bytes")
        elif line.strip():
            yield read_line(line, source)


def read_line(line: bytes, source: str) -> Asked:
    """The question of a line, or what is wrong with it."""
    try:
        text = line.decode("utf-8-sig").strip()
    except UnicodeDecodeError as error:
        return Asked(source, None, error=f"expected UTF-8: {error.reason} at byte {error.start}")
    if not text.startswith(("{", '"')):
        return Asked(source, text)
    try:
        content = parse(text)
    except ValueError as error:
        if text.startswith('"'):
            return Asked(source, text)  # a question that begins with a quotation
        return Asked(source, None, error=f"expected a question or JSON: {error}")
    return Asked(source, content) if isinstance(content, str) else _read_object(content, source)


def _read_object(content: dict[str, Any], source: str) -> Asked:
    question, image = content.get("question"), content.get("image")
    asked = Asked(
        source,
        question if isinstance(question, str) else None,
        image if isinstance(image, str) else None,
        {key: value for key, value in content.items() if key not in ("question", "image")},
    )
    if not isinstance(question, str):
        got = f"the keys {shown(list(content))}" if question is None else form_name(question)
        return asked._replace(error=f"expected a question under 'question', got {got}")
    if image is not None and (not isinstance(image, str) or not image or "\0" in image):
        return asked._replace(error=f"expected the path of a picture under 'image', got {shown(image)}")
    return asked


def answer_all(
    live: LiveModel, questions: Iterable[Asked], images: Sequence[str], beside: Path | None = None
) -> Iterator[Answered]:
    """Answer every question about every picture, line by line and then picture by picture.

    Args:
        images: files of the pictures that questions are about if they name none.
        beside: folder where relative paths of lines start, if the picture exists there; else at the current folder.
    """
    for asked in questions:
        for image in [asked.image] if asked.image or asked.error or not images else images:
            file = None if image is None else Path(image)
            if asked.image and beside is not None and (beside / asked.image).is_file():
                file = beside / asked.image
            try:
                yield Answered(asked, image, file, _reply(live, asked, file))
            except InputError as error:
                yield Answered(asked, image, file, None, str(error))


def _reply(live: LiveModel, asked: Asked, file: Path | None) -> Reply:
    """The reply to a question.

    Raises:
        InputError: there is none, for the reason alone.
    """
    if asked.error is not None:
        raise InputError(asked.error)
    if file is None:
        raise InputError("expected a picture, under 'image' in the line or as --image")
    assert asked.question is not None, "a line without a question has an error"
    if len(asked.question) > MAX_CHARACTERS:
        raise InputError(f"the question has {len(asked.question):,} characters, the limit is {MAX_CHARACTERS:,}")
    try:
        content = read_picture(file)
    except OSError as error:
        raise InputError(f"the picture cannot be read: {error.strerror}") from error
    return live.ask(content, asked.question)
