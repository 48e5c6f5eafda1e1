"""The uncertainty of a counted rate, such as the share of test images that are right."""

from numbers import Integral, Real

from scipy.stats import binomtest

CONFIDENCE = 0.95


def wilson(hits: int, n: int) -> tuple[float, float]:
    """Wilson's 95 % interval of the rate hits / n, as shares.

    Raises:
        ValueError: no whole numbers, none at all, or more hits than n.
    """
    whole = all(isinstance(x, Integral) and not isinstance(x, bool) for x in (hits, n))
    if not whole or n < 1 or not 0 <= hits <= n:
        raise ValueError(f"{hits} hits of n = {n} are no rate; give whole numbers, 0 to n, n > 0")
    low, high = binomtest(hits, n).proportion_ci(CONFIDENCE, method="wilson")
    return float(low), float(high)


def sampling_half_width(percent: float, num_images: int) -> float:
    """Half of the 95 % interval of an accuracy (%) for the draw of the test images (Wilson's).

    Unlike the plain binomial one it is not 0 where all or none of a few images are right.

    Raises:
        ValueError: an accuracy outside of 0 to 100 %, or no whole number of images, 1 or more.
    """
    if not isinstance(percent, Real) or not 0 <= percent <= 100:
        raise ValueError(f"{percent} percent is no accuracy; give a number from 0 to 100")
    if not isinstance(num_images, Integral) or num_images < 1:
        raise ValueError(f"num_images is {num_images}; give a whole number of images, 1 or more")
    low, high = wilson(round(percent * num_images / 100), num_images)
    return 50 * (high - low)
