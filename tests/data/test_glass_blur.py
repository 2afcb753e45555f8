"""Glass blur against the published loop over pixels, and against the package that has it compiled."""

import numpy as np
import pytest

from vl_absvit.data.glass_blur import SETTINGS, glass_blur, moved_from


def published_loop(values: np.ndarray, reach: int, times: int, seed: int) -> np.ndarray:
    """As ImageNet-C's authors wrote it: both sides of the exchange are views of one array."""
    height, width = values.shape[:2]
    draw = np.random.RandomState(seed)
    for _ in range(times):
        for h in range(height - reach, reach, -1):
            for w in range(width - reach, reach, -1):
                dx, dy = draw.randint(-reach, reach, size=2)
                h_prime, w_prime = h + dy, w + dx
                values[h, w], values[h_prime, w_prime] = values[h_prime, w_prime], values[h, w]
    return values


@pytest.mark.parametrize("severity", [1, 2, 3, 4, 5])
def test_pixels_go_where_the_published_loop_takes_them(severity):
    values = np.random.default_rng(severity).integers(0, 256, (37, 32, 3), dtype=np.uint8)
    _, reach, times = SETTINGS[severity - 1]
    moved = values.reshape(-1, 3)[moved_from((37, 32), reach, times, seed=severity)].reshape(values.shape)
    assert not np.array_equal(moved, values)
    np.testing.assert_array_equal(moved, published_loop(values.copy(), reach, times, seed=severity))


@pytest.mark.slow
def test_pictures_are_the_packages():
    imagecorruptions = pytest.importorskip("imagecorruptions", exc_type=ImportError)
    values = np.random.default_rng(0).integers(0, 256, (45, 60, 3), dtype=np.uint8)
    for severity in range(1, 6):
        expected = imagecorruptions.corrupt(values, severity, "glass_blur", seed=2**31 - severity)
        np.testing.assert_array_equal(glass_blur(values, severity, 2**31 - severity), expected)
