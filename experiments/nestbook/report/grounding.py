"""How often explanations point at the digit that they were asked for, and what blanking costs."""

from collections.abc import Mapping, Sequence

from nestbook.evaluations.blanking import BLANKED_WAYS
from nestbook.evaluations.standing import note_unchecked
from nestbook.report.tables import NOT_RUN, Cell, Number, Table
from nestlib.records import Record

TITLE = "Planted truth: hits of the digit asked for (%)"
COLUMNS = {
    "four digits, quadrant": ("four", "quadrant"),
    "four digits, leaf block": ("four", "leaf"),
    "one small digit, quadrant": ("small", "quadrant"),
    "one small digit, leaf block": ("small", "leaf"),
}


def grounding_table(records: Sequence[Record], ways: Sequence[str] = ()) -> Table:
    """A row a way to explain, from a record of `nest explain planted`; none: not run yet.

    Args:
        ways: names of nestbook.evaluations.planted.WAYS; default: all of the record's.
    """
    head = ("Way", *COLUMNS, "blanking it costs more than a random block")
    if not records:
        return Table(TITLE, head, [(NOT_RUN, *[""] * (len(head) - 1))], [])
    record = records[0]
    summary, source = record.summary, record.run_id
    together, models = summary["together"], len(summary["seeds"])
    chance: tuple[Cell, ...] = tuple(
        Number(100 * together[canvas]["chance"][part], source) for canvas, part in COLUMNS.values()
    )
    rows = [("a block at random (exact)", *chance, Number(50.0, source))]
    blanked_queries = summary["canvases"]["small"] * models
    for way in ways or together["four"]["ways"]:
        hits = [
            _rate(together[canvas]["ways"][way][part], together[canvas]["queries"], source)
            for canvas, part in COLUMNS.values()
        ]
        blanked = together["blanking"].get(way)
        rows.append((way, *hits, _rate(blanked, blanked_queries, source) if blanked else ""))
    shares = together["small"]["ways"]["CAM"]["leaf"]["of_each_model"]
    of_each = [f"seed {seed}: {100 * share:.1f}" for seed, share in zip(summary["seeds"], shares)]
    return Table(
        TITLE, head, rows,
        [
            f"{source}: {models} models ({', '.join(summary['runs'])}), "
            f"{record.environment['device']}; ± half of Wilson's 95 % interval over all queries",
            "Four digits: each of a canvas's four asked for in turn; a leaf block hits where it "
            "holds at least half as much of the digit's box as the block that holds most",
            "GradCAT, the gradient's sign, what it weights, which maps; CAM and GradCAM: the place "
            "of the map's maximum",
            f"How far models differ: CAM's leaf block, one small digit, {'; '.join(of_each)}",
            *note_unchecked([record]),
        ],
    )  # fmt: skip


def blanking_table(records: Sequence[Record]) -> Table:
    """A row a model, from records of `nest explain blanking`; none: not run yet."""
    head = ("Model", "Test top-1 (%)", "Images", *(f"{way} (%)" for way in BLANKED_WAYS))
    rows: list[tuple[Cell, ...]] = []
    for record in records:
        summary, source = record.summary, record.run_id
        name = f"{record.recipe['name']}, seed {record.recipe['seed']}"
        rates = (_rate(summary["ways"][way], summary["images"], source) for way in BLANKED_WAYS)
        top1 = Number(summary["test/top1"], source, 2)
        rows.append((name, top1, f"{summary['images']:,}", *rates))
    leaves = sorted({(r.summary["leaves"], r.summary["leaf_pixels"]) for r in records})
    blocks = " or ".join(f"{count} of {edge}x{edge} pixels" for count, edge in leaves)
    made = [f"{record.run_id}: {record.environment['device']}" for record in records]
    return Table(
        "Real test images: blanking the leaf block chosen for the true class costs its logit more "
        "than blanking another one",
        head,
        rows or [(NOT_RUN, *[""] * (len(head) - 1))],
        ["A block at random would win half of the time. ±: half of Wilson's 95 % interval"]
        + ([f"Leaf blocks: {blocks}", *made, *note_unchecked(records)] if records else []),
    )  # fmt: skip


def _rate(hit: Mapping, n: int, source: str) -> Number:
    """A rate in %, and half of its interval."""
    low, high = hit["interval"]
    return Number(100 * hit["rate"], source, 1, n, 50 * (high - low))
