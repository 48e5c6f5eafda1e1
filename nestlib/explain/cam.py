"""Plain class activation maps of NesT (Zhou et al., arXiv 1512.04150), which are exact.

NesT pools the last map by its mean before a linear head, so the head can as well be applied to
every place, and a class's logit is the mean of its map.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from nestlib.models.mode import running_mode
from nestlib.models.nest import NesT

Classes = int | Sequence[int] | Tensor | None


def cam(model: NesT, images: Tensor, classes: Classes = None) -> Tensor:
    """The share of every place in a class's logit, bias included: (B, h, w), mean = the logit.

    Args:
        images: (B, 3, H, W), normalised as the model was trained.
        classes: one for all images or one an image; None takes the predicted ones.

    Raises:
        TypeError: no NesT.
        ValueError: images that do not divide into blocks, or classes that the model has not.
    """
    check_nest(model)
    with running_mode(model, training=False), torch.no_grad():
        maps = model.head(model.forward_features(images).permute(0, 2, 3, 1))  # (B, h, w, K)
    chosen = choose_classes(classes, maps.mean((1, 2)))
    return maps[torch.arange(len(maps), device=maps.device), :, :, chosen]


def check_nest(model: object) -> None:
    """Raise TypeError for a model that has no hierarchies of blocks to look into."""
    if not isinstance(model, NesT):
        raise TypeError(
            f"{type(model).__name__} has no hierarchies of blocks; give a nestlib NesT "
            "(timm's weights load by nestlib.models.weights)"
        )


def choose_classes(classes: Classes, logits: Tensor) -> Tensor:
    """Classes asked for as (B,) int64 on the device of logits (B, K); the predicted ones for None.

    Raises:
        ValueError: another number of classes than images, or one outside 0 to K - 1.
    """
    B, K = logits.shape
    if classes is None:
        return logits.argmax(1)
    chosen = torch.as_tensor(classes, dtype=torch.int64, device=logits.device)
    chosen = chosen.expand(B) if chosen.ndim == 0 else chosen
    if chosen.shape != (B,):
        raise ValueError(
            f"classes have shape {tuple(chosen.shape)}; give one for all or one for each of the "
            f"{B} images"
        )
    outside = chosen[(chosen < 0) | (chosen >= K)].tolist()
    if outside:
        raise ValueError(f"class {outside[0]} is not one of the model's {K}: 0 to {K - 1}")
    return chosen
