"""Preparations that are interrupted while they check images, and what they still check when they go on."""

from collections.abc import Callable
from contextlib import nullcontext

import pytest

from vl_absvit.prepare import check_images


def checked_images(prepare: Callable[[], object], stop_after: int | None = None) -> list[int]:
    """Ids of the images that a preparation decodes; it keeps what it knows of them after every second one.

    Args:
        stop_after: interrupt it when it has decoded this many and begins with the next.
    """
    checked: list[int] = []
    check_image = check_images.check_image

    def check(raw, image):
        if len(checked) == stop_after:
            raise KeyboardInterrupt
        checked.append(image[0])
        return check_image(raw, image)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(check_images, "_IMAGES_PER_COMMIT", 2)
        patch.setattr(check_images, "check_image", check)
        with nullcontext() if stop_after is None else pytest.raises(KeyboardInterrupt):
            prepare()
    return checked
