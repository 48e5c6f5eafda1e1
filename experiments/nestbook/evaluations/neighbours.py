"""Is a generated image a copy? Its nearest training image, pixel by pixel."""

import torch
from torch import Tensor

from nestlib.data.containers import FolderSet, ImageSet

CHUNK = 256


def find_nearest(images: Tensor, reference: ImageSet | FolderSet) -> tuple[Tensor, Tensor]:
    """The nearest of all reference images to each of images (N, 3, H, W) uint8.

    Near in pixels alone: a copy that is moved by two pixels is far.

    Returns:
        Root mean square differences (N,) float32, in steps of 0..255, and indices (N,).

    Raises:
        ValueError: images of another size than the reference's.
    """
    if images.shape[-2:] != reference.image_size:
        raise ValueError(
            f"images of {tuple(images.shape[-2:])} pixels against {reference.image_size}; give "
            "equal sizes"
        )
    flat = images.float().flatten(1)
    order = torch.arange(len(reference))
    # Differences one by one: by a matrix product small distances would be lost to rounding.
    exact = {"compute_mode": "donot_use_mm_for_euclid_dist"}
    distances = torch.cat([
        torch.cdist(part.cpu().float().flatten(1), flat, **exact)
        for part, _ in reference.iterate(order, CHUNK, seed=0)
    ])  # (reference, N)  # fmt: skip
    nearest, indices = distances.min(0)
    return nearest / flat.shape[1] ** 0.5, indices
