"""Judge explanations on real images, where no truth is planted: does a class lose more if the leaf
block that an explanation chooses is blanked than if another one is?"""

from collections.abc import Sequence
from pathlib import Path

from nestbook.evaluations.grounding import describe_wins, faithfulness
from nestbook.evaluations.planted import WAYS
from nestbook.evaluations.standing import find_score, keep_records
from nestbook.records import add_record
from nestlib.explain.cam import check_nest
from nestlib.recipes.named import get_recipe
from nestlib.recipes.recipe import GanRecipe, to_dict
from nestlib.records import Record, Store, describe_environment
from nestlib.runs.staleness import find_fresh_seeds
from nestlib.runs.subsets import load_split
from nestlib.runs.weights import find_weights
from nestlib.training.devices import resolve_device

BLANKED_WAYS = ("GradCAT, positive, place, normed", "CAM", "Grad-CAM")


def run_blanking(
    name: str, store: Store, *, seed: int = 0, data_dir: Path | None = None,
    runs_dir: Path | None = None, committed: bool = False, progress: bool = True,
    again: bool = False,
) -> Record:  # fmt: skip
    """Blank a block in each of the test images of a recipe's run, for each of BLANKED_WAYS.

    The other block is drawn at random among the rest, the same for every way but where that way
    chose it. A found record of the weights that the run has is loaded, unless `again`.

    Args:
        name: a recipe of a NesT whose run is finished.

    Raises:
        FileNotFoundError: no run, no weights of it, or no images.
        TypeError: no NesT.
        ValueError: no such recipe, or one of a generator.
    """
    recipe = get_recipe(name, seed=seed)
    if isinstance(recipe, GanRecipe):
        raise ValueError(f"{name} trains a generator, which does not classify")
    found = "" if again else find_score(record_id(recipe.run_id), store, runs_dir)
    if isinstance(found, Record):
        return found
    weights = find_weights(recipe, store, runs_dir)
    model = weights.load()
    check_nest(model)
    trained = weights.record
    images = load_split(
        recipe, "test", recipe.test_limit, data_dir=data_dir, class_names=trained.class_names
    )
    environment = describe_environment(resolve_device("cpu"))
    environment["weights"] = {recipe.run_id: trained.summary["weights_sha256"]}
    ways = {}
    for way in BLANKED_WAYS:
        counts = faithfulness(model, images, WAYS[way], seed=seed, progress=progress)
        ways[way] = counts | describe_wins(counts["wins"], len(images))
    return add_record(
        store, environment, committed=committed, images=images, kind="explain",
        run_id=record_id(recipe.run_id),
        recipe=to_dict(recipe) | ({"rounded_to": "fp16"} if weights.rounded else {}),
        summary={
            "images": len(images), "ways": ways, "test/top1": trained.summary["test/top1"],
            "leaf_pixels": model.patch_size * model.block_size,
            "leaves": (recipe.image_size // (model.patch_size * model.block_size)) ** 2,
        },
    )  # fmt: skip


def record_id(run_id: str) -> str:
    """The id of the record that `run_blanking` writes of a run."""
    return f"blanking/{run_id}"


def find_blanking(store: Store, names: Sequence[str]) -> list[Record]:
    """The records that stand for fresh runs of recipes, whatever their seed."""
    runs = [run for name in names for run in find_fresh_seeds(get_recipe(name), store)]
    return keep_records(find_score(record_id(run.run_id), store) for run in runs)
