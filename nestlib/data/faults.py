"""Images that cannot be read: each is named, counted once and left out, up to a limit."""

import logging
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

log_line = logging.getLogger(__name__)

# One image in so many may be unreadable before a run of days is given up. A damaged shard of
# ImageNet holds about as many, and a thousandth of the images fewer moves no accuracy by as much
# as another seed does; more than that says that the store is broken, not an image.
ONE_IN = 1000
NAMED = 20  # of them in messages and records


class UnreadableImages(OSError):
    """More images than the limit cannot be read; the message names them."""


@dataclass
class Faults:
    """The images of a set that could not be read so far, by name, with the reason.

    An image met again (in another epoch, or in steps that a resumed run repeats) is the same one.
    """

    limit: int
    found: dict[str, str] = field(default_factory=dict)

    def add(self, found: Mapping[str, str]) -> None:
        """Note images that could not be read; each reason is logged once.

        Raises:
            UnreadableImages: more than `limit` in all.
        """
        reasons = set(self.found.values())
        for name, reason in found.items():
            if name not in self.found and reason not in reasons:
                log_line.warning("left out: %s (%s)", name, reason)
                reasons.add(reason)
        self.found |= found
        if len(self.found) > self.limit:
            shown = "".join(f"\n  - {name}: {self.found[name]}" for name in self._shown())
            raise UnreadableImages(
                f"images that cannot be read: {len(self.found)}; the option skip_limit allows "
                f"{self.limit}:{shown}"
            )

    def describe(self) -> dict[str, Any]:
        """A summary for a record: how many images, and the first of them by name."""
        return {"count": len(self.found), "limit": self.limit, "names": self._shown()}

    def _shown(self) -> list[str]:
        return sorted(self.found)[:NAMED]
