"""Which of the paper's findings hold: every claim, what decides it, and what records say."""

from collections.abc import Callable, Collection, Sequence

from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from nestbook.claims.finding import NO_RECORD, Finding, Ruling, examine
from nestbook.claims.findings import CLAIMS
from nestbook.claims.verdict import CONTRADICTED, SUPPORTED, UNDECIDED, Verdict
from nestbook.report.pictures import Picture, drawing_style
from nestbook.report.tables import Table
from nestlib.records import Store

NOT_ASKED = "cannot be asked"
STATUSES = (SUPPORTED, CONTRADICTED, UNDECIDED, NO_RECORD)

# Okabe and Ito's colours: face, then edge.
STATUS_COLORS = {
    SUPPORTED: ("#0072B2", "#0072B2"), CONTRADICTED: ("#D55E00", "#D55E00"),
    UNDECIDED: ("#F0E442", "#8A6D00"), NO_RECORD: ("white", "0.45"), NOT_ASKED: ("0.9", "0.9"),
}  # fmt: skip
_WIDTH, _EDGE, _ROW, _SQUARE = 7.0, 0.1, 0.52, 0.14  # inches


def status_of_printed(finding: Finding) -> str:
    return finding.printed or NOT_ASKED


def status_of_small(finding: Finding) -> str:
    return finding.small.status if finding.small else NOT_ASKED


# What is asked of a sentence, and where its status stands.
SCALES: dict[str, Callable[[Finding], str]] = {
    "The paper's own printed numbers": status_of_printed,
    "Our records at the paper's scale": lambda finding: finding.status,
    "Our narrow models (CIFAR-10)": status_of_small,
}


def count_statuses(findings: Sequence[Finding], status_of: Callable[[Finding], str]) -> str:
    """Such as "3 supported, 1 contradicted", those alone that there are."""
    states = [status_of(finding) for finding in findings]
    return ", ".join(f"{states.count(s)} {s}" for s in STATUS_COLORS if s in states)


def plot_claims(store: Store) -> Picture:
    """A square a sentence, at each of SCALES, sorted by what became of it."""
    findings = [examine(claim, store) for claim in CLAIMS]
    tooltips: dict[str, str] = {}
    height = _ROW * len(SCALES) + _EDGE
    with drawing_style():
        figure = Figure(figsize=(_WIDTH, height))
        axes = figure.add_axes((0, 0, 1, 1))
        axes.set(xlim=(0, _WIDTH), ylim=(height, 0))
        axes.axis("off")
        for row, (title, status_of) in enumerate(SCALES.items()):
            y = _EDGE + row * _ROW
            axes.text(_EDGE, y + 0.06, title, weight="bold", va="center", size=8)
            axes.text(
                _WIDTH - _EDGE, y + 0.06, count_statuses(findings, status_of), va="center",
                ha="right",
            )  # fmt: skip
            ordered = sorted(findings, key=lambda f: list(STATUS_COLORS).index(status_of(f)))
            step = (_WIDTH - 2 * _EDGE) / len(findings)
            for i, finding in enumerate(ordered):
                face, edge = STATUS_COLORS[status_of(finding)]
                square = Rectangle(
                    (_EDGE + i * step, y + 0.17), _SQUARE, _SQUARE, fc=face, ec=edge, lw=0.8,
                    gid=f"claims-{row}-{finding.claim.id}",
                )  # fmt: skip
                axes.add_patch(square)
                asked = finding.claim.small_test if row == 2 else finding.claim.test
                tooltips[square.get_gid()] = "\n".join(
                    [status_of(finding), f"“{finding.claim.quote}”", asked]
                )
    shown = "; ".join(f"{title}: {count_statuses(findings, s)}" for title, s in SCALES.items())
    description = (
        f"The paper's {len(findings)} findings, a square each. {shown}. Each sentence stands in "
        "the table below."
    )
    return Picture(figure, "claims", description, tooltips)


def claims_table(store: Store, ids: Collection[str] = ()) -> Table:
    """One row a claim; every status follows from records, or from the paper's numbers.

    ids: of some claims alone, for the page of their figure.

    Raises:
        ValueError: no claim has one of these ids.
    """
    unknown = set(ids) - {claim.id for claim in CLAIMS}
    if unknown:
        valid = ", ".join(claim.id for claim in CLAIMS)
        raise ValueError(f"no claim is named {', '.join(sorted(unknown))}; there are {valid}")
    findings = [examine(claim, store) for claim in CLAIMS if not ids or claim.id in ids]
    rows = [
        (
            finding.claim.section, finding.claim.quote, _small(finding), finding.claim.test,
            _printed(finding), finding.status, _values(finding.ruling, finding.claim.comparisons),
            _runs(finding),
        )
        for finding in findings
    ]  # fmt: skip
    counts = [finding.status for finding in findings]
    printed = [finding.printed for finding in findings]
    return Table(
        f"The paper's findings: {len(rows)} sentences, and what decides them",
        ("Section", "The paper says", "Narrow models", "Asked at the paper's scale",
         "Its own numbers", "Our records", "Difference (points)", "Records"),
        rows,
        [f"By narrow models: {count_statuses(findings, status_of_small)}; by records at the "
         f"paper's scale: {', '.join(f'{counts.count(status)} {status}' for status in STATUSES)}; "
         f"by the paper's own numbers: {printed.count(SUPPORTED)} supported, "
         f"{printed.count(CONTRADICTED)} contradicted",
         "Narrow models of budget small (D38): what can be asked at that scale, with margins of "
         "its own, stands in their column and is never merged with the paper's scale. Accuracies "
         "as such, larger models, CIFAR-100 and ImageNet cannot be asked there",
         "A sentence is supported where the whole 95 % interval of each difference lies on its "
         "side, contradicted where one lies wholly on the other; an interval is Welch's over seeds "
         "and the draw of the test images, added in squares; image by image where the records keep "
         "which were right. The comparisons of a sentence share the 5 %. One run a side decides "
         "nothing",
         "The paper's numbers are single runs without a spread, so they are compared as printed"],
    )  # fmt: skip


def _printed(finding: Finding) -> str:
    return f"{finding.printed}: {finding.printed_by}" if finding.printed else "-"


def _small(finding: Finding) -> str:
    """Its status, what was asked, the differences, and how many seeds would decide it."""
    if finding.small is None:
        return NOT_ASKED
    values = _values(finding.small, finding.claim.small)
    shown = "" if values == "-" else f": {values}"
    needed = "" if finding.small.status != UNDECIDED else f"; {_say_needed(finding.small.verdicts)}"
    return f"{finding.small.status}{shown}{needed}. Asked: {finding.claim.small_test}"


def _say_needed(verdicts: Sequence[Verdict]) -> str:
    undecided = [verdict.seeds_needed for verdict in verdicts if verdict.status == UNDECIDED]
    if not undecided:
        return "runs are missing"
    if None in undecided:
        return "more seeds alone would not decide it"
    return f"{max(undecided)} seeds a side would decide it"


def _values(ruling: Ruling, comparisons: Sequence) -> str:
    """Each difference with its half-width; of many, the least and the greatest."""
    verdicts = sorted(ruling.verdicts, key=lambda verdict: verdict.value)
    if not verdicts:
        return "-"
    ends = verdicts if len(verdicts) < 3 else [verdicts[0], verdicts[-1]]
    texts = [f"{v.value:+.2f} ± {v.half_width:.2f}" for v in ends]
    return f"{' to '.join(texts)} ({len(verdicts)} of {len(comparisons)})"


def _runs(finding: Finding) -> str:
    runs = [*finding.ruling.runs, *(finding.small.runs if finding.small else ())]
    if not runs:
        return "-"
    by_recipe: dict[str, list[int]] = {}
    for record in runs:
        name, _, rest = record.run_id.rpartition("-s")
        by_recipe.setdefault(f"{name}-s*-{rest.split('-')[1]}", []).append(record.recipe["seed"])
    return ", ".join(f"{name} (n = {len(seeds)})" for name, seeds in by_recipe.items())
