"""Training steps by kinds of operators, and the most that could be won beside the products."""

from collections.abc import Mapping, Sequence

from nestbook.profiles.step import PRODUCTS
from nestbook.report.tables import Cell, Table, median_of

# In this order, products first; other kinds are few and stand together at the end.
NAMES = {
    ("matrix products", "convolutions"): "products of layers, convolutions",
    ("attention",): "products of attention",
    ("softmax",): "softmax",
    ("activations",): "GELU",
    ("norms",): "LayerNorm",
    ("copies",): "copies and casts",
    ("additions", "sums"): "additions and sums",
    ("optimizer",): "AdamW",
}


def step_table(measured: Mapping, source: str) -> Table:
    """A row a kind and a column a model, in ms; then what the products allow.

    Args:
        measured: what `nestbook.profiles.step.step_kinds` returned.
        source: a record id.
    """
    settings = measured["settings"]
    # A model's two libraries side by side; a record has its keys sorted.
    models = dict(sorted(measured["models"].items(), key=lambda item: item[0].split()[::-1]))
    named = {kind for kinds in NAMES for kind in kinds}
    rest = tuple(
        dict.fromkeys(kind for m in models.values() for kind in m["kinds"] if kind not in named)
    )
    rows: list[tuple[Cell, ...]] = []
    for kinds, name in (NAMES | {rest: "all other operators"}).items():
        rows.append((f"{name}, ms", *(_ms(m, kinds, source) for m in models.values())))
    whole = (
        median_of([1e3 * s for s in m["whole_seconds"]], source) or "" for m in models.values()
    )
    rows.append(("whole step, timed at once, ms", *whole))
    peak = [1e12 * rate for rate in measured["matmul_tflops"]["rounds"]]
    for name, ratios in (
        ("products' rate, % of a large product's", _rate),
        ("a step with products alone, times as fast", _without_rest),
        ("and those at a large product's rate", _at_peak),
    ):
        rows.append((name, *(median_of(ratios(m, peak), source) for m in models.values())))
    batches = ", ".join(
        f"{name} {m['batch_size']} of {m['image_size']}x{m['image_size']}"
        for name, m in models.items()
    )
    return Table(
        f"Training steps of NesT by kinds of operators, {settings['precision']}",
        ("Operators", *models),
        rows,
        [
            f"{source}: {settings['device']}, {settings['threads']} threads, "
            f"{settings['precision']}, torch {settings['torch']}, {settings['rounds']} rounds in "
            f"turn; median ± half range of the rounds; batches: {batches}; timm's with its plain "
            f"attention; large product: {measured['matmul_tflops']['size']} square, "
            f"{median_of(measured['matmul_tflops']['rounds'], source)} TFLOP/s",
            "Forward, cross-entropy, backward and AdamW. Products alone: every other operator "
            "would take no time, which no implementation can reach",
        ],
    )  # fmt: skip


def _seconds(model: Mapping, kinds: Sequence[str] | None = None) -> list[float]:
    """Of each round: the sum over some kinds, or over all."""
    found = [kind for name, kind in model["kinds"].items() if kinds is None or name in kinds]
    return [sum(rounds) for rounds in zip(*(kind["seconds"] for kind in found))]


def _ms(model: Mapping, kinds: Sequence[str], source: str) -> Cell:
    return median_of([1e3 * seconds for seconds in _seconds(model, kinds)], source) or ""


def _flops(model: Mapping) -> float:
    return 1e9 * sum(model["kinds"][name]["gflop"] for name in PRODUCTS if name in model["kinds"])


def _rate(model: Mapping, peak: Sequence[float]) -> list[float]:
    flops = _flops(model)
    return [100 * flops / s / best for s, best in zip(_seconds(model, PRODUCTS), peak)]


def _without_rest(model: Mapping, peak: Sequence[float]) -> list[float]:
    return [a / b for a, b in zip(_seconds(model), _seconds(model, PRODUCTS))]


def _at_peak(model: Mapping, peak: Sequence[float]) -> list[float]:
    flops = _flops(model)
    return [a / (flops / best) for a, best in zip(_seconds(model), peak)]
