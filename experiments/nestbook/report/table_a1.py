"""Table A1: as printed, as its authors corrected it, and the models' own counts."""

import torch

from nestbook.paper import (
    TABLE1,
    TABLE2,
    TABLE_A1,
    TABLE_A1_CIFAR,
    TABLE_A1_IMAGENET,
    TABLE_A1_IMAGENET_CORRECTED,
    TABLE_A1_IMAGENET_ROW_CORRECTED,
    TableA1Row,
)
from nestbook.report.tables import HERE, PAPER, Number, Table
from nestlib.metrics.cost import count_params
from nestlib.models import create_model

_SIZES = {"tiny": "T", "small": "S", "base": "B"}


def table_a1() -> list[Table]:
    """The printed table, its correction, and what nestlib's models count to."""
    return [_printed(), _corrected(), _counted()]


def _columns() -> tuple[str, ...]:
    return ("Input", "S", "Block (n)", *(f"Hierarchy {i}" for i in range(1, 6)))


def _row(row: TableA1Row) -> tuple[str, ...]:
    cells = [f"[{d}, {h}] x {layers}, {blocks}" for d, h, layers, blocks in row.hierarchies]
    edge = row.block_edge
    size = f"{row.input_size}x{row.input_size}"
    return (size, str(row.patch_size), f"{edge}x{edge}", *cells, *["-"] * (5 - len(cells)))


def _letters(values: dict[str, tuple[int, ...]]) -> str:
    return ", ".join(f"{letter} = {list(numbers)}" for letter, numbers in values.items())


def _printed() -> Table:
    return Table(
        "Table A1 as the paper prints it: [width, heads] x layers, blocks; hierarchy 1 is the top",
        _columns(),
        [_row(row) for row in TABLE_A1],
        [f"32x32: {_letters(TABLE_A1_CIFAR)} for T, S, B",
         f"224x224: {_letters(TABLE_A1_IMAGENET)} for T, S, B", "Source: paper, Table A1"],
    )  # fmt: skip


def _corrected() -> Table:
    return Table(
        "The 224x224 line as its authors corrected it (D2)",
        _columns(),
        [_row(TABLE_A1_IMAGENET_ROW_CORRECTED)],
        [f"224x224: {_letters(TABLE_A1_IMAGENET_CORRECTED)} for T, S, B",
         "Source: published code (models/nest_net.py) and issue 2 of its repository"],
    )  # fmt: skip


def _counted() -> Table:
    rows = []
    for size, letter in _SIZES.items():
        for attention in ("multi_query", "multi_head"):
            for depth in (4, 3, 5):
                options = {"num_hierarchies": depth, "attention": attention, "num_classes": 10}
                printed = TABLE1[f"NesT-{letter}"].params_m if depth == 4 else None
                rows.append(_count(f"nest_{size}_cifar", options, printed))
    for size, letter in _SIZES.items():
        printed = TABLE2[f"NesT-{letter}"].params_m
        rows.append(_count(f"nest_{size}_imagenet", {"num_classes": 1000}, printed))
    return Table(
        "What nestlib's models count to",
        ("Model", "Attention", "Width", "Heads", "Layers", "Blocks", "Params (M)", "Printed (M)"),
        rows,
        ["Image side first. Params: counted on this machine; Printed: paper, Tables 1 and 2 (D15)",
         "CIFAR models with 10 classes at S = 1, ImageNet models with 1,000 classes"],
    )  # fmt: skip


def _count(name: str, options: dict, printed: float | None) -> tuple[str | Number, ...]:
    with torch.device("meta"):
        model = create_model(name, **options)
    attention = options.get("attention", "multi_head")
    widths = [layers[0].attn.qkv.in_features for layers in model.hierarchies]
    heads = [layers[0].attn.num_heads for layers in model.hierarchies]
    return (
        name, attention, _list(widths), _list(heads), _list([len(h) for h in model.hierarchies]),
        _list(model.num_blocks), Number(count_params(model) / 1e6, HERE, 2),
        "" if printed is None else Number(printed, PAPER, 0 if name.endswith("imagenet") else 1),
    )  # fmt: skip


def _list(values: list[int]) -> str:
    return str(values[0]) if len(set(values)) == 1 else ", ".join(map(str, values))
