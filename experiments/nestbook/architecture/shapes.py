"""What shapes a NesT's parts take in and give out, traced by hooks in a real forward pass."""

import torch
from torch import nn

from nestlib.models.nest import NesT

Shape = tuple[int, ...]


def trace_shapes(model: NesT) -> dict[str, tuple[Shape, Shape]]:
    """{module's name: (shape in, shape out)} of one image of `model.img_size`, in order of calls.

    Traced are the children that figure 1 names, the modules of each list one by one, and each
    aggregation's convolution, which sees the plane. Shapes keep their batch axis of 1.
    """
    shapes: dict[str, tuple[Shape, Shape]] = {}

    def note(name: str):
        def hook(module: nn.Module, inputs: tuple, output: torch.Tensor) -> None:
            shapes[name] = tuple(inputs[0].shape), tuple(output.shape)

        return hook

    wanted = {"patch_embed", "norm", "head"}
    for level in range(model.num_hierarchies):
        wanted |= {f"hierarchies.{level}", f"aggregations.{level}", f"aggregations.{level}.conv"}
    handles = [
        module.register_forward_hook(note(name))
        for name, module in model.named_modules() if name in wanted
    ]  # fmt: skip
    device = next(model.parameters()).device
    try:
        with torch.no_grad():
            model(torch.zeros(1, 3, *model.img_size, device=device))
    finally:
        for handle in handles:
            handle.remove()
    return shapes
