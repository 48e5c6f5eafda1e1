"""Figure A4: images, and where each method's class map is high on them."""

from collections.abc import Mapping, Sequence

import cv2
import numpy as np
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.figure import Figure

from nestbook.report.pictures import VERMILION, Picture, drawing_style
from nestbook.report.tree import frame_box
from nestlib.explain.localize import find_boxes, scale_map

COLOR_MAP = "viridis"  # even steps of lightness: readable in grey, and to the colour-blind
OPACITY = 0.65
TRUE_BOX, FOUND_BOX = "#FFFFFF", VERMILION


def draw_maps(
    images: np.ndarray, titles: Sequence[str], maps: Mapping[str, np.ndarray],
    thresholds: Mapping[str, float], true_boxes: np.ndarray | None, stem: str,
) -> Picture:  # fmt: skip
    """One line per image, one column per method: its map over the image, and the box it gives.

    Args:
        images: (N, H, W, 3) uint8, what the models saw without their normalisation.
        titles: one per image, what it shows.
        maps: by method (N, h, w); each is scaled to its own range and resized to the image.
        thresholds: by method, of the box that is drawn; a method without one gets no box.
        true_boxes: (N, K, 4) as `find_boxes` has them, -1 where an image has fewer; None for none.
        stem: names the picture.

    Raises:
        ValueError: another number of titles or maps than images.
    """
    N, size = len(images), images.shape[1:3]
    for name, count in (("titles", len(titles)), *((k, len(m)) for k, m in maps.items())):
        if count != N:
            raise ValueError(f"{count} {name} for {N} images; give one per image")
    columns = ["input", *maps]
    boxes = {
        method: find_boxes(maps[method], size, [threshold])[:, 0]
        for method, threshold in thresholds.items() if method in maps
    }  # fmt: skip
    with drawing_style():
        figure = Figure(figsize=(1.35 * len(columns) + 0.9, 1.35 * N + 0.75), layout="constrained")
        grid = figure.subplots(N, len(columns), squeeze=False)
        for axes, title in zip(grid[0], columns):
            axes.set_title(title)
        for line, (image, title) in enumerate(zip(images, titles)):
            _show(grid[line, 0], image)
            grid[line, 0].set_ylabel(title)
            for axes, method in zip(grid[line, 1:], maps):
                _show(axes, image, maps[method][line])
                if method in boxes:
                    frame_box(axes, boxes[method][line], FOUND_BOX, "-", 1.4)
            for axes in grid[line]:
                for box in true_boxes[line] if true_boxes is not None else ():
                    if (box >= 0).all():
                        frame_box(axes, box, TRUE_BOX, "--", 1.4)
        bar = figure.colorbar(
            ScalarMappable(cmap=COLOR_MAP), ax=grid[:, 1:], location="bottom", shrink=0.5,
            aspect=30, ticks=[0, 0.5, 1], label="share of each map's own range",
        )  # fmt: skip
        bar.outline.set_visible(False)
    said = "dashed white the true box" if true_boxes is not None else "no true boxes are known"
    text = (
        f"Class maps of {', '.join(maps)} over {N} images ({', '.join(titles)}); orange the box at "
        f"each method's best threshold, {said}."
    )
    return Picture(figure, stem, text, {})


def _show(axes: Axes, image: np.ndarray, map_: np.ndarray | None = None) -> None:
    axes.set(xticks=[], yticks=[])
    axes.grid(False)
    axes.spines[:].set_visible(False)
    axes.imshow(image, interpolation="nearest")
    if map_ is not None:
        grey = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)
        axes.imshow(grey, cmap="gray", vmin=0, vmax=255, interpolation="nearest")
        scaled = scale_map(np.ascontiguousarray(map_, np.float32), image.shape[:2])
        axes.imshow(scaled, cmap=COLOR_MAP, vmin=0, vmax=1, alpha=OPACITY, interpolation="nearest")
