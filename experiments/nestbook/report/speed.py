"""NesT here against timm's: speeds of one run, and the targets set beforehand."""

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median

from nestbook.benchmarks.rivals import RIVALS, Rival
from nestbook.report import cost
from nestbook.report.cost import describe_machine, results, source_of
from nestbook.report.tables import HERE, NOT_RUN, Cell, Number, Table, median_of, median_ratio
from nestlib.records import Record

MODES = {"forward": "forward", "train": "training step"}
DEVICES = {"cpu": "CPU", "cuda": "GPU"}
MATMUL = "matrix product"
MIN_ROUNDS = 5  # fewer judge no target


@dataclass(frozen=True)
class Target:
    """What one contender shall reach of another, or of the machine's matrix product.

    unit: "images/s", or "TFLOP/s" where the work an image differs.
    """

    device_kind: str  # "cpu" or "cuda"
    precision: str
    contender: str
    mode: str
    against: str
    at_least: float
    unit: str = "images/s"


BEST = " at its best"  # behind a model's name: the fastest of timm's forms of it in that run

# Set before the work was begun. In fp32 against timm's NesT as it comes, which is what its users
# get; in bf16 against that, and against the fastest of all its forms.
# fmt: off
TARGETS = tuple(Target(*words) for words in (
    ("cpu", "bf16", "nestlib nest_tiny", "forward", "timm nest_tiny at its best", 1.25),
    ("cpu", "bf16", "nestlib nest_tiny", "forward", "timm nest_tiny fp32", 4.0),
    ("cpu", "bf16", "nestlib nest_tiny", "train", "timm nest_tiny at its best", 1.3),
    ("cpu", "bf16", "nestlib nest_tiny", "train", "timm nest_tiny fp32", 5.0),
    ("cpu", "bf16", "nestlib nest_tiny_cifar", "train", "timm nest_tiny_cifar at its best", 1.3),
    ("cpu", "bf16", "nestlib nest_tiny", "forward", MATMUL, 0.6, "TFLOP/s"),
    ("cpu", "bf16", "nestlib nest_tiny", "train", MATMUL, 0.6, "TFLOP/s"),
    ("cpu", "fp32", "nestlib nest_tiny", "forward", "timm nest_tiny", 2.0),
    ("cpu", "fp32", "nestlib nest_tiny", "train", "timm nest_tiny", 2.0),
    ("cpu", "fp32", "nestlib nest_tiny_cifar", "forward", "timm nest_tiny_cifar", 1.15),
    ("cpu", "fp32", "nestlib nest_tiny_cifar", "train", "timm nest_tiny_cifar", 1.25),
    ("cpu", "fp32", "nestlib nest_tiny", "forward", MATMUL, 0.7, "TFLOP/s"),
    ("cpu", "fp32", "nestlib nest_tiny_cifar", "forward", MATMUL, 0.7, "TFLOP/s"),
    ("cuda", "bf16", "nestlib nest_tiny compiled", "forward", "timm nest_tiny", 3.0),
    ("cuda", "bf16", "nestlib nest_tiny compiled", "forward", "timm nest_tiny tuned compiled", 1.3),
    ("cuda", "bf16", "nestlib nest_tiny compiled", "forward", "timm deit_small tuned compiled",
     0.6, "TFLOP/s"),
))
# fmt: on


def rivals_table(here: Record | None, committed: Sequence[Record]) -> Table:
    """Every run's contenders: images/s, TFLOP/s and how they stand to timm's eager form."""
    runs = results(here, committed)
    rows = [
        _row(record, name, source_of(record, here)) for record in runs for name in rows_of(record)
    ]
    return Table(
        "NesT in nestlib and in timm, with equal weights and outputs; rows of one machine and "
        "precision were timed in one run",
        ("Contender", "Batch", "Images/s, forward", "training", "TFLOP/s, forward",
         "% of a matrix product", "x timm, forward", "training", "Measured on"),
        rows or [(name, NOT_RUN, *[""] * 7) for name in RIVALS],
        ["Median ± half range of the rounds; in the last columns of numbers, of the rounds' own "
         "ratios. TFLOP/s = 2 x multiply-adds x images/s; x timm = images/s over those of timm's "
         "eager form of the same model, as it comes (a yardstick's is tuned)",
         *(note for record in runs for note in _notes(record, source_of(record, here)))],
    )  # fmt: skip


def ratios_table(here: Record | None, committed: Sequence[Record]) -> Table:
    """The short form: ours over timm's, for each NesT and step, on each device and precision.

    Of several runs of one device and precision the one of most rounds and rows stands.
    """
    rows, notes = [], []
    fullest = _fullest(results(here, committed), "device_kind")
    for kind, precision in sorted(fullest, key=lambda key: (key[0] == "cpu", key[1])):
        record = fullest[kind, precision]
        source = source_of(record, here)
        for name in rows_of(record):
            rival = RIVALS[name]
            if rival.library != "nestlib" or rival.compile:
                continue
            timm = Rival(rival.model, "timm").name
            rows += [
                (f"{DEVICES[kind]}, {precision}", rival.model, MODES[mode],
                 *(_ratio(record, name, mode, base, source) or ""
                   for base in (timm, timm + BEST, f"{timm} fp32")),
                 _ratio(record, name, mode, MATMUL, source, "TFLOP/s") or "")
                for mode in MODES
            ]  # fmt: skip
        notes.append(f"{source}: {describe_machine(record)}, {record.recipe['rounds_done']} rounds")
    return Table(
        "Images/s of NesT here over those of timm's, with equal weights and outputs",
        ("Device", "Model", "Step", "timm as it comes", "timm at its best",
         "timm in fp32 as it comes", "a matrix product (TFLOP/s)"),
        rows or [(NOT_RUN, *[""] * 6)],
        ["Median ± half range of the rounds' own ratios. At its best: the fastest of timm's "
         "forms in that run: as it comes, tuned (fused or plain attention, channels first "
         "or last) and, in the bench's full form, compiled. The matrix product is "
         "the machine's own, large and square, in the same precision and run: 1 is the most that "
         "any model could reach", *notes],
    )  # fmt: skip


def fullest_runs(here: Record | None, committed: Sequence[Record]) -> list[Record]:
    """Of several runs on one machine in one precision the one of most rows and rounds."""
    return list(_fullest(results(here, committed), "device").values())


def _fullest(runs: Sequence[Record], per: str) -> dict[tuple[str, str], Record]:
    """By a field of the environment, and the precision."""
    found: dict[tuple[str, str], Record] = {}
    for record in runs:
        key = record.environment[per], record.recipe["precision"]
        if key not in found or _extent(record) > _extent(found[key]):
            found[key] = record
    return found


def _extent(record: Record) -> tuple[int, int]:
    return len(record.summary), record.recipe["rounds_done"]


def targets_table(here: Record | None, committed: Sequence[Record]) -> Table:
    """The targets, each with the fullest run that measured it in enough rounds."""
    rows, runs = [], sorted(results(here, committed), key=_extent, reverse=True)
    for target in TARGETS:
        measured = [
            reach(record, target, source_of(record, here)) for record in runs
            if record.environment["device_kind"] == target.device_kind
            and record.recipe["precision"] == target.precision
        ]  # fmt: skip
        found = [number for number in measured if number is not None]
        number = next((n for n in found if n.n >= MIN_ROUNDS), found[0] if found else None)
        rows.append((
            f"{DEVICES[target.device_kind]}, {target.precision}", target.contender,
            MODES[target.mode], f"{target.against}, {target.unit}",
            Number(target.at_least, "set beforehand", 2), number or NOT_RUN, judge(number, target),
            number.source if number else "",
        ))  # fmt: skip
    return Table(
        "Targets: how many times as fast as what it is held against a contender shall be",
        ("Machine", "Contender", "Step", "Held against", "At least", "Measured", "Verdict",
         "Measured on"),
        rows,
        [f"Median ± half range of the rounds' own ratios; fewer than {MIN_ROUNDS} rounds judge "
         "nothing. At its best: the fastest of timm's forms of the model in that run, tuned, "
         "compiled or as it comes"],
    )  # fmt: skip


def reach(record: Record, target: Target, source: str) -> Number | None:
    """The ratio that a target is about, None where a run did not measure it."""
    return _ratio(record, target.contender, target.mode, target.against, source, target.unit)


def _ratio(
    record: Record, name: str, mode: str, base: str, source: str, unit: str = "images/s"
) -> Number | None:
    """A contender's rate over that of `base`, of the rounds of one run."""
    ours, theirs = (rounds_of(record, one, mode, unit) for one in (name, base))
    return median_ratio(ours, theirs, source)


def judge(number: Number | None, target: Target) -> str:
    """met, missed or not measured."""
    if number is None:
        return "not measured"
    if number.n < MIN_ROUNDS:
        return f"not measured: {number.n} of {MIN_ROUNDS} rounds"
    return "met" if number.value >= target.at_least else "missed"


def rows_of(record: Record) -> list[str]:
    """A run's contenders in the order of RIVALS: a record's own keys are sorted."""
    return [name for name in RIVALS if name in record.summary]


def rounds_of(record: Record, name: str, mode: str, unit: str = "images/s") -> list[float]:
    """Every round's images/s or TFLOP/s; [] where not measured."""
    if name == MATMUL:
        return record.recipe["matmul_tflops"]["rounds"]
    if name.endswith(BEST):
        name = _best_form(record, name.removesuffix(BEST), mode)
        if name is None:
            return []
    rounds = cost.rounds_of(record, name, mode)
    if unit == "images/s" or not rounds:
        return rounds
    gflops = record.summary[name]["gflops"]
    flops = 2 * gflops * 1e9 * (3 if mode == "train" else 1)  # backward: two products more
    return [speed * flops / 1e12 for speed in rounds]


def _best_form(record: Record, name: str, mode: str) -> str | None:
    """The fastest form of timm's model that was timed in the run's own precision, by medians."""
    model = RIVALS[name].model
    forms = [
        form for form in rows_of(record)
        if RIVALS[form].model == model and RIVALS[form].library == "timm"
        and RIVALS[form].precision is None and cost.rounds_of(record, form, mode)
    ]  # fmt: skip
    return max(forms, key=lambda form: median(cost.rounds_of(record, form, mode)), default=None)


def _base(name: str) -> str:
    """timm's eager form of the same model, as it comes; of a yardstick, tuned, its only one."""
    model = RIVALS[name].model
    plain = Rival(model, "timm").name
    return plain if plain in RIVALS else Rival(model, "timm", tuned=True).name


def _row(record: Record, name: str, source: str) -> tuple[Cell, ...]:
    row, base = record.summary[name], _base(name)
    speeds = [rounds_of(record, name, mode) for mode in MODES]
    tflops = rounds_of(record, name, "forward", "TFLOP/s")
    share = [
        100 * value / best for value, best in zip(tflops, rounds_of(record, MATMUL, "forward"))
    ]
    numbers = [
        *(median_of(values, source) for values in (*speeds, tflops, share)),
        *("1" if timed and name == base else _ratio(record, name, mode, base, source)
          for mode, timed in zip(MODES, speeds)),
    ]  # fmt: skip
    cells: list[Cell] = [number or "" for number in numbers]
    if "" in cells:  # the reason stands once, where the numbers end
        cells[cells.index("")] = row.get("error", NOT_RUN)
    machine = source if source == HERE else describe_machine(record)
    return (name, str(row["batch_size"]), *cells, machine)


def _notes(record: Record, source: str) -> list[str]:
    """How a run was made, on which paths, and that it compared one function."""
    settings, best = record.recipe, record.recipe["matmul_tflops"]
    rate = median_of(best["rounds"], source)
    differences = ", ".join(
        f"{model} {value:.1g}" for model, value in settings["logit_differences"].items()
    )
    return [
        f"{source}: {record.environment['device']}, {settings['threads']} threads, "
        f"{settings['precision']}, torch {settings['torch']}, timm "
        f"{record.environment['packages']['timm']}, {settings['rounds_done']} rounds in turn of "
        f"{settings['seconds_per_round']:g} s or more a contender and mode, warm-up "
        f"{settings['warmup']} steps; product of two matrices of {best['size']}x{best['size']}: "
        f"{rate} TFLOP/s; largest difference of logits to timm's before timing, fp32: "
        f"{differences}; multiply-adds by {settings['flop_counter']}; record {record.run_id}, "
        f"{record.environment['finished'][:10]}",
        f"{source}, how each ran, if tuned the fastest tried before timing: {_paths(record)}",
    ]


def _paths(record: Record) -> str:
    """Who ran on which; the step is named where a contender's two took different ones."""
    found: dict[str, list[str]] = {}
    for name in rows_of(record):
        steps: dict[str, list[str]] = {}
        for mode, path in record.summary[name].get("paths", {}).items():
            attention = {True: ", fused attention", False: ", plain attention", None: ""}
            text = path["memory_format"].replace("_", " ") + attention[path["fused_attention"]]
            steps.setdefault(text, []).append(MODES[mode])
        for text, modes in steps.items():
            found.setdefault(text, []).append(name if len(steps) == 1 else f"{name}, {modes[0]}")
    return "; ".join(f"{text} ({' | '.join(names)})" for text, names in found.items())
