"""Does a comparison hold? Means of runs, their spread over seeds, and the draw of the test images.

The rule: a claim says that a sum of means, such as A - B, lies between two bounds. Its interval has
two parts, added in squares as they are independent: Welch's over the runs (t distribution, degrees
of freedom by Welch and Satterthwaite), and the sampling half-width of the test set. The claim is
supported where the whole interval lies within the bounds, contradicted where none of it does, and
undecided at this n otherwise. One run a side has no spread to tell, so it decides nothing.

Models scored on the same images err on the same ones, which would make the second part smaller;
records keep no single images, so it is taken as of independent draws: too wide rather than too
narrow.
"""

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from scipy.stats import norm, t

from nestlib.measure.accuracy import sampling_half_width

CONFIDENCE = 0.95
SUPPORTED, CONTRADICTED, UNDECIDED = "supported", "contradicted", "undecided"


@dataclass(frozen=True)
class Scores:
    """Accuracies (%) of several runs of one recipe, on one test set.

    Raises:
        ValueError: no run, or no image.
    """

    values: tuple[float, ...]
    num_images: int

    def __post_init__(self):
        if not self.values or self.num_images < 1:
            raise ValueError(f"{len(self.values)} runs on {self.num_images} images are no scores")

    @property
    def n(self) -> int:
        return len(self.values)

    @property
    def mean(self) -> float:
        return statistics.fmean(self.values)

    @property
    def spread(self) -> float | None:
        """The sample's standard deviation (n - 1); None of one run."""
        return statistics.stdev(self.values) if self.n > 1 else None

    @property
    def half_width(self) -> float:
        """Of the 95 % interval for the draw of the test images, whatever n."""
        return sampling_half_width(self.mean, self.num_images)


@dataclass(frozen=True)
class Verdict:
    """What the runs say: value and half-widths in points; seeds_half_width is infinite at n = 1."""

    status: str
    value: float
    seeds_half_width: float
    sampling_half_width: float

    @property
    def half_width(self) -> float:
        return math.hypot(self.seeds_half_width, self.sampling_half_width)


def judge(
    terms: Sequence[tuple[float, Scores]], low: float = 0.0, high: float = math.inf, *,
    confidence: float = CONFIDENCE,
) -> Verdict:  # fmt: skip
    """Is low < sum of coefficient * mean < high? `[(1, a), (-1, b)]` asks whether a is better.

    Raises:
        ValueError: no terms, bounds that leave nothing between, or a confidence outside (0, 1).
    """
    if not terms or not low < high or not 0 < confidence < 1:
        raise ValueError(
            f"{len(terms)} terms between {low} and {high} at confidence {confidence}: give one or "
            "more, a lower bound below the upper, and a confidence in (0, 1)"
        )
    value = sum(c * scores.mean for c, scores in terms)
    seeds = _welch_half_width(terms, confidence)
    wider = norm.ppf((1 + confidence) / 2) / norm.ppf((1 + CONFIDENCE) / 2)
    sampling = wider * math.hypot(*(c * scores.half_width for c, scores in terms))
    width = math.hypot(seeds, sampling)
    status = UNDECIDED
    if low < value - width and value + width < high:
        status = SUPPORTED
    elif value + width < low or high < value - width:
        status = CONTRADICTED
    return Verdict(status, value, seeds, sampling)


def mean_half_width(values: Sequence[float], confidence: float = CONFIDENCE) -> float:
    """Of the interval of a mean over runs, by Student's t; infinite for a single run."""
    n = len(values)
    if n < 2:
        return math.inf
    return float(t.ppf((1 + confidence) / 2, n - 1)) * statistics.stdev(values) / math.sqrt(n)


def _welch_half_width(terms: Sequence[tuple[float, Scores]], confidence: float) -> float:
    if any(scores.n < 2 for _, scores in terms):
        return math.inf
    variances = [c**2 * scores.spread**2 / scores.n for c, scores in terms]
    total = sum(variances)
    if total == 0:
        return 0.0
    freedom = total**2 / sum(v**2 / (s.n - 1) for v, (_, s) in zip(variances, terms))
    return t.ppf((1 + confidence) / 2, freedom) * math.sqrt(total)
