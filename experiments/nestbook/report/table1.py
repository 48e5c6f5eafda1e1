"""Table 1: the paper's accuracies beside our records', and the quick runs on digits."""

from collections.abc import Mapping, Sequence

from nestbook.paper import TABLE1 as PRINTED
from nestbook.recipes.narrow import SMALL_IMAGES_SEEN, SMALL_SUBSET
from nestbook.recipes.rows import TABLE1
from nestbook.report.cost import describe_machine, is_smoke, rounds_of
from nestbook.report.means import describe_runs, join_ids, mean_top1
from nestbook.report.pictures import Picture
from nestbook.report.tables import NOT_RUN, PAPER, Cell, Number, Table, mean_of, median_of
from nestbook.report.trade_off import plot_rows
from nestbook.sweeps.plans import RATE_HELD_OUT, RATES, plan
from nestbook.sweeps.small import find_rates
from nestlib.metrics.intervals import sampling_half_width
from nestlib.recipes.named import get_recipe
from nestlib.records import Record, Store
from nestlib.runs.staleness import find_fresh, find_fresh_seeds


def table1(store: Store) -> Table:
    """Accuracy by each row's full recipe: the paper's, and our records' where there are any."""
    rows, notes = [], []
    for name, printed in PRINTED.items():
        cells: list[Cell] = [name, printed.group]
        for dataset, value in (("cifar10", printed.cifar10), ("cifar100", printed.cifar100)):
            records = find_fresh_seeds(get_recipe(TABLE1[name].on(dataset)), store)
            mark = "?" if printed.unsure else ""
            cells += [Number(value, PAPER, 2, mark=mark), mean_top1(records)]
            notes += [describe_runs(f"{name}, {dataset}", records)] if records else []
        rows.append(tuple(cells))
    return Table(
        "Table 1, accuracy: top-1 on CIFAR test sets (%), from random weights",
        ("Method", "Architecture", "C10, paper", "C10, our record", "C100, paper",
         "C100, our record"),
        rows,
        ["Paper: number of runs and spread not given; ? = training tends to diverge. Ours: mean ± "
         "standard deviation over n runs of the last epoch, not the best on test",
         *(notes or ["No record of a row's full recipe yet"])],
    )  # fmt: skip


def table1_real(store: Store, names: Sequence[str]) -> Table:
    """Real CIFAR-10, but not the paper's schedule: recipes of ours, each a row of its own."""
    rows, notes = [], []
    for name in names:
        recipe = get_recipe(name)
        records = find_fresh_seeds(recipe, store)
        if not records:
            rows.append((name, NOT_RUN, "", "", "", "", ""))
            continue
        source = join_ids(records)
        minutes = [record.summary["train_seconds"] / 60 for record in records]
        rows.append((
            name, *_accuracy(records), Number(records[0].summary["num_params"] / 1e6, source, 2),
            str(recipe.epochs), mean_of(minutes, source, 0),
        ))  # fmt: skip
        images = records[0].environment["data"]["test"]["images"]
        notes.append(f"{describe_runs(name, records)}; {images:,} test images")
    return Table(
        "Real CIFAR-10, outside the paper's table: our narrow models on small machines",
        ("Recipe", "C10 top-1 (%)", "Sampling ±", "n", "Params (M)", "Epochs", "Minutes"),
        rows,
        ["Last epoch; sampling ± is the 95 % half-width of one such score, seeds apart", *notes],
    )


def table1_small(
    store: Store, seeds: Sequence[int] = (0, 1, 2), bench: Record | None = None
) -> Table:
    """Narrow relatives of equal size on a part of real CIFAR-10, budget small.

    bench: of their costs, by `nest bench small`; default the newest committed one.
    """
    bench = bench or next(iter(store.find_benches("small")), None)
    rows, notes, settled = [], [], find_rates(store)
    for (_, row), recipes in plan("table1", "small", seeds).items():
        records = [found for found in (find_fresh(r, store) for r in recipes) if found]
        notes += [describe_runs(recipes[0].name, records)] if records else []
        rate = f"{recipes[0].lr_per_256:g}" if row in settled else "not chosen yet"
        rows.append((row, recipes[0].name, *_accuracy(records), *_cost(bench, row), rate))
    timed = f"by {bench.run_id} ({describe_machine(bench)}), all in turn" if bench else NOT_RUN
    return Table(
        f"Seven families at equal size: {SMALL_SUBSET:,} images of CIFAR-10, "
        f"{SMALL_IMAGES_SEEN:,} images seen",
        ("Row", "Recipe", "C10 top-1 (%)", "Sampling ±", "n", "Params (M)", "GFLOPs",
         "Training images/s", "Rate"),
        rows,
        ["Mean ± standard deviation over seeds of the last epoch's accuracy on all 10,000 test "
         f"images. Costs: {timed}. Rate: lr_per_256, the best of three on held-out training images "
         "(next table)", *notes],
    )  # fmt: skip


def _accuracy(records: Sequence[Record]) -> tuple[Cell, Cell, str]:
    """Mean over seeds, half-width for the draw of the test images, and n."""
    if not records:
        return (NOT_RUN, "", "")
    top1, images = mean_top1(records), records[0].environment["data"]["test"]["images"]
    half = Number(sampling_half_width(top1.value, images), top1.source, 2)
    return top1, half, str(len(records))


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
    found, rows = find_rates(store), []
    for row, entry in TABLE1.items():
        if not entry.small:
            continue
        recipe = get_recipe(entry.small)
        cells, taken = [NOT_RUN, "", ""], "not chosen yet"
        if row in found:
            scores, taken = found[row].scores, f"{recipe.lr_per_256:g}"
            cells = [f"{scores[rate]:.2f} (at {rate:g})" for rate in RATES[recipe.optimizer]]
        rows.append((row, recipe.optimizer, *cells, taken))
    return Table(
        f"Learning rates: top-1 (%) on {RATE_HELD_OUT:,} training images held out, never on test",
        ("Row", "Optimizer", "Lowest", "Middle", "Highest", "Taken"),
        rows,
        ["One run each of the row's own recipe, with lr_per_256 as said; records of the sweep "
         "learning_rates. The best is taken for all runs of budget small"],
    )  # fmt: skip


def table1_quick(records: Mapping[str, Sequence[Record]]) -> Table:
    """Narrow relatives on the embedded digits: no result of the paper, a check that all train."""
    rows, notes = [], []
    for name, entry in TABLE1.items():
        if entry.quick is None:
            continue
        found = records.get(name, ())
        done = [r for r in found if r.recipe["name"] == entry.quick and not is_smoke(r)]
        if not done:
            rows.append((name, entry.quick, NOT_RUN, "", "", ""))
            continue
        source = done[0].run_id
        seconds = [record.summary["train_seconds"] for record in done]
        rows.append((
            name, entry.quick, mean_top1(done, 1), str(len(done)),
            Number(done[0].summary["num_params"] / 1e6, source, 2), mean_of(seconds, source, 0),
        ))  # fmt: skip
        notes.append(describe_runs(entry.quick, done))
    return Table(
        "Quick: narrow relatives after a short training on the embedded digits "
        "(chance 10 %; not the paper's data, not its models)",
        ("Row", "Recipe", "Digits top-1 (%)", "n", "Params (M)", "Seconds a run"),
        rows,
        ["Mean ± standard deviation over seeds; the same images, epochs and learning rate for all. "
         "The rate was chosen so that every seed of NesT learns; WRN does better at a higher one, "
         "so this ranks nothing (D19)", *notes],
    )  # fmt: skip


def plot_table1(store: Store, here: Record | None, committed: Sequence[Record]) -> Picture:
    """CIFAR-10 accuracy against speed and parameters: as printed, and as measured here."""
    ours = {}
    for name, row in TABLE1.items():
        records = find_fresh_seeds(get_recipe(row.recipe), store)
        if records:
            top1 = mean_top1(records)
            ours[name] = top1.value, describe_runs(f"{top1} %", records)
    return plot_rows("table1", "CIFAR-10 top-1 (%)", "cifar10", ours, here, committed)
