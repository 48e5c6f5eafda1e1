"""Commands that score trained models, judge their explanations, and look at what they see."""

from pathlib import Path
from typing import Annotated, Any

import typer

from nestlib.arguments import MAX_BATCH, MAX_COUNT, MAX_RUNS
from nestlib.choices import choose
from nestlib.cli.options import (
    Again,
    CommitRecord,
    DataDir,
    Device,
    Precision,
    WeightsDir,
    named_options,
    path_option,
    refuse,
    say_found,
    seed_option,
)
from nestlib.recipes.named import get_recipe, list_recipes
from nestlib.recipes.recipe import GanRecipe
from nestlib.records import open_store, timestamp

# Names that stand in a module with torch; tests/test_cli.py compares them.
NETWORK_NAMES = "digits, lite0, lite0_64, inception"

# The options of `nest explain` that each way to judge takes, beside those that all take.
EXPLAIN_OPTIONS = {
    "planted": ("budget", "num_models", "runs_dir"),
    "blanking": ("recipe", "seed", "data_dir", "runs_dir"),
    "figure8": ("dataset", "budget", "data_dir", "seed", "runs_dir", "device"),
}
IMAGENET_OPTIONS = ("dataset", "data_dir", "limit", "device")  # of figure8 with published weights


def evaluate(
    context: typer.Context,
    names: Annotated[list[str], typer.Argument(help="models with published weights, or recipes")],
    dataset: Annotated[str, typer.Option(help="data set of the test images")] = "imagenet",
    data_dir: DataDir = None,
    device: Device = "auto",
    precision: Precision = "fp32",
    batch_size: Annotated[
        int | None,
        typer.Option(
            min=1, max=MAX_BATCH, help="images at once; the default depends on the device"
        ),
    ] = None,
    limit: Annotated[
        int | None,
        typer.Option(min=1, max=MAX_COUNT, help="score only this many images (not a result)"),
    ] = None,
    seed: Annotated[int, seed_option("seed of the recipes' runs")] = 0,
    runs_dir: WeightsDir = None,
    again: Again = False,
    commit_record: CommitRecord = False,
) -> None:
    """Score trained models on a test set, in one pass.

    Each model's result is written as a record.
    """
    from nestbook.evaluations.classifiers import evaluate as evaluate_models

    if not set(names) & set(list_recipes()):  # published weights have neither
        refuse(
            sorted(named_options(context) & {"seed", "runs_dir"}), "a model of published weights"
        )
    store, began = open_store(), timestamp()
    results = evaluate_models(
        names, store, dataset=dataset, data_dir=data_dir, device=device,
        precision=precision, batch_size=batch_size, limit=limit, seed=seed, runs_dir=runs_dir,
        committed=commit_record, again=again,
    )  # fmt: skip
    say_found(results.values(), store, began, "scored")
    width = max(map(len, results))
    for name, result in results.items():
        if isinstance(result, str):
            typer.echo(f"{name:<{width}}  not scored: {result}")
            continue
        summary = result.summary
        typer.echo(
            f"{name:<{width}}  top-1 {summary['top1']:6.2f} % ± {summary['top1_half_width']:.2f}  "
            f"top-5 {summary['top5']:6.2f} %  n = {summary['images']:,}  "
            f"{result.recipe['weights']}{' in fp16' if 'rounded_to' in result.recipe else ''}  "
            f"{result.run_id}"
        )
    if any(isinstance(result, str) for result in results.values()):
        raise typer.Exit(1)


def score(
    recipe: Annotated[str, typer.Argument(help="a GAN's name, as `nest recipes` lists it")],
    network: Annotated[
        str, typer.Option(help=f"{NETWORK_NAMES}; the default depends on the data set")
    ] = "",
    num_samples: Annotated[
        int | None,
        typer.Option(
            "--samples",
            min=1,
            max=MAX_COUNT,
            help="samples of the final score; the default depends on the data set",
        ),
    ] = None,
    seed: Annotated[int, seed_option("seed of the recipe's run")] = 0,
    noise_seed: Annotated[int, seed_option("seed of noise, splits and subsets")] = 0,
    data_dir: DataDir = None,
    runs_dir: WeightsDir = None,
    device: Device = "auto",
    again: Again = False,
    commit_record: CommitRecord = False,
) -> None:
    """Score the images that a finished GAN run generates.

    The samples of the run's history are scored too. The result is written as a record.
    """
    from nestbook.evaluations.generators import score_run
    from nestbook.report.generation import score_table

    store, began = open_store(), timestamp()
    chosen = get_recipe(recipe, seed=seed)
    if not isinstance(chosen, GanRecipe):
        gans = (name for name, (_, fields) in list_recipes().items() if "generator" in fields)
        raise ValueError(f"{recipe} generates no images; recipes that do: {', '.join(gans)}")
    record = score_run(
        chosen, store, network=network, num_samples=num_samples, seed=noise_seed,
        data_dir=data_dir, runs_dir=runs_dir, device=device, committed=commit_record, again=again,
    )  # fmt: skip
    say_found([record], store, began, "scored")
    typer.echo(str(score_table(record)))


def explain(
    context: typer.Context,
    what: Annotated[str, typer.Argument(help="planted, blanking or figure8")] = "planted",
    budget: Annotated[
        str, typer.Option(help="quick, gpu or smoke (untrained models, not a result)")
    ] = "quick",
    num_models: Annotated[
        int,
        typer.Option(
            "--models",
            min=1,
            max=MAX_RUNS,
            help="planted: number of models, with seeds 0, 1, ...",
        ),
    ] = 3,
    dataset: Annotated[
        str, typer.Option(help="figure8: digits, tiny_imagenet or imagenet (published weights)")
    ] = "digits",
    data_dir: DataDir = None,
    recipe: Annotated[
        str, typer.Option(help="blanking: a NesT of `nest recipes` whose run is finished")
    ] = "small/nest_narrow",
    limit: Annotated[
        int,
        typer.Option(
            min=0,
            max=MAX_COUNT,
            help="imagenet: score only this many images (not a result); 0: all",
        ),
    ] = 0,
    seed: Annotated[int, seed_option("blanking, figure8: seed of the runs")] = 0,
    runs_dir: WeightsDir = None,
    device: Device = "auto",
    again: Again = False,
    commit_record: CommitRecord = False,
) -> None:
    """Judge explanations by planted truth, blanking or boxes.

    figure8 judges by boxes. The results are written as records.
    """
    from nestbook.evaluations.blanking import run_blanking
    from nestbook.evaluations.classifiers import stop_at_failures
    from nestbook.evaluations.localizers import localize
    from nestbook.evaluations.planted import run_planted
    from nestbook.report.grounding import blanking_table, grounding_table
    from nestbook.report.localization import localization_table

    options = {
        "budget": budget, "num_models": num_models, "dataset": dataset, "data_dir": data_dir,
        "recipe": recipe, "limit": limit, "seed": seed, "runs_dir": runs_dir, "device": device,
    }  # fmt: skip
    how = _pick_options(context, what, options) | {"committed": commit_record, "again": again}
    store, began = open_store(), timestamp()
    if what == "planted":
        results = {what: run_planted(store, **how)}
        table = grounding_table(list(results.values()))
    elif what == "blanking":
        results = {what: run_blanking(how.pop("recipe"), store, **how)}
        table = blanking_table(list(results.values()))
    else:
        results = localize(store, **how)
        table = localization_table(dataset, results)
    say_found(results.values(), store, began, "measured")
    typer.echo(str(table))
    stop_at_failures(results)


def _pick_options(context: typer.Context, what: str, options: dict[str, Any]) -> dict[str, Any]:
    """The options that `what` takes.

    Raises:
        ValueError: there is no such way, or it does not take an option that was given.
    """
    takes = choose("way to judge explanations", what, EXPLAIN_OPTIONS)
    if (what, options["dataset"]) == ("figure8", "imagenet"):
        what, takes = "figure8 --dataset imagenet", IMAGENET_OPTIONS
    flags = {parameter.name: parameter.opts[0] for parameter in context.command.params}
    given = named_options(context)
    unused = [flags[name] for name in options if name in given and name not in takes]
    if unused:
        valid = ", ".join(flags[name] for name in takes)
        raise ValueError(f"explain {what} does not take {', '.join(unused)}; it takes {valid}")
    return {name: options[name] for name in takes}


def inspect(
    dataset: Annotated[str, typer.Argument(help="cifar10 or tiny_imagenet")],
    data_dir: Annotated[Path | None, path_option("folder of the data set")] = None,
    again: Again = False,
    commit_record: CommitRecord = False,
) -> None:
    """Look for what is odd in a data set, in about a minute.

    CIFAR-10: mirrored copies. Tiny ImageNet-100: grey files, flat boxes, files that are there
    twice. The result is written as a record.
    """
    from nestbook.evaluations.inspection import inspect_dataset
    from nestbook.report.inspections import inspection_table

    store, began = open_store(), timestamp()
    record = inspect_dataset(
        dataset, store, data_dir=data_dir, committed=commit_record, again=again
    )
    say_found([record], store, began, "inspected")
    typer.echo(str(inspection_table(record)))
