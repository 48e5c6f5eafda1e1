"""Table A4: the decoder as printed, and as the built one says of itself."""

from collections.abc import Callable, Mapping

import torch
from torch import nn

from nestbook.paper import TABLE_A4, TABLE_A4_BLOCK_EDGE, TABLE_A4_IMAGE_SIZE
from nestbook.report.table_a1 import describe_hierarchies, print_hierarchy
from nestbook.report.tables import HERE, Number, Table
from nestlib.metrics.cost import count_params
from nestlib.models import create_generator
from nestlib.models.generator import NesTDecoder

Models = Mapping[str, NesTDecoder]

# The two readings of "the input is a reshaped noise vector" (nestlib.models.generator).
READINGS = {"linear layer": {}, "noise reshaped": {"latent_dim": None}}


def build_decoders() -> dict[str, NesTDecoder]:
    """The decoder by either reading of its input, without memory for its weights."""
    with torch.device("meta"):
        return {
            name: create_generator("nest_decoder", img_size=TABLE_A4_IMAGE_SIZE, **options)
            for name, options in READINGS.items()
        }


def say_table_a4(models: Models) -> str:
    """Whether the built decoders are the printed one, and what the two readings cost."""
    equal = [k for k in TABLE_A4 if all(_hierarchy(m, k) == TABLE_A4[k] for m in models.values())]
    fit = all(
        (model.block_size, _output_edge(model)) == (TABLE_A4_BLOCK_EDGE, TABLE_A4_IMAGE_SIZE)
        for model in models.values()
    )
    named = "all" if len(equal) == len(TABLE_A4) else f"{len(equal)} of"
    with_layer, without = (count_params(model) / 1e6 for model in models.values())
    return (
        f"The decoder built here has the paper's widths, heads, layers and blocks in {named} "
        f"{len(TABLE_A4)} hierarchies, and {'its' if fit else 'not its'} output size. The paper "
        f"does not say whether a linear layer maps the noise: the decoder has "
        f"{with_layer:.1f} M parameters with one, {without:.1f} M without."
    )


def architecture_table(models: Models) -> Table:
    """The printed row above the decoder's, in the paper's columns; equal readings share a row."""
    edge, size = TABLE_A4_BLOCK_EDGE, TABLE_A4_IMAGE_SIZE
    printed = (_square(edge), *map(print_hierarchy, _upwards(TABLE_A4)), _square(size))
    built: dict[tuple[str, ...], list[str]] = {}
    for name, model in models.items():
        cells = (
            _square(model.block_size), *map(print_hierarchy, describe_hierarchies(model)),
            _square(_output_edge(model)),
        )  # fmt: skip
        built.setdefault(cells, []).append(name)
    rows = [
        ("built here" if len(built) == 1 else f"built here, {' and '.join(names)}", *cells)
        for cells, names in built.items()
    ]
    return Table(
        "Table A4: [width, heads] x layers, blocks; forward is from 4 to 1",
        ("", "Length n", *map(str, sorted(TABLE_A4)), "Image"),
        [("paper", *printed), *rows],
        ["Paper: with d = 1024 and h = 4 in place of its letters. Built here: read from the model "
         f'that create_generator("nest_decoder", img_size={size}) makes, on this machine'],
    )  # fmt: skip


def parameters_table(models: Models) -> Table:
    """Where the parameters of either reading are."""
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
    inputs = "; ".join(f"{name}: {_describe_input(model)}" for name, model in models.items())
    return Table(
        "Parameters by reading of the input (M)",
        ("Part", *models),
        rows,
        [inputs.capitalize(),
         "Counted on this machine. LayerNorm and Conv1x1 at the end have fewer than a hundred, "
         "pixel shuffle does not have one. The paper prints no number of parameters"],
    )  # fmt: skip


def _upwards(hierarchies: Mapping[int, tuple[int, int, int, int]]) -> list:
    """Hierarchy 1, which ends in the image, first: the order of the paper's columns."""
    return [hierarchies[k] for k in sorted(hierarchies)]


def _hierarchy(model: NesTDecoder, k: int) -> tuple[int, int, int, int]:
    return describe_hierarchies(model)[k - 1]


def _describe_input(model: NesTDecoder) -> str:
    if isinstance(model.embed, nn.Linear):
        return f"{model.latent_dim:,} values, mapped to {model.embed.out_features:,}"
    return f"{model.latent_dim:,} values as they are"


def _output_edge(model: NesTDecoder) -> int:
    return model.grids[0][0] * model.block_size


def _square(edge: int) -> str:
    return f"{edge}x{edge}"
