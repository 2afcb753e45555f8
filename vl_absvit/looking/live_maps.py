"""Maps of answers, written as they are given, in the form of an attention export.

The folder holds ``<n>.npz`` and ``<n>.png`` for the n-th answer and a growing ``index.jsonl``, so that
``export_reader.py`` reads it at any time.
"""

import json
from pathlib import Path

from vl_absvit.data.files import check_new_or_empty
from vl_absvit.looking.asked import Answered
from vl_absvit.looking.export_run import entry_of
from vl_absvit.looking.export_writer import INDEX, ExportFolder
from vl_absvit.looking.geometry import seen_box
from vl_absvit.looking.pages import panel
from vl_absvit.looking.picture_texts import PictureText
from vl_absvit.looking.report_page import TITLES


class LiveMaps:
    """A new folder of maps."""

    def __init__(self, folder: Path) -> None:
        """
        Raises:
            InputError: the folder has something in it.
            OSError: it cannot be made.
        """
        check_new_or_empty(folder)
        folder.mkdir(parents=True, exist_ok=True)
        self._folder, self._export, self._written = folder, ExportFolder(folder), 0

    def write(self, answered: Answered, image_size: int) -> dict[str, str]:
        """Write the maps of an answer.

        Args:
            answered: with a reply.
            image_size: side of the model's input.

        Returns:
            ``npz`` and ``png``, the paths of both files.
        """
        asked, _, file, reply, _ = answered
        assert reply is not None and file is not None and asked.question is not None, "there is an answer"
        text = PictureText(str(self._written + 1), None, None, file.resolve(), None, asked.question, more=asked.more)
        best = reply.answers[0]
        place, box = self._export.place_of(text.image), seen_box(*reply.size, image_size)
        entry = entry_of(text, best, place, reply.size, box, has_panel=True)
        titled = {TITLES.get(name, name): grid for name, grid in reply.maps.items()}
        drawn = panel(reply.picture, titled, reply.box, text=text.text, remarks=best.remarks(text))
        self._export.write(entry, reply.maps, drawn)
        with (self._folder / INDEX).open("a", encoding="utf-8") as stream:
            stream.write(json.dumps(entry, allow_nan=False) + "\n")
        self._written += 1
        return {kind: str(self._folder / entry[kind]) for kind in ("npz", "png")}
