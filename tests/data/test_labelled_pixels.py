"""What a prepared folder says of its classes is checked before it is used."""

import json

import pytest

from vl_absvit.data.labelled_pixels import read_classes
from vl_absvit.errors import InputError

WHOLE = {"format": 1, "root": "raw", "splits": {}, "classes": ["ground", "dog"], "colours": [[0, 0, 0], [128, 0, 255]]}


def classes_of(folder, **changes):
    (folder / "manifest.json").write_text(json.dumps(WHOLE | changes))
    return read_classes(folder)


def test_classes_have_names_and_colours(tmp_path):
    assert classes_of(tmp_path) == (["ground", "dog"], [(0, 0, 0), (128, 0, 255)])


@pytest.mark.parametrize(
    "changes",
    [
        {"classes": None},
        {"classes": ["ground"]},
        {"classes": ["ground", 2]},
        {"classes": [], "colours": []},
        {"colours": [[0, 0, 0], None]},
        {"colours": [[0, 0, 0], ["a", 0, 0]]},
        {"colours": [[0, 0, 0], [0, 0]]},
        {"colours": [[0, 0, 0], [0, 0, 256]]},
        {"colours": "black"},
    ],
)
def test_other_classes_and_colours_are_one_line(tmp_path, changes):
    with pytest.raises(InputError, match="manifest.json: expected names and colours of 1 to 255 classes$"):
        classes_of(tmp_path, **changes)
