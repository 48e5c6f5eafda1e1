"""Which sizes fit a peer's layers: checks that name what would fit."""

from collections.abc import Sequence


def check_multiple(name: str, size: int, factor_name: str, factor: int) -> None:
    """Raise ValueError unless `size` is a multiple of `factor`."""
    if size % factor:
        raise ValueError(
            f"{name} {size} is not a multiple of {factor_name} {factor}; use "
            f"{near_multiples(size, factor)} or another {factor_name}"
        )


def near_multiples(size: int, factor: int) -> str:
    """The positive multiples of `factor` around `size`: "28 or 32"."""
    below = size - size % factor
    return " or ".join(str(value) for value in (below, below + factor) if value)


def check_stages(**per_stage: Sequence[int]) -> None:
    """Raise ValueError unless all lists have one value per stage."""
    if len({len(values) for values in per_stage.values()}) != 1:
        lists = ", ".join(f"{name} {tuple(values)}" for name, values in per_stage.items())
        raise ValueError(f"{lists} must name the same stages: one value per stage each")


def check_heads(widths: Sequence[int], num_heads: Sequence[int]) -> None:
    """Raise ValueError unless every stage's heads divide its width."""
    for stage, (width, heads) in enumerate(zip(widths, num_heads)):
        if width % heads:
            raise ValueError(
                f"num_heads {heads} does not divide stage {stage}'s width {width}; "
                "use a divisor of it, or another width"
            )
