"""Which of the paper's findings hold: every claim, what decides it, and what records say."""

from collections.abc import Collection

from nestlib.claims.claim import NO_RECORD, Finding, examine
from nestlib.claims.findings import CLAIMS
from nestlib.measure.verdict import CONTRADICTED, SUPPORTED, UNDECIDED
from nestlib.records import Store
from nestlib.report.tables import Table

STATUSES = (SUPPORTED, CONTRADICTED, UNDECIDED, NO_RECORD)


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
            finding.claim.section, finding.claim.quote, finding.claim.test, _printed(finding),
            finding.status, _values(finding), _runs(finding),
        )
        for finding in findings
    ]  # fmt: skip
    counts = [finding.status for finding in findings]
    printed = [finding.printed for finding in findings]
    return Table(
        f"The paper's findings: {len(rows)} sentences, and what decides them",
        ("Section", "The paper says", "Asked of records", "Its own numbers", "Our records",
         "Difference (points)", "Records"),
        rows,
        [f"By records: {', '.join(f'{counts.count(status)} {status}' for status in STATUSES)}; by "
         f"the paper's own numbers: {printed.count(SUPPORTED)} supported, "
         f"{printed.count(CONTRADICTED)} contradicted",
         "A sentence is supported where the whole 95 % interval of each difference lies on its "
         "side, contradicted where one lies wholly on the other; an interval is Welch's over seeds "
         "and the draw of the test images, added in squares. The comparisons of a sentence share "
         "the 5 %. One run a side decides nothing",
         "The paper's numbers are single runs without a spread, so they are compared as printed"],
    )  # fmt: skip


def _printed(finding: Finding) -> str:
    return f"{finding.printed}: {finding.printed_by}" if finding.printed else "-"


def _values(finding: Finding) -> str:
    """Each difference with its half-width; of many, the least and the greatest."""
    verdicts = sorted(finding.verdicts, key=lambda verdict: verdict.value)
    if not verdicts:
        return "-"
    ends = verdicts if len(verdicts) < 3 else [verdicts[0], verdicts[-1]]
    texts = [f"{v.value:+.2f} ± {v.half_width:.2f}" for v in ends]
    wanted = len(finding.claim.comparisons)
    return f"{' to '.join(texts)} ({len(verdicts)} of {wanted})"


def _runs(finding: Finding) -> str:
    if not finding.runs:
        return "-"
    by_recipe: dict[str, list[int]] = {}
    for record in finding.runs:
        name, _, rest = record.run_id.rpartition("-s")
        by_recipe.setdefault(f"{name}-s*-{rest.split('-')[1]}", []).append(record.recipe["seed"])
    return ", ".join(f"{name} (n = {len(seeds)})" for name, seeds in by_recipe.items())
