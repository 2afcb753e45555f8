"""ImageNet-C's corruptions on pictures of one's own, made as they are read, and the options of programs that do so.

Hendrycks and Dietterich, "Benchmarking Neural Network Robustness to Common Corruptions and Perturbations", ICLR 2019,
arXiv:1903.12261. The functions are those of the package ``imagecorruptions`` (an extra), which scales
ImageNet-C's to pictures of any size; ``glass_blur`` gives its pixels without its compiler. ImageNet-C's own files were
saved as JPEG after that; these pictures are not.
"""

import argparse
from dataclasses import dataclass

import numpy as np
from PIL import Image

from vl_absvit.data.glass_blur import glass_blur
from vl_absvit.errors import ConfigError, InputError

CORRUPTIONS = (
    "gaussian_noise", "shot_noise", "impulse_noise", "defocus_blur", "glass_blur", "motion_blur", "zoom_blur", "snow",
    "frost", "fog", "brightness", "contrast", "elastic_transform", "pixelate", "jpeg_compression",
)  # fmt: skip
"""In the paper's order."""
SEVERITIES = (1, 2, 3, 4, 5)
SMALLEST_SIDE = 32  # pixels, of the package


@dataclass(frozen=True)
class Corruption:
    """One corruption, of pictures that are cut already."""

    name: str
    severity: int

    @property
    def words(self) -> str:
        """Both, for people."""
        return f"{self.name} of severity {self.severity}"

    def __call__(self, picture: Image.Image) -> Image.Image:
        """The corrupted picture, RGB, of the same size. It depends on numpy's global generator.

        Raises:
            InputError: the picture is too small.
        """
        from imagecorruptions import corrupt

        if min(picture.size) < SMALLEST_SIDE:
            raise InputError(
                f"a picture of {picture.width} x {picture.height} is too small to be corrupted: expected a side of at "
                f"least {SMALLEST_SIDE} px"
            )
        values = np.array(picture)
        if self.name == "glass_blur":
            return Image.fromarray(glass_blur(values, self.severity, _seed()))
        # The package's others draw from numpy's global generator.
        seed = {"seed": _seed()} if self.name == "impulse_noise" else {}
        return Image.fromarray(corrupt(values, self.severity, self.name, **seed))


def _seed() -> int:
    return int(np.random.randint(2**31))


def add_corruption_options(parser: argparse.ArgumentParser, several: bool) -> None:
    """``--corrupt`` and ``--severity``, for a program that judges pictures.

    Args:
        several: more than one of each may be given, and ``all``.
    """
    names, many = ("all", *CORRUPTIONS) if several else CORRUPTIONS, "+" if several else None
    parser.add_argument(
        "--corrupt", choices=names, nargs=many, metavar="NAME",
        help=f"corrupt the pictures as ImageNet-C does: {', '.join(names)}",
    )  # fmt: skip
    default = "all five" if several else "3"
    parser.add_argument(
        "--severity", type=int, choices=SEVERITIES, nargs=many, metavar="S", help=f"1 to 5 (default: {default})"
    )


def corruptions_of(parser: argparse.ArgumentParser, arguments: argparse.Namespace) -> list[Corruption]:
    """The corruptions that the options ask for, in the paper's order; none without ``--corrupt``.

    Raises:
        ConfigError: the package that makes them is not there.
    """
    if arguments.corrupt is None:
        if arguments.severity is not None:
            parser.error("--severity is about --corrupt, which is not given")
        return []
    several = isinstance(arguments.corrupt, list)
    names = arguments.corrupt if several else [arguments.corrupt]
    severities = (arguments.severity or SEVERITIES) if several else [arguments.severity or 3]
    try:
        import imagecorruptions  # noqa: F401
    except ImportError as error:
        raise ConfigError(
            f"--corrupt needs the package imagecorruptions-imaug: pip install 'vl_absvit[imagecorruptions]' ({error})"
        ) from error
    chosen = [name for name in CORRUPTIONS if name in names or "all" in names]
    return [Corruption(name, severity) for name in chosen for severity in sorted(set(severities))]
