"""What the pages of ablations show, each in one or two sentences made from records.

A sentence is of the largest scale that has the runs it needs: the paper's data, one GPU's shorter
runs, narrow models on CIFAR-10, digits.
"""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence

from nestbook import paper
from nestbook.claims.claim import NO_RECORD
from nestbook.claims.verdict import UNDECIDED, Verdict, judge
from nestbook.report.aggregations import count_crossing, name_design
from nestbook.report.bars import Bar, Bars, group_title
from nestbook.report.means import join_devices
from nestbook.report.points import MEASURED, Chip, Point
from nestbook.report.words import begin_upper, join_words, say_counts
from nestbook.sweeps.plans import IN_SEQUENCE, Key
from nestlib.data.datasets import dataset_info
from nestlib.metrics.intervals import sampling_half_width
from nestlib.models.aggregation import AGGREGATIONS, DEFAULT

Found = Mapping[Key, Bar]  # those of one data set and schedule that have records, by their keys


def say_figure4(bars: Bars) -> str:
    return _say(bars, _find_convergence)


def say_figure5(bars: Bars) -> str:
    return _say(bars, lambda found: _find_best_design(found, "5"))


def say_small_designs(bars: Sequence[Bar]) -> str:
    """Figure 5's sentence from its bars of budget small alone; "" without their runs."""
    found = _by_key(bars)
    text = _find_best_design(found, "5")
    return text and f"{_lead(next(iter(found.values())))} {text}"


def say_figure6(bars: Bars) -> str:
    return _say(bars, _find_best_depth)


def say_figure_a1(bars: Bars) -> str:
    """What gradients say of every design, then what runs say."""
    image, block = count_crossing("image"), count_crossing("block")
    return (
        f"By the gradients of untrained models, information crosses block borders in {image} of "
        f"{len(AGGREGATIONS)} designs on the image plane and in {block or 'none'} on the block "
        f"plane. {_say(bars, lambda found: _find_best_design(found, 'A1'))}"
    )


def say_figure_a2(bars: Bars) -> str:
    return _say(bars, _find_removed)


def say_table_a2(bars: Bars) -> str:
    """What the paper's own table says, also where it is against the sentence above it."""
    said = []
    for name, row in sorted(paper.TABLE_A2_TAUGHT.items(), reverse=True):
        ten, hundred = row[2] - row[0], row[3] - row[1]
        again = f"{hundred:.1f}" if ten > 0 < hundred else _gains(hundred)
        said.append(f"{name} {_gains(ten)} on CIFAR-10 and {again} on CIFAR-100")
    return f"By the paper's own table, a taught {'; '.join(said)}. {_say(bars, _find_taught)}"


def say_table_a3(bars: Bars) -> str:
    """The span of the paper's table beside the reach of a single score, then that of our runs."""
    values, images = paper.TABLE_A3.values(), dataset_info("cifar10").num_test
    reach = sampling_half_width(sum(values) / len(values), images)
    return (
        f"The paper's {len(values)} scores span {max(values) - min(values):.2f} points, while the "
        f"draw of {images:,} test images alone moves one score by ± {reach:.2f}. "
        f"{_say(bars, _find_heads)}"
    )


def say_training_images(bars: Sequence[Bar]) -> str:
    """How far NesT is ahead at the fewest and at the most training images that were run."""
    found = {bar.key: bar for bar in bars if bar.scores}
    others = list(dict.fromkeys(model for model, _ in found if not model.startswith("NesT")))
    numbers = [
        number
        for number in sorted({number for _, number in found}, key=lambda n: int(n.replace(",", "")))
        if all((model, number) in found for model in ("NesT narrow", *others))
    ]  # fmt: skip
    if not numbers or not others:
        lacking = "too few" if found else "none"
        have = "have" if found else "has"
        return f"No answer yet: {lacking} of the {len(bars)} points {have} been run."
    ends = [
        f"with {number} images NesT is " + join_words([
            _ahead(found["NesT narrow", number], found[other, number], other.split()[0])
            for other in others
        ])
        for number in dict.fromkeys((numbers[0], numbers[-1]))
    ]  # fmt: skip
    used = [bar for (_, number), bar in found.items() if number in (numbers[0], numbers[-1])]
    return f"For narrow models on CIFAR-10, {'; '.join(ends)}, {_say_n(used)}."


def point_of_training_images(bars: Sequence[Bar]) -> Point:
    """The sentence with a chip for what was measured: the paper has no such figure, so no claim."""
    chip = Chip("not run", NO_RECORD)
    run = [bar for bar in bars if bar.records]
    if run:
        devices = join_devices(record for bar in run for record in bar.records)
        chip = Chip(f"measured: {_say_n(run)}, {devices}", MEASURED)
    return Point(say_training_images(bars), (chip,))


# The scale of a sentence


def _say(bars: Bars, find: Callable[[Found], str]) -> str:
    """What `find` words of the largest scale where it finds its bars, or that nothing was run."""
    real = sorted(bars.real, key=lambda bar: bar.budget == "gpu")
    run_here = any(bar.records for bar in real if bar.budget != "gpu")
    groups: dict[str, list[Bar]] = {}
    for bar in [*real, *bars.small, *bars.quick]:
        if bar.scores:
            groups.setdefault(bar.group, []).append(bar)
    texts = [f"{_lead(g[0])} {found}" for g in groups.values() if (found := find(_by_key(g)))]
    text = texts[0] if texts else "no other run decides anything yet"
    if not run_here:
        return f"None of the paper's runs has been repeated here; {text}."
    return f"{begin_upper(text)}."


def _by_key(bars: Iterable[Bar]) -> Found:
    """The bars of one scale that have runs, by their keys without the data set."""
    return {
        bar.key[1:] if bar.key[0] == bar.dataset else bar.key: bar for bar in bars if bar.scores
    }


def _lead(bar: Bar) -> str:
    if bar.budget == "quick":
        return "on digits (a check of the code only),"
    if bar.budget == "small":
        return f"for narrow models on {bar.recipe.train_subset:,} images of CIFAR-10,"
    return f"on {group_title(bar.group)},"


# What is found in the bars of one scale; "" without the runs that it needs


def _find_convergence(found: Found) -> str:
    """Figure 4, left: NesT and DeiT of one size after the fewest and the most epochs."""
    for size in dict.fromkeys(key[1].removeprefix("NesT") for key in found):
        pairs = [
            (int(key[2]), bar, found["epochs", f"DeiT{size}", key[2]])
            for key, bar in found.items()
            if key[:2] == ("epochs", f"NesT{size}") and ("epochs", f"DeiT{size}", key[2]) in found
        ]  # fmt: skip
        if pairs:
            ends = sorted(pairs, key=lambda pair: pair[0])[:: max(1, len(pairs) - 1)]
            said = [
                f"{_ahead(ours, theirs, '' if i else f'DeiT{size}'.split()[0])} after {epochs} "
                "epochs" for i, (epochs, ours, theirs) in enumerate(ends)
            ]  # fmt: skip
            used = [bar for _, *both in ends for bar in both]
            return f"{f'NesT{size}'.split()[0]} is {join_words(said)}, {_say_n(used)}"
    return ""


def _find_best_design(found: Found, figure: str) -> str:
    """Figures 5 and A1: NesT's own aggregation beside the best other one, and plane by plane."""
    ours, others = _designs_on_the_image_plane(found)
    if ours is None or not others:
        return ""
    best = next(iter(others))
    block = found.get(("block", DEFAULT))
    if _is_at_chance(others[best]) and not _is_at_chance(ours):
        planes = [f"{ours.scores.mean:.1f} % on the image plane"]
        planes += [f"{block.scores.mean:.1f} % on the block plane"] if block else []
        return (
            f"only NesT's own aggregation has learned anything, with {join_words(planes)}; all "
            f"other designs ({len(others)}) are at chance, {_say_n([ours, *others.values()])}"
        )
    name = name_design(best, figure)
    if len(others) > 1:
        name += f", the best of {len(others)} other designs"
    text = f"NesT's own aggregation is {_ahead(ours, others[best], name)}"
    used = [ours, others[best]]
    if block and figure == "5":  # figure A1's page says of planes what gradients show
        text += f", and its image plane {_ahead(ours, block, 'its block plane')}"
        used.append(block)
    return f"{text}, {_say_n(used)}"


def _designs_on_the_image_plane(found: Found) -> tuple[Bar | None, dict[str, Bar]]:
    """NesT's own aggregation, and the others from the best to the worst."""
    designs = {design: bar for (plane, design), bar in found.items() if plane == "image"}
    ours = designs.pop(DEFAULT, None)
    ranked = sorted(designs, key=lambda design: -designs[design].scores.mean)
    return ours, {design: designs[design] for design in ranked}


def find_lead_of_ours(bars: Sequence[Bar]) -> tuple[Bar, Bar, Verdict] | None:
    """Figure 5 at one scale: NesT's own aggregation, the best other design on the image plane, and
    the first less the second (points); None without their runs."""
    ours, others = _designs_on_the_image_plane(_by_key(bars))
    if ours is None or not others:
        return None
    best = next(iter(others.values()))
    return ours, best, judge([(1, ours.scores), (-1, best.scores)])


def _is_at_chance(bar: Bar) -> bool:
    """Whether the 95 % interval of one score, for the draw of the test images, reaches chance."""
    return bar.scores.mean - bar.scores.half_width <= 100 / dataset_info(bar.dataset).num_classes


def _find_best_depth(found: Found) -> str:
    """Figure 6: the best depth beside the worst, of the size and word size with most depths."""
    lines: dict[Key, dict[str, Bar]] = {}
    for (*line, depth), bar in found.items():
        lines.setdefault(tuple(line), {})[depth] = bar
    (size, word), depths = max(lines.items(), key=lambda line: len(line[1]))
    if len(depths) < 2:
        return ""
    ranked = sorted(depths, key=lambda depth: depths[depth].scores.mean)
    worst, best = depths[ranked[0]], depths[ranked[-1]]
    model = "" if size == "narrow" else f"NesT-{size}, "
    return (
        f"{ranked[-1]} is the best of {len(depths)} depths at {model}{word.replace('=', ' = ')}, "
        f"{_ahead(best, worst, ranked[0])}, the worst, {_say_n([best, worst])}"
    )


def _find_removed(found: Found) -> str:
    """Figure A2: what each model loses when all augmentation is removed."""
    last = " ".join(IN_SEQUENCE)
    pairs = {
        model: (found["in sequence", model, last], found.get(("in sequence", model, "none")))
        for way, model, step in found if (way, step) == ("in sequence", last)
    }  # fmt: skip
    pairs = {model: pair for model, pair in pairs.items() if pair[1]}
    if not any(model.startswith("NesT") for model in pairs):
        return ""
    said = [
        f"{model} {_changes(*pair)}"
        for model, pair in sorted(pairs.items(), key=lambda item: not item[0].startswith("NesT"))
    ]
    used = [bar for pair in pairs.values() for bar in pair]
    removed = [name for step in IN_SEQUENCE for name in step.split("&")]
    return f"with {join_words(removed)} all removed, {join_words(said)}, {_say_n(used)}"


def _find_taught(found: Found) -> str:
    """Table A2: what a hard lesson of a teacher with standard augmentation changes."""
    pairs = {
        key[0]: (bar, found[key[0], "alone"])
        for key, bar in found.items()
        if key[2:] == ("standard", "hard") and (key[0], "alone") in found
    }
    if not pairs:
        return ""
    said = [f"{student} {_changes(*pair)}" for student, pair in pairs.items()]
    return f"taught {join_words(said)}, {_say_n([bar for pair in pairs.values() for bar in pair])}"


def _find_heads(found: Found) -> str:
    """Table A3: how far apart the means of all numbers of heads are, beside the seeds'."""
    bars = _bars_of_heads(found, "multi_head")
    shared = _bars_of_heads(found, "multi_query")
    if len(bars) < 2:
        return ""
    used = list(bars.values())
    text = (
        f"multi-head attention with {min(bars)} to {max(bars)} heads spans {_span(used):.1f} points"
    )
    if len(shared) > 1:
        used += shared.values()
        text += f" and multi-query attention {_span(list(shared.values())):.1f}"
    spreads = [bar.scores.spread for bar in used if bar.scores.spread is not None]
    if spreads:
        text += f", beside a standard deviation over seeds of up to {max(spreads):.1f}"
    return f"{text}, {_say_n(used)}"


def _bars_of_heads(found: Found, attention: str) -> dict[int, Bar]:
    return {int(key[1]): bar for key, bar in found.items() if key[0] == attention}


def _span(bars: Sequence[Bar]) -> float:
    """From the least mean to the greatest, in points."""
    means = [bar.scores.mean for bar in bars]
    return max(means) - min(means)


# Words for a difference


def _ahead(ours: Bar, theirs: Bar, name: str) -> str:
    """Such as "5.0 ± 0.6 points ahead of DeiT", with "undecided" where the runs do not tell."""
    verdict = judge([(1, ours.scores), (-1, theirs.scores)])
    way = ("ahead of" if name else "ahead") if verdict.value >= 0 else "behind"
    return " ".join(filter(None, [_points(verdict), way, name])) + _undecided(verdict)


def _changes(after: Bar, before: Bar) -> str:
    """Such as "loses 1.2 ± 0.8 points"."""
    verdict = judge([(1, after.scores), (-1, before.scores)])
    return f"{'gains' if verdict.value >= 0 else 'loses'} {_points(verdict)}{_undecided(verdict)}"


def _gains(value: float) -> str:
    return f"{'gains' if value >= 0 else 'loses'} {abs(value):.1f} points"


def _points(verdict: Verdict) -> str:
    reach = "" if math.isinf(verdict.half_width) else f" ± {verdict.half_width:.1f}"
    return f"{abs(verdict.value):.1f}{reach} points"


def _undecided(verdict: Verdict) -> str:
    return " (undecided)" if verdict.status == UNDECIDED else ""


def _say_n(bars: Iterable[Bar]) -> str:
    return say_counts(bar.scores.n for bar in bars)
