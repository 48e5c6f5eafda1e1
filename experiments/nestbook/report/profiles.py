"""The newest record of each profile as a table, and growth as a picture.

A table function takes what its profile measured, the summary of a record, and the record's id.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from statistics import median

from nestbook.profiles import MACHINE_RATES
from nestbook.profiles.step import PRODUCTS
from nestbook.report.cost import describe_machine
from nestbook.report.export import export_table
from nestbook.report.growth import growth_table, plot_growth
from nestbook.report.loader import data_faults_table, loader_table, streaming_table
from nestbook.report.means import short_device
from nestbook.report.pictures import Picture
from nestbook.report.tables import (
    NOT_RUN,
    Cell,
    Number,
    Sources,
    Table,
    median_of,
    median_ratio,
    significant,
)
from nestlib.records import Record, Store

# Kinds of a step's operators, products first; other kinds are few and stand together at the end.
STEP_KINDS = {
    ("matrix products", "convolutions"): "products of layers, convolutions",
    ("attention",): "products of attention",
    ("softmax",): "softmax",
    ("activations",): "GELU",
    ("norms",): "LayerNorm",
    ("copies",): "copies and casts",
    ("additions", "sums"): "additions and sums",
    ("optimizer",): "AdamW",
}
CHOICE_MODES = {"forward": "forward", "train": "training"}
PASS = "forward and backward"


def show_profile(name: str, records: Sequence[Record], precision: str | None = None) -> Table:
    """The first of a profile's records (Store.find_benches puts GPUs first), of one precision."""
    records = [r for r in records if precision in (None, r.recipe["precision"])]
    if not records:
        note = f"nest profile {name}{f' --precision {precision}' if precision else ''} measures it"
        return Table(f"Profile: {name}", ("Measured",), [(NOT_RUN,)], [note])
    record = records[0]
    table = _TABLES[name](record.summary, record.run_id)
    if not table.sources:
        return table
    machine = short_device(record.environment["device"])
    line = f"1 run on {machine}: {table.sources.line}"
    details = (f"Record {record.run_id}, {record.environment['device']}", *table.sources.details)
    return replace(table, sources=Sources(line, details))


def show_profiles(store: Store, names: Sequence[str], precisions: Sequence[str]) -> list[Table]:
    """`show_profile` of each profile, in each precision."""
    return [
        show_profile(name, store.find_benches(name), precision)
        for name in names for precision in precisions
    ]  # fmt: skip


def draw_growth(records: Sequence[Record]) -> Picture | Table:
    if not records:
        return show_profile("growth", records)
    return plot_growth(records[0].summary, describe_machine(records[0]))


def _describe_settings(settings: Mapping) -> str:
    return f"{settings['precision']}, {settings['threads']} threads, torch {settings['torch']}"


def rates_table(measured: Mapping, source: str) -> Table:
    """What a machine can do at best."""
    titles = ("a large matrix product (GFLOP/s)", "a large copy (GB/s, read and written)")
    rows = [
        (title, significant(measured[key], source)) for title, key in zip(titles, MACHINE_RATES)
    ]
    return Table("The machine's own rates", ("What", "At best"), rows, [f"Record {source}"])


def roofline_table(measured: Mapping, source: str) -> Table:
    """One row per part, in the order in which they run; the sum and the whole pass at the end."""
    settings, machine, parts = (measured[key] for key in ("settings", "machine", "parts"))
    parts_seconds = measured["parts_seconds"]
    bounds = [
        max(("arithmetic", "bytes"), key=lambda kind: part[f"{kind}_floor_seconds"])
        for part in parts
    ]
    floors = [part[f"{bound}_floor_seconds"] for part, bound in zip(parts, bounds)]
    rows = [
        _part_row(part, floor, parts_seconds, source, f" {bound}")
        for part, floor, bound in zip(parts, floors, bounds)
    ]
    total = {"name": "sum of the parts"} | {
        key: sum(part[key] for part in parts) for key in ("calls", "seconds", "gflop", "mbytes")
    }
    rows.append(_part_row(total, sum(floors), parts_seconds, source))
    whole = Number(measured["whole_seconds"] * 1e3, source, 1)
    rows.append(("whole pass, timed at once", "", whole, *[""] * 5))
    rates = [machine[key] for key in MACHINE_RATES]
    edge, share = settings["image_size"], measured["copy_seconds"] / parts_seconds
    return Table(
        f"NesT-T at {edge}x{edge}, {settings['precision']}: time of a forward pass, and its floors",
        ("Part", "Calls", "ms", "Share (%)", "GFLOP", "MB", "Floor (ms)", "Times the floor"),
        rows,
        [
            f"Floor: the larger of FLOPs at {rates[0]:,.0f} GFLOP/s, a large matrix product's rate "
            f"in this run, and bytes at {rates[1]:,.1f} GB/s, a large copy's (read and written). A "
            "part gets below 1 from a cache, or where its kernel is faster than that product's",
            f"Operators that only copy: {100 * share:.1f} % of the parts' time",
        ],
        Sources(
            f"{_describe_settings(settings)}, batch {settings['batch_size']}, "
            f"median of {settings['rounds']} rounds",
            (
                f"Evaluation at {edge}x{edge}, eager. GFLOP: two per multiply-add, of matrix "
                "products and convolutions. MB (10⁶ bytes): each operator's inputs, weights and "
                "outputs once. Calls: operators that are not views",
                "The parts' sum differs from the whole pass of the same round by "
                f"{100 * measured['overhead']:+.1f} % (median): what timing single operators "
                "costs, less the host's work between them",
            ),
        ),
    )


def _part_row(
    part: Mapping, floor: float, parts_seconds: float, source: str, mark: str = ""
) -> tuple[Cell, ...]:
    """floor: the least seconds that the machine needs; mark: what bounds them."""
    return (
        part["name"],
        Number(part["calls"], source, 0),
        Number(part["seconds"] * 1e3, source, 2),
        Number(100 * part["seconds"] / parts_seconds, source, 1),
        Number(part["gflop"], source, 2),
        Number(part["mbytes"], source, 1),
        Number(floor * 1e3, source, 2, mark=mark),
        Number(part["seconds"] / floor, source, 1) if floor else "no floor",
    )


def step_table(measured: Mapping, source: str) -> Table:
    """One row per kind of operators, one column per model, in ms; then what the products allow."""
    settings, product = measured["settings"], measured["matmul_tflops"]
    # A model's two libraries side by side; a record has its keys sorted.
    models = dict(sorted(measured["models"].items(), key=lambda item: item[0].split()[::-1]))
    named = {kind for kinds in STEP_KINDS for kind in kinds}
    found = dict.fromkeys(kind for model in models.values() for kind in model["kinds"])
    rest = tuple(kind for kind in found if kind not in named)
    times = {
        name: [_seconds(model, kinds) for model in models.values()]
        for kinds, name in (STEP_KINDS | {rest: "all other operators"}).items()
    }
    times["whole step, timed at once"] = [model["whole_seconds"] for model in models.values()]
    rows: list[tuple[Cell, ...]] = [
        (f"{name}, ms", *(median_of([1e3 * s for s in rounds], source) or "" for rounds in row))
        for name, row in times.items()
    ]
    limits = zip(*(_limits(model, product["rounds"]) for model in models.values()))
    names = ("products' rate, % of a large product's", "a step with products alone, times as fast",
             "and those at a large product's rate")  # fmt: skip
    for name, row in zip(names, limits):
        rows.append((name, *(median_of(rounds, source) for rounds in row)))
    batches = ", ".join(
        f"{name} {m['batch_size']} of {m['image_size']}x{m['image_size']}"
        for name, m in models.items()
    )
    return Table(
        f"Training steps of NesT by kinds of operators, {settings['precision']}",
        ("Operators", *models),
        rows,
        [
            "Forward, cross-entropy, backward and AdamW; median ± half range of the rounds. "
            "Products alone: every other operator would take no time, which no implementation can "
            "reach",
        ],
        Sources(
            f"{_describe_settings(settings)}, {settings['rounds']} rounds in turn",
            (
                f"Batches: {batches}; timm's with its plain attention",
                f"Large product: {product['size']} square, "
                f"{median_of(product['rounds'], source)} TFLOP/s",
            ),
        ),
    )


def _seconds(model: Mapping, kinds: Sequence[str]) -> list[float]:
    """Of each round: the sum over some kinds."""
    found = [kind["seconds"] for name, kind in model["kinds"].items() if name in kinds]
    return [sum(rounds) for rounds in zip(*found)]


def _limits(model: Mapping, tflops: Sequence[float]) -> tuple[list[float], ...]:
    """Of each round: the products' rate in % of a large one's, and by what factors steps would win.

    tflops: of the large product, one number per round.
    """
    whole, products = _seconds(model, model["kinds"]), _seconds(model, PRODUCTS)
    flops = 1e9 * sum(model["kinds"][name]["gflop"] for name in PRODUCTS if name in model["kinds"])
    peak = [1e12 * rate for rate in tflops]
    return (
        [100 * flops / seconds / best for seconds, best in zip(products, peak)],
        [a / b for a, b in zip(whole, products)],
        [a / (flops / best) for a, best in zip(whole, peak)],
    )


def attention_table(measured: Mapping, source: str) -> Table:
    """One row per shape: the rule's choice and time, and what every way takes of it."""

    def name(row: Mapping) -> tuple[str, ...]:
        form = f"{row['heads']} x {row['head_dim']}" + (", one key" if row["multi_query"] else "")
        return str(row["patches"]), form, str(row["blocks"])

    return _choices_table(
        "Attention within blocks", ("Patches", "Heads x width", "Blocks"), name, measured, source,
        [
            "Fused: torch's scaled_dot_product_attention. Plain: two products with a softmax "
            "between, for 32 patches and fewer with the keys first and the softmax in fp32. "
            "Textbook: the same three steps as most write them",
            "Training: with the backward pass, from the heads' joined output to the output of the "
            "linear map of queries, keys and values",
        ],
    )  # fmt: skip


def products_table(measured: Mapping, source: str) -> Table:
    """One row per linear layer, likewise."""

    def name(row: Mapping) -> tuple[str, ...]:
        words = f"{row['images']} x {row['words']:,}"
        return row["layer"], words, f"{row['width_in']} to {row['width_out']}"

    return _choices_table(
        "Linear layers", ("Layer", "Images x words", "Width"), name, measured, source,
        ["Training: with the gradients of input, weight and bias"],
    )  # fmt: skip


def _choices_table(
    about: str, columns: tuple[str, ...], name: Callable[[Mapping], tuple[str, ...]],
    measured: Mapping, source: str, notes: list[str],
) -> Table:  # fmt: skip
    settings, rows = measured["settings"], measured["rows"]
    choices = list(rows[0]["seconds"])
    return Table(
        f"{about}, {settings['precision']}: the rule's time, and every way's as times that",
        (*columns, "Rule", *(f"rule, {text} (ms)" for text in CHOICE_MODES.values()),
         *(f"{choice}, {text}" for choice in choices for text in CHOICE_MODES.values())),
        [(*name(row), *_choice_cells(row, choices, source)) for row in rows],
        ["The best way for each row would save of these rows' time under the rule: "
         + ", ".join(_verdict(rows, mode) for mode in CHOICE_MODES)],
        Sources(
            f"{_describe_settings(settings)}, {settings['rounds']} rounds in turn",
            (f"{settings['seconds_per_round']:g} s or more per round; median ± half range of the "
             "rounds, and medians of the rounds' own ratios", *notes),
        ),
    )  # fmt: skip


def _choice_cells(row: Mapping, choices: list[str], source: str) -> tuple[Cell, ...]:
    seconds, rule = row["seconds"], row["rule"]
    times = [median_of([1e3 * s for s in seconds[rule][mode]], source) for mode in CHOICE_MODES]
    ratios = [
        "1" if choice == rule else _ratio(seconds[choice][mode], seconds[rule][mode], source)
        for choice in choices for mode in CHOICE_MODES
    ]  # fmt: skip
    return (rule, *(number or "" for number in (*times, *ratios)))


def _ratio(tops: Sequence[float], bottoms: Sequence[float], source: str) -> Number | None:
    """As `median_ratio`, without the spread, for which a dozen columns have no room."""
    ratio = median_ratio(tops, bottoms, source)
    return ratio and replace(ratio, spread=None)


def _verdict(rows: list[Mapping], mode: str) -> str:
    """What it costs to keep the rule: all shapes' time under it, and under each shape's best."""
    rule = sum(median(row["seconds"][row["rule"]][mode]) for row in rows)
    best = sum(min(median(way[mode]) for way in row["seconds"].values()) for row in rows)
    return f"{100 * (1 - best / rule):.1f} % in {CHOICE_MODES[mode]}"


def input_table(measured: Mapping, source: str) -> Table:
    """How many times as fast as each model's training step batches are made."""
    settings = measured["settings"]
    rows = _input_rows(measured, source)
    if "one_thread" in measured:
        rows += [(f"{name}, one thread", *more) for name, *more in
                 _input_rows(measured["one_thread"], source)]  # fmt: skip
    height, width = settings["image_size"]
    return Table(
        f"Batches made without a model, and whole training steps in {settings['precision']}",
        ("What runs", "Images/s", "Input side, times as fast"),
        rows,
        ["Median ± half range of the rounds. Input side: draw from the set in memory, crop, flip, "
         "RandAugment, normalise, erase, MixUp or CutMix, as the trainer does; a training step "
         "includes it"],
        Sources(
            f"models in {_describe_settings(settings)}, batch {settings['batch_size']} of "
            f"{height}x{width}, {settings['rounds']} rounds in turn",
            (f"{settings['seconds_per_round']:g} s or more per round",),
        ),
    )  # fmt: skip


def _input_rows(measured: Mapping, source: str) -> list[tuple]:
    alone = measured["input"]
    return [("input side alone", median_of(alone, source), "")] + [
        (name, median_of(rates, source), median_ratio(alone, rates, source))
        for name, rates in measured["training"].items()
    ]


def explaining_table(measured: Mapping, source: str) -> Table:
    """One row per model: seconds of a pass, and every way to explain as times that."""
    settings, rows = measured["settings"], measured["rows"]
    ways = [step for step in rows[0]["seconds"] if step != PASS]
    return Table(
        "What explanations cost, in forward and backward passes of the same batch",
        ("Model", "Pixels", f"{PASS} (s)", *ways),
        [_explaining_row(row, ways, source) for row in rows],
        ["Median ± half range of the rounds' own ratios. The pass is one of training: it computes "
         "the gradients of all weights. GradCAT and Grad-CAM compute those of the maps alone, "
         "which takes less"],
        Sources(f"{_describe_settings(settings)}, {settings['batch_size']} images of noise, "
                f"{settings['rounds']} rounds in turn"),
    )  # fmt: skip


def _explaining_row(row: Mapping, ways: list[str], source: str) -> tuple:
    seconds = row["seconds"]
    ratios = {way: median_ratio(seconds[way], seconds[PASS], source) for way in ways}
    size = "x".join(map(str, row["image_size"]))
    return row["model"], size, median_of(seconds[PASS], source), *ratios.values()


_TABLES = {
    "rates": rates_table,
    "roofline": roofline_table,
    "step": step_table,
    "growth": growth_table,
    "attention": attention_table,
    "products": products_table,
    "input": input_table,
    "explaining": explaining_table,
    "export": export_table,
    "data-faults": data_faults_table,
    "loader": loader_table,
    "streaming": streaming_table,
}
