"""What other installed packages add to nestlib: models, generators, recipes, commands.

A package names one module under the entry point group "nestlib.extensions" of its pyproject.toml.
nestlib asks that module for what it adds, by functions without arguments, when it is needed:
`models()`, `generators()` and `recipes()` return a dictionary each, by name.
"""

from functools import cache
from importlib.metadata import entry_points
from types import ModuleType

GROUP = "nestlib.extensions"


@cache
def extensions() -> tuple[ModuleType, ...]:
    """The modules of all installed extensions, in the order of their names."""
    points = sorted(entry_points(group=GROUP), key=lambda point: point.name)
    return tuple(point.load() for point in points)


def extended(own: dict, what: str) -> dict:
    """`own` with all that the extensions' functions called `what` return, by name."""
    added = [getattr(module, what)() for module in extensions() if hasattr(module, what)]
    return {name: value for part in (own, *added) for name, value in part.items()}
