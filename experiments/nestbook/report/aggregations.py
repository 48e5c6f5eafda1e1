"""Every block aggregation by its name: what it is, what it costs, and who hears whom through it."""

import torch

from nestbook.architecture import crosses
from nestbook.report.tables import HERE, Number, Table
from nestlib.metrics.cost import count_params
from nestlib.models import create_model
from nestlib.models.aggregation import AGGREGATIONS, DEFAULT, Design

MODEL = "nest_tiny_cifar"
_WORDS = {
    "conv": "Conv{0}x{0}", "linear": "Linear", "norm": "LN", "max": "MaxPool{0}x{0}",
    "average": "AvgPool{0}x{0}", "merge": "{0}x{0} side by side", "sample": "every second patch",
}  # fmt: skip


def aggregations_table() -> Table:
    """Every value of the option `aggregation`, with the flow as stated and as measured."""
    default = _count(DEFAULT)
    rows = []
    for name, design in AGGREGATIONS.items():
        params = _count(name)
        rows.append((
            name, _describe(design), design.figure or "-", Number(params / 1e6, HERE, 3),
            Number((params - default) / 1e6, HERE, 3), _yes(design.crosses),
            _yes(crosses(name, "image")), _yes(crosses(name, "block")),
            "one function" if not design.crosses else "two",
        ))  # fmt: skip
    return Table(
        "Block aggregations: does information pass between blocks that are not merged?",
        ("aggregation", "Steps", "Figure", "NesT-T, CIFAR (M)", "against ours (M)",
         "Stated, image plane", "Measured, image plane", "Measured, block plane", "The planes are"),
        rows,
        [f"The first is the paper's. Parameters: {MODEL} with 10 classes, counted on this machine",
         "Measured: gradients of one merging group's outputs by the other groups' patches. A "
         "window wider than its stride reaches over; on the block plane none does",
         "Where the next hierarchy is wider (ImageNet), a design without a convolution has a 1x1 "
         "one behind it. Figure: where the paper's text names it; -: ours, of the same parts"],
    )  # fmt: skip


def _count(aggregation: str) -> int:
    with torch.device("meta"):
        return count_params(create_model(MODEL, num_classes=10, aggregation=aggregation))


def _describe(design: Design) -> str:
    words = []
    for kind, edge, stride in design.steps:
        strided = " stride 2" if kind == "conv" and stride == 2 else ""
        words.append(_WORDS[kind].format(edge) + strided)
    return ", ".join(words)


def _yes(flows: bool) -> str:
    return "yes" if flows else "no"
