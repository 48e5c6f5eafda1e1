"""GradCAT, CAM and their like on planted truth: narrow NesTs on the digits, and their record."""

import sys
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
from tqdm import tqdm

from nestbook.class_maps import class_maps
from nestbook.evaluations.grounding import (
    Way,
    describe_wins,
    faithfulness,
    grounding,
    point_by_gradcat,
    point_by_map,
)
from nestbook.evaluations.standing import NO_RECORD, find_score, keep_records
from nestbook.records import add_record
from nestbook.sweeps.runner import collect
from nestlib.data.containers import ImageSet
from nestlib.data.datasets import load_dataset
from nestlib.explain.cam import cam
from nestlib.explain.gradcat import MAPS, SIGNS, WEIGHTINGS
from nestlib.models.nest import NesT
from nestlib.models.weights import hash_weights
from nestlib.project import find_project_root
from nestlib.recipes.named import get_recipe
from nestlib.recipes.recipe import Recipe, to_dict
from nestlib.records import Record, Store, describe_environment
from nestlib.runs.weights import load_run, weights_path
from nestlib.training.devices import resolve_device

RECIPE = "digits/nest_planted"
MODELS = 3  # of seeds 0, 1, 2
CANVASES = {
    "four": dict(digits_per_image=4, num_images=128),
    "small": dict(digit_edges=(0.18, 0.26), num_images=512),
}
SMOKE_IMAGES = 8
WAYS: dict[str, Way] = {
    f"GradCAT, {sign}, {weighting}, {maps}": point_by_gradcat(
        sign=sign, weighting=weighting, maps=maps
    )
    for maps in MAPS
    for weighting in WEIGHTINGS
    for sign in SIGNS
} | {
    "CAM": point_by_map(cam),
    "Grad-CAM": point_by_map(partial(class_maps, "gradcam")),
    "Grad-CAM++": point_by_map(partial(class_maps, "gradcam++")),
}


def run_planted(
    store: Store, *, budget: str = "quick", num_models: int = MODELS,
    runs_dir: Path | None = None, committed: bool = False, progress: bool = True,
    again: bool = False,
) -> Record:  # fmt: skip
    """Judge every way on both kinds of canvases with each seed's model, and write a record.

    A record of as many models and of their runs' weights is not made again, unless `again` asks
    for it. Models whose weights are not in `runs_dir` are trained first, minutes each on a CPU;
    they resume from their checkpoints.

    Raises:
        ValueError: less than one model.
    """
    if num_models < 1:
        raise ValueError(f"num_models is {num_models}; give 1 or more")
    runs_dir = runs_dir or find_project_root() / "runs"
    seeds = range(1 if budget == "smoke" else num_models)
    anew = again or budget == "smoke"
    found = NO_RECORD if anew else find_score(record_id(budget), store, runs_dir)
    if isinstance(found, Record) and found.summary["seeds"] == list(seeds):
        return found
    recipes = [get_recipe(RECIPE, seed=seed) for seed in seeds]
    environment = describe_environment(resolve_device("cpu"))
    models = (
        {0: recipes[0].build_model(10)} if budget == "smoke"
        else trained_models(recipes, store, runs_dir)
    )  # fmt: skip
    canvases = {name: load_canvases(name, budget) for name in CANVASES}
    rows = [
        _judge(model, seed, canvases, progress and budget != "smoke")
        for seed, model in tqdm(models.items(), desc="models", disable=not progress)
    ]
    if budget != "smoke":
        environment["weights"] = {r.run_id: hash_weights(models[r.seed]) for r in recipes}
    return add_record(
        store, environment, committed=committed, kind="explain", run_id=record_id(budget),
        recipe=to_dict(replace(recipes[0], budget=budget)),
        summary={
            "seeds": list(seeds),
            "runs": [recipe.run_id for recipe in recipes],
            "canvases": {name: len(images) for name, images in canvases.items()},
            "models": rows,
            "together": _together(rows),
        },
    )  # fmt: skip


def record_id(budget: str = "quick") -> str:
    """The id of the record that `run_planted` writes."""
    return f"planted/{RECIPE.split('/')[1]}-{budget}-{get_recipe(RECIPE).config_hash}"


def find_planted(store: Store) -> list[Record]:
    """The record of a whole run, if there is one and its models' runs have the same weights."""
    return keep_records([find_score(record_id(), store)])


def trained_models(recipes: list[Recipe], store: Store, runs_dir: Path) -> dict[int, NesT]:
    """{seed: model} of the runs in `runs_dir`; trains those whose weights are missing there.

    Raises:
        RunsIncomplete: a run failed or was stopped; the next call resumes it.
        FileNotFoundError, OSError: weights without a record, or of another run than the record's.
    """
    missing = [r for r in recipes if not weights_path(r, runs_dir).is_file()]
    if missing:
        print(
            f"training {len(missing)} models first, minutes each; after a stop the same command "
            "resumes",
            file=sys.stderr,
        )
    # A record may have come with the checkout; its committed weights are rounded, none to judge by.
    how = {"processes": 2, "device": "cpu", "runs_dir": runs_dir, "again": True}
    collect({RECIPE: missing}, store, **how)
    return {recipe.seed: load_run(recipe, store, runs_dir) for recipe in recipes}


def load_canvases(name: str, budget: str = "quick") -> ImageSet:
    """The canvases of test scans that the ways are judged on: one of CANVASES."""
    options = CANVASES[name] | ({"num_images": SMOKE_IMAGES} if budget == "smoke" else {})
    return load_dataset("digits", "test", image_size=64, canvas="plain", **options)


def _judge(model: NesT, seed: int, canvases: dict[str, ImageSet], progress: bool) -> dict:
    row = {
        name: grounding(model, images, WAYS, progress=progress) for name, images in canvases.items()
    }
    blanked = {
        name: faithfulness(model, canvases["small"], WAYS[name], seed=seed, progress=progress)
        for name in WAYS if "negative" not in name
    }  # fmt: skip
    return {"seed": seed, **row, "blanking": blanked}


def _together(rows: list[dict]) -> dict:
    """Rates over all models, in shares: of all queries with Wilson's interval, and each model's."""
    out = {}
    for name in CANVASES:
        n = rows[0][name]["queries"]
        out[name] = {"queries": n * len(rows), "chance": rows[0][name]["chance"], "ways": {}}
        for way in WAYS:
            for part in ("quadrant", "leaf"):
                hits = [row[name]["ways"][way][part] for row in rows]
                out[name]["ways"].setdefault(way, {})[part] = {
                    **describe_wins(sum(hits), n * len(rows)),
                    "of_each_model": [hit / n for hit in hits],
                }
    n = sum(row["blanking"]["CAM"]["canvases"] for row in rows)
    out["blanking"] = {
        way: {
            **describe_wins(sum(row["blanking"][way]["wins"] for row in rows), n),
            "chosen": float(np.mean([row["blanking"][way]["chosen"] for row in rows])),
            "random": float(np.mean([row["blanking"][way]["random"] for row in rows])),
        }
        for way in rows[0]["blanking"]
    }  # fmt: skip
    return out
