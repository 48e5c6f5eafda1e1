"""The augmentation settings of a recipe; nestlib.data.augment applies them."""

from dataclasses import dataclass
from typing import Annotated

from nestlib.arguments import Matches, Range, Share, check_fields

MAX_MAGNITUDE = 10  # of RandAugment, whose levels are shares of it
MAX_LAYERS = 16  # of RandAugment: as many as it has operations

Alpha = Annotated[float, Range(0, 1000)]


@dataclass(frozen=True)
class Augmentation:
    """Augmentation of a training batch. The defaults are those of the published recipe for CIFAR.

    crop_padding: black pixels added on each side before a crop back to H x W; 0: no crop.
    flip: probability of a left-right flip.
    rand_augment_*: layers of RandAugment (0: none), their magnitude of 10 with its standard
        deviation, and the probability of each layer; see nestlib.data.rand_augment.
    color_jitter: SimCLR strength; 0: none, 0.3 in the published ImageNet recipe.
    erase_prob: probability that a box is replaced by normal noise, after normalisation.
    mixup_alpha, cutmix_alpha: 0 switches one off; of two, each batch draws one with equal chance.
    mix_prob: probability that a batch is mixed.
    mix_weights: "published" alone: each image draws its own partner's share u^(1 / alpha) / 2, u
        uniform, and CutMix boxes lie wholly inside the image, as the authors' code does it. The
        MixUp and CutMix papers (arXiv 1710.09412, 1905.04899) draw otherwise. The field stays
        because the ids of runs are hashed over it.
    label_smoothing: share of the label spread evenly over all classes.

    Raises:
        ValueError: a field is outside its range; the message names field, value and range.
    """

    crop_padding: Annotated[int, Range(0, 4096)] = 2
    flip: Share = 0.5
    rand_augment_ops: Annotated[int, Range(0, MAX_LAYERS)] = 2
    rand_augment_magnitude: Annotated[float, Range(0, MAX_MAGNITUDE)] = 9.0
    rand_augment_magnitude_std: Annotated[float, Range(0, MAX_MAGNITUDE)] = 0.5
    rand_augment_prob: Share = 0.5
    # Beyond 1.25 contrast and saturation could turn negative.
    color_jitter: Annotated[float, Range(0, 1.25)] = 0.0
    erase_prob: Share = 0.25
    mixup_alpha: Alpha = 0.8
    cutmix_alpha: Alpha = 1.0
    mix_prob: Share = 1.0
    mix_weights: Annotated[str, Matches("published", "'published'")] = "published"
    label_smoothing: Share = 0.1

    def __post_init__(self):
        check_fields(self, "augmentation")

    @classmethod
    def none(cls) -> "Augmentation":
        """No augmentation: images and labels stay as they are."""
        return cls(
            crop_padding=0, flip=0.0, rand_augment_ops=0, erase_prob=0.0, mix_prob=0.0,
            label_smoothing=0.0,
        )  # fmt: skip
