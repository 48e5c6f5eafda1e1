"""Table 1: the paper's accuracies beside our records', and the quick runs on digits."""

from collections.abc import Mapping, Sequence

from nestbook.paper import TABLE1 as PRINTED
from nestbook.recipes.rows import TABLE1
from nestbook.report.cost import is_smoke
from nestbook.report.families import Family, say_families
from nestbook.report.means import describe_runs, find_sources, join_ids, mean_top1
from nestbook.report.pictures import Picture
from nestbook.report.tables import NOT_RUN, PAPER, Cell, Number, Table, mean_of
from nestbook.report.trade_off import family_of, name_group, plot_rows
from nestlib.metrics.intervals import sampling_half_width
from nestlib.recipes.named import get_recipe
from nestlib.recipes.recipe import with_overrides
from nestlib.records import Record, Store
from nestlib.runs.staleness import find_fresh_seeds

SPLIT_FIELDS = ("epochs=10", "precision=fp32")  # long enough for every seed to learn


def table1(store: Store) -> Table:
    """The paper's table in its form, and beside it our accuracies by each row's full recipe."""
    rows, found = [], []
    for name, printed in PRINTED.items():
        mark = "?" if printed.unsure else ""
        costs = (printed.params_m, 1), (printed.gpu_memory_mb, 0), (printed.images_per_second, 1)
        cells: list[Cell] = [Number(value, PAPER, digits) for value, digits in costs]
        for dataset, value in (("cifar10", printed.cifar10), ("cifar100", printed.cifar100)):
            records = find_fresh_seeds(get_recipe(TABLE1[name].on(dataset)), store)
            cells += [Number(value, PAPER, 2, mark=mark), mean_top1(records)]
            found += records
        rows.append((name, name_group(printed.group), *cells))
    ours = "Here: mean ± standard deviation over seeds of the last epoch, not of the best"
    return Table(
        "Table 1, accuracy and cost as the paper prints them, and accuracies of runs here",
        ("Method", "Architecture", "Params (M)", "GPU memory (MB)", "Images/s", "C10 (%)",
         "C10, here", "C100 (%)", "C100, here"),
        rows,
        ["The paper gives no number of runs and no spread; ? = training tends to diverge",
         *([ours] if found else [])],
        find_sources(found),
    )  # fmt: skip


def table1_real(store: Store, names: Sequence[str]) -> Table:
    """Real CIFAR-10, but not the paper's schedule: one row per recipe of ours."""
    rows, found = [], []
    for name in names:
        recipe = get_recipe(name)
        records = find_fresh_seeds(recipe, store)
        if not records:
            rows.append((name, NOT_RUN, "", "", "", "", ""))
            continue
        found += records
        source, top1 = join_ids(records), mean_top1(records)
        minutes = [record.summary["train_seconds"] / 60 for record in records]
        images = records[0].environment["data"]["test"]["images"]
        rows.append((
            name, top1, Number(sampling_half_width(top1.value, images), source, 2),
            str(len(records)), Number(records[0].summary["num_params"] / 1e6, source, 2),
            str(recipe.epochs), mean_of(minutes, source, 0),
        ))  # fmt: skip
    return Table(
        "All of CIFAR-10, outside the paper's table: a narrow model, a short schedule",
        ("Recipe", "C10 top-1 (%)", "Sampling ±", "n", "Params (M)", "Epochs", "Minutes"),
        rows,
        ["Last epoch. Sampling ±: 95 % half-width of one such score for the draw of test images"],
        find_sources(found),
    )  # fmt: skip


def table1_quick(records: Mapping[str, Sequence[Record]]) -> Table:
    """Narrow relatives on the embedded digits: no result of the paper, a check that all train."""
    rows, shown = [], []
    for name, entry in TABLE1.items():
        if entry.quick is None:
            continue
        found = records.get(name, ())
        done = [r for r in found if r.recipe["name"] == entry.quick and not is_smoke(r)]
        if not done:
            rows.append((family_of(name), entry.quick, NOT_RUN, "", "", ""))
            continue
        source = done[0].run_id
        seconds = [record.summary["train_seconds"] for record in done]
        rows.append((
            family_of(name), entry.quick, mean_top1(done, 1), str(len(done)),
            Number(done[0].summary["num_params"] / 1e6, source, 2), mean_of(seconds, source, 0),
        ))  # fmt: skip
        shown += done
    return Table(
        "Narrow models after a short training on embedded digits (chance 10 %; no result of the "
        "paper)",
        ("Family", "Recipe", "Digits top-1 (%)", "n", "Params (M)", "Seconds per run"),
        rows,
        ["Mean ± standard deviation over seeds, at the same images, epochs and learning rate. The "
         "rate was chosen so that every seed of NesT learns. WRN does better at a higher one, so "
         "this ranks nothing (D19)"],
        find_sources(shown),
    )  # fmt: skip


def splits_table(store: Store) -> Table:
    """What the digits' split by form changes: narrow NesT, trained and tested on other scans."""
    plain = with_overrides(get_recipe("digits/nest_narrow"), list(SPLIT_FIELDS))
    by_form = with_overrides(plain, ["dataset_options.by_form=true"])
    ways = {"four fifths of each class, in the file's order": plain, "by form": by_form}
    rows, shown = [], []
    for name, recipe in ways.items():
        records = find_fresh_seeds(recipe, store)
        rows.append((name, mean_top1(records, 1), str(len(records) or "")))
        shown += records
    return Table(
        "Two splits of the digits' scans: narrow NesT after a longer training",
        ("Split of the scans", "Digits top-1 (%)", "n"),
        rows,
        ["By form, train and test share none of the 14 forms that writers filled; otherwise they "
         f"share one (D19). The recipe is digits/nest_narrow with {' and '.join(SPLIT_FIELDS)}"],
        find_sources(shown),
    )  # fmt: skip


def plot_table1(
    store: Store, here: Record | None, committed: Sequence[Record]
) -> tuple[Picture, Picture]:
    """CIFAR-10 accuracy against speed, and against parameters: as printed, and as measured here."""
    ours = {}
    for name, row in TABLE1.items():
        records = find_fresh_seeds(get_recipe(row.recipe), store)
        if records:
            top1 = mean_top1(records)
            ours[name] = top1.value, describe_runs(f"{top1} %", records)
    return plot_rows("table1", "CIFAR-10 top-1 (%)", "cifar10", ours, here, committed)


def say_table1(families: Sequence[Family], store: Store) -> str:
    """Who is ahead at equal size, and whether the paper's rows have been trained here."""
    ours = [find_fresh_seeds(get_recipe(row.recipe), store) for row in TABLE1.values()]
    small = say_families(families, store) or _say_printed()
    printed, records = PRINTED["NesT-T"], find_fresh_seeds(get_recipe("cifar10/nest_tiny"), store)
    if records:
        return (
            f"By the paper's recipe NesT-T reaches {mean_top1(records)} % on CIFAR-10 here (n = "
            f"{len(records)}; the paper prints {printed.cifar10:.2f} %). {small}"
        )
    if any(ours):
        number = sum(map(bool, ours))
        is_are = "is" if number == 1 else "are"
        full = f"{number} of the paper's {len(ours)} rows {is_are} trained here."
    else:
        full = f"None of the paper's {len(ours)} rows has been trained here."
    return f"{small} {full}" if any(f.scores for f in families) else f"{full} {small}"


def _say_printed() -> str:
    """Where the paper has NesT-T, with no run here to set beside it."""
    ours = PRINTED["NesT-T"]
    others = [row for name, row in PRINTED.items() if family_of(name) != "NesT"]
    above = [row.cifar100 for row in others if row.cifar100 > ours.cifar100]
    best = max(row.cifar10 for row in others)
    return (
        f"The paper prints {ours.cifar10:.2f} % on CIFAR-10 for NesT-T, {best:.2f} % for the best "
        f"other family, and on CIFAR-100 {ours.cifar100:.2f} %, below {len(above)} of its rivals."
    )
