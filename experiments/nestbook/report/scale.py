"""Hours and cost on many devices as a table and a picture, and what faults cost runs."""

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
from nestbook.report.pictures import PALETTE, Picture, drawing_style
from nestbook.report.tables import NOT_RUN, Cell, Number, Table, median_of, significant
from nestlib.records import Record

COLORS = PALETTE[:4]


def scale_table(
    job: Job, devices: Mapping[str, Device], loader: Loader, *, gb_per_second: float, price: float
) -> Table:
    """Hours, cost and efficiency by number of devices; a GPU's row says where there is no record.

    gb_per_second: that one device sends; price: of one for an hour, in any currency. Both are the
    reader's.
    """
    rows: list[tuple[Cell, ...]] = []
    for name, device in devices.items():
        for ranks in RANKS:
            found = predict(job, device.rates, ranks)
            hours = [significant(value, device.source) for value in found.hours]
            cost = [significant(value * ranks * price, device.source) for value in found.hours]
            share = Number(100 * found.efficiency[0], device.source, 0)
            rows.append((name, str(ranks), *hours, *cost, share))
    if all(device.kind == "cpu" for device in devices.values()):
        rows.append(("a GPU", "1 to 256", *[NOT_RUN] * 4, ""))
    rate = loader.images_per_second
    decoded = f"{rate:,.0f} images/s a device, " if rate else ""
    return Table(
        f"{job.epochs} epochs of ImageNet with {ROW}, batch {job.batch_size}, as predicted",
        ("Device", "Devices", "Hours, at least", "at most", "Cost, at least", "at most",
         "Efficiency, at least (%)"),
        rows,
        [f"Assumed, not measured, and this page's parameters: {price:g} a device and hour; "
         f"{gb_per_second:g} GB/s of interconnect a device",
         f"Loader: {decoded}{loader.source}",
         *(f"{name}: {device.rates.images_per_second:.3g} images/s trained, {device.source}"
           for name, device in devices.items()),
         "At least: exchange and loading are hidden behind arithmetic; at most: the exchange "
         "is not"],
    )  # fmt: skip


def scaling_table(measured: Record | None) -> Table:
    """Steps of 1 and 2 gloo ranks beside what the model says of two."""
    caption = "The model held against steps measured on one CPU"
    columns = ("What ran", "Seconds a step, measured", "predicted, at least", "at most")
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
        [f"{source}: {measured.environment['device']}, one thread a rank, batch "
         f"{recipe['batch_size']}, {recipe['num_params']:,} parameters, median of "
         f"{recipe['steps']} steps in each of {recipe['rounds']} turns; median ± half range of "
         "the turns",
         f"Predicted from the one rank's rate and the exchange, {1000 * exchange:.3g} ms for "
         f"{recipe['num_params'] * BYTES_PER_PARAMETER / 1e6:.3g} MB of gradients between two",
         "Both ranks share the caches and the memory of one processor, which the model does not "
         "know; other programs ran beside them"],
    )  # fmt: skip


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
            left.plot([], [], color=color, lw=2, label=name)
            for f in found:
                gid = f"{COLORS.index(color)}-{f.ranks}"
                left.plot(f.ranks, f.hours[1], "o", ms=3, color=color, gid=gid)
                tooltips[gid] = (
                    f"predicted: {f.ranks} x {name}\n{f.hours[0]:,.4g} to {f.hours[1]:,.4g} hours\n"
                    f"rate: {device.source}"
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


def _band(axes: Axes, ranks: Sequence[int], bounds: Sequence[tuple[float, float]], color: str):
    low, high = zip(*bounds)
    axes.fill_between(ranks, low, high, color=color, alpha=0.15, lw=0)
    axes.plot(ranks, low, color=color, lw=0.8, ls=(0, (3, 2)))
    axes.plot(ranks, high, color=color, lw=0.8)


def _check(axes: Axes, measured: Record | None) -> dict[str, str]:
    """The panel of measured steps; its tooltips."""
    axes.set(xlabel="gloo ranks, one CPU", ylabel="seconds a step")
    axes.set_title("Measured (marks) and predicted", loc="left")
    if measured is None:
        axes.text(0.5, 0.5, NOT_RUN, ha="center", transform=axes.transAxes)
        return {}
    ranks = (1, 2)
    _band(axes, ranks, [_predicted(measured, n).step_seconds for n in ranks], "0.35")
    tooltips = {}
    for n in ranks:
        seconds = measured.summary["step_seconds"][str(n)]
        for i, value in enumerate(seconds):
            gid = f"measured-{n}-{i}"
            axes.plot(n, value, "o", ms=4.5, mec="0", mfc="white", gid=gid, zorder=3)
            tooltips[gid] = (
                f"measured: {n} gloo rank{'s' * (n > 1)}\n{value:.3g} s a step\n"
                f"{measured.environment['device']}\n{measured.run_id}"
            )
    axes.set_xlim(0.7, 2.3)
    axes.set_ylim(bottom=0)
    axes.xaxis.set_major_locator(FixedLocator(ranks))
    return tooltips


def faults_table(record: Record | None) -> Table:
    """What each fault did to a run, as `rank_faults.rehearse` noted it."""
    columns = ("Fault", "How injected", "Carried on by", "Went on from step", "Steps made again",
               "Samples lost", "Samples doubled", "Weights as undisturbed")  # fmt: skip
    caption = "Faults in short runs of two ranks"
    if record is None:
        return Table(caption, columns, [], [f"{NOT_RUN}: python -m rank_faults"])
    source = record.run_id
    rows: list[tuple[Cell, ...]] = []
    for name, row in record.summary.items():
        if row["outcome"] != "ended":
            rows.append((name, row["how"], row["by"], row["outcome"], "", "", "", ""))
            continue
        restarts = row["begins"][1:]
        rows.append((
            name, row["how"], row["by"] if restarts else "nobody: the others waited",
            ", ".join(map(str, restarts)) or "no restart",
            Number(row["steps_again"], source, 0), Number(row["lost"], source, 0),
            Number(row["doubled"], source, 0), "yes" if row["same_weights"] else "no",
        ))  # fmt: skip
    first, recipe = next(iter(record.summary.values())), record.recipe
    slurm = record.environment.get("slurm")
    return Table(
        caption, columns, rows,
        [f"{source}: {recipe['recipe']} cut to {first.get('steps', '')} steps, {recipe['ranks']} "
         f"gloo ranks on {record.environment['device']}, torch "
         f"{record.environment['packages']['torch']}, {slurm or 'no Slurm'}; struck at step "
         f"{first.get('struck_step', '')}, a checkpoint every "
         f"{recipe['checkpoint_every']}",
         "Samples: images behind the final weights, of all epochs, as the ranks noted what each "
         "step took; a step that no checkpoint held is made again and counts once",
         "Weights as undisturbed: equal bit for bit, SHA-256"],
    )  # fmt: skip
