"""The uncertainty of a counted rate, such as the share of test images that are right."""

from scipy.stats import binomtest

CONFIDENCE = 0.95


def wilson(hits: int, n: int) -> tuple[float, float]:
    """Wilson's 95 % interval of the rate hits / n, as shares."""
    low, high = binomtest(hits, n).proportion_ci(CONFIDENCE, method="wilson")
    return float(low), float(high)


def sampling_half_width(percent: float, num_images: int) -> float:
    """Half of the 95 % interval of an accuracy (%) for the draw of the test images (Wilson's).

    Unlike the plain binomial one it is not 0 where all or none of a few images are right.
    """
    low, high = wilson(round(percent * num_images / 100), num_images)
    return 50 * (high - low)
