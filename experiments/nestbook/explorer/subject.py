"""Look into a NesT: prepared images for a page, and your own in a live notebook.

A subject is a model with all that exploring it needs. It is a recipe's model as it was trained here
(nestlib.runs.weights), on images of its own test set, or a NesT with published ImageNet weights, on
scikit-image's photos.
"""

import difflib
from dataclasses import dataclass

import numpy as np
import torch
from PIL import Image
from timm.models import get_pretrained_cfg

from nestbook.evaluations.classifiers import fetch_weights
from nestbook.evaluations.examples import PLANTED_SEED
from nestbook.evaluations.planted import CANVASES, RECIPE
from nestbook.evaluations.published import imagenet_names, view_of
from nestbook.explorer.answer import explore_image
from nestbook.explorer.static import Exhibit, Explorer, Picture
from nestbook.explorer.uploads import Upload, fit_to_view
from nestbook.peers import PUBLISHED
from nestlib.choices import LONG, check_choice
from nestlib.data.augment import normalize
from nestlib.data.containers import ImageSet
from nestlib.data.datasets import dataset_info, load_dataset
from nestlib.data.views import View
from nestlib.explain.cam import check_nest
from nestlib.models import create_model, list_models
from nestlib.models.nest import NEST_MODELS, NesT
from nestlib.recipes.named import get_recipe, list_recipes
from nestlib.recipes.recipe import Recipe
from nestlib.runs.weights import load_trained

PUBLISHED_NESTS = tuple(name for name in PUBLISHED if name in NEST_MODELS)
PHOTOS = {"chelsea": "a cat", "coffee": "a cup", "rocket": "a rocket", "astronaut": "an astronaut"}
_CAPTIONS = {"four": "Four digits", "small": "One small digit"}


@dataclass(frozen=True)
class Subject:
    """A NesT, the names of its classes, how it wants its images, and pictures to begin with.

    Raises:
        TypeError: no NesT.
        ValueError: another number of names than the model has classes.
    """

    title: str
    model: NesT
    class_names: tuple[str, ...]
    view: View
    pictures: tuple[Picture, ...] = ()

    def __post_init__(self):
        check_nest(self.model)
        if len(self.class_names) != self.model.num_classes:
            raise ValueError(
                f"{len(self.class_names)} class names for a model of {self.model.num_classes} "
                "classes; give one name per class"
            )

    def explore(self, picture: Picture, asked: int | None = None) -> Exhibit:
        """The likeliest classes of a picture, and the one asked for, which is then shown first.

        Raises:
            ValueError: a class that the model does not have, or pixels of a size that it refuses.
        """
        pixels = torch.from_numpy(np.array(picture.pixels)).permute(2, 0, 1)
        images = normalize(pixels[None], self.view.mean, self.view.std)
        classes = [*picture.truth, *([] if asked is None else [asked])]
        return Exhibit(picture, explore_image(self.model, images[0], classes), asked)

    def find_class(self, text: str) -> int | None:
        """The class of a name, in any case, or of a number; None of an empty text.

        Raises:
            ValueError: neither; the message lists near names.
        """
        text = str(text).strip()[:LONG]
        if not text:
            return None
        names = [name.casefold() for name in self.class_names]
        if text.casefold() in names:
            return names.index(text.casefold())
        count = len(names)
        if text.removeprefix("-").isdecimal():
            if 0 <= int(text) < count:
                return int(text)
            raise ValueError(f"class {text} is not one of the model's {count}: 0 to {count - 1}")
        near = [name for name in names if name.startswith(text.casefold())]
        near += difflib.get_close_matches(text.casefold(), names, n=3, cutoff=0.5)
        shown = ", ".join(self.class_names[names.index(name)] for name in near[:4])
        raise ValueError(
            f"no class {text!r}; {f'did you mean {shown}? ' if near else ''}give a name of the "
            f"list, or a number from 0 to {count - 1}"
        )


def load_subject(
    name: str = RECIPE, *, seed: int = PLANTED_SEED, num_images: int = 6, budget: str = "quick"
) -> Subject:
    """A model by name, with its first pictures.

    Args:
        name: a recipe of a NesT, or one of PUBLISHED_NESTS (which needs a network once).
        seed: of the recipe's run.
        num_images: how many pictures; the first ones of the test set, none is picked by hand.
        budget: "smoke" takes random weights: it shows the path, no result.

    Raises:
        ValueError: an unknown name, a model without hierarchies, or less than one image.
        OSError: weights or images that are not there; the message says how to get them.
        ImportError: photos without scikit-image.
    """
    if num_images < 1:
        raise ValueError(f"num_images is {num_images}; give 1 or more")
    if name in PUBLISHED_NESTS:
        return _load_published(name, num_images, budget)
    valid = f"a recipe of a NesT such as {RECIPE}, or one of {', '.join(PUBLISHED_NESTS)}"
    if name not in list_models():
        known = [*list_recipes(), *PUBLISHED_NESTS]
        check_choice("model", name, known, f"choose {valid} (`nest recipes` lists them)")
        recipe = get_recipe(name, seed=seed)
        if recipe.model in NEST_MODELS:
            return _load_recipe(recipe, num_images, budget)
    raise ValueError(f"{name} has no hierarchies of blocks, or no weights; choose {valid}")


def show_prepared(subject: Subject) -> Explorer:
    """The subject's pictures, to be explored in the page itself, with or without a kernel."""
    exhibits = [subject.explore(picture) for picture in subject.pictures]
    return Explorer(exhibits, subject.class_names, subject.title)


def _load_recipe(recipe: Recipe, num_images: int, budget: str) -> Subject:
    info = dataset_info(recipe.dataset)
    if budget == "smoke":
        torch.manual_seed(recipe.seed)
        model, title = recipe.build_model(info.num_classes).eval(), "random weights (smoke)"
    else:
        model, title = load_trained(recipe.name, seed=recipe.seed), recipe.run_id
    sets = _test_sets(recipe, num_images)
    (first, *_) = sets.values()
    view = View(recipe.image_size, 1.0, "bilinear", info.mean, info.std)
    pictures = tuple(
        _picture(images, index, caption) for caption, images in sets.items()
        for index in range(min(len(images), num_images))
    )  # fmt: skip
    return Subject(title, model, first.class_names, view, pictures)


def _test_sets(recipe: Recipe, num_images: int) -> dict[str, ImageSet]:
    """Test sets by what their captions begin with; the planted canvases in two halves."""
    if recipe.name == RECIPE:
        halves = {"four": (num_images + 1) // 2, "small": num_images // 2}
        return {
            _CAPTIONS[name]: load_dataset(
                "digits", "test", image_size=recipe.image_size, canvas="plain",
                **CANVASES[name] | {"num_images": half},
            )
            for name, half in halves.items() if half
        }  # fmt: skip
    options = recipe.dataset_options
    if recipe.dataset == "digits":
        options = {**options, "num_images": num_images, "image_size": recipe.image_size}
    return {dataset_info(recipe.dataset).title: load_dataset(recipe.dataset, "test", **options)}


def _picture(images: ImageSet, index: int, caption: str) -> Picture:
    truth, labels = {}, [int(images.labels[index])]
    if images.boxes is not None:
        found = zip(images.box_labels[index].tolist(), images.boxes[index].tolist())
        truth = {label: tuple(box) for label, box in found if label >= 0}
        labels = list(truth)
    names = ", ".join(images.class_names[label] for label in labels)
    pixels = np.asarray(images.read_image(index))
    return Picture(f"{caption} (test {index}): {names}", pixels, (), truth)


def _load_published(name: str, num_images: int, budget: str) -> Subject:
    view = view_of(get_pretrained_cfg(PUBLISHED[name], allow_unregistered=False))
    options = {"num_classes": 1000, "img_size": view.image_size}
    pictures = _photos(view)[:num_images]
    if budget == "smoke":
        torch.manual_seed(0)
        model, title = create_model(name, **options).eval(), "random weights (smoke)"
    else:
        fetch_weights(PUBLISHED[name])  # says in words why it cannot
        model, title = create_model(name, pretrained=True, **options).eval(), PUBLISHED[name]
    return Subject(title, model, imagenet_names(), view, pictures)


def _photos(view: View) -> tuple[Picture, ...]:
    """Photos that scikit-image's wheel holds."""
    try:
        from skimage import data
    except ImportError as error:
        raise ImportError("its photos need `pip install scikit-image`") from error
    pictures = []
    for name, what in PHOTOS.items():
        pixels, said = fit_to_view(Upload(Image.fromarray(getattr(data, name)()), []), view)
        pictures.append(Picture(f"scikit-image's {name}, {what}", pixels, said))
    return tuple(pictures)
