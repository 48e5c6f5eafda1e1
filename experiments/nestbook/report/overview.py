"""The book's opening and the README's results: what is proven, checked at small scale, not run.

All of it is read from committed records, from the paper's numbers, or counted here; a test holds
the files that show it to what this module says.
"""

import math
import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch

from nestbook.architecture import crosses
from nestbook.claims.catalog import CLAIMS
from nestbook.claims.claim import NO_RECORD, Outcome, examine
from nestbook.claims.verdict import Verdict
from nestbook.evaluations.planted import find_planted
from nestbook.evaluations.standing import why_outdated
from nestbook.paper import FIGURE7_THROUGHPUT_RATIO, TABLE1, TABLE2
from nestbook.recipes.narrow import SMALL_SUBSET
from nestbook.recipes.rows import TABLES
from nestbook.report.all_records import WAY
from nestbook.report.bars import Bar, find_small_bars
from nestbook.report.claims import (
    NOT_ASKED,
    SCALES,
    count_statuses,
    status_of_small,
)
from nestbook.report.cost import rounds_of
from nestbook.report.families import OURS, Family, find_families, say_families
from nestbook.report.findings import find_lead_of_ours, say_small_designs
from nestbook.report.localization import say_misses
from nestbook.report.means import join_devices, join_ids, short_device
from nestbook.report.rows import count_recipe_params
from nestbook.report.tables import PAPER, Cell, Link, Number, Table, mean_of, median_ratio, save
from nestbook.report.words import begin_upper, say_ends
from nestbook.sweeps.plans import plan
from nestlib.files import write_atomically
from nestlib.metrics.cost import count_params
from nestlib.metrics.intervals import sampling_half_width
from nestlib.models import create_model
from nestlib.models.aggregation import AGGREGATIONS
from nestlib.project import find_project_root, is_publishing, require_project
from nestlib.recipes.named import get_recipe
from nestlib.records import Record, Store
from nestlib.runs.staleness import find_fresh_seeds

PAGES = {
    **{f"figure{number}": f"Figure {number}" for number in range(1, 9)},
    **{f"figure_a{number}": f"Figure A{number}" for number in range(1, 5)},
    **{f"table{number}": f"Table {number}" for number in (1, 2)},
    **{f"table_a{number}": f"Table A{number}" for number in range(1, 5)},
    "training_images": "Training images", "records": "All records", "claims": "Which claims hold",
}  # fmt: skip
RUN_PLAN = Link("The run plan", "experiments/evidence.ipynb")
START, END = "<!-- results: experiments/records.ipynb writes them -->", "<!-- end of results -->"


def _page(name: str) -> Link:
    return Link(PAGES[name], f"experiments/{name}.ipynb")


# What is proven: by tests that compare with something this project did not write


class Proof(NamedTuple):
    """What a test shows. held: words of the test's source that the sentence relies on."""

    sentence: str
    test: str
    held: tuple[str, ...] = ()


def list_proofs() -> list[Proof]:
    """What the default tests show of the library, with the numbers that they hold it to."""
    published = {"CIFAR": ("nest_tiny_cifar", 10), "ImageNet": ("nest_tiny_imagenet", 1000)}
    counts = {title: _count(*model) for title, model in published.items()}
    said = " and ".join(f"{count:,} ({title})" for title, count in counts.items())
    image, block = (sum(crosses(name, p) for name in AGGREGATIONS) for p in ("image", "block"))
    return [
        Proof("The authors' JAX code gives the same logits, within 1e-5",
              "test_weights.py::test_logits_equal_the_published_code", ("atol=1e-5",)),
        Proof("timm's NesT-T, S and B give the same logits, within 1e-4",
              "test_weights.py::test_logits_equal_timms", ("atol=1e-4", '"tiny", "small", "base"')),
        Proof(f"NesT-T has {said} parameters, the published code's count to the last digit",
              "test_nest.py::test_parameter_counts",
              tuple(f"{count:_}" for count in counts.values())),
        Proof("GradCAT walks to the evidence that a test planted, in each of 4 quadrants",
              "test_gradcat.py::test_planted_evidence_is_found_and_the_negative_sign_flees_it",
              ("range(4)",)),
        Proof("A killed and resumed run ends with the same weights, bit for bit",
              "test_classifier.py::test_killed_run_resumes_to_the_same_weights"),
        Proof(f"Information crosses block borders in {image} of {len(AGGREGATIONS)} aggregations "
              f"on the image plane, in {block or 'none'} on the block plane",
              "test_aggregation.py::test_information_flows_as_stated"),
    ]  # fmt: skip


def _count(name: str, num_classes: int) -> int:
    with torch.device("meta"):
        return count_params(create_model(name, num_classes=num_classes))


# What narrow models were asked


def list_small_scale(store: Store) -> list[str]:
    """What narrow models on two cores show, one sentence per question; only those with records."""
    found = (
        _say_families(store), _say_designs(store), _say_planted(store), _say_boxes(store),
        _say_decoder(store),
    )  # fmt: skip
    outcomes = [o for o in _examine(store) if status_of_small(o) not in (NOT_ASKED, NO_RECORD)]
    decided = f"{count_statuses(outcomes, status_of_small)}: {_page('claims')}"
    return [*filter(None, found), *([f"The paper's sentences: {decided}"] if outcomes else [])]


def _say_families(store: Store) -> str:
    said = say_families(find_families(store), store)
    return said and f"{said.rstrip('.')}: {_page('table1')}"


def _say_designs(store: Store) -> str:
    said = say_small_designs(find_small_bars("figure5", store))
    return said and f"{begin_upper(said)}: {_page('figure5')}"


def _say_planted(store: Store) -> str:
    planted = next(iter(find_planted(store)), None)
    if planted is None:
        return ""
    four, small = (_quadrants(planted, canvas) for canvas in ("four", "small"))
    return (
        f"GradCAT ends in the right quadrant for {four} % of four digits and for {small} % of lone "
        f"small digits, where chance is 25 %: {_page('figure3')}"
    )


def _say_boxes(store: Store) -> str:
    record = _find_boxes(store)
    if record is None:
        return ""
    said = say_misses(record)
    return f"{begin_upper(said)}: {_page('figure8')}"


def _say_decoder(store: Store) -> str:
    ratio, device = _find_ratio(store)
    return ratio and (
        f"At the paper's size NesT's decoder makes {ratio.value:.{ratio.digits}f} times as many "
        f"images per second as TransGAN on {device}, where the paper says "
        f"{FIGURE7_THROUGHPUT_RATIO}: {_page('figure7')}"
    )


# What is not run


def list_not_run(store: Store) -> list[str]:
    """How much of the paper has no record at its own scale, and what would begin it."""
    outcomes = _examine(store)
    undecided = sum(outcome.status == NO_RECORD for outcome in outcomes)
    scored = [r for r in store.find_committed("score/") if r.recipe.get("dataset") == "imagenet"]
    return [
        f"{_say_rows_not_run(store)}, at the paper's size and schedule: {_page('table1')}, "
        f"{_page('table2')}",
        f"{undecided} of the paper's {len(outcomes)} sentences, on its data: {_page('claims')}",
        *([] if scored else [f"FID on ImageNet at 64x64: {_page('figure7')}"]),
        f"With one GPU, start with `nest evidence`: {RUN_PLAN}",
    ]


def _say_rows_not_run(store: Store) -> str:
    rows = [
        find_fresh_seeds(get_recipe(row.on(dataset)), store)
        for table, datasets in (("table1", ("cifar10", "cifar100")), ("table2", ("imagenet",)))
        for dataset in datasets
        for row in TABLES[table].values()
    ]
    lacking = sum(not found for found in rows)
    return f"{lacking} of {len(rows)} accuracies of Tables 1 and 2"


def _examine(store: Store) -> list[Outcome]:
    return [examine(claim, store) for claim in CLAIMS]


# The opening


@dataclass(frozen=True)
class Opening:
    """The front page's three columns and its table of claims, as one text.

    book/index.md includes each part by the comments around it.
    """

    parts: Mapping[str, str]

    def to_markdown(self) -> str:
        return "\n".join(
            f"<!-- {name} -->\n\n{text}\n<!-- end of {name} -->\n"
            for name, text in self.parts.items()
        )


def make_opening(store: Store) -> Opening:
    store = _committed(store)
    columns = {
        "proven": [
            f"{proof.sentence} (`{proof.test.partition('::')[0]}`)" for proof in list_proofs()
        ],
        "small scale": list_small_scale(store) or ["Nothing has a record yet"],
        "not run": list_not_run(store),
    }
    parts = {name: "".join(f"- {line}\n" for line in lines) for name, lines in columns.items()}
    return Opening(parts | {"claims": groups_table(store).to_markdown()})


def save_opening(store: Store, budget: str) -> None:
    """Write what the front page and the README show: opening.md, results.md, README.md."""
    results = results_table(store)
    save("opening", budget, [make_opening(store)])
    save("results", budget, [results])
    save_readme(results)


class Group(NamedTuple):
    """One of the five things that the paper sets out to show.

    sections: whose sentences (nestbook.claims.catalog) are its.
    """

    claim: str
    sections: tuple[str, ...]
    pages: tuple[str, ...]


GROUPS = (
    Group("Simple: plain transformers, nested, with minor changes to ViT", (),
          ("figure1", "table_a1")),
    Group("How four blocks are merged is critical, and the merge must act on the image plane",
          ("4.3", "A.2"), ("figure2", "figure5", "figure_a1")),
    Group("Little data is enough: ahead of other transformers from scratch, converging faster",
          ("Abstract", "4.1", "4.2", "4.4", "A.1", "A.3"),
          ("table1", "table2", "figure4", "figure6", "figure_a2", "table_a2", "table_a3",
           "training_images")),
    Group("Upside down it generates images, better and faster than TransGAN", ("4.5",),
          ("figure7", "figure_a3", "table_a4")),
    Group("Its tree can be read: GradCAT, and CAM that finds objects", ("4.6",),
          ("figure3", "figure8", "figure_a4")),
)  # fmt: skip


def groups_table(store: Store) -> Table:
    """The paper's five claims: how its sentences stand at each scale, and where."""
    store = _committed(store)
    rows, outcomes = [], _examine(store)
    for group in GROUPS:
        found = [o for o in outcomes if o.claim.section in group.sections]
        states = (_count_decided(found, status_of) for status_of in SCALES.values())
        rows.append((group.claim, *states, _links(group.pages)))
    return Table(
        f"The paper's five claims, and its {len(outcomes)} sentences that records can decide",
        ("The paper claims", *SCALES, "Pages"),
        rows,
        ["A sentence is decided when the 95 % interval of the difference that it states, over "
         f"seeds and test images, lies wholly on one side: {_page('claims')}"],
    )  # fmt: skip


def _count_decided(found: Sequence[Outcome], status_of: Callable[[Outcome], str]) -> str:
    """Such as "3 of 8 supported"; "not run" where nothing asked has a record."""
    asked = [o for o in found if status_of(o) != NOT_ASKED]
    answered = [o for o in asked if status_of(o) != NO_RECORD]
    if not answered:
        return f"not run (of {len(asked)})" if asked else "-"
    return f"{count_statuses(answered, status_of)} (of {len(asked)})"


def _links(names: Sequence[str]) -> str:
    folder = find_project_root() / "experiments"
    return ", ".join(str(_page(name)) for name in names if (folder / f"{name}.ipynb").is_file())


# The README's results: measured numbers alone


def results_table(store: Store) -> Table:
    """The headline numbers that were measured: ours beside the paper's, n, what ± is, hardware."""
    store = _committed(store)
    rows = [*_full_rows(store), *_small_rows(store)]
    ratio, device = _find_ratio(store)
    if ratio:
        paper = Number(FIGURE7_THROUGHPUT_RATIO, PAPER, 0)
        what = Link("NesT decoder's images/s over TransGAN's", "experiments/figure7.ipynb")
        rows.append((what, paper, ratio, f"{ratio.n} rounds; ± half their range", device))
    boxes, planted = _find_boxes(store), next(iter(find_planted(store)), None)
    if boxes:
        what = Link("Narrow NesT's class map as a box, misses on Tiny ImageNet-100 (%)",
                    "experiments/figure8.ipynb")  # fmt: skip
        found, images = boxes.summary["gt_known"]["held_out"], boxes.summary["images"]
        low, high = found["interval"]
        error = Number(found["error"], boxes.run_id, 1, images, (high - low) / 2)
        rows.append((what, "-", error, f"{images:,} images; ± 95 % interval", _device(boxes)))
    if planted:
        what = Link("Narrow NesT's GradCAT, quadrant of the digit asked for (%, chance 25)",
                    "experiments/figure3.ipynb")  # fmt: skip
        hit, models = _quadrants(planted, "four"), len(planted.summary["seeds"])
        rows.append((what, "-", hit, f"{hit.n:,} queries, {models} models; ± 95 % interval",
                     _device(planted)))  # fmt: skip
    return Table(
        "Measured so far",
        ("What", "Paper", "Ours", "n", "Hardware"),
        rows,
        [f"Narrow models have {_say_sizes()} M parameters; they are not rows of the paper. Every "
         f"number's record: {_page('records')}",
         f"Not run, as they take a GPU: {_say_rows_not_run(store)}"],
    )  # fmt: skip


def _say_sizes() -> str:
    """The parameters, in millions, of the least and of the largest narrow model."""
    recipes = [first for (first,) in plan("table1", "small", (0,)).values()]
    sizes = [count_recipe_params(r) / 1e6 for r in [*recipes, get_recipe("cifar10/nest_narrow")]]
    return f"{min(sizes):.2f} to {max(sizes):.2f}"


def _full_rows(store: Store) -> list[tuple[Cell, ...]]:
    """NesT's rows of Tables 1 and 2 that were run as the paper runs them."""
    titles = {"cifar10": "CIFAR-10", "cifar100": "CIFAR-100", "imagenet": "ImageNet"}
    rows = []
    for dataset, title in titles.items():
        table = "table2" if dataset == "imagenet" else "table1"
        for size in "TSB":
            records = find_fresh_seeds(get_recipe(TABLES[table][f"NesT-{size}"].on(dataset)), store)
            if records:
                row = (TABLE2 if dataset == "imagenet" else TABLE1)[f"NesT-{size}"]
                printed = (
                    Number(row.top1, PAPER, 1)
                    if dataset == "imagenet"
                    else Number(getattr(row, dataset), PAPER, 2)
                )
                what = Link(f"NesT-{size}, {title} top-1 (%)", f"experiments/{table}.ipynb")
                rows.append(_accuracy_row(what, printed, records))
    return rows


def _small_rows(store: Store) -> list[tuple[Cell, ...]]:
    """Of Table 1's families at small scale NesT, the best other transformer and the best convnet;
    then NesT on all training images."""
    best: dict[str, Family] = {}
    for family in find_families(store):
        kind = OURS if family.name == OURS else family.group.partition(",")[0]
        if family.scores and (kind not in best or family.scores.mean > best[kind].scores.mean):
            best[kind] = family
    rows = [
        _accuracy_row(
            Link(f"Narrow {family.name}, {SMALL_SUBSET:,} CIFAR-10 images, top-1 (%)",
                 "experiments/table1.ipynb"), "-", family.bar.records,
        )
        for family in sorted(best.values(), key=lambda family: -family.scores.mean)
    ]  # fmt: skip
    recipe = get_recipe("cifar10/nest_narrow")
    records = find_fresh_seeds(recipe, store)
    if records:
        what = Link(f"Narrow NesT, all CIFAR-10 images, {recipe.epochs} epochs, top-1 (%)",
                    "experiments/table1.ipynb")  # fmt: skip
        rows.append(_accuracy_row(what, "-", records))
    lead = find_lead_of_ours(find_small_bars("figure5", store))
    if lead and math.isfinite(lead[2].half_width):
        rows.append(_lead_row(*lead))
    return rows


def _lead_row(ours: Bar, best: Bar, verdict: Verdict) -> tuple[Cell, ...]:
    """How far NesT's own way to merge blocks is ahead of the best other one of figure 5."""
    what = Link("Narrow NesT's block aggregation over the best other design (points)",
                "experiments/figure5.ipynb")  # fmt: skip
    records = [*ours.records, *best.records]
    low, high = sorted((ours.scores.n, best.scores.n))
    points = Number(verdict.value, join_ids(records), 1, low, verdict.half_width)
    seeds = f"{say_ends(low, high)} seeds each; ± 95 % interval"
    return what, "-", points, seeds, join_devices(records)


def _accuracy_row(what: Link, printed: Cell, records: Sequence[Record]) -> tuple[Cell, ...]:
    score = _top1(records)
    if score.n > 1:
        n = f"{score.n} seeds; ± standard deviation"
    else:
        n = "1 seed; ± test sampling (95 %)"
    return what, printed, score, n, join_devices(records)


def _top1(records: Sequence[Record]) -> Number:
    """Mean top-1 (%); ± its standard deviation, of one run the draw of the test images."""
    values = [record.summary["test/top1"] for record in records]
    if len(values) > 1:
        return mean_of(values, join_ids(records), 2)
    images = records[0].environment["data"]["test"]["images"]
    half = sampling_half_width(statistics.fmean(values), images)
    return Number(values[0], records[0].run_id, 2, 1, half)


def _find_ratio(store: Store) -> tuple[Number | None, str]:
    """How many times TransGAN's images per second NesT's decoder makes, and on what."""
    for bench in store.find_benches("figure7"):
        ours, base = (rounds_of(bench, name, "forward") for name in ("NesT", "TransGAN"))
        ratio = median_ratio(ours, base, bench.run_id)
        if ratio:
            return ratio, _device(bench)
    return None, ""


def _find_boxes(store: Store) -> Record | None:
    """The newest record that stands of NesT's class maps as boxes on Tiny ImageNet."""
    for record in store.find_committed("localize/tiny_imagenet/"):
        if record.summary["row"] == "NesT CAM" and not why_outdated(record, store):
            return record
    return None


def _quadrants(record: Record, canvas: str) -> Number:
    hit = record.summary["together"][canvas]["ways"][WAY]["quadrant"]
    low, high = hit["interval"]
    queries = record.summary["together"][canvas]["queries"]
    return Number(100 * hit["rate"], record.run_id, 1, queries, 50 * (high - low))


def _device(record: Record) -> str:
    return short_device(record.environment["device"])


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
        raise ValueError(f"README.md does not have {START!r} or {END!r}")
    return f"{before}{START}\n\n{table.to_markdown().replace('](../', '](')}\n{END}{after}"


def save_readme(table: Table) -> None:
    """Bring README.md's results up to date while publishing; at other times leave it."""
    path = require_project("the table of the README") / "README.md"
    text = fill_readme(path.read_text(), table)
    if is_publishing():
        write_atomically(path, text.encode())
        print("wrote README.md")
