"""How often explanations point at the digit that they were asked for, and what blanking costs."""

from collections.abc import Mapping, Sequence

from nestbook.evaluations.blanking import BLANKED_WAYS
from nestbook.evaluations.planted import WAYS
from nestbook.evaluations.standing import note_unchecked
from nestbook.report.means import find_sources, join_devices
from nestbook.report.tables import NOT_RUN, Cell, Number, Sources, Table
from nestlib.records import Record

TITLE = "How often each way finds the digit asked for: one of four, or a lone small one (%)"
COLUMNS = {
    "Four: quadrant": ("four", "quadrant"),
    "Four: leaf block": ("four", "leaf"),
    "One: quadrant": ("small", "quadrant"),
    "One: leaf block": ("small", "leaf"),
}
DEFAULT = "GradCAT, positive, place, normed"  # what `gradcat` does where nothing is asked for
# Maps first, then GradCAT with the positive gradient, the default before its variants.
ALL = sorted(WAYS, key=lambda way: ("GradCAT" in way, "negative" in way, way != DEFAULT))
SHOWN = (DEFAULT, "CAM")  # in the explorer, which draws both
BLANKING = (
    "Real test images: how often blanking the chosen leaf block costs the true class more than "
    "blanking another one (%)"
)


def say_figure3(records: Sequence[Record]) -> str:
    """How often GradCAT finds the quadrant, from a record of `nest explain planted`."""
    if not records:
        return (
            "How often GradCAT finds the object that it is asked for has not been counted here. "
            "The paper shows one photo and gives no numbers."
        )
    four, small = (say_rate(records[0], canvas, "quadrant") for canvas in ("four", "small"))
    return (
        f"Asked for one of four digits on a canvas, GradCAT finds its quadrant in {four}. Asked "
        f"for a small digit that stands alone, it finds the quadrant in {small}."
    )


def say_rate(record: Record, canvas: str, part: str) -> str:
    """How often GradCAT hits: "25.3 % of 1,536 walks (no better than chance, 25.0 %)"."""
    found = record.summary["together"][canvas]
    hit, chance = found["ways"][DEFAULT][part], found["chance"][part]
    low, high = hit["interval"]
    against = "chance:" if low > chance else "worse than chance,"
    against = "no better than chance," if low <= chance <= high else against
    walks = f"{100 * hit['rate']:.1f} % of {found['queries']:,} walks"
    return f"{walks} ({against} {100 * chance:.1f} %)"


def say_measured(records: Sequence[Record]) -> str:
    """What a record of `nest explain planted` was measured on, for a chip; "" of none."""
    if not records:
        return ""
    models = len(records[0].summary["seeds"])
    return f"measured: {models} narrow models, {join_devices(records)}"


def grounding_table(records: Sequence[Record], ways: Sequence[str] = ALL) -> Table:
    """One row per way to explain, from a record of `nest explain planted`; none: not run yet."""
    if not records:
        return _missing(TITLE, "planted")
    record = records[0]
    summary, source = record.summary, record.run_id
    together, models = summary["together"], len(summary["seeds"])
    chance: tuple[Cell, ...] = tuple(
        Number(100 * together[canvas]["chance"][part], source) for canvas, part in COLUMNS.values()
    )
    rows = [("a random block (exact)", *chance, Number(50.0, source))]
    blanked_queries = summary["canvases"]["small"] * models
    for way in ways:
        hits = [
            _rate(together[canvas]["ways"][way][part], together[canvas]["queries"], source)
            for canvas, part in COLUMNS.values()
        ]
        blanked = together["blanking"].get(way)
        name = f"{way} (default)" if way == DEFAULT else way
        rows.append((name, *hits, _rate(blanked, blanked_queries, source) if blanked else ""))
    return Table(
        TITLE, ("Way", *COLUMNS, "Blanking wins"), rows,
        ["Quadrant: of the digit's middle. Leaf block: one that holds at least half as much of "
         "the digit's box as the block that holds most. Maps point with their largest place",
         "Blanking wins: how often blanking the leaf block found costs the logit more than "
         "blanking a random one (one small digit). ± is half of Wilson's 95 % interval",
         "GradCAT's names: the gradient's sign; what it weights (each place, or a partition as a "
         "whole); of which maps (a hierarchy's inputs or outputs; normed: outputs, those of the "
         "top one after the last LayerNorm)"],
        Sources(
            f"{models} models on {join_devices([record])}",
            (f"{source}, of {', '.join(summary['runs'])}", _say_models(summary),
             *note_unchecked([record])),
        ),
    )  # fmt: skip


def _say_models(summary: Mapping) -> str:
    """How far models of other seeds differ."""
    shares = summary["together"]["small"]["ways"]["CAM"]["leaf"]["of_each_model"]
    each = (f"seed {seed}: {100 * share:.1f}" for seed, share in zip(summary["seeds"], shares))
    return f"How far models differ: CAM's leaf block, one small digit, {'; '.join(each)}"


def blanking_table(records: Sequence[Record]) -> Table:
    """One row per model, from records of `nest explain blanking`; none: not run yet."""
    if not records:
        return _missing(BLANKING, "blanking")
    rows: list[tuple[Cell, ...]] = []
    for record in records:
        summary, source = record.summary, record.run_id
        name = f"{record.recipe['name']}, seed {record.recipe['seed']}"
        rates = (_rate(summary["ways"][way], summary["images"], source) for way in BLANKED_WAYS)
        top1 = Number(summary["test/top1"], source, 2)
        rows.append((name, top1, f"{summary['images']:,}", *rates))
    leaves = sorted({(r.summary["leaves"], r.summary["leaf_pixels"]) for r in records})
    blocks = " or ".join(f"{count} of {edge}x{edge} pixels" for count, edge in leaves)
    sources = find_sources(records, "score")
    return Table(
        BLANKING, ("Model", "Test top-1", "Images", *BLANKED_WAYS), rows,
        [f"A random block would win half of the time. ± is half of Wilson's 95 % interval. Leaf "
         f"blocks: {blocks}"],
        Sources(sources.line, (*sources.details, *note_unchecked(records))),
    )  # fmt: skip


def _missing(title: str, what: str) -> Table:
    return Table(title, ("Models",), [(f"{NOT_RUN}: nest explain {what} measures them",)])


def _rate(hit: Mapping, n: int, source: str) -> Number:
    """A rate in %, and half of its interval."""
    low, high = hit["interval"]
    return Number(100 * hit["rate"], source, 1, n, 50 * (high - low))
