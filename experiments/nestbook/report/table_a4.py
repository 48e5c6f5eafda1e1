"""Table A4: the decoder as printed, and as the built one says of itself."""

from collections.abc import Callable

import torch
from torch import nn

from nestbook.paper import TABLE_A4, TABLE_A4_BLOCK_EDGE, TABLE_A4_IMAGE_SIZE
from nestbook.report.table_a1 import describe_hierarchies, print_hierarchy
from nestbook.report.tables import HERE, Number, Table
from nestlib.metrics.cost import count_params
from nestlib.models import create_generator
from nestlib.models.generator import NesTDecoder

# The two readings of "the input is a reshaped noise vector" (nestlib.models.generator).
FORMS = {"linear embedding": {}, "reshaped noise": {"latent_dim": None}}


def table_a4() -> list[Table]:
    """The printed table beside the decoder of either reading, and where its parameters lie."""
    with torch.device("meta"):
        models = {
            name: create_generator("nest_decoder", img_size=TABLE_A4_IMAGE_SIZE, **options)
            for name, options in FORMS.items()
        }
    return [_architecture(models), _parameters(models)]


def _architecture(models: dict[str, NesTDecoder]) -> Table:
    ours = [describe_hierarchies(model) for model in models.values()]
    rows = [
        (f"hierarchy {k}", *(print_hierarchy(one) for one in (printed, *(o[k - 1] for o in ours))))
        for k, printed in TABLE_A4.items()
    ]
    edge, size = TABLE_A4_BLOCK_EDGE, TABLE_A4_IMAGE_SIZE
    inputs = [f"{model.latent_dim:,} values, {_embedding(model)}" for model in models.values()]
    lengths = [_square(model.block_size) for model in models.values()]
    outputs = [f"LayerNorm, Conv1x1, {_square(_output_edge(m))}x3" for m in models.values()]
    return Table(
        "Table A4: [width, heads] x layers, blocks; in forward direction",
        ("", "Paper", *(f"The model, {name}" for name in models)),
        [
            ("noise", '"a reshaped noise vector"', *inputs),
            ("sequence length n", _square(edge), *lengths),
            *rows,
            ("output", f"LayerNorm, Conv1x1, {_square(size)}x3", *outputs),
        ],
        ["Paper: d = 1024 and h = 4 put into its letters. The model: read from the one that "
         'create_generator("nest_decoder", img_size=64) builds, on this machine (D31)'],
    )  # fmt: skip


def _parameters(models: dict[str, NesTDecoder]) -> Table:
    parts: dict[str, Callable[[NesTDecoder], nn.Module]] = {
        "noise to 1 x n x d": lambda model: model.embed,
        **{f"hierarchy {k}, layers": lambda model, k=k: model.hierarchies[k - 1] for k in TABLE_A4},
        "position embeddings": lambda model: model.pos_embeds,
        "de-aggregation": lambda model: model.deaggregations,
        "all": lambda model: model,
    }
    rows = [
        (name, *(Number(count_params(part(m)) / 1e6, HERE, 2) for m in models.values()))
        for name, part in parts.items()
    ]
    return Table(
        "Its parameters (M)",
        ("Part", *models),
        rows,
        ["Counted on this machine. LayerNorm and Conv1x1 at the end have fewer than a hundred; "
         "pixel shuffle has none. The paper's figure 7 draws the number of parameters, but prints "
         "none"],
    )  # fmt: skip


def _embedding(model: NesTDecoder) -> str:
    linear = isinstance(model.embed, nn.Linear)
    return f"a linear layer to {model.embed.out_features:,}" if linear else "reshaped alone"


def _output_edge(model: NesTDecoder) -> int:
    return model.grids[0][0] * model.block_size


def _square(edge: int) -> str:
    return f"{edge}x{edge}"
