"""Files made to do harm, or broken as files break: what a stranger's download may hold.

Functions give names and contents, or write one file.
"""

import io
import json
import os
import pickle
import struct
import zipfile
import zlib
from pathlib import Path

import numpy as np
import torch
from PIL import Image

DEPTH = 10_000
MEBIBYTE = 1 << 20


class Attack:
    """An object whose unpickling makes a folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = str(folder)

    def __reduce__(self):
        return os.mkdir, (self.folder,)


# JSON.


def hostile_json(good: str) -> dict[str, tuple[bytes, str]]:
    """What no reader of JSON should take: name -> (content, a word of the complaint).

    Args:
        good: JSON text that the program would take, with an object in it.
    """

    def with_first(entry: str) -> bytes:
        return good.replace("{", "{" + entry + ", ", 1).encode("utf-8", "surrogateescape")

    return {
        "empty": (b"", "Expecting value"),
        "blank": (b" \n\t" * 1000, "Expecting value"),
        "NUL bytes": (bytes(1000), "Expecting value"),
        "deep": (b"[" * DEPTH + b"]" * DEPTH, "nested too deeply"),
        "deep and open": (b'{"a":' * DEPTH, "nested too deeply"),
        "deep inside": (with_first('"x": ' + "[" * DEPTH + "]" * DEPTH), "nested too deeply"),
        "NaN": (with_first('"x": NaN'), "NaN is not JSON"),
        "Infinity": (with_first('"x": [-Infinity]'), "-Infinity is not JSON"),
        "overflow": (with_first('"x": 1e999'), "the number 1e999 is too large"),
        "vast exponent": (with_first('"x": 1e99999999999999999999'), "is too large"),
        "5,000 digits": (with_first('"x": ' + "9" * 5000), "4300 digits"),
        "key twice": (with_first('"x": 1, "x": 2'), "the key 'x' is given twice"),
        "half a surrogate pair": (with_first('"x": "\\ud83d"'), "half a surrogate pair"),
        "halves swapped": (with_first('"x": "\\ude00\\ud83d"'), "half a surrogate pair"),
        "not UTF-8": (with_first('"x": "\udcff"'), "codec can't decode"),
        "raw NUL": (with_first('"x": "\0"'), "Invalid control character"),
        "UTF-16": (good.encode("utf-16"), "codec can't decode"),
        "cut short": (good.encode()[:-2], "xpect"),
        "two values": (good.encode() + b"{}", "xpect"),
        "comment": (with_first("/* x */"), "xpect"),
    }


def mebibytes(content: bytes, number: int) -> bytes:
    """``content`` again and again, a mebibyte long, ``number`` times."""
    return (content * MEBIBYTE)[:MEBIBYTE] * number


def gzip_bomb(path: Path, start: bytes, fill: bytes, mebibytes: int) -> Path:
    """A gzip file that goes on with ``fill`` for ``mebibytes`` mebibytes and takes a thousandth of it.

    One packed mebibyte is repeated, so that writing it takes no time.
    """
    raw = zlib.compressobj(9, zlib.DEFLATED, -zlib.MAX_WBITS)
    first = raw.compress(start) + raw.flush(zlib.Z_FULL_FLUSH)
    piece = raw.compress(fill * MEBIBYTE) + raw.flush(zlib.Z_FULL_FLUSH)
    with path.open("wb") as stream:
        stream.write(b"\x1f\x8b\x08" + bytes(7) + first)
        for _ in range(mebibytes):
            stream.write(piece)
    return path


# Images.


def encoded(picture: Image.Image, form: str = "PNG", **options: object) -> bytes:
    picture.save(stream := io.BytesIO(), form, **options)
    return stream.getvalue()


def noise(width: int = 40, height: int = 30) -> Image.Image:
    return Image.fromarray(np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8))


def chunk(kind: bytes, body: bytes) -> bytes:
    """One part of a PNG file."""
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def png(width: int, height: int, pixels: bytes, extra: bytes = b"") -> bytes:
    """An RGB PNG that claims a size, whatever pixels it holds."""
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + extra + chunk(b"IDAT", zlib.compress(pixels)) + chunk(b"IEND", b"")


def bmp(width: int, height: int) -> bytes:
    """A BMP that claims a size and holds no pixels."""
    sizes = struct.pack("<IiiHHIIiiII", 40, width, height, 1, 24, 0, 0, 0, 0, 0, 0)
    return b"BM" + struct.pack("<IHHI", 54, 0, 0, 54) + sizes


POSTSCRIPT = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 40 30\n%%EndComments\nshowpage\n%%EOF\n"


def bad_images() -> dict[str, tuple[bytes, str]]:
    """What cannot be a picture of a data set: name -> (content, a word of the reason)."""
    jpeg = encoded(noise(), "JPEG")
    packed = zlib.compress(b"a" * (128 * MEBIBYTE))
    return {
        "empty": (b"", "empty file"),
        "NUL bytes": (bytes(1000), "not an image"),
        "page": (b"<html>", "not an image"),
        "cut in its header": (jpeg[:20], "not an image"),
        "cut in its pixels": (jpeg[:-40], "truncated"),
        "claims 100,000 x 100,000": (png(100_000, 100_000, bytes(100)), "the limit is 89,478,485"),
        "BMP of 100,000 x 100,000": (bmp(100_000, 100_000), "the limit is 89,478,485"),
        "BMP of negative size": (bmp(-100, -100), "the limit is"),
        "PPM of 100,000 x 100,000": (b"P6 100000 100000 255\n", "the limit is 89,478,485"),
        "just over the limit": (encoded(Image.new("1", (9_460, 9_460))), "9460 x 9460 pixels"),
        "claims more than it has": (png(9_000, 9_000, bytes(1000)), "truncated"),
        "endless text": (png(40, 30, bytes(121 * 30), chunk(b"zTXt", b"a\0\0" + packed)), "too large"),
        "endless profile": (png(40, 30, bytes(121 * 30), chunk(b"iCCP", b"a\0\0" + packed)), "too large"),
        "a line": (encoded(noise(width=1)), "at least 2 x 2"),
        "a ribbon": (encoded(noise(width=2, height=300)), "more than 100 times"),
        "floating point": (encoded(Image.fromarray(np.zeros((30, 40), np.float32)), "TIFF"), "range is unknown"),
        "program": (POSTSCRIPT, "not an image"),
        "drawing": (b'<svg xmlns="http://www.w3.org/2000/svg" width="40" height="30"/>', "not an image"),
    }


def odd_images() -> dict[str, bytes]:
    """What is odd but can be seen: names and contents, each 40 x 30 when upright."""
    upright = noise()
    endless = png(40, 30, bytes(64 * MEBIBYTE))  # more pixels than it claims
    turned = Image.Exif()
    turned[0x0112] = 6
    images = {
        "palette": encoded(upright.convert("P")),
        "transparent palette": encoded(upright.convert("P"), transparency=3),
        "grey": encoded(upright.convert("L")),
        "grey and opacity": encoded(upright.convert("LA")),
        "CMYK": encoded(upright.convert("CMYK"), "JPEG"),
        "16 bits": encoded(Image.fromarray(np.arange(1200, dtype=np.uint16).reshape(30, 40) * 50)),
        "one bit": encoded(upright.convert("1")),
        "two JPEGs in one": encoded(upright, "MPO", save_all=True, append_images=[noise()]),
        "more than it claims": endless,
        "something after it": encoded(upright, "JPEG") + b"#!/bin/sh\n",
        "turned": encoded(upright.transpose(Image.Transpose.ROTATE_90), "JPEG", exif=turned),
    }
    nonsense = {
        "EXIF of noise": b"\xff" * 100,
        "EXIF cut": b"II*\0\x08\0\0\0\xff\xff",
        "EXIF that points far away": b"II*\0\x08\0\0\0\x01\0\x12\x01\x03\0\xff\xff\xff\x7f\x08\0\0\0",
        "EXIF of orientation 255": b"MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0\xff\0\0\0\0\0\0",
        "EXIF that points at itself": b"II*\0\x08\0\0\0\x01\0\x69\x87\x04\0\x01\0\0\0\x08\0\0\0\x08\0\0\0",
    }
    return images | {name: encoded(upright, "JPEG", exif=b"Exif\0\0" + body) for name, body in nonsense.items()}


# Names.

CLIMBING = ("../secret.png", "../../etc/passwd", "/etc/passwd", "a/../../secret.png", "a\0b.png", "", ".", "..")
"""File names that lead out of a folder, or are none."""


# Weights.


def safetensors(header: object, data: bytes = b"") -> bytes:
    """A safetensors file with this header, as text or as an object."""
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + data


def tensor(shape: list[int], start: int, end: int, dtype: str = "F32") -> dict:
    return {"dtype": dtype, "shape": shape, "data_offsets": [start, end]}


def bad_safetensors() -> dict[str, bytes]:
    """Files that are not safetensors, or lie about their sizes."""
    good = safetensors({"a": tensor([3], 0, 12)}, bytes(12))
    vast = [10**9, 10**9, 10**9]
    return {
        "empty": b"",
        "eight bytes": bytes(8),
        "cut in its header": good[:20],
        "cut in its data": good[:-4],
        "longer than it says": good + b"more",
        "header beyond the file": struct.pack("<Q", 10**6) + good[8:],
        "header of 2^63 bytes": struct.pack("<Q", 2**63) + good[8:],
        "header of -1 bytes": struct.pack("<q", -1) + good[8:],
        "header of 99 MB": struct.pack("<Q", 99_000_000) + good[8:],
        "header of nothing": struct.pack("<Q", 0) + good[8:],
        "header of noise": safetensors(b"x" * 100),
        "header nested 10,000 deep": safetensors(b'{"a":' + b"[" * DEPTH + b"]" * DEPTH + b"}"),
        "tensor beyond the file": safetensors({"a": tensor([3], 0, 10**12)}, bytes(12)),
        "tensor of 10^27 numbers": safetensors({"a": tensor(vast, 0, 12)}, bytes(12)),
        "tensors on top of each other": safetensors({name: tensor([3], 0, 12) for name in "ab"}, bytes(12)),
        "tensor that ends before it begins": safetensors({"a": tensor([3], 12, 0)}, bytes(12)),
        "unknown numbers": safetensors({"a": tensor([3], 0, 12, "F99")}, bytes(12)),
        "archive": b"PK\x03\x04" + bytes(100),
    }


def pickled_safetensors(target: Path) -> bytes:
    """A pickle that makes ``target``, which is to be called ``.safetensors``."""
    return pickle.dumps({"a": Attack(target)})


def repacked(path: Path, pickled: bytes, compression: int = zipfile.ZIP_STORED) -> Path:
    """A PyTorch file with this pickle in the place of its own."""
    torch.save({"model": {"a": torch.zeros(3)}}, good := io.BytesIO())
    with zipfile.ZipFile(good) as source, zipfile.ZipFile(path, "w", compression) as archive:
        for member in source.infolist():
            content = pickled if member.filename.endswith("data.pkl") else source.read(member)
            archive.writestr(member.filename, content)
    return path


def tuples(depth: int, twice: bool) -> bytes:
    """A pickled dictionary whose key is a tuple in a tuple, ``depth`` times.

    Args:
        twice: each holds the inner one twice, so that few bytes stand for 2^depth parts.
    """
    step = b"q\x01h\x01\x86" if twice else b"\x85"
    return b"\x80\x02})" + step * depth + b"K\x01s."


def bad_checkpoints(folder: Path, target: Path) -> dict[str, Path]:
    """Files of the form ``.pth`` that are to be refused; those that run something would make ``target``."""
    folder.mkdir(exist_ok=True)
    attack, weights = Attack(target), {"a": torch.zeros(3)}
    for name, content in {
        "reduce": {"model": attack},
        "reduce in the optimizer": {"model": weights, "optimizer": [attack]},
        "reduce as a key": {"model": weights, "args": {"x": (attack,)}},
        "terabytes of zeros": {"model": {"a": torch.zeros(1).expand(2**40)}},
    }.items():
        torch.save(content, folder / f"{name}.pth")
    torch.save({"model": attack}, folder / "reduce, old format.pth", _use_new_zipfile_serialization=False)
    for protocol in (0, 2, 4):
        (folder / f"pickle {protocol}.pth").write_bytes(pickle.dumps({"model": attack}, protocol))
    repacked(folder / "tuples without end.pth", tuples(60, twice=True))
    repacked(folder / "tuples beyond the stack.pth", tuples(200_000, twice=False))
    repacked(folder / "tuples without a protocol.pth", tuples(60, twice=True)[2:])
    (folder / "tuples, old format.pth").write_bytes(tuples(60, twice=True))
    endless = repacked(folder / "tuples, wrong checksum.pth", tuples(60, twice=True))
    endless.write_bytes(endless.read_bytes().replace(b"q\x01h\x01", b"qAh\x01", 1))  # PyTorch does not mind
    repacked(folder / "compressed.pth", b"\x80\x02" + b"N0" * (32 * MEBIBYTE) + b"N.", zipfile.ZIP_DEFLATED)
    (folder / "text.pth").write_bytes(b"x" * 1000)
    (folder / "empty.pth").write_bytes(b"")
    return {path.stem: path for path in sorted(folder.iterdir())}


# Configs.


def bad_configs(target: Path) -> dict[str, tuple[bytes, str]]:
    """YAML that is no config: name -> (content, a word of the complaint); those that run something make ``target``."""
    nested = (f"- &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]" for n in range(1, 30))
    laughs = "\n".join(f"    {line}" for line in ("- &a0 [x, x, x, x, x, x, x, x, x]", *nested))
    texts = {
        "tag that runs": (f"optim: !!python/object/apply:os.mkdir ['{target}']\n", "could not determine a constructor"),
        "tag that runs by new": (f"optim: !!python/object/new:os.mkdir ['{target}']\n", "could not determine"),
        "tag that imports": ("optim: !!python/name:os.system\n", "could not determine a constructor"),
        "tag of a module": ("optim: !!python/module:os\n", "could not determine a constructor"),
        "aliases for 10^27 values": (f"optim:\n  epochs:\n{laughs}\n", "aliases are not read"),
        "alias of itself": ("optim: &a\n  epochs: *a\n", "aliases are not read"),
        "merge": ("run: &a {output: x}\ndata:\n  <<: *a\n", "aliases are not read"),
        "nested 2,000 deep": ("optim: " + "[" * 2000 + "]" * 2000, "not YAML"),
        "key twice": ("optim: {epochs: 1, epochs: 2}\n", "the key 'epochs' is given twice"),
        "group twice": ("optim: {epochs: 1}\noptim: {epochs: 2}\n", "the key 'optim' is given twice"),
        "NUL": ('optim: "a\0b"\n', "special characters are not allowed"),
        "two documents": ("optim: {epochs: 1}\n---\noptim: {epochs: 2}\n", "found another document"),
        "a list as a key": ("? [a, b]\n: 1\n", "unhashable key"),
        "no date": ("optim: {epochs: 2001-99-99}\n", "month must be in 1..12"),
        "5,000 digits": (f"optim: {{epochs: {'9' * 5000}}}\n", "4300 digits"),
        "nothing": ("", "expected keys and values"),
        "more than a megabyte": ("# " + "x" * MEBIBYTE, "expected at most 1,048,576 bytes"),
    }
    contents = {name: (text.encode(), words) for name, (text, words) in texts.items()}
    return contents | {"not UTF-8": (b"optim: \xff\n", "codec can't decode")}


# Archives of maps.


def bad_archives(target: Path) -> dict[str, tuple[bytes, str]]:
    """What no archive of maps is: name -> (content, a word of the complaint)."""

    def archive(header: str, data: bytes, compression: int = zipfile.ZIP_STORED) -> bytes:
        head = header.encode() + b" " * (-(11 + len(header)) % 64) + b"\n"
        stream = io.BytesIO()
        with zipfile.ZipFile(stream, "w", compression) as made:
            made.writestr("cross.npy", b"\x93NUMPY\x01\0" + struct.pack("<H", len(head)) + head + data)
        return stream.getvalue()

    def floats(*shape: int) -> str:
        return f"{{'descr': '<f4', 'fortran_order': False, 'shape': {shape}}}"

    np.savez(objects := io.BytesIO(), cross=np.array([Attack(target)], dtype=object))
    np.save(single := io.BytesIO(), np.zeros(3))
    return {
        "objects": (objects.getvalue(), "Object arrays cannot be loaded"),
        "pickle": (pickle.dumps(Attack(target)), "expected an archive of maps"),
        "program as a header": (archive(f"__import__('os').mkdir('{target}')", bytes(16)), "malformed node"),
        "deep header": (archive("(" * 3000 + ")" * 3000, bytes(16)), "expected an archive of maps"),
        "10^18 numbers": (archive(floats(10**9, 10**9), bytes(16)), "too large for memory"),
        "negative shape": (archive(floats(-1, 4), bytes(16)), "expected an archive of maps"),
        "strings of a gigabyte": (
            archive("{'descr': '|S1000000000', 'fortran_order': False, 'shape': (3,)}", b""), "expected an archive"
        ),
        "bomb": (archive(floats(8192, 10240), bytes(320 * MEBIBYTE), zipfile.ZIP_DEFLATED), "it unpacks to"),
        "a single array": (single.getvalue(), "it is a single array"),
        "empty": (b"", "expected an archive of maps"),
        "cut": (objects.getvalue()[:100], "expected an archive of maps"),
    }  # fmt: skip
