"""The loader beside torchvision's, the decoders that were tried, and memory over long streaming."""

import statistics
from collections.abc import Mapping, Sequence

from matplotlib.figure import Figure

from nestbook.report.pictures import BLUE, Picture, drawing_style
from nestbook.report.tables import NOT_RUN, Cell, Number, Table, median_of, median_ratio
from nestlib.records import Record

BASE = "torchvision ImageFolder"
OURS = "shards"
TARGET = 1.5  # times torchvision's images/s; set before the work was begun
TITLES = {
    "photos": "JPEGs of 500x375, windows of scikit-image's photos",
    "tiny": "Tiny ImageNet-100, 64x64",
}


def loader_table(measured: Mapping, source: str) -> Table:
    """Images/s of the loader and of torchvision's pipeline, and the processor's time an image.

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
    notes += [
        f"{source}: {settings['workers']} workers on {settings['cpus']} cores, batch "
        f"{settings['batch_size']}, {settings['rounds']} rounds in turn, an epoch each; median ± "
        "half range of the rounds, ratios of each round's own. Other programs ran beside: "
        f"{settings['load_before']:g} of them wanted a core at the beginning. They take from "
        "images/s, hardly from the processor's time, which counts what every process of the "
        "loader used, its start too",
        f"{sizes}. All crop at random (area 5 to 100 %), resize, flip and normalise; bytes for a "
        "GPU are flipped and normalised there",
    ]
    return Table(
        "Images decoded and augmented",
        ("Images", "Loader", "Images/s", "x torchvision", "CPU ms an image",
         "torchvision's CPU ms over it"),
        rows, notes,
    )  # fmt: skip


def _verdict(name: str, one: Mapping, source: str) -> str:
    ours, base = one["rates"][OURS], one["rates"][BASE]
    pair = ours["images_per_second"], base["images_per_second"]
    speed, cpu = median_ratio(*pair, source), median_ratio(base["cpu_ms"], ours["cpu_ms"], source)
    word = "met" if speed.value >= TARGET else "missed"
    if min(a / b for a, b in zip(*pair)) < TARGET <= speed.value:
        word = "met by the median, not by every round,"
    return (
        f"Target, {TITLES[name]}: shards give {TARGET:g} times torchvision's images/s or more: "
        f"{word} at {speed}; by the processor's time {cpu}"
    )


def decoder_table(records: Sequence[Record]) -> Table:
    """Ways to decode one JPEG and to resize one crop, from the newest loader record."""
    caption = "Ways to decode a JPEG, and to resize a crop of it to 224x224"
    columns = ("Step", "Way", "CPU ms an image", "x Pillow", "Pixels differ from Pillow's by")
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
    notes = [
        f"{source}: one thread, processor's time, rounds in turn, median ± half range; the JPEGs "
        "of 500x375. Differences: the largest of one image, of 255 levels"
    ]
    return Table(caption, columns, rows, notes)


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
        [f"{source}: {settings['shards_mb']:.0f} MB of shards of {settings['images']:,} JPEGs of "
         f"500x375, read from an HTTP server on this machine through a cache of "
         f"{settings['cache_mb']} MB, by {settings['workers']} workers, epoch after epoch; memory "
         "of the process and its workers, shared pages once. Early and late: medians of the second "
         "and the last fifth of the time. Steps up and down are freed batches that glibc's "
         "allocator keeps; started with MALLOC_MMAP_THRESHOLD_=4194304 it returns them at once, "
         "and memory is level to a batch or two (tests/test_loading.py)"],
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
        "Faults of data",
        ("Fault", "How injected", "Outcome", "Images left out", "Samples lost", "doubled"),
        rows,
        [f"{source}: 240 images of noise, each with a number of its own, read by two workers. "
         "Left out: could not be read. Lost: could, but were not; doubled: came twice in an epoch; "
         "ended: an error ended the run, as it should"],
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
    return Picture(figure, "loader", description, tooltips)
