"""The test images and classes that trained classifiers expect: size, crop, scale, numbering.

s pixels along a view's edge, C classes of a data set, K outputs of a model.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache

import torch
from PIL import Image
from timm.data import ImageNetInfo
from torch import Tensor

from nestlib.data.containers import FolderSet, ImageSet, Triple
from nestlib.data.decoding import centre_crop

INTERPOLATIONS = ("bilinear", "bicubic")


@dataclass(frozen=True)
class View:
    """The form of images that a model expects.

    The short side is resized to image_size / crop_pct pixels, the middle image_size square is cut
    out, and pixels in 0..1 are normalised by mean and std. An image of image_size square stays as
    it is under crop_pct 1.

    Raises:
        ValueError: a field out of its range; the message says what would be valid.
    """

    image_size: int
    crop_pct: float
    interpolation: str
    mean: Triple
    std: Triple

    def __post_init__(self):
        for name, holds, valid in (
            ("image_size", self.image_size >= 1, "1 pixel or more"),
            ("crop_pct", 0 < self.crop_pct <= 1, "more than 0 and at most 1"),
            ("interpolation", self.interpolation in INTERPOLATIONS, " or ".join(INTERPOLATIONS)),
        ):
            if not holds:
                raise ValueError(f"view: {name} is {getattr(self, name)!r}, must be {valid}")

    def crop(self, image: Image.Image) -> Tensor:
        """timm's evaluation transform without normalisation: an RGB image to (3, s, s) uint8.

        Published accuracies were measured with it. Bytes are what workers hand over four times
        faster than floats; `normalize` is for the device.
        """
        return centre_crop(image, self.image_size, self.crop_pct, self.interpolation)


@cache
def imagenet_numbers() -> dict[str, int]:
    """The output of ImageNet-1k models for each class, by the class's wnid."""
    return {wnid: number for number, wnid in enumerate(ImageNetInfo().label_names())}


def class_numbers(
    images: ImageSet | FolderSet, num_outputs: int, *, own: bool = False
) -> Tensor:  # fmt: skip
    """The output of a model for each class of a set: (C,) int64.

    Where the class folders are wnids of ImageNet-1k, 1,000 outputs are its classes, of which the
    set may hold a part, as are folders called 0 to 999. Otherwise a class's output is its place in
    the set.

    Args:
        own: the model was trained on the set's own classes, whatever they are called.

    Raises:
        ValueError: outputs that are neither ImageNet's nor the set's own.
    """
    ids, known = images.identifiers, imagenet_numbers()
    strange = [name for name in ids if name not in known]
    if num_outputs == len(known) and not strange:
        return torch.tensor([known[name] for name in ids])
    if num_outputs == len(ids):
        if num_outputs == len(known) and not own and list(ids) != [str(n) for n in range(len(ids))]:
            raise ValueError(
                f"the folders of {images.name} are called {', '.join(ids[:3])}, ..., which does "
                "not tell their ImageNet-1k classes; name them by their wnids, or 0 to "
                f"{len(known) - 1} in the order of the wnids"
            )
        return torch.arange(len(ids))
    counts = f"the model has {num_outputs} outputs and {images.name} has {len(ids)} classes"
    if num_outputs < len(ids) or len(strange) == len(ids):
        raise ValueError(
            f"{counts}; use one trained on these classes, or leave out the folders of those that "
            "it does not know"
        )
    if num_outputs == len(known):
        raise ValueError(
            f"{counts}; ImageNet-1k does not have {', '.join(strange[:5])} ({len(strange)} in "
            "all): remove these folders"
        )
    raise ValueError(
        f"{counts} named by wnids; use a model of ImageNet-1k ({len(known)} outputs) or one "
        f"trained on these {len(ids)} classes"
    )


class TransformedImages:
    """A data set for workers: index to (the image by each of `transforms`, its label).

    A transform takes an RGB image of its own size.
    """

    def __init__(
        self, images: ImageSet | FolderSet, transforms: Sequence[Callable[[Image.Image], Tensor]]
    ):
        self.images, self.transforms = images, transforms

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> tuple[list[Tensor], int]:
        image = self.images.read_image(index)
        return [transform(image) for transform in self.transforms], int(self.images.labels[index])
