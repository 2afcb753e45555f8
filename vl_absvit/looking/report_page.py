"""An attention export as one web page: every question, caption or picture with the model's answer, and its maps.

The page is one file and needs no network: it contains pictures, maps, colours, style and script. Maps are stored as
8-bit grids, and the page draws them. Its three parts are ``report_page.html``, ``.css`` and ``.js`` beside this
file.
"""

import base64
import hashlib
import html
import io
import json
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import matplotlib
import numpy as np
from PIL import Image

from vl_absvit.data.files import write_text
from vl_absvit.data.json_files import make_room
from vl_absvit.data.rgb import open_rgb
from vl_absvit.errors import ConfigError, InputError
from vl_absvit.looking.export_reader import Exported, ExportedCaption, ExportedPicture
from vl_absvit.looking.overlay import resized

TITLES = {
    "prior_mask": "prior mask",
    "bottom_up": "bottom-up",
    "top_down": "top-down",
    "bottom_up_cls": "bottom-up, CLS",
    "top_down_cls": "top-down, CLS",
    "difference": "top-down minus bottom-up",
    "bottom_up_average": "bottom-up, like the average",
    "top_down_average": "top-down, like the average",
    "cross": "cross-attention",
    "cross_gradient": "cross-attention, gradient",
    "grad_cam": "Grad-CAM",
    "rollout": "attention rollout",
}
"""Kinds of maps in the page's order. Other kinds come after them under their own names."""
SHOWN_AT_FIRST = ("prior_mask", "bottom_up", "top_down")
HUMAN = "people"
"""Title of the human maps."""
PICTURE_SIDE, JPEG_QUALITY = 384, 82
HUMAN_SIDE = 32
"""Longer side of a human map on the page, in cells. People drew finer maps, which are averaged."""
COLORMAP = "inferno"
WHOLE = (0.0, 0.0, 1.0, 1.0)


class WrittenReport(NamedTuple):
    """Numbers of what the page shows, and its size."""

    texts: int  # questions, captions or pictures without a text
    pictures: int
    human_maps: int
    size: int  # of the file, in bytes


def in_order(kinds: Iterable[str]) -> list[str]:
    """Kinds of maps, each once, in the page's order: those of ``TITLES``, then others."""
    found = dict.fromkeys(kinds)
    return [kind for kind in TITLES if kind in found] + [kind for kind in found if kind not in TITLES]


def choose_shown(kinds: Sequence[str], show: Sequence[str] | None) -> list[str]:
    """The kinds of maps that the page shows when it is opened.

    Args:
        kinds: all kinds of the export.
        show: the user's choice. None shows ``SHOWN_AT_FIRST``, or all kinds if the export has none of these.

    Raises:
        ConfigError: the export has no map of a chosen kind.
    """
    if show is None:
        return [kind for kind in SHOWN_AT_FIRST if kind in kinds] or list(kinds)
    for kind in show:
        if kind not in kinds:
            raise ConfigError(f"the export has no map {kind!r}; there are {', '.join(kinds) or 'none'}")
    return list(show)


def write_report(
    records: Iterable[Exported],
    output: str | Path,
    human: Mapping[str, np.ndarray] | None = None,
    agreement: Mapping[str, float] | None = None,
    *,
    title: str = "Where the model looks",
    note: str = "",
    show: Sequence[str] | None = None,
) -> WrittenReport:
    """Write the page, whole or not at all.

    Args:
        human: id of a record -> where people looked, a grid (h, w) over the whole picture; larger is more.
        agreement: id of a record -> agreement of model and people; more is better.
        note: a line below the title.
        show: kinds of maps to show when the page is opened, as for ``choose_shown``; the reader can choose others.

    Raises:
        InputError: there is no record, a picture cannot be read or has another size than the export states, or
            ``output`` cannot be written.
        ConfigError: no record has a kind of map that is in ``show``.
    """
    output = Path(output)
    make_room(output)
    pictures: dict[tuple[Path, tuple[int, int]], int] = {}
    encoded: list[str] = []
    cards: list[dict[str, Any]] = []
    found: list[str] = []
    for record in records:
        key = record.image, record.image_size
        if key not in pictures:
            pictures[key] = len(encoded)
            encoded.append(_encode_picture(record))
        cards.append(_card(record, pictures[key], human or {}, agreement or {}))
        found += record.maps
    if not cards:
        raise InputError(f"{output}: there is no question, caption or picture to report on")
    kinds = in_order(found)
    content = {
        "title": title,
        "note": note,
        "kinds": [{"name": kind, "title": TITLES.get(kind, kind)} for kind in kinds],
        "show": choose_shown(kinds, show),
        "human": HUMAN,
        # Red, green and blue of 256 colours from weak to strong.
        "colours": _base64(matplotlib.colormaps[COLORMAP](np.arange(256), bytes=True)[:, :3].tobytes()),
        "pictures": encoded,
        "about": cards[0]["about"],
        "cards": cards,
    }
    write_text(output, _fill_template(title, content))
    with_human = sum(card["human"] is not None for card in cards)
    return WrittenReport(len(cards), len(encoded), with_human, output.stat().st_size)


def _card(
    record: Exported, picture: int, human: Mapping[str, np.ndarray], agreement: Mapping[str, float]
) -> dict[str, Any]:
    """A record in the form that the page's script reads."""
    width, height = record.image_size
    box = tuple(edge / side for edge, side in zip(record.box, (width, height, width, height), strict=True))
    card = {
        "id": record.id,
        "image": record.image_id,
        "picture": picture,
        "size": record.image_size,
        "maps": {kind: _map(grid, box) for kind, grid in record.maps.items()},
        "human": _map(_shrink(human[record.id]), WHOLE) if record.id in human else None,
        "agreement": agreement.get(record.id),
        **dict.fromkeys(("type", "accuracy", "match")),
    }
    if isinstance(record, ExportedCaption):
        return card | {"about": "caption", "text": record.caption, "match": record.match, "score": record.score}
    if isinstance(record, ExportedPicture):
        said = {"prediction": record.prediction, "confidence": record.confidence}
        return card | {"about": "picture", "text": record.picture, **said}
    return card | {
        "about": "question",
        "text": record.question,
        "type": record.answer_type,
        "prediction": record.prediction,
        "confidence": record.confidence,
        "accuracy": record.accuracy,
        # The most frequent answer first; equally frequent ones in the order in which they were given.
        "answers": None if record.answers is None else Counter(record.answers).most_common(),
    }


def _map(grid: np.ndarray, box: Sequence[float]) -> dict[str, Any]:
    """A map scaled so that its smallest value is 0 and its largest 255. A constant map is 0 everywhere.

    Args:
        grid: (h, w).
        box: part of the picture that it covers, as shares of the picture's width and height.
    """
    grid = np.asarray(grid, dtype=np.float64)
    low, high = grid.min(), grid.max()
    heat = (grid - low) / (high - low) if high > low else np.zeros_like(grid)
    values = np.rint(255 * heat).astype(np.uint8)
    return {
        "shape": grid.shape,
        "box": box,
        "low": float(low),
        "high": float(high),
        "values": _base64(values.tobytes()),
    }


def _shrink(grid: np.ndarray) -> np.ndarray:
    """A fine map, averaged to at most ``HUMAN_SIDE`` cells a side."""
    factor = max(1.0, max(grid.shape) / HUMAN_SIDE)
    rows, columns = (max(1, round(side / factor)) for side in grid.shape)
    return np.asarray(Image.fromarray(grid.astype(np.float32)).resize((columns, rows), Image.Resampling.BOX))


def _encode_picture(record: Exported) -> str:
    """The picture as a data URI. Its longer side is at most ``PICTURE_SIDE``."""
    try:
        picture = open_rgb(record.image)
    except InputError as error:
        raise InputError(f"{_name(record)}: {error}") from error
    if picture.size != record.image_size:
        got, expected = (" x ".join(map(str, size)) for size in (picture.size, record.image_size))
        raise InputError(f"{_name(record)}: {record.image}: expected {expected} pixels as exported, got {got}")
    stream = io.BytesIO()
    resized(picture, min(1.0, PICTURE_SIDE / max(picture.size))).save(
        stream, "JPEG", quality=JPEG_QUALITY, optimize=True
    )
    return f"data:image/jpeg;base64,{_base64(stream.getvalue())}"


def _name(record: Exported) -> str:
    kinds = {ExportedCaption: "caption", ExportedPicture: "picture"}
    return f"{kinds.get(type(record), 'question')} {record.id}"


def _base64(content: bytes) -> str:
    return base64.b64encode(content).decode("ascii")


def _fill_template(title: str, content: dict[str, Any]) -> str:
    """The whole page. Its security policy allows our style and script, by their hashes, and embedded pictures."""
    here = Path(__file__)
    page, style, script = (here.with_suffix(suffix).read_text(encoding="utf-8") for suffix in (".html", ".css", ".js"))
    parts = {
        "policy": f"default-src 'none'; img-src data:; style-src '{_hash(style)}'; script-src '{_hash(script)}'; "
        "base-uri 'none'; form-action 'none'",
        "title": html.escape(title).encode("ascii", "xmlcharrefreplace").decode("ascii"),
        "style": style,
        # In JSON "<" occurs only inside strings. Escaping it keeps "</script>" from ending the element.
        "content": json.dumps(content, allow_nan=False, separators=(",", ":")).replace("<", "\\u003c"),
        "script": script,
    }
    return re.sub(r"\{\{(\w+)\}\}", lambda match: parts[match[1]], page)


def _hash(text: str) -> str:
    return f"sha256-{_base64(hashlib.sha256(text.encode()).digest())}"
