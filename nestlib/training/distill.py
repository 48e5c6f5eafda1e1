"""Distillation from a trained teacher, as DeiT's (arXiv 2012.12877, section 4) without its token.

DeiT's second head, on a distillation token, learns from the teacher and the first from the labels;
both are averaged in the end. NesT has no token, so its one head learns from both.
"""

import copy

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nestlib.recipes.distillation import Distillation


class Teacher:
    """A frozen model in evaluation mode that sees the student's own, augmented images.

    It is not a part of the student, so the student's `train()` does not reach its batch norms, as
    that of vit-pytorch's wrapper (1.26) reaches its teacher's.
    """

    def __init__(self, model: nn.Module, distillation: Distillation, device: torch.device):
        # A copy: the caller's model keeps its device, its mode and what of it is trained.
        self.model = copy.deepcopy(model).to(device).eval().requires_grad_(False)
        self.distillation = distillation

    def compute_loss(self, images: Tensor, logits: Tensor, targets: Tensor) -> Tensor:
        """Images (B, 3, H, W), the student's logits (B, K), targets (B, K) or (B,) -> ()."""
        with torch.no_grad():
            taught = self.model(images)
        return distillation_loss(logits, taught, targets, self.distillation)


def distillation_loss(
    logits: Tensor, taught: Tensor, targets: Tensor, distillation: Distillation
) -> Tensor:
    """(1 - weight) * cross-entropy with the labels + weight * the teacher's part, mean over images.

    Hard: cross-entropy with the teacher's argmax (DeiT, equation 3). Soft: temperature^2 times the
    KL divergence from the teacher's to the student's distribution (equation 2).

    Args:
        logits, taught: (B, K), of student and teacher.
        targets: (B,) classes or (B, K) shares of them.
    """
    labels = F.cross_entropy(logits, targets)
    if distillation.kind == "hard":
        lesson = F.cross_entropy(logits, taught.argmax(1))
    else:
        T = distillation.temperature
        ours, theirs = (F.log_softmax(x / T, 1) for x in (logits, taught))
        lesson = T**2 * F.kl_div(ours, theirs, reduction="batchmean", log_target=True)
    return (1 - distillation.weight) * labels + distillation.weight * lesson
