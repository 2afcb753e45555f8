"""What is left of a JPEG file without its pixel data: all that can make libjpeg refuse it.

The decoder fills in for pixel data that are broken or end early, and only warns. Errors come from the parts around
them, or from a file that has no end. ITU-T T.81, annex B, describes the parts.
"""

_START, _END, _SCAN = b"\xff\xd8", b"\xff\xd9", 0xDA
_PARTS = frozenset({0xC0, 0xC4, 0xDB, 0xDD, 0xFE, _SCAN, *range(0xE0, 0xF0)})
"""Frame of a baseline file, tables, restart interval, comment, scan, application data."""
_IN_PIXELS = frozenset({0x00, *range(0xD0, 0xD8)})
"""What follows 0xFF within pixel data: a zero, or a restart marker."""


def jpeg_outline(content: bytes) -> bytes | None:
    """A whole baseline JPEG file without its pixel data; None if it is anything else, or has anything unusual."""
    if not content.startswith(_START):
        return None
    kept, place = [_START], len(_START)
    while content[place : place + 2] != _END:
        if place + 4 > len(content) or content[place] != 0xFF or content[place + 1] not in _PARTS:
            return None
        length = int.from_bytes(content[place + 2 : place + 4])
        kept.append(content[place : place + 2 + length])
        if length < 2 or len(kept[-1]) < 2 + length:
            return None
        is_scan = content[place + 1] == _SCAN
        place += 2 + length
        if is_scan:
            place = _end_of_pixels(content, place)
    return b"".join((*kept, _END))


def _end_of_pixels(content: bytes, start: int) -> int:
    """Place of the first marker that is not part of the pixel data; the file's end if there is none."""
    place = content.find(b"\xff", start)
    while 0 <= place < len(content) - 1:
        if content[place + 1] not in _IN_PIXELS:
            return place
        place = content.find(b"\xff", place + 2)
    return len(content)
