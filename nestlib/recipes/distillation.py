"""Which teacher a recipe learns from, and how; nestlib.training.distill carries it out."""

import math
import re
from dataclasses import dataclass

from nestlib.choices import check_choice

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
        check_choice("kind of distillation", self.kind, KINDS)
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
