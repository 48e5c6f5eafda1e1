"""Figure 1: the pseudo code beside ours and the tree of blocks, shapes traced in the model."""

from collections.abc import Iterable, Mapping
from itertools import pairwise

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.transforms import Affine2D

from nestbook.architecture import Shape, trace_shapes
from nestbook.paper import FIGURE1_AGGREGATE
from nestbook.report.pictures import Picture, drawing_style
from nestbook.report.tables import Table
from nestbook.report.tree import COLORS
from nestlib.models import create_model
from nestlib.models.nest import NesT

MODEL = "nest_tiny_imagenet"
# Figure 1's lines, ours as nestlib/models/nest.py has them (a test compares), and whose shapes
# stand beside: a module, or a list of them.
PSEUDO_CODE = (
    ("x = Block(PatchEmbed(input_image))", "patch_embed(images, block_size)", "patch_embed"),
    ("for i in range(num_hierarchy):", "for level in range(num_hierarchies):", ""),
    ("    y = Stack([T_i(x[0] + PE_i[0]), ...])", "    hierarchies[level](x + pos_embeds[level])",
     "hierarchies"),
    ("    if i < num_hierarchy - 1:", "", ""),
    ("        x = Aggregate(y, i)", "    aggregations[level](y, grid)", "aggregations"),
    ("h = GlobalAvgPool(x)", "norm(y).mean((1, 2))", "pool"),
    ("logits = Linear(h[0, 0])", "head(h)", "head"),
)  # fmt: skip
# Figure 1's Aggregate, in the lines of BlockAggregation.forward (a test finds them there).
AGGREGATE = ("unblock(x, grid)", "self._halve(x)", "block(self._halve(x), block_size)")
_SLANT, _FLAT, _GAP = 0.45, 0.42, 0.1  # of a plane seen from the side; air between blocks
_AIR = 0.3  # between a plane and the next, in edges of the lowest

Shapes = Mapping[str, tuple[Shape, Shape]]  # in and out, by module


def architecture_table(name: str = MODEL) -> Table:
    """The paper's line, ours, and the shapes that hooks saw in `name`, hierarchy by hierarchy."""
    model, shapes = _trace(name)
    texts = _describe_shapes(model, shapes)
    rows = [(_code(a), _code(b), texts.get(part, "")) for a, b, part in PSEUDO_CODE]
    rows.append(("def Aggregate(x, i):", "BlockAggregation.forward", ""))
    planes = _aggregate_shapes(model, shapes)
    rows += [(_code(f"  {a}"), b, c) for a, b, c in zip(FIGURE1_AGGREGATE, AGGREGATE, planes)]
    return Table(
        f"Figure 1, line by line, with the shapes of {name}",
        ("The paper's pseudo code", "nestlib/models", "Shapes traced, level 0 to the top"),
        rows,
        [f"Shapes: seen by forward hooks, for one image of {model.img_size[0]}x{model.img_size[1]} "
         "pixels, without the batch axis. Blocks are (T, N, C), planes (H, W, C)"],
    )  # fmt: skip


def say_architecture(name: str = MODEL) -> str:
    """How the blocks of a model merge, by the shapes that its modules give."""
    model, shapes = _trace(name)
    levels = [shapes[f"hierarchies.{level}"][1] for level in range(model.num_hierarchies)]
    blocks = [T for _, T, _, _ in levels]
    (length,) = {N for _, _, N, _ in levels}
    merged = ", then ".join(map(str, blocks[1:]))
    fourths = all(below == 4 * above for below, above in pairwise(blocks))
    return (
        f"The model that runs is the tree of the paper's figure: {blocks[0]} blocks merge into "
        f"{merged}{', four to one each time' if fourths else ''}. At every level a block has "
        f"{length} patches."
    )


def _trace(name: str) -> tuple[NesT, Shapes]:
    with torch.device("meta"):
        model = create_model(name).eval()
    return model, trace_shapes(model)


def _code(line: str) -> str:
    """Leading spaces that HTML and Markdown keep."""
    bare = line.lstrip(" ")
    return "\u00a0" * (len(line) - len(bare)) + bare


def _describe_shapes(model: NesT, shapes: Shapes) -> dict[str, str]:
    """What stands beside the lines of PSEUDO_CODE, by their last item."""
    levels = range(model.num_hierarchies)
    between = [shapes[f"aggregations.{level}"] for level in levels[:-1]]
    return {
        "patch_embed": _text(shapes["patch_embed"][1]),
        "hierarchies": _then(_text(shapes[f"hierarchies.{level}"][1]) for level in levels),
        "aggregations": _then(f"{_text(into)} to {_text(out)}" for into, out in between),
        "pool": _text(shapes["head"][0]),
        "head": _text(shapes["head"][1]),
    }


def _aggregate_shapes(model: NesT, shapes: Shapes) -> list[str]:
    """Planes in and out of each aggregation, and the blocks that it gives."""
    planes, halves, blocks = [], [], []
    for level in range(model.num_hierarchies - 1):
        _, channels, height, width = shapes[f"aggregations.{level}.conv"][0]
        *_, wider = out = shapes[f"aggregations.{level}"][1]
        planes.append(f"({height}, {width}, {channels})")
        halves.append(f"({height // 2}, {width // 2}, {wider})")
        blocks.append(_text(out))
    return [_then(texts) for texts in (planes, halves, blocks)]


def _text(shape: Shape) -> str:
    return f"({', '.join(map(str, shape[1:]))})"


def _then(texts: Iterable[str]) -> str:
    return ", then ".join(texts)


def plot_architecture(image: np.ndarray, name: str = MODEL) -> Picture:
    """The image, its blocks, and how four merge into one, up to the logits.

    Args:
        image: (H, W, 3) uint8, square, laid under the tree.
        name: a NesT; its blocks and shapes are read from the model itself.

    Raises:
        ValueError: a model whose planes are not square.
    """
    model, shapes = _trace(name)
    if any(down != across for down, across in model.grids):
        raise ValueError(f"{name} at {model.img_size} has planes that are not square")
    levels, wide = model.num_hierarchies, model.grids[0][0]
    heights = _heights([down for down, _ in model.grids])
    right = wide * (1.1 + _SLANT) * 2.3
    with drawing_style():
        tall = 7.2 * (heights[-1] + _AIR * wide + _FLAT * wide / 2) / right
        figure = Figure(figsize=(7.2, tall), layout="constrained")
        axes = figure.add_subplot()
        _draw_image(axes, image, wide)
        tooltips = {}
        for level, (edge, _) in enumerate(model.grids):
            tooltips |= _draw_plane(axes, model, level, heights[level], shapes)
            if level:
                _draw_merges(axes, wide, edge, heights[level - 1 : level + 1])
        _draw_words(axes, model, shapes, heights)
        axes.set(xlim=(-_SLANT * wide / 2, right - _SLANT * wide / 2), aspect="equal")
        axes.axis("off")
    text = f"{name}, from the image up: " + "; ".join(
        f"level {level}, {_text(shapes[f'hierarchies.{level}'][1])} blocks, patches and width"
        for level in range(levels)
    )
    return Picture(figure, "figure1", f"{text}. Between levels four blocks merge.", tooltips)


def _heights(edges: list[int]) -> list[float]:
    """Of each level's plane over the image's, so that none hides the middle of another."""
    air = _AIR * edges[0]
    heights = [_FLAT * edges[0] + 0.4 * air]
    for below, above in pairwise(edges):
        heights.append(heights[-1] + _FLAT * (below + above) / 2 + air)
    return heights


def _plane(height: float, centre: float) -> Affine2D:
    """From a plane's places, in edges of a block from its middle, to the picture's."""
    return Affine2D.from_values(1, 0, _SLANT, _FLAT, centre, height)


def _draw_image(axes: Axes, image: np.ndarray, wide: int) -> None:
    half = wide / 2
    lay = _plane(0, half) + axes.transData
    axes.imshow(
        image, extent=(-half, half, -half, half), transform=lay, interpolation="nearest",
        clip_on=False,
    )  # fmt: skip
    axes.add_patch(Rectangle(
        (-half, -half), wide, wide, transform=lay, fill=False, edgecolor="0.3", linewidth=0.6
    ))  # fmt: skip


def _color_of(row: int, column: int, edge: int) -> str | tuple[float, ...]:
    """Blocks that end in one quadrant share its colour; the top block does not have one."""
    if edge == 1:
        return "0.85"
    color = to_rgb(COLORS[2 * (2 * row >= edge) + (2 * column >= edge)])
    return tuple(0.55 + 0.45 * part for part in color)


def _draw_plane(
    axes: Axes, model: NesT, level: int, height: float, shapes: Shapes
) -> dict[str, str]:
    """A level's blocks, each with T_i on it while there is room."""
    edge, centre = model.grids[level][0], model.grids[0][0] / 2
    plane, tooltips = _plane(height, centre), {}
    _, _, N, C = shapes[f"hierarchies.{level}"][1]
    for number in range(edge * edge):
        row, column = divmod(number, edge)
        corner = np.array((column, edge - 1 - row)) - edge / 2
        gid = f"level{level}-block{number}"
        axes.add_patch(Rectangle(
            corner + _GAP / 2, 1 - _GAP, 1 - _GAP, transform=plane + axes.transData,
            facecolor=_color_of(row, column, edge), edgecolor="0.3", linewidth=0.6,
            zorder=2 * level + 3, gid=gid,
        ))  # fmt: skip
        pixels = model.strides[level] * model.block_size
        tooltips[gid] = (
            f"level {level}, block {number + 1} of {edge * edge}: {N} patches of width {C}, "
            f"{pixels}x{pixels} pixels, {len(model.hierarchies[level])} transformer layers"
        )
        if centre <= 2:
            x, y = plane.transform(corner + 0.5)
            axes.text(x, y, f"$T_{level}$", ha="center", va="center", zorder=2 * level + 4)
    return tooltips


def _draw_merges(axes: Axes, wide: int, edge: int, heights: list[float]) -> None:
    """A line from each block up to the one that it becomes a quarter of."""
    lower, upper = (_plane(height, wide / 2) for height in heights)
    for block in np.ndindex(2 * edge, 2 * edge):
        child, parent = np.array(block), np.array(block) // 2
        ends = lower.transform(child + 0.5 - edge), upper.transform(parent + 0.5 - edge / 2)
        axes.plot(*zip(*ends), color="0.6", linewidth=0.5, zorder=2.5)


def _draw_words(axes: Axes, model: NesT, shapes: Shapes, heights: list[float]) -> None:
    left = model.grids[0][0] * (1 + _SLANT / 2) * 1.08
    size = "x".join(map(str, model.img_size))
    S = model.patch_size
    axes.text(left, 0, f"image {size}, patches of {S}x{S} pixels", va="center")
    for level, height in enumerate(heights):
        T, N, C = shapes[f"hierarchies.{level}"][1][1:]
        depth = len(model.hierarchies[level])
        axes.text(
            left, height, f"level {level}: {depth} transformer layers $T_{level}$ in each block\n"
            f"{T} block{'s' * (T > 1)} of {N} patches, width {C}", va="center",
        )  # fmt: skip
        if level < len(heights) - 1:
            _, C, H, W = shapes[f"aggregations.{level}.conv"][0]
            words = f"Aggregate: plane of {H}x{W}x{C}, convolved, normed, pooled, blocked"
            axes.text(left, (height + heights[level + 1]) / 2, words, va="center", color="0.35")
    classes = shapes["head"][1][-1]
    top = heights[-1] + _AIR * model.grids[0][0]
    axes.text(left, top, f"global average pool, linear: {classes:,} logits", va="center")
    axes.update_datalim([(left, top)])
    axes.autoscale_view(scalex=False)
