"""All that NesT says about one image: the walk and the map of each class, by one call.

Shapes: K classes explored, L = num_hierarchies - 1 steps, h x w the top map in patches.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from nestbook.class_maps import class_maps
from nestlib.explain.cam import check_classifier, check_images, check_nest, read_classes
from nestlib.explain.gradcat import Traversal, gradcat
from nestlib.models.mode import running_mode
from nestlib.models.nest import NesT

LIKELIEST = 10  # classes explored unasked; a model of no more shows all of its classes


@dataclass(frozen=True)
class Exploration:
    """One image, K classes.

    Attributes:
        traversal: K rows, a class each.
        maps: (K, h, w) float32, their exact class activation maps, whose means are the logits.
        probabilities: (num_classes,) float32, softmax of the logits.
    """

    traversal: Traversal
    maps: np.ndarray
    probabilities: np.ndarray


def explore_image(
    model: NesT, image: Tensor, classes: Sequence[int] = (), *, likeliest: int = LIKELIEST
) -> Exploration:
    """GradCAT and CAM of one image for several classes at once.

    Args:
        image: (3, H, W), normalised as the model was trained.
        classes: what is asked for beside the likeliest.
        likeliest: how many classes are explored unasked, the likeliest first; all of them, in their
            own order, where the model has no more.

    Raises:
        TypeError: no NesT.
        ValueError: no single image, a likeliest below 1, or what `gradcat` refuses.
    """
    check_nest(model)
    check_classifier(model)
    if type(likeliest) is not int or likeliest < 1:
        raise ValueError(f"likeliest is {likeliest}; give a whole number of classes, 1 or more")
    if getattr(image, "ndim", None) != 3:
        shape = tuple(getattr(image, "shape", ()))
        raise ValueError(f"image has shape {shape}; give one of (3, H, W)")
    check_images(model, image[None])
    with running_mode(model, training=False), torch.no_grad():
        logits = model(image[None])
    num_classes = logits.shape[1]
    asked = read_classes(classes, num_classes).flatten().tolist()
    if num_classes <= likeliest:
        chosen = list(range(num_classes))
    else:
        chosen = list(dict.fromkeys([*logits[0].topk(likeliest).indices.tolist(), *asked]))
    images = image.expand(len(chosen), *image.shape)
    return Exploration(
        gradcat(model, images, chosen),
        class_maps("cam", model, images, chosen).float().cpu().numpy(),
        logits[0].float().softmax(0).cpu().numpy(),
    )
