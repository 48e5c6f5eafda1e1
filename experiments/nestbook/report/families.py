"""Seven families at equal size: Table 1's narrow relatives on a part of CIFAR-10, budget small."""

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from nestbook.claims.verdict import Scores, judge, mean_half_width
from nestbook.paper import TABLE1 as PRINTED
from nestbook.recipes.narrow import SMALL_IMAGES_SEEN, SMALL_SUBSET
from nestbook.recipes.rows import TABLE1
from nestbook.report.bars import Bar, find_small_bars
from nestbook.report.cost import rounds_of
from nestbook.report.means import find_sources, join_devices, join_ids
from nestbook.report.pictures import GROUP_COLORS, INK, Picture, drawing_style, mark_look
from nestbook.report.tables import NOT_RUN, Cell, Number, Sources, Table, mean_of, median_of
from nestbook.report.trade_off import FAMILY_MARKERS, family_of, name_group
from nestbook.report.words import begin_upper, join_words, say_counts
from nestbook.sweeps.plans import RATE_HELD_OUT, RATES, plan
from nestbook.sweeps.small import find_rates
from nestlib.recipes.named import get_recipe
from nestlib.records import Record, Store

OURS = "NesT"
_WIDTH, _TOP, _BOTTOM, _ROW = 7.0, 0.36, 0.45, 0.235  # inches


class Family(NamedTuple):
    """A narrow model: the row of Table 1 that it is a relative of, and its runs."""

    row: str
    bar: Bar

    @property
    def name(self) -> str:
        return family_of(self.row)

    @property
    def group(self) -> str:
        """Convnet, or what its attention sees, by the paper's table."""
        return PRINTED[self.row].group

    @property
    def scores(self) -> Scores | None:
        return self.bar.scores


def find_families(store: Store) -> list[Family]:
    """In the order of Table 1; without a record, `scores` is None."""
    return [Family(bar.key[1], bar) for bar in find_small_bars("table1", store)]


def find_bench(store: Store) -> Record | None:
    """The newest committed one of these models' costs, by `nest bench small`."""
    return next(iter(store.find_benches("small")), None)


def interval_of(scores: Scores) -> float:
    """Half of the 95 % interval of a mean (points): over seeds by Student's t and for the draw of
    the test images, added in squares. One run tells of no spread: the draw alone."""
    seeds = mean_half_width(scores.values) if scores.n > 1 else 0.0
    return math.hypot(seeds, scores.half_width)


# The sentence


def say_families(families: Sequence[Family], store: Store) -> str:
    """Who is ahead of NesT at equal size, by the runs that there are."""
    done = {f.name: f.scores for f in families if f.scores}
    lacking = [f.name for f in families if not f.scores]
    if not done:
        return _say_rates(store)
    where = f"at equal size, on {SMALL_SUBSET:,} images of CIFAR-10"
    missing = f" Not run yet: {join_words(lacking)}." if lacking else ""
    if OURS not in done:
        ranked = sorted(done, key=lambda name: -done[name].mean)
        reached = join_words(f"{name} {done[name].mean:.1f} %" for name in ranked)
        number = say_counts(one.n for one in done.values())
        return f"Trained so far {where}: {reached} ({number}).{missing}"
    ours = done.pop(OURS)
    places = {name: _compare(ours, theirs) for name, theirs in done.items()}
    ranks = _say_ranks({name: scores.mean for name, scores in done.items()}, places)
    counts = {scores.n for scores in (ours, *done.values())}
    doubt = " One run per family: the order may still change." if counts == {1} else ""
    if len(counts) > 1 and 1 in counts:
        doubt = " Some have one run only: their order may still change."
    number = say_counts(one.n for one in [ours, *done.values()])
    return (
        f"{begin_upper(where)}, narrow {OURS} reaches {ours.mean:.1f} % "
        f"({number}){ranks}.{doubt}{missing}"
    )


def _compare(ours: Scores, theirs: Scores) -> str:
    """By the rule of the claims; one run has no spread over seeds, so the draw of the test images
    alone tells it apart."""
    verdict = judge([(1, ours), (-1, theirs)])
    several = min(ours.n, theirs.n) > 1
    reach = verdict.half_width if several else verdict.sampling_half_width
    if abs(verdict.value) < reach:
        return "not told apart from"
    return "ahead of" if verdict.value > 0 else "behind"


def _say_ranks(values: dict[str, float], places: dict[str, str]) -> str:
    """Such as ": ahead of DeiT (60.1 %), behind WRN and Pyramid (82.0 and 77.1 %)"."""
    parts = []
    for place in ("ahead of", "not told apart from", "behind"):
        names = sorted((n for n in places if places[n] == place), key=lambda n: -values[n])
        if names:
            numbers = join_words(f"{values[name]:.1f}" for name in names)
            parts.append(f"{place} {join_words(names)} ({numbers} %)")
    return f": {', '.join(parts)}" if parts else ""


def _say_rates(store: Store) -> str:
    """Before any run is tested: by the runs that chose the learning rates."""
    found = find_rates(store)
    rates = {family_of(row): rate.scores[rate.best] for row, rate in found.items()}
    ours = rates.pop(OURS, None)
    if ours is None or not rates:
        return ""
    one = Scores((ours,), RATE_HELD_OUT)
    places = {name: _compare(one, Scores((top1,), RATE_HELD_OUT)) for name, top1 in rates.items()}
    return (
        "In the runs that chose the learning rates (the best of three per family, "
        f"{RATE_HELD_OUT:,} training images held out), narrow {OURS} reaches {ours:.1f} %"
        f"{_say_ranks(rates, places)}. They decide no claim."
    )


# The picture


def plot_families(families: Sequence[Family], bench: Record | None) -> Picture | None:
    """A line per family, the best on top: accuracy with its 95 % interval, and training speed.

    Families without a run stand below, with their speed alone. None without any run.
    """
    if not any(f.scores for f in families):
        return None
    rows = sorted(families, key=lambda f: -f.scores.mean if f.scores else math.inf)
    with drawing_style():
        height = _TOP + len(rows) * _ROW + _BOTTOM
        figure = Figure(figsize=(_WIDTH, height))
        axes = figure.subplots(1, 2, sharey=True, width_ratios=(1.5, 1), gridspec_kw={
            "left": 0.75 / _WIDTH, "right": 1 - 0.1 / _WIDTH, "top": 1 - _TOP / height,
            "bottom": _BOTTOM / height, "wspace": 0.08,
        })  # fmt: skip
        tooltips = _draw(axes[0], rows, "top1", _measure_top1)
        tooltips |= _draw(axes[1], rows, "speed", lambda f: _measure_speed(f, bench))
        axes[0].set_xlabel("top-1 on CIFAR-10 (%), mean of n runs with its 95 % interval")
        machine = join_devices([bench]) if bench else "not measured"
        axes[1].set_xlabel(f"training images per second ({machine})")
        _give_room(axes[0])
        _give_room(axes[1], begin=0)
        axes[0].set(ylim=(len(rows) - 0.5, -0.5))
        axes[0].set_yticks(range(len(rows)), [f.name for f in rows])
        for label in axes[0].get_yticklabels():
            label.set_fontweight("bold" if label.get_text() == OURS else "normal")
        _legend(figure, families)
    said = "; ".join(f"{f.name} {f.scores.mean:.1f} %, n = {f.scores.n}" for f in rows if f.scores)
    text = f"Seven families at equal size on {SMALL_SUBSET:,} images of CIFAR-10: {said}."
    return Picture(figure, "table1_families", text, tooltips)


def _measure_top1(family: Family) -> tuple[float, float, str, str] | None:
    """What a line shows: value, half of its interval, what stands beside it, its tooltip."""
    scores = family.scores
    if not scores:
        return None
    top1 = mean_of(scores.values, join_ids(family.bar.records), 2)
    half = interval_of(scores)
    parts = "seeds and test images" if scores.n > 1 else "test images alone"
    lines = [
        f"{family.name}: {top1} %, n = {scores.n}",
        f"95 % interval ± {half:.2f}, for the draw of {parts}",
        f"records {family.bar.ids}",
    ]
    return scores.mean, half, f"{scores.mean:.1f} (n = {scores.n})", "\n".join(lines)


def _measure_speed(
    family: Family, bench: Record | None
) -> tuple[float, float, str, str] | None:  # fmt: skip
    rounds = rounds_of(bench, family.row, "train") if bench else []
    speed = median_of(rounds, bench.run_id) if rounds else None
    if speed is None:
        return None
    text = f"{family.name}: {speed} images/s, median of {speed.n} rounds, record {bench.run_id}"
    return speed.value, speed.spread or 0.0, f"{speed.value:,.0f}", text


def _draw(axes: Axes, rows: Sequence[Family], prefix: str, measure: Callable) -> dict[str, str]:
    """Marks with their intervals; the tooltips by gid."""
    tooltips = {}
    for y, family in enumerate(rows):
        measured = measure(family)
        if measured is None:
            continue
        value, half, text, tooltip = measured
        color, gid = GROUP_COLORS[family.group], f"{prefix}-{family.name.lower()}"
        axes.plot([value - half, value + half], [y, y], color=color, lw=1.4)
        look = mark_look(color, size=7)
        axes.plot([value], [y], FAMILY_MARKERS[family.name], zorder=3, gid=gid, **look)
        axes.annotate(
            text, (value + half, y), (7, 0), textcoords="offset points", va="center", fontsize=7,
            color=INK, weight="bold" if family.name == OURS else "normal",
        )  # fmt: skip
        tooltips[gid] = tooltip
    axes.tick_params(axis="y", length=0)
    axes.xaxis.set_major_locator(MaxNLocator(6, steps=(1, 2, 5, 10)))
    return tooltips


def _give_room(axes: Axes, begin: float | None = None) -> None:
    """Limits that leave space for the number beside the last mark; begin: of the axis."""
    low, high = axes.dataLim.intervalx if axes.lines else (0, 1)
    room = 0.3 * (high - (low if begin is None else begin))
    axes.set_xlim(low - 0.2 * room if begin is None else begin, high + room)


def _legend(figure: Figure, families: Sequence[Family]) -> None:
    groups = dict.fromkeys(family.group for family in families)
    handles = [
        Line2D([], [], ls="", marker="s", label=group, **mark_look(GROUP_COLORS[group], size=7))
        for group in groups
    ]
    figure.legend(
        handles=handles, loc="upper left", bbox_to_anchor=(0.75 / _WIDTH, 1), ncols=len(handles),
        handlelength=1, frameon=False, borderaxespad=0.3,
    )  # fmt: skip


# The tables


def families_table(families: Sequence[Family], bench: Record | None) -> Table:
    """Accuracy, and what each model costs by `bench`."""
    rows = []
    for family in families:
        top1: tuple[Cell, ...] = (NOT_RUN, "", "")
        if scores := family.scores:
            source = join_ids(family.bar.records)
            half = Number(interval_of(scores), source, 2)
            top1 = mean_of(scores.values, source, 2), half, str(scores.n)
        rows.append((family.name, name_group(family.group), *top1, *_cost(bench, family.row)))
    note = (
        "Top-1: mean ± standard deviation over n seeds, last epoch, all 10,000 test images. 95 % "
        "±: of that mean, over seeds (Student's t) and for the draw of the test images; one run "
        "has the latter alone"
    )
    return Table(
        f"Seven families at equal size: {SMALL_SUBSET:,} images of CIFAR-10, each run sees "
        f"{SMALL_IMAGES_SEEN:,}",
        ("Family", "Architecture", "Top-1 (%)", "95 % ±", "n", "Params (M)", "GFLOPs",
         "Training images/s"),
        rows,
        [note] if any(family.scores for family in families) else [],
        _find_sources(families, bench),
    )  # fmt: skip


def _find_sources(families: Sequence[Family], bench: Record | None) -> Sources | None:
    """Of the runs and of the bench, in one line."""
    runs = find_sources(record for family in families for record in family.bar.records)
    costs = find_sources([bench] if bench else [], "bench")
    found = [sources for sources in (runs, costs) if sources]
    if not found:
        return None
    lines = "; costs by ".join(sources.line for sources in found)
    details = tuple(detail for sources in found for detail in sources.details)
    return Sources(lines if runs else f"Costs by {lines}", details)


def _cost(bench: Record | None, row: str) -> tuple[Cell, ...]:
    """Parameters, multiply-adds and images/s of training."""
    measured = bench.summary.get(row) if bench else None
    if not measured or "error" in measured:
        return (NOT_RUN, "", "")
    return (
        Number(measured["params"] / 1e6, bench.run_id, 3),
        Number(measured["gflops"], bench.run_id, 3),
        median_of(rounds_of(bench, row, "train"), bench.run_id) or NOT_RUN,
    )  # fmt: skip


def rates_table(store: Store) -> Table:
    """What each learning rate of budget small reaches on the training images held out."""
    found, rows, bars = find_rates(store), [], plan("learning_rates", "small", [0])
    runs = {(row, recipe.lr_per_256): recipe.run_id for (row, _), (recipe,) in bars.items()}
    shown = []
    for row, entry in TABLE1.items():
        if not entry.small:
            continue
        recipe = get_recipe(entry.small)
        cells, taken = [NOT_RUN, "", ""], "not chosen yet"
        if row in found:
            scores, taken = found[row].scores, f"{recipe.lr_per_256:g}"
            rates = RATES[recipe.optimizer]
            cells = [
                Number(scores[rate], runs[row, rate], 2, mark=f" (at {rate:g})") for rate in rates
            ]
            shown += [store.find(cell.source) for cell in cells]
        rows.append((family_of(row), recipe.optimizer, *cells, taken))
    return Table(
        f"How the learning rates were chosen: top-1 (%) on {RATE_HELD_OUT:,} training images held "
        "out, never on test images",
        ("Family", "Optimiser", "Lowest", "Middle", "Highest", "Taken"),
        rows,
        ["One run per family and rate; rates are per batch of 256. Every run of budget small takes "
         "its family's best"],
        sources=find_sources(shown),
    )  # fmt: skip
