"""Images for the figures that show what models look at: which ones, and what is found there.

Images are the first of a set, or those named by a parameter; none is picked for its looks.
"""

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from torch import Tensor, nn

from nestlib.data.augment import normalize
from nestlib.data.containers import ImageSet
from nestlib.data.datasets import load_dataset
from nestlib.explain.gradcat import Traversal, gradcat
from nestlib.localizations import METHODS, maps_of
from nestlib.models.nest import NesT
from nestlib.planted import RECIPE, load_canvases
from nestlib.recipes import get_recipe, plan_figure8
from nestlib.records import Store
from nestlib.trained import load_run, load_trained

PLANTED_SEED = 2  # whose weights are committed
FIGURE_A4 = ("R50 GradCAM++", "DeiT RollOut", "NesT CAM")  # its columns, in the paper's order


@dataclass(frozen=True)
class Walks:
    """GradCAT on images: (B, H, W, 3) uint8, a traversal and a class's name for each row.

    Several classes of one image are rows of their own.
    """

    images: np.ndarray
    traversal: Traversal
    class_names: tuple[str, ...]


@dataclass(frozen=True)
class Maps:
    """Class maps of the true class: images (N, H, W, 3) uint8, and by method (N, h, w)."""

    images: np.ndarray
    titles: tuple[str, ...]
    boxes: np.ndarray  # (N, K, 4)
    maps: dict[str, np.ndarray]


def walk_four_digits(canvas: int = 0, *, budget: str = "quick") -> Walks:
    """One canvas of four digits, and the walks of its four classes: figure 3 on embedded data.

    Args:
        canvas: which of the planted truth's canvases (`nestlib.planted.CANVASES`).
        budget: smoke takes an untrained model.

    Raises:
        ValueError: no such canvas.
    """
    canvases = load_canvases("four", budget)
    if not 0 <= canvas < len(canvases):
        raise ValueError(f"canvas {canvas} is not one of 0 to {len(canvases) - 1}")
    classes = canvases.box_labels[canvas]
    images = canvases.images[canvas : canvas + 1].expand(len(classes), -1, -1, -1)
    return _walk(_planted_model(budget), canvases, images, classes)


def walk_lone_digits(count: int = 4, *, budget: str = "quick") -> Walks:
    """The first canvases of one digit each, walked for the predicted class: figure 8, left.

    A wrong prediction's name says the true one too.
    """
    options = get_recipe(RECIPE).dataset_options | {"num_images": count}
    canvases = load_dataset("digits", "test", image_size=64, **options)
    walks = _walk(_planted_model(budget), canvases, canvases.images, None)
    names = tuple(
        name if true == predicted else f"{name} (true: {canvases.class_names[true]})"
        for name, true, predicted in zip(
            walks.class_names, canvases.labels.tolist(), walks.traversal.classes.tolist()
        )
    )
    return replace(walks, class_names=names)


def map_images(
    store: Store, dataset: str = "digits", *, count: int = 3, budget: str = "quick",
    data_dir: Path | None = None, runs_dir: Path | None = None, seed: int = 0,
) -> Maps:  # fmt: skip
    """The first test images of a set, one a class, under figure A4's methods.

    Raises:
        OSError: no such run, no weights, or no images; the message says what makes them.
    """
    plan = plan_figure8(budget, dataset, seed)
    recipe = plan[FIGURE_A4[0]]
    images = load_dataset(
        dataset, "test", data_dir=data_dir, image_size=recipe.image_size, **recipe.dataset_options
    )
    firsts = [int((images.labels == k).nonzero()[0]) for k in images.labels.unique()[:count]]
    chosen, labels = images.images[firsts], images.labels[firsts]
    batch = normalize(chosen, images.mean, images.std)
    maps = {}
    for row in FIGURE_A4:
        model = plan[row].build_model(images.num_classes).eval()
        if budget != "smoke":
            model = load_run(plan[row], store, runs_dir)
        maps[row], _ = maps_of(METHODS[row], model, [(batch, labels)], count, progress=False)
    titles = tuple(images.class_names[k].split(",")[0] for k in labels)
    return Maps(_pixels(chosen), titles, images.boxes[firsts].numpy().astype(int), maps)


def _planted_model(budget: str) -> nn.Module:
    if budget == "smoke":
        return get_recipe(RECIPE).build_model(num_classes=10).eval()
    return load_trained(RECIPE, seed=PLANTED_SEED)


def _walk(model: NesT, source: ImageSet, images: Tensor, classes: Tensor | None) -> Walks:
    traversal = gradcat(model, normalize(images, source.mean, source.std), classes)
    names = tuple(source.class_names[k] for k in traversal.classes)
    return Walks(_pixels(images), traversal, names)


def _pixels(images: Tensor) -> np.ndarray:
    """(B, 3, H, W) -> (B, H, W, 3)."""
    return images.permute(0, 2, 3, 1).contiguous().numpy()
