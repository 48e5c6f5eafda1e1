"""The book's opening and the README's results: every claim with its status, every headline number.

All of it is read from committed records, from the paper's numbers, or measured here; a test holds
the files that show it to what this module says.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

from nestbook.architecture import crosses
from nestbook.claims.finding import NO_RECORD, examine
from nestbook.claims.findings import CLAIMS
from nestbook.claims.verdict import CONTRADICTED, SUPPORTED
from nestbook.evaluations.planted import find_planted
from nestbook.paper import FIGURE7_THROUGHPUT_RATIO, FIGURE8, TABLE1, TABLE2
from nestbook.recipes.rows import TABLES
from nestbook.report.claims import count_statuses, status_of_small
from nestbook.report.cost import rounds_of
from nestbook.report.tables import NOT_RUN, PAPER, Cell, Link, Number, Table, mean_of, median_ratio
from nestlib.files import write_atomically
from nestlib.metrics.intervals import sampling_half_width
from nestlib.models.aggregation import AGGREGATIONS
from nestlib.project import find_project_root, is_publishing
from nestlib.recipes.named import get_recipe
from nestlib.records import Record, Store

PAGES = {
    "figure1": "Figure 1", "figure2": "Figure 2", "figure3": "Figure 3", "figure4": "Figure 4",
    "figure5": "Figure 5", "figure6": "Figure 6", "figure7": "Figure 7", "figure8": "Figure 8",
    "table1": "Table 1", "table2": "Table 2", "table_a1": "Table A1", "table_a2": "Table A2",
    "table_a3": "Table A3", "table_a4": "Table A4", "figure_a1": "Figure A1",
    "figure_a2": "Figure A2", "figure_a3": "Figure A3", "figure_a4": "Figure A4",
    "training_images": "Training images", "records": "All records", "claims": "Which claims hold",
}  # fmt: skip
WAY = "GradCAT, positive, place, normed"  # the default
START, END = "<!-- results: experiments/records.ipynb writes them -->", "<!-- end of results -->"


class Group(NamedTuple):
    """One of the five things that the paper sets out to show.

    sections: whose sentences (nestbook.claims.findings) are its; evidence: what stands here today,
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
    records = store.find_seeds(get_recipe("cifar10/nest_narrow"))
    if not records:
        return NOT_RUN
    summary = records[0].summary
    return (
        f"a narrow NesT ({summary['num_params'] / 1e6:.2f} M parameters, "
        f"{summary['reported_epoch']} epochs) reaches {_mean_top1(records)} % on CIFAR-10, "
        f"n = {len(records)}; none of the paper's rows"
    )


def _say_decoder(store: Store) -> str:
    records = store.find_committed("digits/gan_nest")
    if not records:
        return NOT_RUN
    steps = records[0].summary["reported_step"]
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
    rows, findings = [], [examine(claim, store) for claim in CLAIMS]
    for group in GROUPS:
        found = [f for f in findings if f.claim.section in group.sections]
        rows.append((group.claim, _status(found), group.evidence(store), _links(group.pages)))
    return Table(
        "The paper's claims, and how each stands here",
        ("The paper claims", "Its sentences, by our records", "What stands here so far", "Where"),
        rows,
        ["Status from committed records alone; a sentence is decided where the 95 % interval of "
         "its difference, over seeds and test images, lies on one side. Page: "
         f"{Link('Which claims hold', 'experiments/claims.ipynb')}",
         f"Of the {len(findings)} sentences, asked of narrow models on two cores: "
         f"{count_statuses(findings, status_of_small)}",
         "The paper's runs take GPU days. Every run made here is listed: "
         f"{Link('All records', 'experiments/records.ipynb')}"],
    )  # fmt: skip


def _status(found: Sequence) -> str:
    if not found:
        return "none to decide"
    states = [finding.status for finding in found]
    parts = [f"{states.count(s)} {s}" for s in dict.fromkeys(states) if s != NO_RECORD]
    if NO_RECORD in states:
        parts.append(f"{states.count(NO_RECORD)} without a record")
    printed = [finding.printed for finding in found]
    holds, fails = printed.count(SUPPORTED), printed.count(CONTRADICTED)
    own = f"; by the paper's own numbers {holds} for, {fails} against" if holds + fails else ""
    return f"of {len(found)}: {', '.join(parts)}{own}"


def _links(names: Sequence[str]) -> str:
    folder = find_project_root() / "experiments"
    there = [name for name in names if (folder / f"{name}.ipynb").is_file()]
    return ", ".join(str(Link(PAGES[name], f"experiments/{name}.ipynb")) for name in there)


def results_table(store: Store) -> Table:
    """The headline numbers: paper, ours, n and hardware."""
    store = _committed(store)
    rows = [
        _accuracy(store, "table1", dataset, name)
        for dataset, names in (("cifar10", "TSB"), ("cifar100", "B"))
        for name in (f"NesT-{size}" for size in names)
    ]  # fmt: skip
    rows += [_accuracy(store, "table2", "imagenet", f"NesT-{size}") for size in "TSB"]
    printed = Number(FIGURE8["NesT CAM"], PAPER)
    rows += [
        _boxes(store, "NesT-S's CAM, ImageNet", "localize/imagenet/", printed),
        _decoder(store),
        _narrow(store),
        _boxes(store, "narrow NesT's CAM, Tiny ImageNet-100", "localize/tiny_imagenet/", "-"),
        _tree(store),
    ]
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
    records = store.find_seeds(get_recipe(TABLES[table][name].on(dataset)))
    title = {"cifar10": "CIFAR-10", "cifar100": "CIFAR-100", "imagenet": "ImageNet"}[dataset]
    return (
        f"{name}, {title} top-1 (%)", Number(value, PAPER, 1 if table == "table2" else 2),
        _mean_top1(records) if records else NOT_RUN, *_provenance(records), _page(table),
    )  # fmt: skip


def _narrow(store: Store) -> tuple[Cell, ...]:
    recipe = get_recipe("cifar10/nest_narrow")
    records = store.find_seeds(recipe)
    ours: Cell = NOT_RUN
    if records:
        ours = _mean_top1(records)
        if len(records) == 1:
            images = records[0].environment["data"]["test"]["images"]
            half = sampling_half_width(ours.value, images)
            ours = Number(ours.value, ours.source, 2, 1, half)
    what = f"narrow NesT, {recipe.epochs} epochs, CIFAR-10 top-1 (%)"
    return (what, "-", ours, *_provenance(records), _page("table1"))


def _decoder(store: Store) -> tuple[Cell, ...]:
    paper = Number(FIGURE7_THROUGHPUT_RATIO, PAPER, 0)
    what = "NesT decoder's images/s over TransGAN's, 64x64"
    for bench in store.find_benches("figure7"):
        ours, base = (rounds_of(bench, name, "forward") for name in ("NesT", "TransGAN"))
        ratio = median_ratio(ours, base, bench.run_id)
        if ratio:
            n = f"{ratio.n} rounds"
            return (what, paper, ratio, n, bench.environment["device"], _page("figure7"))
    return (what, paper, "no record yet", "", "", _page("figure7"))


def _boxes(store: Store, title: str, beginning: str, printed: Cell) -> tuple[Cell, ...]:
    """NesT's class maps as boxes, of the newest record whose id begins so."""
    what = f"{title}, top-1 localization error (%)"
    records = [r for r in store.find_committed(beginning) if r.summary["row"] == "NesT CAM"]
    if not records:
        return (what, printed, NOT_RUN, "", "", _page("figure8"))
    summary, source = records[0].summary, records[0].run_id
    error, n = Number(summary["top1"]["best"]["error"], source), f"{summary['images']:,} images"
    return (what, printed, error, n, records[0].environment["device"], _page("figure8"))


def _tree(store: Store) -> tuple[Cell, ...]:
    what = "narrow NesT's GradCAT, quadrant of the digit asked for (%, chance 25)"
    record = _planted(store)
    if record is None:
        return (what, "no number", NOT_RUN, "", "", _page("figure3"))
    queries, models = record.summary["together"]["four"]["queries"], len(record.summary["seeds"])
    n = f"{queries:,} queries, {models} models"
    return (
        what, "no number", _quadrants(record, "four"), n, record.environment["device"],
        _page("figure3"),
    )  # fmt: skip


def _planted(store: Store) -> Record | None:
    return next(iter(find_planted(store)), None)


def _quadrants(record: Record, canvas: str) -> Number:
    hit = record.summary["together"][canvas]["ways"][WAY]["quadrant"]
    low, high = hit["interval"]
    queries = record.summary["together"][canvas]["queries"]
    return Number(100 * hit["rate"], record.run_id, 1, queries, 50 * (high - low))


def _mean_top1(records: Sequence[Record]) -> Number:
    return mean_of([record.summary["test/top1"] for record in records], records[0].run_id, 2)


def _provenance(records: Sequence[Record]) -> tuple[str, str]:
    devices = sorted({record.environment["device"] for record in records})
    return (str(len(records)), " and ".join(devices)) if records else ("", "")


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
