"""What to run: one frozen recipe per training run, by name."""

from nestlib.recipes.named import get_recipe
from nestlib.recipes.recipe import GanRecipe, Recipe, with_overrides

__all__ = ["GanRecipe", "Recipe", "get_recipe", "with_overrides"]
