"""Plain class activation maps of NesT (Zhou et al., arXiv 1512.04150), which are exact.

NesT pools the last map by its mean before a linear head, so the head can as well be applied to
every place, and a class's logit is the mean of its map.
"""

import reprlib
from collections.abc import Sequence
from numbers import Integral

import numpy as np
import torch
from torch import Tensor, nn

from nestlib.models.mode import running_mode
from nestlib.models.nest import NesT

Classes = int | Sequence[int] | Tensor | None


def cam(model: NesT, images: Tensor, classes: Classes = None) -> Tensor:
    """The share of every place in a class's logit, bias included: (B, h, w), mean = the logit.

    Args:
        images: (B, 3, H, W), normalised as the model was trained, of the model's type.
        classes: one for all images or one per image; None takes the predicted ones.

    Raises:
        TypeError: no NesT, or one whose logits are not one linear map of the last map's mean.
        ValueError: images that do not fit or are not finite, a model without classes, or classes
            that are not among the model's.
    """
    check_nest(model)
    check_classifier(model)
    check_images(model, images)
    with running_mode(model, training=False), torch.no_grad():
        features = model.forward_features(images)
        logits = model.forward_head(features)
        check_logits(model, images, logits)
        return exact_maps(model, features, logits, classes)


def exact_maps(model: nn.Module, features: Tensor, logits: Tensor, classes: Classes) -> Tensor:
    """The head at every place of features (B, C, h, w), for a class: (B, h, w), mean = the logit.

    Raises:
        TypeError: the means of all classes' maps are not the logits (B, K).
        ValueError: logits that are not finite, or what `choose_classes` says.
    """
    chosen = choose_classes(classes, logits)
    inexact = (
        f"{type(model).__name__}'s logits are not its head's means over the last map, so it has no "
        "exact CAM; use gradcam or gradcat, which take any head"
    )
    places = features.permute(0, 2, 3, 1)  # (B, h, w, C)
    try:
        maps = model.get_classifier()(places.flatten(0, 2)).unflatten(0, places.shape[:3])
    except RuntimeError as error:  # a head of another width, behind another pooling
        raise TypeError(inexact) from error
    if not is_near(maps.mean((1, 2)), logits, maps.abs().amax((1, 2, 3))):
        check_finite(logits)
        raise TypeError(inexact)
    return maps[torch.arange(len(maps), device=maps.device), :, :, chosen]


def is_near(values: Tensor, logits: Tensor, scale: Tensor) -> bool:
    """Whether values equal the logits (B, K) up to rounding, given the sizes (B,) of their terms.

    Loose enough for TF32 and bf16; another pooling or a layer between is far outside.
    """
    if values.shape != logits.shape:
        return False
    bound = torch.finfo(values.dtype).eps ** (1 / 3) * scale
    return bool(((values - logits).abs().amax(1) <= bound).all())


@torch.no_grad()
def check_logits(model: nn.Module, images: Tensor, logits: Tensor) -> None:
    """Raise TypeError if a call of the model gives other logits (B, K) than its parts gave.

    Costs another pass only where `forward` is overridden or hooked.
    """
    parts = ("forward", "forward_features", "forward_head")
    owners = {next(c for c in type(model).__mro__ if part in vars(c)) for part in parts}
    hooked = model._forward_hooks or model._forward_pre_hooks or "forward" in vars(model)
    if len(owners) == 1 and not hooked:
        return
    called = model(images)
    if not isinstance(called, Tensor) or not is_near(called, logits, logits.abs().amax(1)):
        check_finite(logits)
        raise TypeError(
            f"{type(model).__name__} gives other outputs when called than forward_head gives of "
            "forward_features, so its last map does not explain them; override those two, and "
            "remove hooks that change its outputs"
        )


def check_nest(model: object) -> None:
    """Raise TypeError if a model is not a NesT, whose hierarchies of blocks are needed."""
    for name in ("_orig_mod", "module"):  # of torch.compile, DataParallel and DDP
        if isinstance(getattr(model, name, None), NesT):
            raise TypeError(f"this is a NesT within a {type(model).__name__}; give its .{name}")
    if not isinstance(model, NesT):
        raise TypeError(
            f"{type(model).__name__} has no hierarchies of blocks; give a nestlib NesT "
            "(timm's weights load by nestlib.models.weights)"
        )


def check_classifier(model: nn.Module) -> None:
    """Raise ValueError if a timm model has no classes and ends at the pooled features."""
    if isinstance(model.get_classifier(), nn.Identity):
        raise ValueError(
            f"this {type(model).__name__} has no classes (num_classes=0); build it with "
            "num_classes=1 or more, or call reset_classifier"
        )


def check_images(model: nn.Module, images: Tensor) -> None:
    """Raise ValueError if images are not a batch (B, C, H, W) that the first kernel takes."""
    kernel = next((m for m in model.modules() if isinstance(m, nn.Conv2d)), None)
    if kernel is None:
        return
    channels, dtype = kernel.in_channels, kernel.weight.dtype
    valid = f"give a tensor (B, {channels}, H, W) of one image or more, normalised, as {dtype}"
    if not isinstance(images, Tensor):
        raise ValueError(f"images are a {type(images).__name__}; {valid}")
    if images.ndim != 4 or images.shape[1] != channels or not len(images):
        raise ValueError(f"images have shape {tuple(images.shape)}; {valid}")
    cast = (
        images.is_floating_point() and images.itemsize < 8
        and torch.is_autocast_enabled(images.device.type)
    )  # fmt: skip
    if images.dtype != dtype and not cast:
        raise ValueError(f"images are a {type(images).__name__} of {images.dtype}; {valid}")


def check_finite(logits: Tensor) -> None:
    """Raise ValueError if an image's logits (B, K) are not all finite."""
    wrong = ~logits.isfinite().all(1)
    if wrong.any():
        raise ValueError(
            f"image {int(wrong.nonzero()[0])} gives logits that are NaN or infinite; give finite "
            "images and a model of finite weights"
        )


def choose_classes(classes: Classes, logits: Tensor) -> Tensor:
    """The given classes as (B,) int64 on the device of logits (B, K); None: the predicted ones.

    Raises:
        ValueError: another number of classes than images, or what `read_classes` says.
    """
    B, K = logits.shape
    if classes is None:
        return logits.argmax(1)
    chosen = read_classes(classes, K)
    if chosen.shape not in ((), (B,)):
        raise ValueError(
            f"classes have shape {tuple(chosen.shape)}; give one for all or one for each of the "
            f"{B} images"
        )
    return chosen.expand(B).clone().to(logits.device)  # cloned: gradients take no inference tensor


def read_classes(classes: int | Sequence[int] | Tensor, num_classes: int) -> Tensor:
    """Classes as int64, in the shape that they are given in.

    Raises:
        ValueError: one that is not a whole number, or outside 0 to num_classes - 1.
    """
    valid = f"one of the model's {num_classes}: 0 to {num_classes - 1}"
    try:
        values = classes.tolist() if isinstance(classes, (Tensor, np.ndarray)) else classes
        given = np.array(values, dtype=object)  # in one of numbers a bool would become a 1
    except (TypeError, ValueError, RuntimeError) as error:
        raise ValueError(f"classes cannot be read ({error}); give numbers, each {valid}") from error
    for one in given.flat:
        if not _is_whole(one):
            raise ValueError(f"class {reprlib.repr(one)} is not a whole number, {valid}")
        if not 0 <= one < num_classes:
            raise ValueError(f"class {reprlib.repr(one)} is not {valid}")
    return torch.tensor([int(one) for one in given.flat], dtype=torch.int64).reshape(given.shape)


def _is_whole(value: object) -> bool:
    if isinstance(value, Tensor):
        value = value.tolist() if value.ndim == 0 and not value.is_meta else None
    return isinstance(value, Integral) and not isinstance(value, bool)
