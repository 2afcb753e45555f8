"""The outline of a JPEG file by hand, and the files that have none."""

import io

import pytest
from PIL import Image

from vl_absvit.data.jpeg_outline import jpeg_outline

START, END = b"\xff\xd8", b"\xff\xd9"
TABLE = b"\xff\xdb\x00\x04ab"
COMMENT = b"\xff\xfe\x00\x06a\xff\xd9b"  # what looks like the file's end is part of its text
FRAME = b"\xff\xc0\x00\x05abc"
SCAN = b"\xff\xda\x00\x03a"
HEAD = START + COMMENT + TABLE + FRAME
PIXELS = b"a\xff\x00b\xff\xd0c\xff\xd7\xff\x00"  # a stuffed zero, restart markers


def test_all_but_pixel_data_is_kept():
    assert jpeg_outline(HEAD + SCAN + PIXELS + END) == HEAD + SCAN + END
    assert jpeg_outline(HEAD + SCAN + PIXELS + TABLE + SCAN + b"def" + END) == HEAD + SCAN + TABLE + SCAN + END


def test_what_follows_the_end_is_left_out():
    assert jpeg_outline(HEAD + SCAN + PIXELS + END + b"more" + END) == HEAD + SCAN + END


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\x89PNG\r\n\x1a\n",
        HEAD + SCAN + PIXELS,
        HEAD + SCAN + PIXELS + b"\xff",
        HEAD,
        HEAD + SCAN[:3],
        HEAD + SCAN[:-1],
        START + TABLE + b"a" + FRAME + SCAN + END,
        START + b"\xff" + TABLE + FRAME + SCAN + END,
        START + FRAME.replace(b"\xc0", b"\xc2") + SCAN + END,
        START + b"\xff\xdb\x00\x01" + FRAME + SCAN + END,
        HEAD + SCAN + b"a\xff\x01b" + END,
        HEAD + SCAN + b"a\xff\xff" + END,
    ],
    ids=[
        "nothing", "another format", "no end", "half an end", "no scan", "cut in a part's length", "cut in a part",
        "something between parts", "a filler between parts", "progressive", "a part of one byte", "an unknown marker",
        "a filler in pixel data",
    ],
)  # fmt: skip
def test_a_file_with_anything_unusual_has_none(content):
    assert jpeg_outline(content) is None


def test_photographs_have_one_of_a_few_hundred_bytes():
    picture = Image.effect_noise((640, 480), 60).convert("RGB")
    picture.save(stream := io.BytesIO(), "JPEG")
    assert len(stream.getvalue()) > 50_000 and len(jpeg_outline(stream.getvalue())) < 1_000
