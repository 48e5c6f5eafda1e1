"""The cost of explaining a NesT: GradCAT and class maps beside one pass of training.

B images of a batch, K classes.
"""

from collections.abc import Callable, Mapping
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor

from nestbook.benchmarks.rates import describe_settings, take_turns, time_step
from nestbook.class_maps import class_maps
from nestlib.explain.gradcat import gradcat
from nestlib.models.nest import NesT


def train_pass(model: NesT, images: Tensor, classes: Tensor) -> None:
    """One forward and one backward pass, to the gradients of all weights."""
    loss = F.cross_entropy(model(images), classes)
    torch.autograd.grad(loss, list(model.parameters()))


STEPS: dict[str, Callable[[NesT, Tensor, Tensor], object]] = {
    "forward and backward": train_pass,
    "GradCAT": gradcat,
    "CAM": partial(class_maps, "cam"),
    "Grad-CAM": partial(class_maps, "gradcam"),
    "Grad-CAM++": partial(class_maps, "gradcam++"),
}


def explaining_costs(
    models: Mapping[str, NesT], batch_size: int, *, device: torch.device, rounds: int = 5,
    progress: bool = True,
) -> dict:  # fmt: skip
    """Time every step of STEPS on the same batch of noise, in turn, in fp32.

    Args:
        models: by name, at their own image size.
        batch_size: B.

    Returns:
        JSON-ready {"settings": {...}, "rows": [...]}; a row holds model, image_size, and seconds:
        {step: [a round's seconds, ...]}.
    """
    rows = []
    for name, model in models.items():
        model.to(device)
        images = torch.randn(batch_size, 3, *model.img_size, device=device)
        classes = torch.arange(batch_size, device=device) % model.num_classes
        steps = {
            step: partial(time_step, partial(run, model, images, classes), device)
            for step, run in STEPS.items()
        }
        seconds = take_turns(steps, rounds, title=name, progress=progress)
        rows.append({"model": name, "image_size": list(model.img_size), "seconds": seconds})
    settings = describe_settings(device, "fp32", rounds, batch_size=batch_size)
    return {"settings": settings, "rows": rows}
