"""What a bar of a plan is called, in the paper's words: by its figure and its key there."""

from collections.abc import Callable

from nestbook.report.aggregations import name_design
from nestbook.sweeps.plans import Key
from nestlib.models.aggregation import AGGREGATIONS

ATTENTIONS = {
    "multi_head": "multi-head (equal parameters)",
    "multi_query": "multi-query (published code)",
}
BOTH_PLANES = "both planes"


def name_bar(figure: str, key: Key) -> str:
    """Such as "Ours, image plane" or "NesT-B, 100 epochs", without its data set."""
    return _NAMES[figure](*key) if figure in _NAMES else ", ".join(key)


def name_plane(plane: str, design: str) -> str:
    """A design whose planes are one and the same function is of both."""
    return f"{plane} plane" if AGGREGATIONS[design].crosses else BOTH_PLANES


def _figure4(panel: str, model: str, step: str) -> str:
    return f"{model}, {step} epochs" if panel == "epochs" else _figure_a2(panel, model, step)


def _figure_a2(_: str, model: str, step: str) -> str:
    if step == "none":
        return f"{model}, all augmentation"
    return f"{model} without {', '.join(step.split())}"


def _aggregation(figure: str) -> Callable[[str, str, str], str]:
    return lambda _, plane, design: f"{name_design(design, figure)}, {name_plane(plane, design)}"


def _table_a2(_: str, student: str, *words: str) -> str:
    match words:
        case ("alone",):
            return f"{student} alone"
        case teacher, form if student == "teacher":
            return f"{teacher} itself, {form} augmentation"
        case teacher, form, kind, *more:
            return ", ".join((f"{student} by {teacher}", form, f"{kind} labels", *more))


def _table_a3(attention: str, heads: str) -> str:
    return f"{attention.replace('_', '-')}, {heads} head{'s' * (heads != '1')}"


_NAMES: dict[str, Callable[..., str]] = {
    "figure4": _figure4, "figure_a2": _figure_a2,
    "figure5": _aggregation("5"), "figure_a1": _aggregation("A1"),
    "figure6": lambda _, size, word, depth: f"{size}, {word.replace('=', ' = ')}, {depth}",
    "table_a2": _table_a2,
    "table_a3": _table_a3,
    "training_images": lambda model, number: f"{model}, {number} images",
}  # fmt: skip
