"""Every block aggregation by its name: what it is, what it costs, and who hears whom through it."""

import torch

from nestbook.architecture import crosses
from nestbook.report.tables import HERE, Number, Table
from nestlib.metrics.cost import count_params
from nestlib.models import create_model
from nestlib.models.aggregation import AGGREGATIONS, DEFAULT

MODEL = "nest_tiny_cifar"
# The x-axes' words, by figure, for each kind of step. Figure A1 prints C3-LN-MX3 and AVG3 alone
# where its text can be read; the others follow its way.
_WORDS = {
    "5": {
        "conv": "Conv{0}x{0}", "linear": "Linear", "norm": "LN", "max": "MaxPool{0}x{0}",
        "average": "AvgPool{0}x{0}", "sample": "Sub2x2",
    },
    "A1": {
        "conv": "C{0}", "linear": "Linear", "norm": "LN", "max": "MX{0}", "average": "AVG{0}",
        "sample": "Sub2x2",
    },
}  # fmt: skip


def name_design(aggregation: str, figure: str) -> str:
    """As the x-axis of figure "5" or "A1" has it: Ours or C3-LN-MX3, Conv3x3 or C3s2.

    A name of figure 5 leaves the stride to its caption; figure A1 has more than one of a kind.
    """
    if figure == "5" and aggregation == DEFAULT:
        return "Ours"
    steps = AGGREGATIONS[aggregation].steps
    if any(step.kind == "merge" for step in steps):
        return "PatchMerge"
    words = []
    for kind, edge, stride in steps:
        strided = "s2" if figure == "A1" and kind == "conv" and stride == 2 else ""
        words.append(_WORDS[figure][kind].format(edge) + strided)
    return "-".join(words)


def count_crossing(plane: str) -> int:
    """In how many designs information crosses block borders on a plane, by their gradients."""
    return sum(crosses(name, plane) for name in AGGREGATIONS)


def aggregations_table() -> Table:
    """One row per value of the option `aggregation`: the flow as stated and as measured."""
    rows = [
        (
            name_design(name, "A1"), name, design.figure or "-",
            Number(_count(name) / 1e6, HERE, 3), _yes(design.crosses),
            _yes(crosses(name, "image")), _yes(crosses(name, "block")),
        )
        for name, design in AGGREGATIONS.items()
    ]  # fmt: skip
    return Table(
        "Block aggregations: does information pass between blocks that do not merge?",
        ("Design", "aggregation=", "Named in figure", "NesT-T (M)", "Image plane, stated",
         "Image plane, measured", "Block plane, measured"),
        rows,
        [f"C: convolution, s2: stride 2, LN: LayerNorm, MX: max-pooling, AVG: average pooling; "
         f"the number is the window's edge. M: million parameters of {MODEL} with 10 classes",
         "Measured: gradients of the outputs of one merging group by the patches of the others. "
         "Where no information crosses, both planes are one and the same function"],
    )  # fmt: skip


def _count(aggregation: str) -> int:
    with torch.device("meta"):
        return count_params(create_model(MODEL, num_classes=10, aggregation=aggregation))


def _yes(flows: bool) -> str:
    return "yes" if flows else "no"
