"""Recipes, times and parameters of any value are right, or refused by the name of their field."""

import json
from decimal import Decimal
from functools import cache
from pathlib import Path

import nbformat
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from nestbook.notebook import ParameterError, check_parameters, declared_parameters
from nestlib.cli.options import parse_seconds
from nestlib.recipes.named import get_recipe
from nestlib.recipes.recipe import from_dict, to_dict, with_overrides
from nestlib.runs.cluster import parse_minutes

NAMES = "digits/nest_narrow", "digits/deit_narrow", "digits/wrn_narrow", "digits/gan_nest_narrow"
SCALARS = st.one_of(
    st.none(), st.booleans(), st.integers(), st.integers(-2, 70), st.floats(),
    st.floats(-1, 2), st.text(max_size=20),
    st.sampled_from(["../a", "/a", "bf16", "sgd", "cifar10", "NN", "plain", 10**400, 2**63, 2**14]),
)  # fmt: skip
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(st.text(max_size=8), inner),
    max_leaves=6,
)


@cache
def named(name):
    return to_dict(get_recipe(name))


@st.composite
def changed_recipes(draw):
    """The values of a named recipe, one of them changed, and the name of what was changed."""
    values = json.loads(json.dumps(named(draw(st.sampled_from(NAMES)))))
    field = draw(st.sampled_from(sorted(values)))
    inner, value = values[field], draw(VALUES)
    if isinstance(inner, dict) and inner and draw(st.integers(0, 9)):
        field = draw(st.sampled_from(sorted(inner)))
        inner[field] = value
    else:
        values[field] = value
    return field, values


def check_recipe(recipe):
    """It survives a round trip through JSON, and its run stays inside of the runs' folder."""
    again = from_dict(json.loads(json.dumps(to_dict(recipe))))
    assert again == from_dict(to_dict(recipe)) and again.run_id == recipe.run_id
    folder = (Path("/runs") / recipe.run_id).resolve()
    assert folder.is_relative_to("/runs") and folder != Path("/runs")
    assert recipe.run_id.isprintable()


@given(changed_recipes())
def test_a_recipe_of_any_value_is_right_or_names_the_field(change):
    field, values = change
    try:
        recipe = from_dict(values)
    except ValueError as error:
        said = str(error)
        # Two fields may not fit each other: then one of them, or what they build, is named.
        assert field in said or "recipe " in said, said
        assert len(said) < 1500
    else:
        check_recipe(recipe)


@given(
    st.sampled_from(NAMES),
    st.sampled_from(["epochs", "lr_per_256", "seed", "name", "augmentation.flip", "steps", "flip",
                     "model_options.depth", "model_options", "distillation.teacher"]) | st.text(),
    st.text(max_size=30) | VALUES.map(json.dumps),
)  # fmt: skip
@example("digits/nest_narrow", "lr_per_256", "1" + "0" * 400)
@example("digits/nest_narrow", "name", "../../evil")
@example("digits/nest_narrow", "distillation.teacher", "../x-s0-01234567")
def test_an_override_of_any_text_is_right_or_a_value_error(name, field, text):
    recipe = from_dict(named(name))
    try:
        check_recipe(with_overrides(recipe, [f"{field}={text}"]))
    except ValueError as error:
        assert str(error) and len(str(error)) < 2000


UNITS = {"": 1, "s": 1, "m": 60, "h": 3600}
TIMES = st.one_of(
    st.text(max_size=12), st.from_regex(r"\A[0-9]{0,10}(\.[0-9]{1,12})? ?[smhd]?\Z"),
    st.floats().map(str), st.integers().map(str),
)  # fmt: skip


@given(TIMES)
@example("9e99h")
@example("999999999h")
def test_a_time_is_refused_or_what_its_number_and_unit_say(text):
    try:
        seconds = parse_seconds("--max-time", text)
    except ValueError as error:
        assert str(error).startswith("--max-time is ")
        assert "must be a time of more than 0" in str(error) or "is not a time" in str(error)
    else:
        number = text.strip().rstrip("smh")
        read = Decimal(number) * UNITS[text.strip()[len(number) :]]
        assert seconds == pytest.approx(float(read)) and 0 < seconds <= 10**8


@given(st.text(max_size=12) | st.from_regex(r"\A([0-9]{1,3}-)?[0-9]{1,3}:[0-9]{2}:[0-9]{2}\Z"))
def test_a_time_of_slurms_is_refused_or_its_minutes(text):
    try:
        minutes = parse_minutes(text)
    except ValueError as error:
        assert str(error).startswith("--time is ")
    else:
        days, _, clock = text.strip().rpartition("-")
        parts = [int(part) for part in clock.split(":")]
        seconds = parts[0] * 60 if len(parts) == 1 else sum(
            part * unit for part, unit in zip(parts, (3600, 60, 1), strict=True)
        )  # fmt: skip
        assert minutes == -(-(seconds + 86400 * int(days or 0)) // 60)


@cache
def declared_cells():
    paths = sorted((Path(__file__).parents[1] / "experiments").glob("*.ipynb"))
    cells = [cell for path in paths for cell in nbformat.read(path, as_version=4).cells]
    return [c.source for c in cells if "parameters" in c.metadata.get("tags", [])]


@given(st.data(), SCALARS)
def test_a_parameter_of_any_value_passes_or_is_named(data, value):
    cell = data.draw(st.sampled_from(declared_cells()))
    name = data.draw(st.sampled_from(sorted(declared_parameters(cell))))
    written = f"float({str(value)!r})" if isinstance(value, float) else repr(value)
    try:
        check_parameters([cell, f"# Parameters\n{name} = {written}\n"])
    except ParameterError as error:
        assert f"parameter {name!r}" in str(error) and "valid parameters:" in str(error)
    else:
        kind = declared_parameters(cell)[name].type
        assert type(value).__name__ in (kind, "int" if kind == "float" else kind)
        assert isinstance(value, (str, bool)) or 0 <= value < float("inf")
