"""GradCAT: gradient-based class-aware tree traversal (the paper's Algorithm 1).

From the root, whose four children are the quadrants of the top map, to one leaf block: at each
hierarchy the step goes to the child with the highest averaged activation, the map times its
gradient, within the part of the map that the steps before have chosen.

Shapes: B images, L = num_hierarchies - 1 steps, h x w a hierarchy's map in patches.
"""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from nestlib.choices import check_choice
from nestlib.explain.cam import (
    Classes,
    check_classifier,
    check_finite,
    check_images,
    check_logits,
    check_nest,
    choose_classes,
)
from nestlib.models.blocks import block_grids, unblock
from nestlib.models.mode import running_mode, taking_gradients
from nestlib.models.nest import NesT

SIGNS = {"positive": 1.0, "negative": -1.0}
WEIGHTINGS = {
    "place": "every place's activation is weighted by its own gradient, as Algorithm 1 is written",
    "partition": "by the gradient's mean over the partition alpha, as GradCAM has it",
}
MAPS = {
    "outputs": "what a hierarchy puts out",
    "normed": "likewise, but the top one after the last LayerNorm",
    "inputs": "what goes into a hierarchy, position embeddings included",
}


@dataclass(frozen=True)
class Traversal:
    """Paths of B images, root first.

    Attributes:
        path: (B, L) int64, the child chosen, 0 to 3 in reading order of its 2 x 2.
        activations: (B, L, 2, 2) float32, h-hat of the four children of each step.
        boxes: (B, L, 4) int64, x0, y0, x1, y1 in pixels of the chosen nodes, both ends inside; the
            last is the leaf block.
        classes: (B,) int64.
        logits: (B, num_classes) float32.
    """

    path: np.ndarray
    activations: np.ndarray
    boxes: np.ndarray
    classes: np.ndarray
    logits: np.ndarray


def gradcat(
    model: NesT, images: Tensor, classes: Classes = None, *, sign: str = "positive",
    weighting: str = "place", maps: str = "normed",
) -> Traversal:  # fmt: skip
    """Walk down the tree of each image for a class, by one forward and one backward pass.

    alpha_(l-1) = A_(l-1)[n*], which Algorithm 1 must mean by its last line. For several classes of
    one image repeat the image.

    Args:
        images: (B, 3, H, W), normalised as the model was trained, of the model's type.
        classes: one for all images or one per image; None takes the predicted ones.
        sign: of the gradient. The paper writes -dY/dalpha and says that it points where the logit
            grows; it is +dY/dalpha that does ("positive").
        weighting: one of WEIGHTINGS.
        maps: what A_l is, one of MAPS; the paper leaves it open. The last LayerNorm does not see
            the scale of its input, so with "outputs" and "place" the top step compares zeros.

    Raises:
        TypeError: no NesT, or one that is called otherwise than its parts.
        ValueError: one hierarchy alone, an odd number of patches to halve, images that do not fit
            or are not finite, a model without classes, an unknown class, weights made in
            inference mode, or an unknown option.
    """
    check_nest(model)
    check_classifier(model)
    check_images(model, images)
    check_choice("sign", sign, SIGNS)
    check_choice("weighting", weighting, WEIGHTINGS)
    check_choice("maps", maps, MAPS)
    size = tuple(images.shape[-2:])
    grids = block_grids(size, model.patch_size, model.block_size, model.num_hierarchies)
    _check_halves(model, grids)
    logits, chosen, layers, gradients = _differentiate(model, images, classes, maps)
    rows = torch.arange(len(images), device=images.device)
    corner = torch.zeros(len(images), 2, dtype=torch.int64, device=images.device)  # y, x in nodes
    path, activations, boxes = [], [], []
    for step, level in enumerate(range(model.num_hierarchies - 1, 0, -1), start=1):
        A, gradient = (unblock(x[level], grids[level]) for x in (layers, gradients))  # (B, h, w, C)
        if weighting == "partition":
            part = A.shape[1] >> (step - 1), A.shape[2] >> (step - 1)
            gradient = _average(gradient, 2 ** (step - 1))
            gradient = gradient.repeat_interleave(part[0], 1).repeat_interleave(part[1], 2)
        nodes = _average(SIGNS[sign] * A * gradient, 2**step).mean(-1)  # (B, 2**step, 2**step)
        corner = 2 * corner
        children = torch.stack(
            [nodes[rows, corner[:, 0] + i // 2, corner[:, 1] + i % 2] for i in range(4)], 1
        )
        child = children.argmax(1)
        corner = corner + torch.stack([child // 2, child % 2], 1)
        edge = torch.tensor([size[0] >> step, size[1] >> step], device=images.device)
        top = corner * edge
        boxes.append(torch.cat([top.flip(1), (top + edge - 1).flip(1)], 1))
        path.append(child)
        activations.append(children.reshape(-1, 2, 2))
    return Traversal(
        torch.stack(path, 1).cpu().numpy(),
        torch.stack(activations, 1).float().cpu().numpy(),
        torch.stack(boxes, 1).cpu().numpy(),
        chosen.cpu().numpy(),
        logits.float().cpu().numpy(),
    )


def _differentiate(
    model: NesT, images: Tensor, classes: Classes, maps: str
) -> tuple[Tensor, Tensor, dict[int, Tensor], dict[int, Tensor]]:
    """Logits, classes, maps (B, T, N, C) of the levels above the leaves, and dY/d maps."""
    with running_mode(model, training=False), taking_gradients(model):
        images = images.detach().clone()  # a clone of what was made in inference mode is not of it
        # Maps need a graph even where the weights are frozen.
        logits, layers = model.forward_with_features(images.requires_grad_())
        check_logits(model, images, logits)
        check_finite(logits)
        chosen = choose_classes(classes, logits)
        A = dict(enumerate(layers[maps][1:], start=1))
        score = logits.gather(1, chosen[:, None]).sum()
        gradients = torch.autograd.grad(score, list(A.values()))
    A = {level: x.detach() for level, x in A.items()}
    return logits.detach(), chosen, A, dict(zip(A, gradients))


def _average(plane: Tensor, nodes: int) -> Tensor:
    """(B, h, w, C) -> mean of each of nodes x nodes parts, (B, nodes, nodes, C)."""
    B, h, w, C = plane.shape
    return plane.reshape(B, nodes, h // nodes, nodes, w // nodes, C).mean((2, 4))


def _check_halves(model: NesT, grids: list[tuple[int, int]]) -> None:
    if model.num_hierarchies < 2:
        raise ValueError("a NesT of one hierarchy has no tree to walk; use two or more")
    down, across = (n * model.block_size for n in grids[-1])  # patches of the top map
    if down % 2 or across % 2:
        unit = model.patch_size * 2 ** (model.num_hierarchies - 1)
        near = "x".join(str(unit * (n + n % 2)) for n in (down, across))
        raise ValueError(
            f"the top map has {down}x{across} patches, and its quadrants halve both edges; use a "
            f"block_size or an image with even ones (nearest: images of {near})"
        )
