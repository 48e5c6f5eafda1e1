"""Verdicts against scipy's Welch test and against draws whose truth is known."""

import math

import numpy as np
import pytest
import scipy.stats

from nestbook.claims.verdict import Scores, judge, mean_half_width, prediction_half_width
from nestlib.metrics.intervals import sampling_half_width

MANY = 10**12  # so many images that only seeds count


@pytest.mark.parametrize("confidence", [0.95, 0.99])
def test_two_means_are_scipys_welch_interval(confidence):
    a, b = (95.1, 95.9, 95.4, 95.2), (94.0, 95.2, 93.1)
    verdict = judge([(1, Scores(a, MANY)), (-1, Scores(b, MANY))], confidence=confidence)
    interval = scipy.stats.ttest_ind(a, b, equal_var=False).confidence_interval(confidence)
    assert verdict.value - verdict.seeds_half_width == pytest.approx(interval.low)
    assert verdict.value + verdict.seeds_half_width == pytest.approx(interval.high)
    assert verdict.sampling_half_width < 1e-3


def test_one_mean_is_scipys_t_interval():
    values = (84.1, 84.9, 84.6)
    low, high = scipy.stats.t.interval(0.95, 2, loc=np.mean(values), scale=scipy.stats.sem(values))
    verdict = judge([(1, Scores(values, MANY))])
    assert verdict.value + verdict.seeds_half_width == pytest.approx(high)
    assert verdict.value - verdict.seeds_half_width == pytest.approx(low)


def test_mean_spread_and_sampling_half_width():
    scores = Scores((97.1, 96.9, 97.3), 10_000)
    assert scores.mean == pytest.approx(97.1) and scores.spread == pytest.approx(0.2)
    assert scores.n == 3 and scores.half_width == sampling_half_width(scores.mean, 10_000)
    assert Scores((97.1,), 10_000).spread is None
    with pytest.raises(ValueError, match="0 runs on 10 images are not scores"):
        Scores((), 10)


@pytest.mark.parametrize(
    ("b", "status"),
    [((90.0, 90.1, 90.2), "supported"), ((99.0, 99.1, 99.2), "contradicted"),
     ((94.9, 95.0, 95.1), "undecided"), ((90.0,), "undecided")],
)  # fmt: skip
def test_whole_interval_decides(b, status):
    a = Scores((95.0, 95.1, 95.2), 10_000)
    assert judge([(1, a), (-1, Scores(b, 10_000))]).status == status


def test_seeds_that_agree_do_not_outvote_a_small_test_set():
    """Half a point between runs without any spread: decided on 100,000 images, not on 1,000."""
    for num_images, status in ((1_000, "undecided"), (100_000, "supported")):
        a, b = (Scores((v, v, v), num_images) for v in (95.5, 95.0))
        verdict = judge([(1, a), (-1, b)])
        assert (verdict.status, verdict.seeds_half_width) == (status, 0.0)
        assert verdict.half_width == pytest.approx(math.hypot(a.half_width, b.half_width))


def test_equal_within_a_margin_is_a_claim_too():
    a, b = Scores((97.0, 97.02, 97.04), 10**6), Scores((97.1, 97.12, 97.14), 10**6)
    assert judge([(1, a), (-1, b)], -0.5, 0.5).status == "supported"
    assert judge([(1, a), (-1, b)], -0.5, -0.3).status == "contradicted"
    assert judge([(1, a), (-1, b)], -0.12, 0.5).status == "undecided"


def test_intervals_hold_the_truth_as_often_as_they_say():
    """A difference of differences, four groups of unequal n and spread; 4,000 draws."""
    generator = np.random.default_rng(0)
    groups = [(1, 90.0, 0.2, 3), (-1, 89.0, 0.6, 4), (-1, 80.0, 0.3, 3), (1, 78.0, 1.0, 5)]
    truth = sum(c * mean for c, mean, _, _ in groups)
    inside = 0
    for _ in range(4_000):
        terms = [(c, Scores(tuple(generator.normal(m, s, n)), MANY)) for c, m, s, n in groups]
        verdict = judge(terms)
        inside += abs(verdict.value - truth) < verdict.seeds_half_width
    assert 0.94 < inside / 4_000 < 0.97


def test_impossible_questions_are_refused():
    scores = Scores((90.0, 91.0), 100)
    for terms, low, high in (([], 0, 1), ([(1, scores)], 1, 1)):
        with pytest.raises(ValueError, match="a lower bound below the upper"):
            judge(terms, low, high)


def test_one_more_run_falls_into_its_interval_as_often_as_it_says():
    generator = np.random.default_rng(0)
    draws = generator.normal(60.0, 0.5, (4_000, 4))
    inside = [
        abs(row[3] - row[:3].mean()) < prediction_half_width(row[:3].tolist()) for row in draws
    ]
    assert 0.94 < np.mean(inside) < 0.96
    assert prediction_half_width([60.0]) == math.inf


def test_seeds_that_would_decide_are_the_fewest_that_do():
    """Were mean and spread to stay: so many runs decide, one fewer does not."""
    a, b = Scores((60.0, 61.0, 62.0), MANY), Scores((59.0, 60.0, 61.0), MANY)
    verdict = judge([(1, a), (-1, b)])
    assert verdict.status == "undecided"

    def alike(scores, n):
        values = np.linspace(-1, 1, n)
        values *= scores.spread / values.std(ddof=1)
        return Scores(tuple(scores.mean + values), MANY)

    needed = verdict.seeds_needed
    assert judge([(1, alike(a, needed)), (-1, alike(b, needed))]).status == "supported"
    fewer = judge([(1, alike(a, needed - 1)), (-1, alike(b, needed - 1))])
    assert fewer.status == "undecided" and fewer.seeds_needed == needed
    # A test set too small for the difference: no number of seeds helps.
    few = [(1, Scores(a.values, 100)), (-1, Scores(b.values, 100))]
    assert judge(few).seeds_needed is None
    assert judge([(1, Scores((60.0,), MANY)), (-1, b)]).seeds_needed is None


def test_pairs_of_images_are_the_paired_difference():
    """scipy's paired interval of the same 0s and 1s, but for t against the normal quantile."""
    generator = np.random.default_rng(0)
    draws = generator.random(5_000)
    one, other = (draws < 0.62).astype(float), (draws + 0.1 * generator.random(5_000) < 0.65)
    terms = [
        (c, Scores((100 * r.mean(),), 5_000, "x", r.astype(float)))
        for c, r in ((1, one), (-1, other))
    ]
    interval = scipy.stats.ttest_rel(one, other).confidence_interval(0.95)
    verdict = judge(terms)
    assert verdict.sampling_half_width == pytest.approx(
        50 * (interval.high - interval.low), rel=2e-3
    )
    apart = [(1, terms[0][1]), (-1, Scores(terms[1][1].values, 5_000, "y", terms[1][1].right))]
    assert judge(apart).sampling_half_width > 2 * verdict.sampling_half_width
    with pytest.raises(ValueError, match=r"right is of shape \(5000,\), not \(100,\)"):
        Scores((50.0,), 100, "x", one)


def test_interval_of_a_mean_is_scipys():
    values = [3.0, 5.5, 4.0]
    low, high = scipy.stats.ttest_1samp(values, 0).confidence_interval(0.95)
    assert mean_half_width(values) == pytest.approx((high - low) / 2)
    assert mean_half_width([3.0]) == math.inf
