"""The loader beside torchvision's and what a GPU needs, decoders, and memory in long streaming."""

import math
import statistics
from collections.abc import Mapping, Sequence

from matplotlib.figure import Figure

from nestbook.claims.claim import NO_RECORD
from nestbook.paper import TABLE2
from nestbook.report.cost import rounds_of
from nestbook.report.means import short_device
from nestbook.report.pictures import BLUE, VERMILION, Picture, drawing_style
from nestbook.report.points import MEASURED, Chip, Point
from nestbook.report.tables import (
    NOT_RUN,
    PAPER,
    Cell,
    Number,
    Sources,
    Table,
    median_of,
    median_ratio,
    significant,
)
from nestbook.run_plan.estimates import H200, H200_SOURCE, estimate_training
from nestlib.recipes.named import get_recipe
from nestlib.records import Record, Store

ROW, RECIPE = "NesT-T", "imagenet/nest_tiny"  # of Table 2; what a GPU trains

BASE = "torchvision ImageFolder"
OURS = "shards"
TARGET = 1.5  # times torchvision's images/s; set before the work was begun
BYTES = "shards, bytes for a GPU"
TRAINS = "trains"  # ends the name of a GPU whose rate is of training steps
TITLES = {"photos": "JPEGs of 500x375", "tiny": "Tiny ImageNet-100, 64x64"}
WAYS = {
    BASE: "torchvision's ImageFolder",
    "folder": "a folder, read here",
    OURS: "shards, read here",
    "shards over http, new to the cache": "shards over HTTP",
    BYTES: "shards, as bytes that a GPU augments",
}  # as a picture names them


def find_needs(store: Store) -> dict[str, Number]:
    """Images per second of NesT-T at 224x224 on GPUs: what a loader has to keep up with.

    The paper's classifies; those with a record of Table 2 train.
    """
    found = {
        "the paper's GPU classifies": Number(TABLE2[ROW].images_per_second, PAPER, 0),
    }
    for record in store.find_benches("table2"):
        rounds = rounds_of(record, ROW, "train")
        if record.environment["device_kind"] == "cuda" and rounds:
            name = f"{short_device(record.environment['device'])} {TRAINS}"
            found.setdefault(name, median_of(rounds, record.run_id))
    return found


def make_loader_point(store: Store) -> Point:
    """Images/s by shards, beside torchvision's and what a GPU needs."""
    record = next(iter(store.find_benches("loader")), None)
    if record is None:
        return Point("Nothing has been timed yet: nest profile loader measures it.")
    rates = {name: one["images_per_second"] for name, one in _photos(record).items()}
    shards, raw = (median_of(rates[name], record.run_id) for name in (OURS, BYTES))
    ratio = median_ratio(rates[OURS], rates[BASE], record.run_id)
    needs = find_needs(store)
    settings, device = record.summary["settings"], short_device(record.environment["device"])
    who, need = max(needs.items(), key=lambda item: item[1].value)
    trains = who.endswith(TRAINS)
    sentence = (
        f"On {device}, {settings['workers']} workers read {shards.value:,.0f} images per second "
        f"from shards, {ratio.value:.2f} times as many as torchvision's ImageFolder (median of "
        f"{shards.n} rounds' own ratios), and {raw.value:,.0f} as bytes that a GPU augments. "
        f"With NesT-T, {who} {need.value:,.0f} images per second"
        f"{'' if trains else ' (it does not train on them)'}, {_compare(raw.value, need.value)}."
    )
    on_gpu = len(needs) > 1
    measured = Chip(f"measured: {shards.n} rounds, {device}", MEASURED)
    return Point(sentence, (measured, *([] if on_gpu else [Chip("GPU: not run", NO_RECORD)])))


def _compare(made: float, needed: float) -> str:
    return (
        "so these workers keep up with it"
        if made >= needed
        else "so it needs more workers than these"
    )


def _photos(record: Record) -> Mapping:
    """By loader: rates of JPEGs of about ImageNet's size."""
    return record.summary["sets"]["photos"]["rates"]


def plot_loader(store: Store) -> Picture | None:
    """Images/s by way to read, every round drawn, beside what GPUs need; None without a record."""
    record = next(iter(store.find_benches("loader")), None)
    if record is None:
        return None
    rates, device = _photos(record), short_device(record.environment["device"])
    tooltips = {}
    with drawing_style():
        figure = Figure(figsize=(7, 2.5))
        axes = figure.subplots(gridspec_kw={"left": 0.31, "right": 0.97, "top": 0.84,
                                            "bottom": 0.18})  # fmt: skip
        for y, (name, label) in enumerate(WAYS.items()):
            rounds, gid = rates[name]["images_per_second"], f"way-{y}"
            median = statistics.median(rounds)
            color = "0.55" if name == BASE else BLUE
            axes.barh(y, median, height=0.62, color=color, gid=gid)
            axes.plot(rounds, [y] * len(rounds), "|", color="0", ms=6, mew=0.8)
            axes.annotate(f"{median:,.0f}", (max(rounds), y), (6, 0), textcoords="offset points",
                          fontsize=7, va="center")  # fmt: skip
            tooltips[gid] = (
                f"{label}: {median_of(rounds, record.run_id)} images/s, n = {len(rounds)} rounds\n"
                f"{device}\n{record.run_id}"
            )
        for who, need in find_needs(store).items():
            axes.axvline(need.value, color=VERMILION, lw=1, ls=(0, (4, 2)), zorder=3)
            axes.annotate(f"NesT-T: {who} {need.value:,.0f}", (need.value, 1.02),
                          xycoords=("data", "axes fraction"), color=VERMILION, fontsize=7,
                          ha="center", va="bottom")  # fmt: skip
        axes.set_yticks(range(len(WAYS)), list(WAYS.values()))
        axes.tick_params(axis="y", length=0)
        axes.invert_yaxis()
        axes.set(xlim=(0, None), xlabel=f"images per second, JPEGs of 500x375, {device}")
        axes.margins(x=0.12)
    description = (
        f"Images per second by way to read, on {device}: "
        + ", ".join(
            f"{label} {statistics.median(rates[name]['images_per_second']):,.0f}"
            for name, label in WAYS.items()
        )
        + "; and with NesT-T, "
        + ", ".join(f"{who} {need.value:,.0f}" for who, need in find_needs(store).items())
        + "."
    )
    return Picture(figure, "loader", description, tooltips)


def needs_table(store: Store) -> Table:
    """How many cores, each as fast as the record's, would feed a GPU that uses NesT-T.

    A record of a GPU counts; an H200's bounds are computed from rates that are assumed.
    """
    benched = store.find_benches("loader")
    columns = ("GPU, NesT-T at 224x224", "Images/s", "Cores that would feed it")
    caption = "What a GPU needs, by the rate of shards as bytes"
    if not benched:
        return Table(caption, columns, [], [f"{NOT_RUN}: nest profile loader"])
    record = benched[0]
    speed = statistics.median(_photos(record)[BYTES]["images_per_second"])
    a_core = speed / record.summary["settings"]["workers"]
    bounds = estimate_training(get_recipe(RECIPE), H200).step.images_per_second
    needs = find_needs(store) | {
        f"an H200 trains at most, {name}": significant(bound, H200_SOURCE)
        for name, bound in zip(("perfectly fused", "operator by operator"), bounds)
    }
    rows = [
        (who, need, Number(math.ceil(need.value / a_core), f"{need.source}; {record.run_id}", 0))
        for who, need in needs.items()
    ]
    device = short_device(record.environment["device"])
    return Table(
        caption, columns, rows,
        [f"Each core is taken to read {a_core:,.0f} images per second, as each of the "
         f"{record.summary['settings']['workers']} workers did on {device}. The H200's rates are "
         "upper bounds, computed from assumed rates of products and copies"],
    )  # fmt: skip


def loader_table(measured: Mapping, source: str) -> Table:
    """Images/s of the loader and of torchvision's pipeline, and the processor's time per image.

    measured: what `nestbook.benchmarks.loader.measure_loader` returned; source: a record id.
    """
    settings, sets = measured["settings"], measured["sets"]
    rows: list[tuple[Cell, ...]] = []
    for name, one in sets.items():
        rates, base = one["rates"], one["rates"][BASE]
        for loader in sorted(rates, key=lambda name: (name != BASE, name)):
            speed, cpu = rates[loader]["images_per_second"], rates[loader]["cpu_ms"]
            rows.append((
                TITLES[name], loader, median_of(speed, source),
                median_ratio(speed, base["images_per_second"], source), median_of(cpu, source),
                median_ratio(base["cpu_ms"], cpu, source),
            ))  # fmt: skip
    notes = [_verdict(name, one, source) for name, one in sets.items()]
    if missing := [title for name, title in TITLES.items() if name not in sets]:
        notes.append(f"{NOT_RUN}: {', '.join(missing)}; set NESTLIB_DATA to the folder of its pack")
    sizes = "; ".join(
        f"{TITLES[name]}: {one['images']:,} files of {one['mean_bytes'] / 1000:.3g} kB on average, "
        f"crops resized to {one['image_size']}x{one['image_size']}"
        for name, one in sets.items()
    )
    return Table(
        "Images decoded and augmented",
        ("Images", "Loader", "Images/s", "x torchvision", "CPU ms per image",
         "x torchvision, by CPU"),
        rows, notes,
        Sources(
            f"{settings['workers']} workers on {settings['cpus']} cores, {settings['rounds']} "
            "rounds in turn",
            ("One epoch per round, batch "
             f"{settings['batch_size']}; median ± half range of the rounds, ratios of each round's "
             "own. By CPU: torchvision's processor time over it, of every process of the loader, "
             "its start too",
             f"Load by other programs at the start: {settings['load_before']:g} cores. It lowers "
             "images/s, and hardly changes the processor's time",
             f"{sizes}. The JPEGs of 500x375 are windows of scikit-image's photos. All crop at "
             "random (area 5 to 100 %), resize, flip and normalise; bytes for a GPU are flipped "
             "and normalised there"),
        ),
    )  # fmt: skip


def _verdict(name: str, one: Mapping, source: str) -> str:
    ours, base = one["rates"][OURS], one["rates"][BASE]
    pair = ours["images_per_second"], base["images_per_second"]
    speed, cpu = median_ratio(*pair, source), median_ratio(base["cpu_ms"], ours["cpu_ms"], source)
    word = "met" if speed.value >= TARGET else "missed"
    if min(a / b for a, b in zip(*pair)) < TARGET <= speed.value:
        word = "met by the median, not by every round,"
    return (
        f"Target, {TITLES[name]}: shards give {TARGET:g} times torchvision's images/s: "
        f"{word} at {speed}; by the processor's time {cpu}"
    )


def decoder_table(records: Sequence[Record]) -> Table:
    """Ways to decode one JPEG and to resize one crop, from the newest loader record."""
    caption = "Ways to decode a JPEG, and to resize a crop of it to 224x224"
    columns = ("Step", "Way", "CPU ms per image", "x Pillow", "Pixels differ from Pillow's by")
    if not records:
        return Table(caption, columns, [(NOT_RUN, *[""] * 4)], ["nest profile loader measures it"])
    source, rows = records[0].run_id, []
    for step, ways in records[0].summary["decoders"].items():
        base = ways["Pillow"]["ms"]
        for way in sorted(ways, key=lambda name: (name != "Pillow", name.lower())):
            one = ways[way]
            difference = Number(one["difference"], source, 0)
            ratio = median_ratio(base, one["ms"], source)
            rows.append((step, way, median_of(one["ms"], source), ratio, difference))
    notes = ["Median ± half range. Differences: the largest of one image, of 255 levels"]
    device = short_device(records[0].environment["device"])
    line = f"1 run on {device}: one thread, processor's time, rounds in turn, JPEGs of 500x375"
    return Table(caption, columns, rows, notes, Sources(line, (f"Record {source}",)))


def streaming_table(measured: Mapping, source: str) -> Table:
    """How memory stood early and late in long streaming.

    measured: what `nestbook.benchmarks.loader.measure_streaming` returned; source: a record id.
    """
    settings = measured["settings"]
    early, late = measured["early_mb"], measured["late_mb"]
    whole = measured["seconds"][-1], measured["images"], early, late
    growth = Number(100 * (late / early - 1), source, 1)
    return Table(
        "Memory while shards are streamed",
        ("Seconds", "Images", "MB early", "MB late", "Growth (%)"),
        [(*(Number(value, source, 0) for value in whole), growth)],
        ["Early and late: medians of the second and the last fifth of the time"],
        Sources(
            f"{settings['shards_mb']:.0f} MB of shards through a cache of {settings['cache_mb']} "
            f"MB, {settings['workers']} workers",
            (f"{settings['images']:,} JPEGs of 500x375, read from an HTTP server on the same "
             "machine, epoch after epoch; memory of the process and its workers, shared pages once",
             "Steps up and down are freed batches that glibc's allocator keeps; started with "
             "MALLOC_MMAP_THRESHOLD_=4194304 it returns them at once, and memory is level to a "
             "batch or two (tests/test_loading.py)"),
        ),
    )  # fmt: skip


def data_faults_table(measured: Mapping, source: str) -> Table:
    """What each fault did to an epoch.

    measured: what `data_faults.rehearse` returned; source: a record id.
    """
    rows = [
        (
            name, one["how"], one["outcome"], Number(one["left_out"], source, 0),
            *("ended" if one[key] is None else Number(one[key], source, 0)
              for key in ("lost", "doubled")),
        )
        for name, one in measured.items()
    ]  # fmt: skip
    return Table(
        "Faults of data, and how many images each cost",
        ("Fault", "How injected", "Outcome", "Left out", "Lost", "Doubled"),
        rows,
        ["Left out: could not be read. Lost: could, but were not. Doubled: came twice in an epoch. "
         "Ended: an error ended the run, as it should"],
        Sources("240 images of noise, each with a number of its own, read by two workers"),
    )  # fmt: skip


def plot_streaming(records: Sequence[Record]) -> Picture | Table:
    """Memory against time, of the newest streaming record."""
    if not records:
        note = "nest profile streaming measures it"
        return Table("Memory while shards are streamed", ("Measured",), [(NOT_RUN,)], [note])
    record = records[0]
    minutes = [second / 60 for second in record.summary["seconds"]]
    mb = record.summary["mb"]
    tooltips = {}
    with drawing_style():
        figure = Figure(figsize=(7, 2.4), layout="constrained")
        axes = figure.subplots()
        axes.plot(minutes, mb, color=BLUE, lw=0.9)
        for number, (minute, value) in enumerate(zip(minutes, mb)):
            gid = f"point-{number}"
            axes.plot(minute, value, "o", ms=3, color=BLUE, gid=gid)
            tooltips[gid] = f"{value:,.0f} MB after {60 * minute:.0f} s\n{record.run_id}"
        axes.set(
            xlabel="minutes of streaming", ylabel="memory (MB)", ylim=(0, 1.15 * max(mb)),
            xlim=(0, None),
        )  # fmt: skip
    description = (
        f"Memory of the loader's processes over {minutes[-1]:.0f} minutes of streaming: median "
        f"{statistics.median(mb):,.0f} MB, between {min(mb):,.0f} and {max(mb):,.0f} MB."
    )
    return Picture(figure, "streaming", description, tooltips)
