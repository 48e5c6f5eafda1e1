"""Hours and cost on many devices as a table and a picture, and what faults cost runs."""

import re
from collections.abc import Mapping, Sequence
from statistics import median

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, NullLocator

from nestbook.benchmarks.scaling import (
    BYTES_PER_PARAMETER,
    RANKS,
    ROW,
    Device,
    Job,
    Loader,
    Rates,
    predict,
)
from nestbook.claims.claim import NO_RECORD
from nestbook.claims.verdict import CONTRADICTED, SUPPORTED
from nestbook.report.means import short_device
from nestbook.report.pictures import PALETTE, Picture, drawing_style
from nestbook.report.points import MEASURED, Chip, Point
from nestbook.report.tables import NOT_RUN, Cell, Number, Sources, Table, median_of, significant
from nestlib.records import Record

COLORS = PALETTE[:4]


def scale_table(
    job: Job, devices: Mapping[str, Device], loader: Loader, *, gb_per_second: float, price: float
) -> Table:
    """Hours, cost and efficiency by number of devices; a note says where no GPU has a record.

    gb_per_second: that one device sends; price: of one per hour, in any currency. Both are the
    reader's.
    """
    rows: list[tuple[Cell, ...]] = []
    for name, device in devices.items():
        for ranks in RANKS:
            found = predict(job, device.rates, ranks)
            hours = [significant(value, device.source) for value in found.hours]
            cost = [significant(value * ranks * price, device.source) for value in found.hours]
            share = Number(100 * found.efficiency[0], device.source, 1)
            rows.append((short_device(name), str(ranks), *hours, *cost, share))
    rate = loader.images_per_second
    decoded = f"{rate:,.0f} images/s per device, " if rate else ""
    lacks = all(device.kind == "cpu" for device in devices.values())
    return Table(
        f"{job.epochs} epochs of ImageNet with {ROW}, batch {job.batch_size}, as predicted",
        ("Device", "Devices", "Hours, at least", "at most", "Cost, at least", "at most",
         "Efficiency (%)"),
        rows,
        [f"Assumed, not measured, and parameters of this page: a price of {price:g} per device and "
         f"hour, and an interconnect of {gb_per_second:g} GB/s per device",
         "At least: exchange and loading are hidden behind arithmetic. At most: the exchange is "
         "not. Efficiency: of the devices' own rates, at least",
         *(["No GPU has a row, as no record has its rate: give yours as the parameter "
            "images_per_second"] if lacks else [])],
        Sources(
            "Rates: " + ("; ".join(
                f"{short_device(name)} trains {device.rates.images_per_second:.3g} images/s"
                for name, device in devices.items()
            ) or "none"),
            (*(f"{name}: {device.source}" for name, device in devices.items()),
             f"Loader: {decoded}{loader.source}"),
        ),
    )  # fmt: skip


def scaling_table(measured: Record | None) -> Table:
    """Steps of 1 and 2 gloo ranks beside what the model says of two."""
    caption = "The model held against steps measured on one CPU"
    columns = ("What ran", "Seconds per step", "predicted, at least", "at most")
    if measured is None:
        return Table(caption, columns, [], [f"{NOT_RUN}: python -m nestbook.benchmarks.scaling"])
    source, times = measured.run_id, measured.summary["step_seconds"]
    low, high = _predicted(measured, 2).step_seconds
    rows = [
        (f"{ranks} gloo rank{'s' * (ranks != '1')}, CPU", median_of(seconds, source),
         significant(low, source) if ranks == "2" else "",
         significant(high, source) if ranks == "2" else "")
        for ranks, seconds in times.items()
    ]  # fmt: skip
    recipe = measured.recipe
    exchange = median(measured.summary["exchange_seconds"])
    return Table(
        caption, columns, rows,
        [f"Predicted from the rate of one rank and the exchange between two: {1000 * exchange:.3g} "
         f"ms for {recipe['num_params'] * BYTES_PER_PARAMETER / 1e6:.3g} MB of gradients",
         "Both ranks share the caches and the memory of one processor, which the model does not "
         "know; other programs ran beside them"],
        Sources(
            f"1 run on {short_device(measured.environment['device'])}: {recipe['rounds']} turns",
            (f"Record {source}: {measured.environment['device']}, one thread per rank, batch "
             f"{recipe['batch_size']}, {recipe['num_params']:,} parameters, median of "
             f"{recipe['steps']} steps in each turn; median ± half range of the turns",),
        ),
    )  # fmt: skip


def make_scale_point(measured: Record | None, devices: Mapping[str, Device]) -> Point:
    """Whether the model holds where it was checked: steps of two ranks on one CPU."""
    has_gpu = any(device.kind == "cuda" for device in devices.values())
    chips = [Chip("bandwidth and price: assumed", NO_RECORD)]
    chips += [] if has_gpu else [Chip("GPU: no rate measured", NO_RECORD)]
    if measured is None:
        text = "The hours on this page are predictions, and no step was measured to check them."
        return Point(text, (Chip("check: not run", NO_RECORD), *chips))
    seconds = measured.summary["step_seconds"]["2"]
    low, high = _predicted(measured, 2).step_seconds
    step, device = median(seconds), short_device(measured.environment["device"])
    took = f"two ranks took {step:.3f} s per step on {device}"
    model = "The model that predicts these hours"
    if step > high:
        text = (
            f"{model} fails its only check: {took}, against at most {high:.3f} s predicted. So "
            "real runs may take longer."
        )
    elif step < low:
        text = f"{model} fails its only check: {took}, against at least {low:.3f} s predicted."
    else:
        text = f"{model} passes its only check: {took}, predicted {low:.3f} to {high:.3f} s."
    word, status = ("passes", SUPPORTED) if low <= step <= high else ("fails", CONTRADICTED)
    return Point(text, (Chip(f"check {word}: {len(seconds)} turns, {device}", status), *chips))


def _predicted(measured: Record, ranks: int):
    """What the model says of a step, from one rank's rate and the exchange between two."""
    batch, params = measured.recipe["batch_size"], measured.recipe["num_params"]
    alone = median(measured.summary["step_seconds"]["1"])
    exchange = median(measured.summary["exchange_seconds"])
    rates = Rates(batch / alone, params * BYTES_PER_PARAMETER / exchange)
    return predict(Job(batch, batch, 1, params), rates, ranks)


def plot_scale(job: Job, devices: Mapping[str, Device], measured: Record | None) -> Picture:
    """Hours against devices, between both bounds; and the model beside measured steps."""
    tooltips: dict[str, str] = {}
    with drawing_style():
        figure = Figure(figsize=(7, 3.1))
        left, right = figure.subplots(
            1, 2, gridspec_kw={"left": 0.09, "right": 0.985, "top": 0.8, "bottom": 0.14,
                               "wspace": 0.3, "width_ratios": (3, 2)},
        )  # fmt: skip
        for color, (name, device) in zip(COLORS, devices.items()):
            found = [predict(job, device.rates, ranks) for ranks in RANKS]
            _band(left, RANKS, [f.hours for f in found], color)
            left.plot([], [], color=color, lw=2, label=short_device(name))
            for f in found:
                gid = f"{COLORS.index(color)}-{f.ranks}"
                left.plot(f.ranks, f.hours[1], "o", ms=3, color=color, gid=gid)
                tooltips[gid] = (
                    f"predicted: {f.ranks} x {name}\n{_say_hours(*f.hours)}\nrate: {device.source}"
                )
        left.set(xscale="log", yscale="log", xlabel="devices (log scale)",
                 ylabel=f"hours of {job.epochs} epochs (log scale)")  # fmt: skip
        left.set_title("ImageNet, predicted", loc="left")
        left.xaxis.set_major_locator(FixedLocator(RANKS))
        left.xaxis.set_major_formatter("{x:g}")
        left.xaxis.set_minor_locator(NullLocator())
        if devices:
            figure.legend(loc="upper left", bbox_to_anchor=(0.085, 0.995), ncols=2, frameon=False)
        tooltips |= _check(right, measured)
    text = (
        f"Left, hours of {job.epochs} epochs of ImageNet with {ROW} on 1 to 256 devices, "
        f"predicted for {', '.join(devices) or 'no device yet'}. Right, seconds of a training step "
        "of one and two gloo ranks on a CPU, measured, beside the prediction."
    )
    return Picture(figure, "scale", text, tooltips)


def _say_hours(low: float, high: float) -> str:
    """Both bounds, or one number where they read alike."""
    bounds = dict.fromkeys(str(significant(hours, "")) for hours in (low, high))
    return f"{' to '.join(bounds)} hours"


def _band(
    axes: Axes, ranks: Sequence[int], bounds: Sequence[tuple[float, float]], color: str,
    labels: tuple[str, str] = ("", ""),
) -> None:  # fmt: skip
    """The bounds as an area; labels: of the least and of the most in a legend."""
    low, high = zip(*bounds)
    axes.fill_between(ranks, low, high, color=color, alpha=0.15, lw=0)
    axes.plot(ranks, low, color=color, lw=0.8, ls=(0, (3, 2)), label=labels[0])
    axes.plot(ranks, high, color=color, lw=0.8, label=labels[1])


def _check(axes: Axes, measured: Record | None) -> dict[str, str]:
    """The panel of measured steps; its tooltips."""
    axes.set(xlabel="gloo ranks, one CPU", ylabel="seconds per step")
    axes.set_title("Measured (marks) and predicted", loc="left")
    if measured is None:
        axes.set(xticks=[], yticks=[])
        return {}
    ranks = (1, 2)
    _band(axes, ranks, [_predicted(measured, n).step_seconds for n in ranks], "0.35",
          ("predicted, at least", "predicted, at most"))  # fmt: skip
    tooltips = {}
    for n in ranks:
        seconds = measured.summary["step_seconds"][str(n)]
        for i, value in enumerate(seconds):
            gid = f"measured-{n}-{i}"
            beside = n + 0.07 * (i - (len(seconds) - 1) / 2)  # turns that took equally long
            axes.plot(beside, value, "o", ms=4.5, mec="0", mfc="white", gid=gid, zorder=3)
            tooltips[gid] = (
                f"measured: {n} gloo rank{'s' * (n > 1)}\n{value:.3g} s per step\n"
                f"{measured.environment['device']}\n{measured.run_id}"
            )
    axes.set_xlim(0.7, 2.3)
    axes.set_ylim(bottom=0)
    axes.xaxis.set_major_locator(FixedLocator(ranks))
    axes.legend(loc="lower left", frameon=False)
    return tooltips


def faults_table(record: Record | None) -> Table:
    """What each fault did to a run, as `rank_faults.rehearse` noted it."""
    columns = ("Fault", "How injected", "Carried on by", "Resumed at", "Steps again",
               "Lost, doubled", "Same weights")  # fmt: skip
    caption = "Faults in short runs of two ranks"
    if record is None:
        return Table(caption, columns, [], [f"{NOT_RUN}: python -m rank_faults"])
    source = record.run_id
    rows: list[tuple[Cell, ...]] = []
    for name, row in record.summary.items():
        # An option is code, or Markdown would make its dashes one; some stand in code already.
        how = re.sub(r"`[^`]*`|--\S+( \d\S*)?", lambda m: f"`{m[0].strip('`')}`", row["how"])
        if row["outcome"] != "ended":
            rows.append((name, how, row["by"], row["outcome"], "", "", ""))
            continue
        restarts = row["begins"][1:]
        rows.append((
            name, how, row["by"] if restarts else "the others waited",
            f"step {', '.join(map(str, restarts))}" if restarts else "no restart",
            Number(row["steps_again"], source, 0), f"{row['lost']}, {row['doubled']}",
            "yes" if row["same_weights"] else "no",
        ))  # fmt: skip
    first, recipe = next(iter(record.summary.values())), record.recipe
    slurm = record.environment.get("slurm")
    return Table(
        caption, columns, rows,
        ["Lost, doubled: images behind the final weights, of all epochs, as the ranks noted what "
         "each step took. A step that no checkpoint held is made again and counts once",
         "Same weights: equal bit for bit to those of an undisturbed run (SHA-256)"],
        Sources(
            f"{len(rows)} faults, {recipe['ranks']} ranks on "
            f"{short_device(record.environment['device'])}",
            (f"Record {record.run_id}: {recipe['recipe']} cut to {first.get('steps', '')} steps, "
             f"gloo, {record.environment['device']}, torch "
             f"{record.environment['packages']['torch']}, {slurm or 'no Slurm'}; struck at step "
             f"{first.get('struck_step', '')}, a checkpoint every {recipe['checkpoint_every']}",),
        ),
    )  # fmt: skip


def make_faults_point(record: Record | None) -> Point:
    """How many of the faults a run outlived with every image and the same weights."""
    if record is None:
        return Point("No fault has been struck yet.", (Chip("faults: not run", NO_RECORD),))
    faults = record.summary.values()
    whole = sum(
        row["outcome"] == "ended" and row["same_weights"] and not row["lost"] + row["doubled"]
        for row in faults
    )
    device = short_device(record.environment["device"])
    return Point(
        f"A run survives what stops it: after {whole} of {len(faults)} faults that were struck on "
        "purpose it reached its end with every image counted once and weights equal bit for bit "
        "to an undisturbed run's.",
        (Chip(f"measured: {record.recipe['ranks']} ranks, {device}", MEASURED),
         Chip("several machines, GPUs: not run", NO_RECORD)),
    )  # fmt: skip
