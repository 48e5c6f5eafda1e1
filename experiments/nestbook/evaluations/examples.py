"""Choose images for the figures that show what models look at, and explain them.

Images are the first of a set, or those named by a parameter; none is picked for its looks.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from nestbook.evaluations.grounding import judge_paths
from nestbook.evaluations.imagenet_boxes import load_imagenet_boxes
from nestbook.evaluations.localizers import METHODS, load_published_row, maps_of
from nestbook.evaluations.planted import RECIPE, load_canvases
from nestbook.evaluations.published import imagenet_names
from nestbook.evaluations.samples import to_pixels
from nestbook.sweeps.plans import plan_figure8
from nestlib.choices import check_choice
from nestlib.data.augment import normalize
from nestlib.data.containers import FolderSet
from nestlib.data.datasets import check_same_classes, load_dataset
from nestlib.data.decoding import decode_image, squeeze
from nestlib.data.digits import make_digits
from nestlib.data.opening import MAX_IMAGE_BYTES
from nestlib.data.views import class_numbers
from nestlib.explain.gradcat import Traversal, gradcat
from nestlib.files import read_regular
from nestlib.models.nest import NesT
from nestlib.project import data_root
from nestlib.recipes.named import get_recipe
from nestlib.records import Store
from nestlib.runs.weights import find_run, load_run, load_trained

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
WEIGHTS = ("trained", "pretrained")
TOP_CLASSES = 4  # figure 3's
WALKING_ROW = "NesT CAM"  # whose model, NesT-S, walks in figure 8
FIGURE_A4 = ("R50 GradCAM++", "DeiT RollOut", "NesT CAM")  # its columns, in the paper's order


@dataclass(frozen=True)
class Walks:
    """GradCAT on images: (B, H, W, 3) uint8, a traversal and a class's name for each row.

    Several classes of one image are rows of their own.

    hits: whether each row's leaf block shows the true object; None where its box is not known.
    """

    images: np.ndarray
    traversal: Traversal
    class_names: tuple[str, ...]
    hits: tuple[bool, ...] | None = None


@dataclass(frozen=True)
class Maps:
    """Class maps of the true class: images (N, H, W, 3) uint8, and by method (N, h, w)."""

    images: np.ndarray
    titles: tuple[str, ...]
    boxes: np.ndarray  # (N, K, 4)
    maps: dict[str, np.ndarray]


def walk_figure3(canvas: int = 0, image: str = "", *, budget: str = "quick") -> Walks:
    """One image and the walks of four classes: `walk_photo` of a path, or `walk_four_digits`."""
    return walk_photo(Path(image)) if image else walk_four_digits(canvas, budget=budget)


def walk_figure8(
    weights: str = "trained", imagenet_dir: str = "", *, budget: str = "quick"
) -> Walks:
    """Four images and the walk of the predicted class on each.

    Args:
        weights: "trained" here, on lone digits, or "pretrained", the published NesT-S on ImageNet.
        imagenet_dir: the folder that holds val/, for the latter.

    Raises:
        ValueError: other weights, or no folder of images for the published ones.
    """
    check_choice("weights", weights, WEIGHTS)
    if weights == "trained":
        return walk_lone_digits(budget=budget)
    if not imagenet_dir:
        raise ValueError("weights=pretrained explains ImageNet's images; give imagenet_dir too")
    return walk_imagenet(imagenet_dir)


def draw_canvas(canvas: int = 0) -> np.ndarray:
    """A test canvas of 64x64 pixels with four digits: (64, 64, 3) uint8."""
    drawn = make_digits("test", image_size=64, digits_per_image=4, num_images=canvas + 1)
    return drawn.images[canvas].transpose(1, 2, 0)


def walk_four_digits(canvas: int = 0, *, budget: str = "quick") -> Walks:
    """One canvas of four digits, and the walks of its four classes: figure 3 on embedded data.

    Args:
        canvas: number of a canvas (`nestbook.evaluations.planted.load_canvases`).
        budget: smoke takes an untrained model.

    Raises:
        ValueError: no such canvas.
    """
    canvases = load_canvases("four", budget)
    if not 0 <= canvas < len(canvases):
        raise ValueError(f"canvas {canvas} is not one of 0 to {len(canvases) - 1}")
    classes = canvases.box_labels[canvas]
    images = canvases.images[canvas : canvas + 1].expand(len(classes), -1, -1, -1)
    batch = normalize(images, canvases.mean, canvases.std)
    return _walk(_planted_model(budget), images, batch, canvases.class_names, classes)


def walk_lone_digits(count: int = 4, *, budget: str = "quick") -> Walks:
    """The first canvases of one digit each, walked for the predicted class: figure 8, left.

    A wrong prediction's name says the true one too.
    """
    options = get_recipe(RECIPE).dataset_options | {"num_images": count}
    canvases = load_dataset("digits", "test", image_size=64, **options)
    batch = normalize(canvases.images, canvases.mean, canvases.std)
    true = [canvases.class_names[k] for k in canvases.labels]
    model, names = _planted_model(budget), canvases.class_names
    walks = _walk(model, canvases.images, batch, names, true=true)
    walk, truth = walks.traversal, canvases.boxes[:, 0].numpy()
    judged = judge_paths(walk.path, walk.boxes[:, -1], truth, canvases.images.shape[-1])
    return replace(walks, hits=tuple(judged[:, 1].tolist()))


def map_images(
    store: Store, dataset: str = "digits", *, count: int = 3, budget: str = "quick",
    data_dir: Path | None = None, runs_dir: Path | None = None, seed: int = 0,
) -> Maps:  # fmt: skip
    """The first test image of each of some classes, under figure A4's methods.

    Args:
        dataset: "digits" or "tiny_imagenet", whose first classes are taken, or "imagenet", whose
            classes are the figure's own and whose models have published weights.
        count: classes.

    Raises:
        OSError: no such run, no weights, or no images; the message says what makes them.
        ValueError: images of other classes than a run was trained on.
    """
    if dataset == "imagenet":
        return map_imagenet(data_dir or data_root() / "imagenet", count=count)
    plan = plan_figure8(budget, dataset, seed)
    recipe = plan[FIGURE_A4[0]]
    runs = [] if budget == "smoke" else [find_run(plan[r], store, runs_dir) for r in FIGURE_A4]
    named = [run for run in runs if run.class_names]
    images = load_dataset(
        dataset, "test", data_dir=data_dir, image_size=recipe.image_size,
        class_names=named[0].class_names if named else None, **recipe.dataset_options,
    )  # fmt: skip
    for run in named:
        check_same_classes(images, run.class_names, run.run_id)
    firsts = [int((images.labels == k).nonzero()[0]) for k in images.labels.unique()[:count]]
    chosen, labels = images.images[firsts], images.labels[firsts]
    batch = normalize(chosen, images.mean, images.std)
    maps = {}
    for row in FIGURE_A4:
        model = (
            plan[row].build_model(images.num_classes).eval() if budget == "smoke"
            else load_run(plan[row], store, runs_dir)
        )  # fmt: skip
        maps[row], _ = maps_of(METHODS[row], model, [(batch, labels)], count, progress=False)
    titles = tuple(images.class_names[k].split(",")[0] for k in labels)
    return Maps(to_pixels(chosen), titles, images.boxes[firsts].numpy().astype(int), maps)


def walk_imagenet(imagenet_dir: Path | str) -> Walks:
    """Figure 8, left, by the published NesT-S: the first validation image of each of its classes.

    Images are whole, resized to 224x224, and walked for the predicted class.

    Raises:
        OSError: no images, or no weights.
    """
    images, firsts = _first_images(imagenet_dir, FIGURE8_CLASSES)
    model, facts = load_published_row(WALKING_ROW)
    pixels, batch = _whole(images, firsts, facts["view"])
    return _walk(model, pixels, batch, imagenet_names(), true=FIGURE8_CLASSES)


def walk_photo(path: Path) -> Walks:
    """A photo, whole and resized to 224x224, and the published NesT-S's walks of its top classes.

    Raises:
        OSError: no such image, or no weights.
    """
    image = decode_image(read_regular(path, MAX_IMAGE_BYTES), str(path))
    model, facts = load_published_row(WALKING_ROW)
    pixels = squeeze(image, facts["view"]["whole_image_at"], facts["view"]["interpolation"])
    batch = normalize(pixels[None], facts["view"]["mean"], facts["view"]["std"])
    with torch.no_grad():
        classes = model(batch)[0].topk(TOP_CLASSES).indices
    pixels, batch = (x.expand(TOP_CLASSES, -1, -1, -1) for x in (pixels, batch))
    return _walk(model, pixels, batch, imagenet_names(), classes)


def map_imagenet(imagenet_dir: Path | str, *, count: int = len(FIGURE_A4_CLASSES)) -> Maps:
    """Figure A4 by published weights: the first validation image of each of its classes.

    Raises:
        OSError: no images, no boxes, or no weights.
    """
    classes = dict(list(FIGURE_A4_CLASSES.items())[:count])
    images, firsts = _first_images(imagenet_dir, classes)
    images = images.select(torch.tensor(firsts))
    labels = class_numbers(images, 1000)[images.labels]
    maps = {}
    for row in FIGURE_A4:
        model, facts = load_published_row(row)
        pixels, batch = _whole(images, range(len(images)), facts["view"])
        maps[row], _ = maps_of(METHODS[row], model, [(batch, labels)], len(images), progress=False)
    boxes = load_imagenet_boxes(images, pixels.shape[-1])
    return Maps(to_pixels(pixels), tuple(classes), boxes, maps)


def _first_images(
    imagenet_dir: Path | str, classes: Mapping[str, str]
) -> tuple[FolderSet, list[int]]:
    images = load_dataset("imagenet", "test", data_dir=imagenet_dir, partial=True)
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
    size, interpolation = view["whole_image_at"], view["interpolation"]
    pixels = torch.stack([squeeze(images.read_image(i), size, interpolation) for i in indices])
    return pixels, normalize(pixels, view["mean"], view["std"])


def _planted_model(budget: str) -> nn.Module:
    if budget == "smoke":
        return get_recipe(RECIPE).build_model(num_classes=10).eval()
    return load_trained(RECIPE, seed=PLANTED_SEED)


def _walk(
    model: NesT, images: Tensor, batch: Tensor, class_names: Sequence[str],
    classes: Tensor | None = None, *, true: Iterable[str] | None = None,
) -> Walks:  # fmt: skip
    """Walk images (B, 3, H, W), `batch` as the model takes them, for classes or those predicted.

    With `true` a wrong prediction's name says the true one too.
    """
    traversal = gradcat(model, batch, classes)
    names = [class_names[k] for k in traversal.classes]
    if true is not None:
        names = [n if n == t else f"{n} (true: {t})" for n, t in zip(names, true, strict=True)]
    return Walks(to_pixels(images), traversal, tuple(names))
