"""Table A4: the decoder as printed, and as the built one says of itself."""

import torch
from torch import nn

from nestbook.paper import TABLE_A4, TABLE_A4_BLOCK_EDGE, TABLE_A4_IMAGE_SIZE
from nestbook.report.tables import HERE, Cell, Number, Table
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


def describe_hierarchies(model: NesTDecoder) -> dict[int, tuple[int, int, int, int]]:
    """Width, heads, layers and blocks of each hierarchy, keyed and ordered as `paper.TABLE_A4`."""
    found = {}
    for level, layers in reversed(list(enumerate(model.hierarchies))):
        first = layers[0].attn
        found[level + 1] = (
            first.qkv.in_features, first.num_heads, len(layers), model.num_blocks[level]
        )  # fmt: skip
    return found


def _architecture(models: dict[str, NesTDecoder]) -> Table:
    ours = {name: describe_hierarchies(model) for name, model in models.items()}
    rows = [
        (f"hierarchy {k}", _print(printed), *(_print(own[k]) for own in ours.values()))
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
    rows: list[tuple[Cell, ...]] = [
        ("noise to 1 x n x d", *(_millions(m.embed) for m in models.values()))
    ]
    for k in TABLE_A4:
        rows.append((f"hierarchy {k}, layers", *(
            _millions(model.hierarchies[k - 1]) for model in models.values()
        )))  # fmt: skip
    rows += [
        (name, *(_millions(getattr(model, part)) for model in models.values()))
        for name, part in (("position embeddings", "pos_embeds"),
                           ("de-aggregation", "deaggregations"))
    ]  # fmt: skip
    rows.append(("all", *(_millions(model) for model in models.values())))
    return Table(
        "Its parameters (M)",
        ("Part", *models),
        rows,
        ["Counted on this machine. LayerNorm and Conv1x1 at the end have fewer than a hundred; "
         "pixel shuffle has none. The paper's figure 7 draws the number of parameters, but prints "
         "none"],
    )  # fmt: skip


def _millions(part: nn.Module) -> Number:
    return Number(count_params(part) / 1e6, HERE, 2)


def _print(hierarchy: tuple[int, int, int, int]) -> str:
    width, heads, layers, blocks = hierarchy
    return f"[{width}, {heads}] x {layers}, {blocks}"


def _embedding(model: NesTDecoder) -> str:
    linear = isinstance(model.embed, nn.Linear)
    return f"a linear layer to {model.embed.out_features:,}" if linear else "reshaped alone"


def _output_edge(model: NesTDecoder) -> int:
    return model.grids[0][0] * model.block_size


def _square(edge: int) -> str:
    return f"{edge}x{edge}"
