"""What a recipe does to its training batches; nestlib.data.augment carries it out."""

import math
from dataclasses import dataclass

MAX_MAGNITUDE = 10  # of RandAugment, whose levels are shares of it

_RANGES = {
    "crop_padding": (0, math.inf),
    "flip": (0, 1),
    "rand_augment_ops": (0, math.inf),
    "rand_augment_magnitude": (0, MAX_MAGNITUDE),
    "rand_augment_magnitude_std": (0, math.inf),
    "rand_augment_prob": (0, 1),
    "color_jitter": (0, 1.25),  # beyond it contrast and saturation could turn negative
    "erase_prob": (0, 1),
    "mixup_alpha": (0, math.inf),
    "cutmix_alpha": (0, math.inf),
    "mix_prob": (0, 1),
    "label_smoothing": (0, 1),
}
_WHOLE = ("crop_padding", "rand_augment_ops")


@dataclass(frozen=True)
class Augmentation:
    """What is done to a training batch. The defaults are the published NesT recipe for CIFAR.

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

    crop_padding: int = 2
    flip: float = 0.5
    rand_augment_ops: int = 2
    rand_augment_magnitude: float = 9.0
    rand_augment_magnitude_std: float = 0.5
    rand_augment_prob: float = 0.5
    color_jitter: float = 0.0
    erase_prob: float = 0.25
    mixup_alpha: float = 0.8
    cutmix_alpha: float = 1.0
    mix_prob: float = 1.0
    mix_weights: str = "published"
    label_smoothing: float = 0.1

    def __post_init__(self):
        for name, (low, high) in _RANGES.items():
            value = getattr(self, name)
            kinds = int if name in _WHOLE else (int, float)
            valid = isinstance(value, kinds) and not isinstance(value, bool)
            if not (valid and math.isfinite(value) and low <= value <= high):
                number = "a whole number" if name in _WHOLE else "a number"
                upper = f" and at most {high}" if high < math.inf else ""
                raise ValueError(f"{name} = {value!r} must be {number} of at least {low}{upper}")
        if self.mix_weights != "published":
            raise ValueError(f"mix_weights = {self.mix_weights!r} must be 'published'")

    @classmethod
    def none(cls) -> "Augmentation":
        """Leave images and labels as they are."""
        return cls(
            crop_padding=0, flip=0.0, rand_augment_ops=0, erase_prob=0.0, mix_prob=0.0,
            label_smoothing=0.0,
        )  # fmt: skip
