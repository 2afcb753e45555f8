"""``decode_rgb``: every kind of file becomes upright 8-bit RGB, or is refused for a reason; ``rgb_size`` agrees."""

import io
from collections import Counter

import numpy as np
import pytest
from PIL import Image, ImageFile

from tests.hostile.corpus import odd_images
from vl_absvit.data.jpeg_outline import jpeg_outline
from vl_absvit.data.rgb import decode_reduced, decode_rgb, rgb_size
from vl_absvit.errors import InputError


def encoded(picture: Image.Image, form: str = "PNG", **options) -> bytes:
    stream = io.BytesIO()
    picture.save(stream, form, **options)
    return stream.getvalue()


def pixel(content: bytes, place=(0, 0)) -> tuple[int, int, int]:
    picture = decode_rgb(content)
    assert picture.mode == "RGB"
    return picture.getpixel(place)


def test_rgb_is_left_as_it_is():
    pixels = np.random.default_rng(0).integers(0, 256, (5, 7, 3), dtype=np.uint8)
    np.testing.assert_array_equal(np.asarray(decode_rgb(encoded(Image.fromarray(pixels)))), pixels)


@pytest.mark.parametrize("mode", ["1", "L", "P", "RGB", "RGBA", "LA"])
def test_white_is_white_in_every_mode(mode):
    assert pixel(encoded(Image.new("RGB", (4, 4), "white").convert(mode))) == (255, 255, 255)


def test_a_palette_gives_its_colours():
    assert pixel(encoded(Image.new("RGB", (4, 4), (255, 0, 51)).quantize(4))) == (255, 0, 51)


def test_a_transparent_palette_entry_lies_over_white():
    picture = Image.new("P", (4, 4), 0)
    picture.putpalette([10, 20, 30, 200, 100, 0])
    picture.putpixel((1, 0), 1)
    content = encoded(picture, transparency=0)
    assert pixel(content) == (255, 255, 255) and pixel(content, (1, 0)) == (200, 100, 0)


def test_half_transparent_black_lies_over_white():
    assert pixel(encoded(Image.new("RGBA", (4, 4), (0, 0, 0, 128)))) == (127, 127, 127)


def test_cmyk_becomes_its_colour():
    red, green, blue = pixel(encoded(Image.new("CMYK", (8, 8), (0, 255, 255, 0)), "JPEG", quality=100))
    assert red > 250 and green < 5 and blue < 5


@pytest.mark.parametrize(("value", "expected"), [(0, 0), (257, 1), (30_000, 117), (65_535, 255)])
def test_sixteen_bits_are_scaled_not_clipped(value, expected):
    picture = Image.fromarray(np.full((4, 4), value, dtype=np.uint16))
    assert pixel(encoded(picture)) == (expected,) * 3
    assert pixel(encoded(picture, "TIFF")) == (expected,) * 3


@pytest.mark.parametrize(("orientation", "corner"), [(1, (0, 0)), (3, (29, 9)), (6, (9, 0)), (8, (0, 29))])
def test_exif_rotation_is_applied(orientation, corner):
    picture = Image.new("RGB", (30, 10), "white")
    picture.putpixel((0, 0), (0, 0, 0))
    exif = picture.getexif()
    exif[0x0112] = orientation
    upright = decode_rgb(encoded(picture, exif=exif))
    assert upright.size == ((30, 10) if orientation in (1, 3) else (10, 30))
    assert upright.getpixel(corner) == (0, 0, 0)


def test_an_animation_is_its_first_frame():
    frames = [Image.new("RGB", (4, 4), colour) for colour in ("red", "blue")]
    assert pixel(encoded(frames[0], "GIF", save_all=True, append_images=frames[1:])) == (255, 0, 0)


def test_a_ribbon_is_refused_before_resizing_makes_it_huge():
    assert decode_rgb(encoded(Image.new("L", (200, 2)))).size == (200, 2)
    with pytest.raises(InputError, match="201 x 2 pixels, one side is more than 100 times the other"):
        decode_rgb(encoded(Image.new("L", (201, 2))))


@pytest.mark.parametrize(
    "size, enough, by",
    [((64, 48), 24, 2), ((64, 48), 25, 1), ((401, 161), 20, 8), ((161, 401), 40, 4), ((9, 7), 8, 1)],
)
def test_a_jpeg_may_be_reduced_as_far_as_enough_pixels_are_left(size, enough, by):
    picture = Image.effect_noise(size, 40).convert("RGB")
    for mode in ("RGB", "L", "CMYK"):
        reduced = decode_reduced(encoded(picture.convert(mode), "JPEG", quality=95), enough)
        assert reduced.by == by and reduced.picture.mode == "RGB"
        assert reduced.picture.size == tuple(-(-side // by) for side in size)
    assert decode_reduced(encoded(picture), enough).picture.size == size, "other formats are not"


def test_what_is_reduced_is_upright_and_refused_as_the_whole_is():
    picture = Image.new("RGB", (40, 80), "white")
    picture.paste("black", (0, 0, 40, 20))
    exif = picture.getexif()
    exif[0x0112] = 6
    reduced = decode_reduced(encoded(picture, "JPEG", exif=exif), 20)
    assert reduced.by == 2 and reduced.picture.size == (40, 20)
    assert reduced.picture.getpixel((38, 10))[0] < 20 and reduced.picture.getpixel((2, 10))[0] > 235
    with pytest.raises(InputError, match="401 x 4 pixels, one side is more than 100 times the other"):
        decode_reduced(encoded(Image.new("RGB", (401, 4)), "JPEG"), 2)


@pytest.mark.parametrize("form", ["JPEG", "PNG", "GIF", "WEBP", "TIFF", "BMP"])
def test_truncated_files_are_refused(form):
    content = encoded(Image.effect_noise((64, 64), 80).convert("RGB"), form)
    for kept in (len(content) // 2, 20):
        with pytest.raises(InputError):
            decode_rgb(content[:kept])
        with pytest.raises(InputError):
            decode_reduced(content[:kept], 8)


def test_damage_anywhere_in_a_file_never_raises_anything_else():
    random = np.random.default_rng(0)
    for form in ("JPEG", "PNG", "GIF", "TIFF", "WEBP"):
        whole = encoded(Image.effect_noise((16, 16), 80).convert("RGB"), form)
        for _ in range(40):
            damaged = bytearray(whole)
            for place in random.integers(0, len(whole), 3):
                damaged[place] = random.integers(0, 256)
            try:
                assert decode_rgb(bytes(damaged)).mode == "RGB"
            except InputError:
                pass


def told(read, content: bytes) -> tuple[int, int] | str:
    """The size that ``read`` finds, or the reason of its refusal."""
    try:
        found = read(content)
    except InputError as error:
        return str(error)
    return found if isinstance(found, tuple) else found.size


def test_the_size_of_odd_jpegs_is_found():
    odd = {name: content for name, content in odd_images().items() if content.startswith(b"\xff\xd8")}
    assert len(odd) > 5
    for name, content in odd.items():
        assert rgb_size(content) == (40, 30), name


@pytest.mark.parametrize("orientation", range(10))
def test_a_jpeg_s_size_is_that_of_the_upright_picture(orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    for width, height in ((2, 3), (60, 61), (31, 8)):
        content = encoded(Image.new("RGB", (width, height)), "JPEG", exif=exif)
        assert rgb_size(content) == decode_rgb(content).size


def test_a_jpeg_s_size_takes_no_decoding_of_its_pixels(monkeypatch):
    decoded, load = [], ImageFile.ImageFile.load

    def watched(image):
        if image.tile:
            decoded.append((image.size, len(image.fp.getbuffer())))
        return load(image)

    monkeypatch.setattr(ImageFile.ImageFile, "load", watched)
    content = encoded(Image.effect_noise((320, 240), 80).convert("RGB"), "JPEG")
    assert rgb_size(content) == (320, 240)
    ((size, read),) = decoded
    assert size == (40, 30) and read < 1_000 < 20_000 < len(content)


KINDS = {
    "444": {"quality": 95, "subsampling": 0},
    "420": {"optimize": True},
    "restarts": {"restart_marker_blocks": 2},
    "grey": {},
    "CMYK": {},
    "progressive": {"progressive": True},
    "comment and profile": {"comment": b"a\xff\xd9b", "icc_profile": bytes(50)},
}


def damaged(content: bytes, random: np.random.Generator) -> bytes:
    """The content with some bytes changed, lost or doubled, a marker where none belongs, or cut; half in its header."""
    place = int(random.integers(2, len(content) if random.random() < 0.5 else min(len(content), 640)))
    length = int(random.integers(1, 30))
    marker = bytes([255, random.choice([0, 1, 0xC0, 0xC2, 0xC4, 0xD0, 0xD8, 0xD9, 0xDA, 0xDB, 0xDD, 0xE1, 0xFE, 255])])
    before, after = content[:place], content[place:]
    return [
        before + random.bytes(1) + after[1:],
        before + random.bytes(length) + after[length:],
        before + bytes(length) + after[length:],
        before + after[length:],
        before + before[-length:] + after,
        before + marker + after,
        before + marker + after[2:],
        before,
        before + content[: 2 * length] + after,
    ][random.integers(9)]


def test_damage_of_a_jpeg_is_found_exactly_where_decoding_finds_it():
    """20 damaged files of each kind; 100,000 were tried by hand."""
    random, seen = np.random.default_rng(0), Counter()
    for name, options in KINDS.items():
        mode = {"grey": "L", "CMYK": "CMYK"}.get(name, "RGB")
        noise = random.integers(0, 256, (40, 48), dtype=np.uint8)  # Pillow's own depends on what ran before
        whole = encoded(Image.fromarray(noise).convert(mode), "JPEG", **options)
        for _ in range(20):
            content = damaged(whole, random)
            expected = told(decode_rgb, content)
            assert told(rgb_size, content) == expected, name
            seen[isinstance(expected, str), jpeg_outline(content) is None] += 1
    assert min(seen[bad, odd] for bad in (True, False) for odd in (True, False)) > 0
