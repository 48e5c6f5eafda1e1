"""Judge a comparison by means of runs, their spread over seeds and the draw of the test images.

The rule: a claim says that a sum of means, such as A - B, lies between two bounds. Its interval has
two parts, added in squares as they are independent: Welch's over the runs (t distribution, degrees
of freedom by Welch and Satterthwaite), and the sampling half-width of the test set. The claim is
supported where the whole interval lies within the bounds, contradicted where none of it does, and
undecided at this n otherwise. One run a side has no spread to tell, so it decides nothing.

Models scored on the same images err on the same ones. Where the records keep which images were
right, the second part is of the difference image by image, which is smaller; else it is taken as of
independent draws: too wide rather than too narrow. Runs of one seed share the order and the crops
of their images, but are not paired: so few pairs leave Student's t too few degrees of freedom.
"""

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from scipy.stats import norm, sem, t

from nestlib.metrics.intervals import CONFIDENCE, sampling_half_width

MOST_SEEDS = 100  # that `Verdict.seeds_needed` counts up to
SUPPORTED, CONTRADICTED, UNDECIDED = "supported", "contradicted", "undecided"


@dataclass(frozen=True)
class Scores:
    """Accuracies (%) of several runs of one recipe, on one test set.

    fingerprint: of the test images, where it is known. right: (num_images,) the share of the runs
    that has each image right, where the records keep it.

    Raises:
        ValueError: no run, no image, or another number of images in `right`.
    """

    values: tuple[float, ...]
    num_images: int
    fingerprint: str = ""
    right: np.ndarray | None = field(default=None, compare=False, repr=False)

    def __post_init__(self):
        if not self.values or self.num_images < 1:
            raise ValueError(f"{len(self.values)} runs on {self.num_images} images are not scores")
        if self.right is not None and self.right.shape != (self.num_images,):
            raise ValueError(f"right is of shape {self.right.shape}, not ({self.num_images},)")

    @property
    def n(self) -> int:
        return len(self.values)

    @property
    def mean(self) -> float:
        return statistics.fmean(self.values)

    @property
    def spread(self) -> float | None:
        """The sample's standard deviation (n - 1); None for one run."""
        return statistics.stdev(self.values) if self.n > 1 else None

    @property
    def half_width(self) -> float:
        """Half-width of the 95 % interval for the draw of the test images, whatever n."""
        return sampling_half_width(self.mean, self.num_images)


@dataclass(frozen=True)
class Verdict:
    """What the runs say: value and half-widths in points; seeds_half_width is infinite at n = 1.

    seeds_needed: of an undecided one, how many runs a side would decide it, were value and spreads
    to stay; None where no number up to MOST_SEEDS does, or the spread is not known.
    """

    status: str
    value: float
    seeds_half_width: float
    sampling_half_width: float
    seeds_needed: int | None = None

    @property
    def half_width(self) -> float:
        return math.hypot(self.seeds_half_width, self.sampling_half_width)


def judge(
    terms: Sequence[tuple[float, Scores]], low: float = 0.0, high: float = math.inf, *,
    confidence: float = CONFIDENCE,
) -> Verdict:  # fmt: skip
    """Whether low < sum of coefficient * mean < high: `[(1, a), (-1, b)]` asks if a is better.

    Raises:
        ValueError: no terms, bounds that leave nothing between, or a confidence outside (0, 1).
    """
    if not terms or not low < high or not 0 < confidence < 1:
        raise ValueError(
            f"{len(terms)} terms between {low} and {high} at confidence {confidence}: give one or "
            "more, a lower bound below the upper, and a confidence in (0, 1)"
        )
    value = sum(c * scores.mean for c, scores in terms)
    counts = [scores.n for _, scores in terms]
    seeds = _welch_half_width(terms, counts, confidence)
    sampling = _sampling_half_width(terms, confidence)
    status, needed = _decide(value, math.hypot(seeds, sampling), low, high), None
    if status == UNDECIDED and min(counts) > 1:
        for n in range(min(counts) + 1, MOST_SEEDS + 1):
            more_seeds = _welch_half_width(terms, [n] * len(terms), confidence)
            if _decide(value, math.hypot(more_seeds, sampling), low, high) != UNDECIDED:
                needed = n
                break
    return Verdict(status, value, seeds, sampling, needed)


def _decide(value: float, width: float, low: float, high: float) -> str:
    if low < value - width and value + width < high:
        return SUPPORTED
    if value + width < low or high < value - width:
        return CONTRADICTED
    return UNDECIDED


def mean_half_width(values: Sequence[float]) -> float:
    """Half-width of the 95 % interval of a mean over runs, by Student's t; infinite for one run."""
    n = len(values)
    return math.inf if n < 2 else float(t.ppf((1 + CONFIDENCE) / 2, n - 1) * sem(values))


def prediction_half_width(values: Sequence[float]) -> float:
    """Half-width of the 95 % interval that one more run falls in; infinite after a single run."""
    return math.sqrt(len(values) + 1) * mean_half_width(values)


def _welch_half_width(
    terms: Sequence[tuple[float, Scores]], counts: Sequence[int], confidence: float
) -> float:
    """Half-width from the terms' spreads, as if each were of its number of runs."""
    if any(scores.n < 2 for _, scores in terms):
        return math.inf
    variances = np.array([(c * scores.spread) ** 2 for c, scores in terms]) / counts
    total = variances.sum()
    if total == 0:
        return 0.0
    freedom = total**2 / (variances**2 / (np.array(counts) - 1)).sum()
    return float(t.ppf((1 + confidence) / 2, freedom) * math.sqrt(total))


def _sampling_half_width(terms: Sequence[tuple[float, Scores]], confidence: float) -> float:
    """Half-width for the draw of the test images; image by image if all terms share them."""
    quantile = norm.ppf((1 + confidence) / 2)
    scores = [one for _, one in terms]
    alike = len({(one.fingerprint, one.num_images) for one in scores}) == 1
    if len(terms) > 1 and alike and all(one.right is not None for one in scores):
        each = sum(c * one.right for c, one in terms)
        return 100 * quantile * float(each.std(ddof=1)) / math.sqrt(len(each))
    wider = quantile / norm.ppf((1 + CONFIDENCE) / 2)
    return wider * math.hypot(*(c * one.half_width for c, one in terms))
