"""The paper's number for a bar of a plan, where it prints one of that very run."""

from typing import NamedTuple

from nestbook import paper
from nestbook.sweeps.plans import Key
from nestlib.models.aggregation import DEFAULT
from nestlib.recipes.recipe import Recipe

_COLUMNS = {"cifar10": 0, "cifar100": 1}  # of Table A2


class Printed(NamedTuple):
    """Top-1 (%), and where the paper prints it."""

    value: float
    where: str

    @property
    def digits(self) -> int:
        """Behind the point, as printed; Table 1 alone keeps a last zero."""
        return 2 if self.where == "Table 1" else len(str(self.value).partition(".")[2])


def find_printed(figure: str, recipe: Recipe, key: Key) -> Printed | None:
    """What the paper prints of a bar; None where it prints nothing, so of all narrow models.

    Bars whose recipe is a row of Table 1 or 2 have that row's number, as figures 5, 6, A1 and A2
    print none of their own.
    """
    if recipe.budget == "small" or recipe.dataset not in ("cifar10", "cifar100", "imagenet"):
        return None
    return _FINDERS[figure](recipe.dataset, key)


def _row(dataset: str, name: str) -> Printed | None:
    if dataset == "imagenet":
        return Printed(paper.TABLE2[name].top1, "Table 2") if name in paper.TABLE2 else None
    return Printed(getattr(paper.TABLE1[name], dataset), "Table 1")


def _figure4(dataset: str, key: Key) -> Printed | None:
    panel, model, step = key
    if panel == "removed":
        column = ("DeiT-B", "NesT-T").index(model)
        where = "figure 4" + (", from DeiT's own paper" if model == "DeiT-B" else "")
        return Printed(paper.FIGURE4_REMOVED[step][column], where)
    if model == "NesT-B" and int(step) in paper.FIGURE4_EPOCHS:
        return Printed(paper.FIGURE4_EPOCHS[int(step)], "abstract and section 4.2")
    return _row(dataset, model) if step == "300" else None


def _aggregation(dataset: str, key: Key) -> Printed | None:
    return _row(dataset, "NesT-T") if key[1:] == ("image", DEFAULT) else None


def _figure6(dataset: str, key: Key) -> Printed | None:
    if key == ("cifar10", "T", "S=2", "depth 3"):
        return Printed(paper.FIGURE6_NEST3_TINY[0], "section 4.1")
    return _row(dataset, f"NesT-{key[1]}") if key[2:] == ("S=1", "depth 4") else None


def _figure_a2(dataset: str, key: Key) -> Printed | None:
    return _row(dataset, key[1]) if key[2] == "none" else None


def _table_a2(dataset: str, key: Key) -> Printed | None:
    value, column = None, _COLUMNS[dataset]
    match key[1:]:
        case "teacher", teacher, form if dataset == "cifar100":
            value = paper.TABLE_A2_TEACHERS[teacher][form == "strong"]
        case student, "alone":
            value = paper.TABLE_A2_TAUGHT[student][column]
        case "NesT-B", teacher, form, "hard" if dataset == "cifar100":
            value = paper.TABLE_A2_NEST_BASE[teacher][form == "strong"]
        case student, "PN-164-48", "standard", "hard":
            value = paper.TABLE_A2_TAUGHT[student][2 + column]
        case _, _, _, _, "1000 epochs":
            return Printed(paper.TABLE_A2_1000_EPOCHS, "appendix A.3")
    return value and Printed(value, "Table A2")


def _table_a3(dataset: str, key: Key) -> Printed | None:
    return Printed(paper.TABLE_A3[int(key[1])], "Table A3") if key[0] == "multi_head" else None


_FINDERS = {
    "figure4": _figure4, "figure5": _aggregation, "figure6": _figure6, "figure_a1": _aggregation,
    "figure_a2": _figure_a2, "table_a2": _table_a2, "table_a3": _table_a3,
}  # fmt: skip
