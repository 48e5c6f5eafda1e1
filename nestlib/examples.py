"""Images for the figures that show what models look at: which ones, and what is found there.

Images are the first of a set, or those named by a parameter; none is picked for its looks.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from timm.data import ImageNetInfo
from torch import Tensor, nn

from nestlib.data.augment import normalize
from nestlib.data.boxes import load_imagenet_boxes
from nestlib.data.containers import FolderSet, ImageSet
from nestlib.data.datasets import load_dataset
from nestlib.data.views import WholeImages, class_numbers
from nestlib.explain.gradcat import Traversal, gradcat
from nestlib.localizations import METHODS, load_published_row, maps_of
from nestlib.models.nest import NesT
from nestlib.planted import RECIPE, load_canvases
from nestlib.recipes import get_recipe, plan_figure8
from nestlib.records import Store
from nestlib.trained import load_run, load_trained

PLANTED_SEED = 2  # whose weights are committed
# First words of ImageNet's classes and their wnids; the paper names the classes, not the images.
FIGURE8_CLASSES = {
    "radio telescope": "n04044716",
    "lighter": "n03666591",
    "mouse": "n03793489",
    "wooden spoon": "n04597913",
}
FIGURE_A4_CLASSES = {
    "king penguin": "n02056570",
    "house finch": "n01532829",
    "bittern": "n02011460",
}
WALKING_ROW = "NesT CAM"  # whose model, NesT-S, walks in figure 8
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


def walk_imagenet(imagenet_dir: Path | str) -> Walks:
    """Figure 8, left, by the published NesT-S: the first validation image of each of its classes.

    Images are whole, resized to 224x224, and walked for the predicted class.

    Raises:
        OSError: no images, or no weights.
    """
    images, firsts = _first_images(imagenet_dir, FIGURE8_CLASSES)
    model, facts = load_published_row(WALKING_ROW)
    pixels, batch = _whole(images, firsts, facts["view"])
    traversal = gradcat(model, batch)
    info = ImageNetInfo()
    names = (info.index_to_description(k).split(",")[0] for k in traversal.classes)
    return Walks(
        _pixels(pixels), traversal,
        tuple(n if n == true else f"{n} (true: {true})" for n, true in zip(names, FIGURE8_CLASSES)),
    )  # fmt: skip


def map_imagenet(imagenet_dir: Path | str, boxes_dir: Path | str = "") -> Maps:
    """Figure A4 by published weights: the first validation image of each of its classes.

    Raises:
        OSError: no images, no boxes, or no weights.
    """
    images, firsts = _first_images(imagenet_dir, FIGURE_A4_CLASSES)
    images = replace(images, files=images.files[firsts], labels=images.labels[firsts])
    labels = class_numbers(images, 1000)[images.labels]
    maps = {}
    for row in FIGURE_A4:
        model, facts = load_published_row(row)
        pixels, batch = _whole(images, range(len(images)), facts["view"])
        maps[row], _ = maps_of(METHODS[row], model, [(batch, labels)], len(images), progress=False)
    boxes = load_imagenet_boxes(
        images, pixels.shape[-1], boxes_dir=Path(boxes_dir) if boxes_dir else None
    )
    return Maps(_pixels(pixels), tuple(FIGURE_A4_CLASSES), boxes, maps)


def _first_images(
    imagenet_dir: Path | str, classes: Mapping[str, str]
) -> tuple[FolderSet, list[int]]:
    images = load_dataset("imagenet", "test", data_dir=Path(imagenet_dir), partial=True)
    missing = [wnid for wnid in classes.values() if wnid not in images.class_names]
    if missing:
        raise FileNotFoundError(
            f"{images.root} has no validation images of {', '.join(missing)}; give the folder that "
            "holds val/<wnid>/ of all classes"
        )
    labels = [images.class_names.index(wnid) for wnid in classes.values()]
    return images, [int((images.labels == label).nonzero()[0]) for label in labels]


def _whole(images: FolderSet, indices: Iterable[int], view: dict) -> tuple[Tensor, Tensor]:
    """Whole images as a model wants them: (N, 3, s, s) uint8, and normalised."""
    whole = WholeImages(images, view["whole_image_at"], view["interpolation"])
    pixels = torch.stack([whole[index][0] for index in indices])
    return pixels, normalize(pixels, view["mean"], view["std"])


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
