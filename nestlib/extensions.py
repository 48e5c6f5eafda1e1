"""What other installed packages add to nestlib: models, generators, recipes, commands.

A package names one module under the entry point group "nestlib.extensions" of its pyproject.toml.
nestlib asks that module for what it adds, when it is needed, by functions without arguments. Each
returns a dictionary by name, and none has to be there:

- `models()` and `generators()`: what builds each, for `create_model` and `create_generator`;
- `published()`: timm's name of the published weights of a model;
- `recipes()`: what each is, and its differences from the defaults of its data set;
- `expected()`: what the paper reports of a recipe, a few words;
- `commands()`: functions, each a command of `nest` by its name;
- `records()`: what records must hold, a nestlib.record_checks.Form by the beginning of their ids;
- `queues()`: what `nest submit` queues beside recipes, as nestlib.cli.runs.find_jobs takes it.

A name stands for one thing: what is nestlib's own, or another extension's, is not replaced.
"""

from functools import cache
from importlib.metadata import entry_points
from types import ModuleType

GROUP = "nestlib.extensions"
_REGISTERED: list[ModuleType] = []


def register(module: ModuleType) -> None:
    """Add an extension that is not installed, such as one imported from a checkout."""
    _REGISTERED.append(module)
    extensions.cache_clear()


@cache
def extensions() -> tuple[ModuleType, ...]:
    """The modules of all extensions, each once: the installed ones by name, then the registered."""
    points = sorted(entry_points(group=GROUP), key=lambda point: point.name)
    return tuple(dict.fromkeys([*(point.load() for point in points), *_REGISTERED]))


def extended(own: dict, what: str) -> dict:
    """`own` and everything that the extensions' functions called `what` return, by name.

    Raises:
        ValueError: an extension adds a name that nestlib or another extension has.
    """
    merged = dict(own)
    for module in extensions():
        added = getattr(module, what, dict)()
        twice = sorted(merged.keys() & added.keys())
        if twice:
            raise ValueError(
                f"{module.__name__} adds {what} that nestlib or another extension has: "
                f"{', '.join(twice)}; rename them there, or uninstall one of the two packages"
            )
        merged |= added
    return merged
