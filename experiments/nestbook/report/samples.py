"""Generated images: sheets of them, and their nearest training images."""

import statistics
from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure

from nestbook.evaluations.samples import Neighbours, Samples
from nestbook.report.pictures import Picture, drawing_style
from nestbook.report.tables import Number, Sources, Table

INCH = 0.62  # of an image's edge


def draw_grid(samples: Samples, stem: str) -> Picture:
    """The first 64 samples."""
    return _draw_sheet(samples.grid, [], stem, f"The first 64 samples of {samples.run_id}.")


def draw_walk(samples: Samples, stem: str) -> Picture:
    """Each line leads from one noise vector to the next, where the line below begins."""
    lines = [f"walk {number}" for number in range(1, len(samples.walks) + 1)]
    text = f"Walks through the noise of {samples.run_id}: images change from left to right."
    return _draw_sheet(samples.walks, lines, stem, text)


def draw_neighbours(found: Neighbours, stem: str) -> Picture:
    """Samples above their nearest training images, or alone where these may not be passed on."""
    sheets = {"sample": found.samples, "nearest in\ntraining set": found.nearest}
    shown = {line: images for line, images in sheets.items() if images is not None}
    distances = ", ".join(f"{distance:.0f}" for distance in found.distances)
    text = f"Samples of {found.run_id} and their nearest training images, at {distances}."
    return _draw_sheet(np.stack([*shown.values()]), [*shown], stem, text)


def neighbours_table(found: Neighbours) -> Table:
    """How far each sample is from its nearest training image, and how far real test images are."""
    rows = [
        (f"sample {number}", name, Number(distance, found.run_id))
        for number, (name, distance) in enumerate(zip(found.names, found.distances), 1)
    ]
    n = len(found.held_out)
    for name, of in (("median", statistics.median), ("least", min)):
        distance = Number(of(found.held_out), found.dataset, n=n)
        rows.append((f"{n} test images, {name}", "", distance))
    return Table(
        f"Distance to the nearest training image, {found.dataset}",
        ("Image", "Nearest", "Distance"),
        rows,
        ["Root mean square over pixels of 0 to 255; a copy has the distance 0. A copy that is "
         "moved by two pixels would not be found",
         "Test images are real, and the generator was not trained on them"],
        Sources(f"Samples of {found.run_id}"),
    )  # fmt: skip


def _draw_sheet(images: np.ndarray, lines: Sequence[str], stem: str, text: str) -> Picture:
    """Images (R, K, H, W, 3) as one picture of R lines, with their names at the left."""
    R, K, H, W, _ = images.shape
    framed = np.pad(images, ((0, 0), (0, 0), (1, 1), (1, 1), (0, 0)), constant_values=255)
    sheet = framed.transpose(0, 2, 1, 3, 4).reshape(R * (H + 2), K * (W + 2), 3)
    with drawing_style():
        size = (INCH * K + 0.8 * bool(lines), INCH * R)
        figure = Figure(figsize=size, layout="constrained")
        axes = figure.subplots()
        axes.imshow(sheet, interpolation="nearest")
        axes.grid(False)
        axes.spines[:].set_visible(False)
        ticks = [(H + 2) * (line + 0.5) for line in range(len(lines))]
        axes.set(xticks=[], yticks=ticks, yticklabels=lines)
        axes.tick_params(length=0)
    return Picture(figure, stem, text, {})
