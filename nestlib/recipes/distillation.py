"""Which teacher a recipe learns from, and how; nestlib.training.distill carries it out."""

import re
from dataclasses import dataclass
from typing import Annotated

from nestlib.arguments import NAME, Matches, Range, Share, check_fields
from nestlib.choices import check_choice

KINDS = ("hard", "soft")
_RUN_ID = rf"({NAME})-s([0-9]{{1,19}})-[0-9a-f]{{8}}"
_WORDS = "that is a run id as records have it: <recipe>-s<seed>-<8 hex digits>"


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

    teacher: Annotated[str, Matches(_RUN_ID, _WORDS)]
    kind: str = "hard"
    weight: Share = 0.5
    temperature: Annotated[float, Range(0, 1000, "(]")] = 1.0

    def __post_init__(self):
        check_fields(self, "distillation")
        check_choice("kind of distillation", self.kind, KINDS)
        if self.kind == "hard" and self.temperature != 1:
            raise ValueError(
                f"temperature {self.temperature!r}: the hard kind does not use it; leave it at 1.0"
            )

    @property
    def teacher_recipe(self) -> tuple[str, int]:
        """Name and seed of the teacher's recipe."""
        name, seed = re.fullmatch(_RUN_ID, self.teacher).groups()
        return name, int(seed)
