"""The book's opening and the README's results: every claim with its status, every headline number.

All of it is read from committed records, from the paper's numbers, or measured here; a test holds
the files that show it to what this module says.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import NamedTuple

from nestbook.architecture import crosses
from nestbook.claims.catalog import CLAIMS
from nestbook.claims.claim import NO_RECORD, Outcome, examine
from nestbook.claims.verdict import CONTRADICTED, SUPPORTED
from nestbook.evaluations.planted import find_planted
from nestbook.evaluations.standing import why_outdated
from nestbook.paper import FIGURE7_THROUGHPUT_RATIO, FIGURE8, TABLE1, TABLE2
from nestbook.recipes.rows import TABLES
from nestbook.report.all_records import WAY
from nestbook.report.claims import count_statuses, status_of_printed, status_of_small
from nestbook.report.cost import rounds_of
from nestbook.report.means import join_devices, mean_top1
from nestbook.report.tables import NOT_RUN, PAPER, Cell, Link, Number, Table, median_ratio
from nestlib.files import write_atomically
from nestlib.metrics.intervals import sampling_half_width
from nestlib.models.aggregation import AGGREGATIONS
from nestlib.project import find_project_root, is_publishing
from nestlib.recipes.named import get_recipe
from nestlib.recipes.recipe import from_dict
from nestlib.records import Record, Store
from nestlib.runs.staleness import find_fresh, find_fresh_seeds

PAGES = {
    **{f"figure{number}": f"Figure {number}" for number in range(1, 9)},
    **{f"figure_a{number}": f"Figure A{number}" for number in range(1, 5)},
    **{f"table{number}": f"Table {number}" for number in (1, 2)},
    **{f"table_a{number}": f"Table A{number}" for number in range(1, 5)},
    "training_images": "Training images", "records": "All records", "claims": "Which claims hold",
}  # fmt: skip
START, END = "<!-- results: experiments/records.ipynb writes them -->", "<!-- end of results -->"


class Group(NamedTuple):
    """One of the five things that the paper sets out to show.

    sections: whose sentences (nestbook.claims.catalog) are its; evidence: what stands here today,
    in words.
    """

    claim: str
    sections: tuple[str, ...]
    evidence: Callable[[Store], str]
    pages: tuple[str, ...]


def _say_simple(_: Store) -> str:
    return "a reading, no measurement: the paper's lines beside ours, shapes from the model"


def _say_flow(_: Store) -> str:
    image, block = (sum(crosses(name, p) for name in AGGREGATIONS) for p in ("image", "block"))
    return (
        f"information crosses block borders in {image} of {len(AGGREGATIONS)} designs on the image "
        f"plane, in {block or 'none'} on the block plane (gradients, measured)"
    )


def _say_narrow(store: Store) -> str:
    records = find_fresh_seeds(get_recipe("cifar10/nest_narrow"), store)
    if not records:
        return NOT_RUN
    summary = records[0].summary
    return (
        f"a narrow NesT ({summary['num_params'] / 1e6:.2f} M parameters, "
        f"{summary['reported_epoch']} epochs) reaches {mean_top1(records)} % on CIFAR-10, "
        f"n = {len(records)}; none of the paper's rows"
    )


def _say_decoder(store: Store) -> str:
    found = store.find_committed("digits/gan_nest")
    fresh = next((r for r in found if find_fresh(from_dict(r.recipe), store)), None)
    if fresh is None:
        return NOT_RUN
    steps = fresh.summary["reported_step"]
    return f"a narrow decoder trained {steps:,} steps on digits: it trains, no result of the paper"


def _say_planted(store: Store) -> str:
    planted = _planted(store)
    if planted is None:
        return NOT_RUN
    four, small = (_quadrants(planted, canvas) for canvas in ("four", "small"))
    return (
        f"GradCAT ends in the right quadrant for {four} % of four digits asked for in turn, and "
        f"{small} % of lone small ones (chance 25), narrow models"
    )


GROUPS = (
    Group("Simple: plain transformers, nested, with minor changes to ViT", (), _say_simple,
          ("figure1", "table_a1")),
    Group("How four blocks merge decides, and it has to be on the image plane", ("4.3", "A.2"),
          _say_flow, ("figure2", "figure5", "figure_a1")),
    Group("Little data is enough: ahead of other transformers from scratch, converging faster",
          ("Abstract", "4.1", "4.2", "4.4", "A.1", "A.3"), _say_narrow,
          ("table1", "training_images", "table2", "figure4", "figure6", "figure_a2", "table_a2",
           "table_a3")),
    Group("Upside down it generates images, better and faster than TransGAN", ("4.5",),
          _say_decoder, ("figure7", "figure_a3", "table_a4")),
    Group("Its tree can be read: GradCAT, and CAM that finds objects", ("4.6",), _say_planted,
          ("figure3", "figure8", "figure_a4")),
)  # fmt: skip


def opening_table(store: Store) -> Table:
    """The paper's five claims: their status by records, and what stands here."""
    store = _committed(store)
    rows, outcomes = [], [examine(claim, store) for claim in CLAIMS]
    for group in GROUPS:
        found = [f for f in outcomes if f.claim.section in group.sections]
        rows.append((group.claim, _status(found), group.evidence(store), _links(group.pages)))
    return Table(
        "The paper's claims, and how each stands here",
        ("The paper claims", "Its sentences, by our records", "What stands here so far", "Where"),
        rows,
        ["Status from committed records alone; a sentence is decided where the 95 % interval of "
         "its difference, over seeds and test images, lies on one side. Page: "
         f"{Link('Which claims hold', 'experiments/claims.ipynb')}",
         f"Of the {len(outcomes)} sentences, asked of narrow models on two cores: "
         f"{count_statuses(outcomes, status_of_small)}",
         "The paper's runs take GPU days. Every run made here is listed: "
         f"{Link('All records', 'experiments/records.ipynb')}"],
    )  # fmt: skip


def _status(found: Sequence[Outcome]) -> str:
    if not found:
        return "none to decide"
    states = [outcome.status for outcome in found]
    parts = [f"{states.count(s)} {s}" for s in dict.fromkeys(states) if s != NO_RECORD]
    if NO_RECORD in states:
        parts.append(f"{states.count(NO_RECORD)} without a record")
    printed = [status_of_printed(outcome) for outcome in found]
    holds, fails = printed.count(SUPPORTED), printed.count(CONTRADICTED)
    own = f"; by the paper's own numbers {holds} for, {fails} against" if holds + fails else ""
    return f"of {len(found)}: {', '.join(parts)}{own}"


def _links(names: Sequence[str]) -> str:
    folder = find_project_root() / "experiments"
    return ", ".join(str(_page(name)) for name in names if (folder / f"{name}.ipynb").is_file())


def results_table(store: Store) -> Table:
    """The headline numbers: paper, ours, n and hardware."""
    store = _committed(store)
    rows = [
        _accuracy(store, "table1", dataset, f"NesT-{size}")
        for dataset, sizes in (("cifar10", "TSB"), ("cifar100", "B")) for size in sizes
    ]  # fmt: skip
    rows += [_accuracy(store, "table2", "imagenet", f"NesT-{size}") for size in "TSB"]
    error = "top-1 localization error (%)"
    epochs = get_recipe("cifar10/nest_narrow").epochs
    rows += [
        (f"NesT-S's CAM, ImageNet, {error}", Number(FIGURE8["NesT CAM"], PAPER),
         *_boxes(store, "localize/imagenet/"), _page("figure8")),
        ("NesT decoder's images/s over TransGAN's, 64x64",
         Number(FIGURE7_THROUGHPUT_RATIO, PAPER, 0), *_decoder(store), _page("figure7")),
        (f"narrow NesT, {epochs} epochs, CIFAR-10 top-1 (%)", "-", *_narrow(store),
         _page("table1")),
        (f"narrow NesT's CAM, Tiny ImageNet-100, {error}", "-",
         *_boxes(store, "localize/tiny_imagenet/"), _page("figure8")),
        ("narrow NesT's GradCAT, quadrant of the digit asked for (%, chance 25)", "no number",
         *_tree(store), _page("figure3")),
    ]  # fmt: skip
    return Table(
        "Results so far",
        ("What", "Paper", "Ours", "n", "Hardware", "Page"),
        rows,
        ["Ours: committed records alone, ± standard deviation over seeds or half of a 95 % "
         "interval. Narrow models are ours, trained in minutes to hours on two cores; they are no "
         "rows of the paper and stand for themselves"],
    )  # fmt: skip


def _accuracy(store: Store, table: str, dataset: str, name: str) -> tuple[Cell, ...]:
    printed = TABLE1[name] if table == "table1" else TABLE2[name]
    value = printed.top1 if table == "table2" else getattr(printed, dataset)
    records = find_fresh_seeds(get_recipe(TABLES[table][name].on(dataset)), store)
    title = {"cifar10": "CIFAR-10", "cifar100": "CIFAR-100", "imagenet": "ImageNet"}[dataset]
    return (
        f"{name}, {title} top-1 (%)", Number(value, PAPER, 1 if table == "table2" else 2),
        *_top1(records), _page(table),
    )  # fmt: skip


# Our number, n and hardware
_ABSENT = (NOT_RUN, "", "")


def _top1(records: Sequence[Record]) -> tuple[Cell, ...]:
    if not records:
        return _ABSENT
    return mean_top1(records), str(len(records)), join_devices(records)


def _narrow(store: Store) -> tuple[Cell, ...]:
    """With one seed ± is for the draw of the test images."""
    records = find_fresh_seeds(get_recipe("cifar10/nest_narrow"), store)
    top1, *others = _top1(records)
    if len(records) == 1:
        images = records[0].environment["data"]["test"]["images"]
        top1 = replace(top1, spread=sampling_half_width(top1.value, images))
    return (top1, *others)


def _decoder(store: Store) -> tuple[Cell, ...]:
    for bench in store.find_benches("figure7"):
        ours, base = (rounds_of(bench, name, "forward") for name in ("NesT", "TransGAN"))
        ratio = median_ratio(ours, base, bench.run_id)
        if ratio:
            return ratio, f"{ratio.n} rounds", bench.environment["device"]
    return ("no record yet", "", "")


def _boxes(store: Store, beginning: str) -> tuple[Cell, ...]:
    """NesT's class maps as boxes, of the newest record that stands and whose id begins so."""
    for record in store.find_committed(beginning):
        if record.summary["row"] == "NesT CAM" and not why_outdated(record, store):
            error = Number(record.summary["top1"]["best"]["error"], record.run_id)
            return error, f"{record.summary['images']:,} images", record.environment["device"]
    return _ABSENT


def _tree(store: Store) -> tuple[Cell, ...]:
    record = _planted(store)
    if record is None:
        return _ABSENT
    hit, models = _quadrants(record, "four"), len(record.summary["seeds"])
    return hit, f"{hit.n:,} queries, {models} models", record.environment["device"]


def _planted(store: Store) -> Record | None:
    return next(iter(find_planted(store)), None)


def _quadrants(record: Record, canvas: str) -> Number:
    hit = record.summary["together"][canvas]["ways"][WAY]["quadrant"]
    low, high = hit["interval"]
    queries = record.summary["together"][canvas]["queries"]
    return Number(100 * hit["rate"], record.run_id, 1, queries, 50 * (high - low))


def _page(name: str) -> Link:
    return Link(PAGES[name], f"experiments/{name}.ipynb")


def _committed(store: Store) -> Store:
    """What anyone sees who clones: no runs of this machine alone."""
    return Store(store.committed, None)


def fill_readme(text: str, table: Table) -> str:
    """The README with the table between its two marks.

    Raises:
        ValueError: a README without the marks.
    """
    before, start, rest = text.partition(START)
    _, end, after = rest.partition(END)
    if not (start and end):
        raise ValueError(f"README.md lacks {START!r} or {END!r}")
    return f"{before}{START}\n\n{table.to_markdown().replace('](../', '](')}\n{END}{after}"


def save_readme(table: Table) -> None:
    """Bring README.md's results up to date while publishing; at other times leave it."""
    path = find_project_root() / "README.md"
    text = fill_readme(path.read_text(), table)
    if is_publishing():
        write_atomically(path, text.encode())
        print("wrote README.md")
