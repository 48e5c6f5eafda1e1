"""Table A1: as printed, as corrected, and the models' own counts."""

from collections.abc import Sequence

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
from nestbook.report.tables import HERE, PAPER, Cell, Number, Table
from nestlib.metrics.cost import count_params
from nestlib.models import create_model
from nestlib.models.generator import NesTDecoder
from nestlib.models.nest import NesT

_SIZES = {"tiny": "T", "small": "S", "base": "B"}


def table_a1() -> list[Table]:
    """The printed table, its correction, and what nestlib's models count to."""
    return [_printed(), _corrected(), _counted()]


def say_table_a1() -> str:
    """How the models' counts compare with the printed millions, by either reading of attention."""
    sizes = {size: f"NesT-{letter}" for size, letter in _SIZES.items()}
    equal = sum(
        round(_count(f"nest_{size}_imagenet", num_classes=1000)[-1].value) == TABLE2[row].params_m
        for size, row in sizes.items()
    )
    counts = {
        attention: [
            _count(f"nest_{size}_cifar", attention, num_classes=10)[-1].value for size in sizes
        ]
        for attention in ("multi_query", "multi_head")
    }
    printed = [TABLE1[row].params_m for row in sizes.values()]
    fits = any([round(n, 1) for n in values] == printed for values in counts.values())
    return (
        f"{equal} of {len(sizes)} ImageNet models have the printed millions of parameters. For "
        f"CIFAR the paper prints {_list(printed, 1)} million. The models count "
        f"{_list(counts['multi_query'], 2)} with the published code's multi-query attention and "
        f"{_list(counts['multi_head'], 2)} with multi-head attention: "
        f"{'one' if fits else 'neither'} fits to the last digit."
    )


def _list(numbers: Sequence[float], digits: int) -> str:
    *others, last = (f"{number:.{digits}f}" for number in numbers)
    return f"{', '.join(others)} and {last}"


def _columns() -> tuple[str, ...]:
    return ("Input", "S", "Block (n)", *(f"Hierarchy {i}" for i in range(1, 6)))


def print_hierarchy(hierarchy: tuple[int, int, int, int]) -> str:
    width, heads, layers, blocks = hierarchy
    return f"[{width}, {heads}] x {layers}, {blocks}"


def _row(row: TableA1Row) -> tuple[str, ...]:
    cells = [print_hierarchy(hierarchy) for hierarchy in row.hierarchies]
    edge = row.block_edge
    size = f"{row.input_size}x{row.input_size}"
    return (size, str(row.patch_size), f"{edge}x{edge}", *cells, *["-"] * (5 - len(cells)))


def _letters(values: dict[str, tuple[int, ...]]) -> str:
    return ", ".join(f"{letter} = {list(numbers)}" for letter, numbers in values.items())


def _printed() -> Table:
    return Table(
        "Table A1 as printed: [width, heads] x layers, blocks; hierarchy 1 is the top",
        _columns(),
        [_row(row) for row in TABLE_A1],
        [f"32x32: {_letters(TABLE_A1_CIFAR)} for T, S, B",
         f"224x224: {_letters(TABLE_A1_IMAGENET)} for T, S, B"],
    )  # fmt: skip


def _corrected() -> Table:
    return Table(
        "The 224x224 row, corrected by the published code and its issue 2",
        _columns(),
        [_row(TABLE_A1_IMAGENET_ROW_CORRECTED)],
        [f"{_letters(TABLE_A1_IMAGENET_CORRECTED)} for T, S, B"],
    )  # fmt: skip


def _counted() -> Table:
    rows = []
    for size, letter in _SIZES.items():
        for attention in ("multi_query", "multi_head"):
            for depth in (4, 3, 5):
                options = {"num_hierarchies": depth, "num_classes": 10}
                printed = Number(TABLE1[f"NesT-{letter}"].params_m, PAPER) if depth == 4 else ""
                rows.append((*_count(f"nest_{size}_cifar", attention, **options), printed))
    for size, letter in _SIZES.items():
        printed = Number(TABLE2[f"NesT-{letter}"].params_m, PAPER, 0)
        rows.append((*_count(f"nest_{size}_imagenet", num_classes=1000), printed))
    return Table(
        "Parameters of nestlib's models, image side first",
        ("Model", "Attention", "Width", "Heads", "Layers", "Blocks", "Params (M)", "Printed (M)"),
        rows,
        ["CIFAR models with 10 classes at S = 1, ImageNet models with 1,000 classes. Printed: "
         "Tables 1 and 2"],
    )  # fmt: skip


def _count(name: str, attention: str = "multi_head", **options) -> tuple[Cell, ...]:
    with torch.device("meta"):
        model = create_model(name, attention=attention, **options)
    hierarchies = zip(*describe_hierarchies(model))
    cells = [str(v[0]) if len(set(v)) == 1 else ", ".join(map(str, v)) for v in hierarchies]
    return name, attention, *cells, Number(count_params(model) / 1e6, HERE, 2)


def describe_hierarchies(model: NesT | NesTDecoder) -> list[tuple[int, int, int, int]]:
    """Width, heads, layers and blocks of each hierarchy, by the numbers of the model's levels."""
    return [
        (layers[0].attn.qkv.in_features, layers[0].attn.num_heads, len(layers), blocks)
        for layers, blocks in zip(model.hierarchies, model.num_blocks)
    ]
