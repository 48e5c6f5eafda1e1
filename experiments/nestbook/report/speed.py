"""NesT here against timm's: speeds of one run, and the targets set beforehand."""

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median

from nestbook.benchmarks.rivals import RIVALS, Rival
from nestbook.claims.claim import NO_RECORD
from nestbook.report import cost
from nestbook.report.cost import results, source_of
from nestbook.report.means import find_sources, short_device
from nestbook.report.points import MEASURED, Chip, Point
from nestbook.report.tables import (
    HERE,
    NOT_RUN,
    Cell,
    Number,
    Sources,
    Table,
    median_of,
    median_ratio,
)
from nestlib.records import Record

MODES = {"forward": "forward", "train": "training"}
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


def say_speed(here: Record | None, committed: Sequence[Record]) -> str:
    """How fast NesT-T here is beside timm's, in each precision that one kind of device has."""
    runs = _runs_to_show(here, committed)
    if not runs:
        return "Nothing has been timed yet: there is no run with NesT-T here and timm's."
    timm = Rival("nest_tiny", "timm").name
    machine = " and ".join(sorted({short_device(r.environment["device"]) for r in runs}))
    forward, training = _factors(runs, timm)
    best_forward, best_training = _factors(runs, timm + BEST)
    words = " and ".join(
        f"{factor} times in {record.recipe['precision']}" for factor, record in zip(forward, runs)
    ).replace("times", "times as fast", 1)
    return (
        f"On {machine}, against timm out of the box, a forward pass of NesT-T is "
        f"{words}{_in_training(training)}. Against timm's fastest form it is "
        f"{' and '.join(best_forward)} times as fast{_in_training(best_training)}."
    )


def _factors(runs: Sequence[Record], base: str) -> tuple[list[str], list[str]]:
    """NesT-T's rate over that of `base`, forward and in training, run by run where measured."""
    ours = Rival("nest_tiny", "nestlib").name
    found = ([_ratio(r, ours, mode, base, r.run_id) for r in runs] for mode in MODES)
    forward, training = ([f"{n.value:.2f}" for n in numbers if n] for numbers in found)
    return forward, training


def _in_training(factors: Sequence[str]) -> str:
    if not factors:
        return ""
    slower = "; below 1 is slower" if any(float(factor) < 1 for factor in factors) else ""
    return f" (a training step: {' and '.join(factors)}{slower})"


def make_speed_point(here: Record | None, committed: Sequence[Record]) -> Point:
    """The sentence, a chip for each run that it rests on, and one where no GPU was timed."""
    runs = _runs_to_show(here, committed)
    measured = tuple(
        Chip(
            f"measured: {r.recipe['rounds_done']} rounds, {short_device(r.environment['device'])}, "
            f"{r.recipe['precision']}", MEASURED,
        )
        for r in runs
    )  # fmt: skip
    on_gpu = any(record.environment["device_kind"] == "cuda" for record in runs)
    chips = measured if on_gpu else (*measured, Chip("GPU: not run", NO_RECORD))
    return Point(say_speed(here, committed), chips)


def _runs_to_show(here: Record | None, committed: Sequence[Record]) -> list[Record]:
    """The fullest runs of GPUs, else of CPUs, that timed NesT-T in both libraries."""
    pair = [Rival("nest_tiny", library).name for library in ("nestlib", "timm")]
    runs = [
        record for record in fullest_runs(here, committed)
        if all(rounds_of(record, name, "forward") for name in pair)
    ]  # fmt: skip
    kinds = {record.environment["device_kind"] for record in runs}
    kind = "cuda" if "cuda" in kinds else "cpu"
    return [record for record in runs if record.environment["device_kind"] == kind]


def rivals_tables(here: Record | None, committed: Sequence[Record]) -> list[Table]:
    """One per run: images/s, TFLOP/s, and how each contender stands to timm's eager form."""
    return [_rivals_table(record, here) for record in results(here, committed)]


def _rivals_table(record: Record, here: Record | None) -> Table:
    source = source_of(record, here)
    machine = short_device(record.environment["device"])
    settings = record.recipe
    return Table(
        f"NesT here and in timm, with equal weights and outputs: {machine}, "
        f"{settings['precision']}, {settings['rounds_done']} rounds",
        ("Contender", "Batch", "Images/s, forward", "training", "TFLOP/s, forward",
         "% of a matrix product", "x timm, forward", "training"),
        [_row(record, name, source) for name in rows_of(record)],
        ["Median ± half range of the rounds. x timm: images/s over those of timm's eager form of "
         "the same model as it comes (for DeiT and Swin: tuned), of the rounds' own ratios"],
        Sources(f"{_say_run(source)}, torch {settings['torch']}, {settings['rounds_done']} rounds "
                "in turn", _details(record, source)),
    )  # fmt: skip


def _say_run(source: str) -> str:
    return "This machine" if source == HERE else "1 run"


def ratios_table(here: Record | None, committed: Sequence[Record]) -> Table:
    """The short form: ours over timm's, for each NesT and step, on each device and precision.

    Of several runs of one device and precision the one of most rounds and rows stands.
    """
    rows, used = [], []
    fullest = _fullest(results(here, committed), "device_kind")
    for kind, precision in sorted(fullest, key=lambda key: (key[0] == "cpu", key[1])):
        record = fullest[kind, precision]
        source = source_of(record, here)
        used.append(record)
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
    return Table(
        "Images per second of NesT here over those of timm's, with equal weights and outputs",
        ("Device", "Model", "Step", "timm as it comes", "timm at its best", "timm in fp32",
         "matrix product"),
        rows or [(NOT_RUN, *[""] * 6)],
        ["Median ± half range of the rounds' own ratios. In fp32: as it comes, beside a run in "
         "bf16",
         "At its best: the fastest of timm's forms in that run: as it comes, tuned (fused or plain "
         "attention, channels first or last) or compiled",
         "Matrix product: TFLOP/s over those of a large square product in the same run; 1 is the "
         "most that any model could reach"],
        _run_sources(used),
    )  # fmt: skip


def _run_sources(records: Sequence[Record]) -> Sources | None:
    """As `find_sources`, with the number of rounds."""
    found = find_sources(records)
    if found is None:
        return None
    rounds = " and ".join(str(r.recipe["rounds_done"]) for r in records)
    return Sources(f"{found.line}, {rounds} rounds", found.details)


def fullest_runs(here: Record | None, committed: Sequence[Record]) -> list[Record]:
    """Of several runs on one machine in one precision the one of most rows and rounds; GPUs' come
    first, and fp32 before bf16."""
    found = _fullest(results(here, committed), "device").values()
    by_precision = sorted(found, key=lambda record: record.recipe["precision"], reverse=True)
    return sorted(by_precision, key=lambda record: record.environment["device_kind"] != "cuda")


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
    used: dict[str, Record] = {}
    for target in TARGETS:
        measured = {
            record.run_id: number for record in runs
            if record.environment["device_kind"] == target.device_kind
            and record.recipe["precision"] == target.precision
            and (number := reach(record, target, source_of(record, here)))
        }  # fmt: skip
        enough = (name for name, number in measured.items() if number.n >= MIN_ROUNDS)
        name = next(enough, next(iter(measured), None))
        used |= {record.run_id: record for record in runs if record.run_id == name}
        number = measured.get(name)
        rows.append((
            f"{DEVICES[target.device_kind]}, {target.precision}",
            target.contender.removeprefix("nestlib "),
            MODES[target.mode], _say_base(target),
            Number(target.at_least, "set beforehand", 2), number or NOT_RUN,
            judge(number, target) if number else "",
        ))  # fmt: skip
    return Table(
        "Targets, set before the work began: how many times as fast as what it is held against",
        ("Machine", "Here", "Step", "Held against", "At least", "Measured", "Verdict"),
        rows,
        [f"Median ± half range of the rounds' own ratios; fewer than {MIN_ROUNDS} rounds judge "
         "nothing. Images per second where no other unit is named"],
        _run_sources(list(used.values())),
    )  # fmt: skip


def _say_base(target: Target) -> str:
    unit = "" if target.unit == "images/s" else f" ({target.unit})"
    return f"{target.against}{unit}"


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
    return (name, str(row["batch_size"]), *cells)


def _details(record: Record, source: str) -> tuple[str, ...]:
    """How a run was made, on which paths, and that it compared one function."""
    settings, best = record.recipe, record.recipe["matmul_tflops"]
    rate = median_of(best["rounds"], source)
    differences = ", ".join(
        f"{model} {value:.1g}" for model, value in settings["logit_differences"].items()
    )
    return (
        f"Record {record.run_id}, {record.environment['finished'][:10]}: "
        f"{record.environment['device']}, {settings['threads']} threads, timm "
        f"{record.environment['packages']['timm']}; each contender and mode ran "
        f"{settings['seconds_per_round']:g} s or more per round, after {settings['warmup']} steps "
        "of warm-up",
        f"Product of two matrices of {best['size']}x{best['size']}: {rate} TFLOP/s; multiply-adds: "
        f"{cost.say_flop_counter(settings['flop_counter'])}; TFLOP/s = 2 x multiply-adds x "
        "images/s",
        f"Largest difference of logits to timm's before timing, in fp32: {differences}",
        f"How each ran; what is tuned took the fastest form tried before: {_paths(record)}",
    )


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
