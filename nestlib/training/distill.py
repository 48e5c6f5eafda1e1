"""Distillation from a trained teacher, as DeiT's (arXiv 2012.12877, section 4) without its token.

DeiT's second head, on a distillation token, learns from the teacher and the first from the labels;
both are averaged in the end. NesT has no token, so its one head learns from both.
"""

import math
import re
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

KINDS = ("hard", "soft")
_RUN_ID = re.compile(r"(.+)-s(\d+)-[0-9a-f]{8}")


@dataclass(frozen=True)
class Distillation:
    """Who teaches, and how.

    teacher: the run id of the teacher's training; its record names the weights by SHA-256.
    kind: "hard" learns the teacher's most probable class as a label, "soft" its distribution.
    weight: the teacher's share of the loss; the labels' is 1 - weight.
    temperature: divides both sides' logits; soft alone.

    Raises:
        ValueError: a field out of its range.
    """

    teacher: str
    kind: str = "hard"
    weight: float = 0.5
    temperature: float = 1.0

    def __post_init__(self):
        if not _RUN_ID.fullmatch(self.teacher):
            raise ValueError(
                f"teacher {self.teacher!r} is no run id; give one as records have it: "
                "<recipe>-s<seed>-<8 hex digits>"
            )
        if self.kind not in KINDS:
            raise ValueError(f"kind {self.kind!r} of distillation is not one of {', '.join(KINDS)}")
        if not 0 <= self.weight <= 1:
            raise ValueError(f"weight {self.weight!r} of distillation must be in [0, 1]")
        if not 0 < self.temperature < math.inf:
            raise ValueError(f"temperature {self.temperature!r} must be more than 0 and finite")
        if self.kind == "hard" and self.temperature != 1:
            raise ValueError(
                f"temperature {self.temperature!r}: the hard kind has none, leave it at 1.0"
            )

    @property
    def teacher_recipe(self) -> tuple[str, int]:
        """Name and seed of the teacher's recipe."""
        name, seed = _RUN_ID.fullmatch(self.teacher).groups()
        return name, int(seed)


def hard(teacher: str) -> Distillation:
    """DeiT's hard-label distillation: half the loss is the teacher's."""
    return Distillation(teacher, "hard", weight=0.5)


def soft(teacher: str) -> Distillation:
    """Soft distillation by the values that DeiT takes for it: weight 0.1, temperature 3."""
    return Distillation(teacher, "soft", weight=0.1, temperature=3.0)


class Teacher:
    """A frozen model in evaluation mode that sees the student's own, augmented images."""

    def __init__(self, model: nn.Module, distillation: Distillation, device: torch.device):
        self.model = model.to(device).eval().requires_grad_(False)
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
