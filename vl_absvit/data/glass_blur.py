"""ImageNet-C's glass blur: pixels change places with near ones, between two Gaussian blurs.

Hendrycks and Dietterich, ICLR 2019, arXiv:1903.12261. The pixels are those of the package ``imagecorruptions``, which
has the loop over pixels compiled for many seconds in every process. Shapes: H x W pixels, P of them off the border.
"""

import numpy as np

SETTINGS = ((0.7, 1, 2), (0.9, 2, 1), (1.0, 2, 3), (1.1, 3, 2), (1.5, 4, 2))
"""Of each severity: the blurs' sigma, how far pixels go, and how often."""


def glass_blur(values: np.ndarray, severity: int, seed: int) -> np.ndarray:
    """A picture as if through frosted glass.

    Args:
        values: (H, W, 3) uint8.
        severity: 1 to 5.
        seed: below 2^32; decides where pixels go.

    Returns:
        As ``values``.
    """
    from skimage.filters import gaussian

    sigma, reach, times = SETTINGS[severity - 1]
    blurred = (gaussian(values / 255.0, sigma=sigma, channel_axis=-1) * 255).astype(np.uint8)
    moved = blurred.reshape(-1, 3)[moved_from(values.shape[:2], reach, times, seed)].reshape(values.shape)
    again: np.ndarray = gaussian(moved / 255.0, sigma=sigma, channel_axis=-1)
    return (again.clip(0, 1) * 255).astype(np.uint8)


def moved_from(size: tuple[int, int], reach: int, times: int, seed: int) -> np.ndarray:
    """For each pixel the one whose colour it gets, as numbers in raster order, (H * W,).

    The published loop goes from the last pixel to the first one and means to exchange each with another, but copies the
    other's colour. A pixel that takes from one that came before it in the loop gets what that one has by then. Here
    such chains are followed to their ends for all pixels at once.

    Args:
        size: H and W.
        reach: colours come from up to that many pixels away; as many pixels at each border take none.
        times: runs of the loop.
    """
    height, width = size
    draw = np.random.RandomState(seed)
    rows, columns = np.arange(height - reach, reach, -1), np.arange(width - reach, reach, -1)
    takers = (rows[:, None] * width + columns).ravel()  # (P,), in the loop's order
    all_pixels, turns = np.arange(height * width), np.arange(len(takers))
    turn_of = np.full(len(all_pixels), len(takers))  # pixels at the border have none
    turn_of[takers] = turns
    origin = all_pixels
    for _ in range(times):
        across, down = draw.randint(-reach, reach, size=(len(takers), 2)).T
        givers = takers + down * width + across
        giver_of, end = all_pixels.copy(), all_pixels.copy()
        giver_of[takers] = givers
        waits = turn_of[givers] < turns
        end[takers[waits]] = givers[waits]
        while not np.array_equal(farther := end[end], end):
            end = farther
        origin = origin[giver_of[end]]
    return origin
