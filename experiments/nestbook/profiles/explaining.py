"""What it costs to look into a NesT: GradCAT and class maps beside one pass of training.

B images of a batch, K classes.
"""

from collections.abc import Callable, Mapping
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor
from tqdm import tqdm

from nestbook.benchmarks.rates import time_steps
from nestlib.explain.class_maps import class_maps
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
    with tqdm(
        total=len(models) * rounds, desc="explaining", unit="round", disable=not progress
    ) as bar:
        for name, model in models.items():
            model.to(device)
            images = torch.randn(batch_size, 3, *model.img_size, device=device)
            classes = torch.arange(batch_size, device=device) % model.num_classes
            times = {
                step: partial(time_steps, partial(run, model, images, classes), device)
                for step, run in STEPS.items()
            }
            for time_n in times.values():  # warm-up
                time_n(1)
            seconds: dict[str, list[float]] = {step: [] for step in STEPS}
            for _ in range(rounds):
                for step, time_n in times.items():
                    seconds[step].append(time_n(1))
                bar.update()
            rows.append({"model": name, "image_size": list(model.img_size), "seconds": seconds})
    settings = {
        "device": str(device), "precision": "fp32", "rounds": rounds, "batch_size": batch_size,
        "threads": torch.get_num_threads(), "torch": torch.__version__,
    }  # fmt: skip
    return {"settings": settings, "rows": rows}
