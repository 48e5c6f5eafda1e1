"""`nest`: recipes, training, benchmarks and evaluation from the command line.

nest recipes cifar10
nest train cifar10/nest_tiny --data-dir data/cifar10 --max-time 9m
nest shard imagenet --source data/imagenet --out data/imagenet-shards
nest sweep figure5 --budget quick
nest evidence --run --max-time 9m
nest submit imagenet/nest_tiny --nodes 4 --gpus-per-node 8 --time 12:00:00
nest bench table1
nest bench speed
nest score digits/gan_nest_narrow
nest explain planted
nest explain figure8 --dataset imagenet --data-dir data/imagenet
nest evaluate nest_tiny_imagenet swin_tiny_imagenet --dataset imagenet --data-dir data/imagenet
torchrun --nproc-per-node 2 -m nestlib.cli train cifar10/nest_tiny

Each command imports what it runs, so that help and lists do not wait for torch.
"""

import os
import re
import sys
import time
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from nestlib import __version__
from nestlib.recipes.generators import NAMED_GANS
from nestlib.recipes.named import NAMED, describe, get_recipe
from nestlib.recipes.recipe import GanRecipe, Recipe, with_overrides

if TYPE_CHECKING:
    from nestlib.records import Record, Store

app = typer.Typer(help=__doc__.splitlines()[0], no_args_is_help=True, add_completion=False,
                  rich_markup_mode=None, pretty_exceptions_enable=False)  # fmt: skip

STOPPED = 75  # EX_TEMPFAIL: not done yet, run me again
EXIT_SECONDS = 3  # kept of a time limit for the last checkpoint and for Python to end
# Words of the library's messages that a command line has other words for, beside its own options'.
OPTIONS = {
    "num_models": "--models", "num_samples": "--samples", "download=True": "--download",
    "data_dir=...": "--source",  # of `nest shard`
}  # fmt: skip
# Lists of names that stand in modules with torch; tests/test_cli.py compares them.
SWEEP_NAMES = (
    "figure4, figure5, figure6, figure7, figure_a1, figure_a2, table_a2, table_a3, precision, "
    "table1, learning_rates, training_images, flagship"
)
PROFILE_NAMES = (
    "roofline, step, growth, attention, products, input, explaining, loader, data-faults, streaming"
)
NETWORK_NAMES = "digits, lite0, lite0_64, inception"

Device = Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:<index>")]
DataDir = Annotated[
    Path | None,
    typer.Option(
        help="where the data set lies: a folder, or the URL of shards",
        parser=lambda text: text if "://" in text else Path(text), metavar="FOLDER|URL",
    ),
]  # fmt: skip
Precision = Annotated[str, typer.Option(help="fp32, bf16, or auto: bf16 where it is computed")]
RunsDir = Annotated[Path | None, typer.Option(help="checkpoints go here; default runs/")]
WeightsDir = Annotated[Path | None, typer.Option(help="weights of runs are here; default runs/")]
MaxTime = Annotated[str, typer.Option(help="stop cleanly before: 90s, 9m, 2h; then resume")]
CommitRecord = Annotated[
    bool, typer.Option(help="write the record to experiments/records, not runs/records")
]
Again = Annotated[bool, typer.Option("--again", help="run it here though there is a record")]


def _show_version(asked: bool) -> None:
    if asked:
        typer.echo(f"nestlib {__version__}")
        raise typer.Exit()


@app.callback()
def nest(
    version: Annotated[
        bool,
        typer.Option("--version", callback=_show_version, is_eager=True, help="show it and exit"),
    ] = False,
) -> None:
    """NesT: recipes, training, benchmarks and evaluation."""


@app.command()
def recipes(
    words: Annotated[
        list[str] | None, typer.Argument(help="list those that hold each of these words")
    ] = None,
) -> None:
    """List named recipes, one a line."""
    lines = {name: f"{name:<{max(map(len, NAMED))}}  {describe(name)}" for name in NAMED}
    found = [
        line for line in lines.values()
        if all(word.casefold() in line.casefold() for word in words or [])
    ]  # fmt: skip
    if not found:
        raise ValueError(f"no recipe holds {' and '.join(words)}; `nest recipes` lists all")
    typer.echo("\n".join(found))


@app.command()
def train(
    recipe: Annotated[str, typer.Argument(help="a name that `nest recipes` lists")],
    set_: Annotated[list[str], typer.Option("--set", help="field=value, again and again")] = [],  # noqa: B006
    seed: Annotated[int, typer.Option(help="orders, weights, augmentation")] = 0,
    data_dir: DataDir = None,
    download: Annotated[bool, typer.Option(help="fetch the data set where it is missing")] = False,
    runs_dir: RunsDir = None,
    max_time: MaxTime = "",
    checkpoint_every: Annotated[str, typer.Option(help="time between checkpoints")] = "5m",
    budget: Annotated[str, typer.Option(help="smoke cuts the recipe to seconds")] = "",
    device: Device = "auto",
    precision: Annotated[
        str, typer.Option(help="fp32, bf16, or auto: bf16 where the device computes it itself")
    ] = "",
    micro_batch: Annotated[
        int | None, typer.Option(help="so many images at once; their gradients are added")
    ] = None,
    rank_timeout: Annotated[
        str, typer.Option(help="ranks wait so long for one another, then all are lost")
    ] = "10m",
    again: Again = False,
    commit_record: CommitRecord = False,
) -> None:
    """Train a recipe, or go on where it stopped; leaves a record, and weights.safetensors.

    Ctrl-C stops it after its step, with a checkpoint.
    """
    from nestlib.records import open_store, timestamp
    from nestlib.runs.run import carry_out

    chosen, store = _choose(recipe, seed, set_, precision, device), open_store()
    if budget:
        chosen = chosen.at_budget(budget)
    began = timestamp()
    record = carry_out(
        chosen, store, data_dir=data_dir, runs_dir=runs_dir, device=device,
        max_seconds=parse_seconds(max_time) - process_age() - EXIT_SECONDS if max_time else None,
        checkpoint_seconds=parse_seconds(checkpoint_every), committed=commit_record,
        download=download, micro_batch=micro_batch, rank_timeout=parse_seconds(rank_timeout),
        again=again,
    )  # fmt: skip
    if record is None:
        typer.echo(f"{chosen.run_id} stopped before its end; the same command goes on from there")
        # At any other code than 0 torch elastic would start the ranks anew at once.
        raise typer.Exit(0 if "TORCHELASTIC_RUN_ID" in os.environ else STOPPED)
    _say_found([record], store, began, "trained")
    summary = record.summary
    if record.kind == "gan":
        typer.echo(describe_gan(record))
        if summary["status"] == "failed":
            raise typer.Exit(1)
        return
    top1, split = record.top1
    held_out = " of the training images held out" if split == "held_out" else ""
    typer.echo(
        f"{record.run_id}: {top1:.2f} % top-1{held_out} after epoch "
        f"{summary['reported_epoch']}, {summary['train_seconds']:.0f} s on "
        f"{record.environment['device']}"
    )


def _say_found(
    records: Iterable["Record | str"], store: "Store", began: str, what: str
) -> None:  # fmt: skip
    """Name the records that stood there before this command: they are not of this call."""
    found = [
        f"  {store.path_of(record)}, made {record.environment['finished'][:10]} on "
        f"{record.environment['device']}"
        for record in records
        if not isinstance(record, str) and record.environment["started"] < began
    ]
    if found:
        lines = [f"nothing was {what} for what has a record; --again runs it here:", *found]
        typer.echo("\n".join(lines), err=True)


def _choose(
    name: str, seed: int, assignments: list[str], precision: str, device: str
) -> Recipe | GanRecipe:
    """A named recipe with what was asked of it; without a precision it keeps its own."""
    chosen = with_overrides(get_recipe(name, seed=seed), assignments)
    if not precision:
        return chosen
    from nestlib.precision import resolve_precision
    from nestlib.training.devices import resolve_device

    return replace(chosen, precision=resolve_precision(precision, resolve_device(device)))


@app.command()
def shard(
    dataset: Annotated[
        str, typer.Argument(help="imagenet (or any tree of class folders), or tiny_imagenet")
    ],
    source: Annotated[
        Path, typer.Option(help="holds {train,val}/<class>/<image>, or the official tars")
    ],
    out: Annotated[Path, typer.Option(help="the shards go here")],
    split: Annotated[str, typer.Option(help="train, test, or both")] = "both",
    shard_mb: Annotated[float, typer.Option(help="megabytes of images in a shard")] = 128,
    processes: Annotated[int | None, typer.Option(help="default: one a CPU")] = None,
) -> None:
    """Make shards for training on many nodes; a killed call goes on where it stopped."""
    from nestlib.data.shard_maker import make_shards

    splits = ("train", "test") if split == "both" else (split,)
    for path in make_shards(
        dataset, source, out, splits=splits, shard_mb=shard_mb, processes=processes
    ):
        typer.echo(f"wrote {path} and its shards; train with --data-dir {out}")


@app.command()
def check_shards(
    place: Annotated[str, typer.Argument(help="a folder or the URL of shards")],
) -> None:
    """Compare every shard with its checksum."""
    from nestlib.data.shard_maker import verify_shards

    faults = verify_shards(place)
    for fault in faults:
        typer.echo(fault)
    if faults:
        raise typer.Exit(1)
    typer.echo(f"every shard of {place} is what its index says")


@app.command()
def export(
    recipe: Annotated[str, typer.Argument(help="a name that `nest recipes` lists")],
    seed: Annotated[int, typer.Option(help="of its run")] = 0,
    runs_dir: WeightsDir = None,
) -> None:
    """Round a finished run's weights to fp16 beside the committed records, to be loaded by name."""
    from nestlib.records import open_store
    from nestlib.runs.trained import commit_weights

    path = commit_weights(get_recipe(recipe, seed=seed), open_store(), runs_dir=runs_dir)
    typer.echo(f"wrote {path}, {path.stat().st_size / 1e6:.2f} MB")


@app.command()
def sweep(
    figure: Annotated[str, typer.Argument(help=SWEEP_NAMES)] = "",
    budget: Annotated[str, typer.Option(help="smoke, quick, small, gpu or paper")] = "quick",
    every: Annotated[
        bool, typer.Option("--all", help="all of budget small, most wanted first")
    ] = False,
    seeds: Annotated[
        int, typer.Option(help="runs of each bar, of seeds 0, 1, ...; --all has its own")
    ] = 3,
    only: Annotated[
        str, typer.Option(help="bars of this word, such as NesT, or one run by its id")
    ] = "",
    processes: Annotated[int, typer.Option(help="runs side by side on a CPU")] = 2,
    board: Annotated[bool, typer.Option("--board", help="show where it stands, run none")] = False,
    data_dir: DataDir = None,
    runs_dir: RunsDir = None,
    max_time: MaxTime = "",
    device: Device = "auto",
    commit_record: CommitRecord = False,
) -> None:
    """Run what a figure lacks, cheapest first; a killed sweep goes on where it stopped."""
    from nestlib.project import find_project_root
    from nestlib.recipes.plans import plan
    from nestlib.records import open_store
    from nestlib.runs import small, sweeps

    if every is bool(figure) or (every and (budget != "small" or only)):
        raise ValueError(
            "give the name of one sweep, or --all with --budget small and no --only; names: "
            f"{SWEEP_NAMES}"
        )
    store, runs_dir = open_store(), runs_dir or find_project_root() / "runs"
    how = {
        "processes": processes, "device": device, "runs_dir": runs_dir, "data_dir": data_dir,
        "committed": commit_record,
        "max_seconds": parse_seconds(max_time) - process_age() - EXIT_SECONDS if max_time else None,
    }  # fmt: skip
    outcomes: list[sweeps.Outcome] = []
    if every:
        outcomes = [] if board else small.sweep_small(store, **how)
        shown = small.show_small(store, runs_dir, processes)
    else:
        bars = plan(figure, budget, range(seeds), only=only)
        outcomes = [] if board else sweeps.sweep(bars, store, **how)
        shown = sweeps.show_board(bars, store, runs_dir)
    typer.echo(f"{figure or 'all'}, {budget}\n{shown}")
    reasons: dict[tuple[str, str], list[str]] = {}
    for outcome in outcomes:
        if outcome.state != "done":
            reasons.setdefault((outcome.state, outcome.text), []).append(outcome.run_id)
    for (state, text), run_ids in reasons.items():
        typer.echo(f"{state}: {', '.join(run_ids)}: {text}")
    states = {outcome.state for outcome in outcomes}
    if "failed" in states:
        raise typer.Exit(1)
    if "stopped" in states:
        raise typer.Exit(STOPPED)


@app.command(context_settings={"allow_extra_args": True, "ignore_unknown_options": True})
def submit(
    context: typer.Context,
    what: Annotated[str, typer.Argument(help="a recipe; or a figure: a job for each of its runs")],
    nodes: Annotated[int, typer.Option(help="machines of one run")] = 1,
    gpus_per_node: Annotated[int, typer.Option(help="a rank each; 0: one rank, on the CPU")] = 1,
    cpus_per_rank: Annotated[int, typer.Option(help="to decode images")] = 8,
    time: Annotated[str, typer.Option(help="of one job; then it is queued again")] = "12:00:00",
    slurm: Annotated[list[str], typer.Option(help="any option of sbatch: partition=gpu")] = [],  # noqa: B006
    dry_run: Annotated[bool, typer.Option("--dry-run", help="print the script alone")] = False,
) -> None:
    """Queue a run, or a figure's, on Slurm; other options go on to `nest train` or `nest sweep`."""
    from nestlib.project import find_project_root
    from nestlib.recipes.plans import SWEEPS
    from nestlib.runs import cluster

    if what in SWEEPS and nodes * gpus_per_node > 1:
        raise ValueError(f"each run of {what} takes one GPU: leave --nodes and --gpus-per-node out")
    lines = cluster.enqueue(
        list(_runs_to_queue(what, context.args)), find_project_root() / "runs" / "slurm",
        ranks_per_node=max(1, gpus_per_node), name=what.replace("/", "-"), nodes=nodes,
        minutes=cluster.parse_minutes(time), gpus_per_node=gpus_per_node,
        cpus_per_rank=cpus_per_rank, dry_run=dry_run,
        options={key: value or True for key, _, value in (word.partition("=") for word in slurm)},
    )  # fmt: skip
    for line in lines:
        typer.echo(line)


def _runs_to_queue(what: str, more: list[str]) -> Iterator[tuple[Recipe | GanRecipe, tuple]]:
    """Recipes and the words of each one's command; a typing error shows now, not in the queue."""
    from nestlib.project import find_project_root
    from nestlib.recipes.plans import SWEEPS, plan
    from nestlib.records import open_store
    from nestlib.runs.sweeps import state_of

    name = "sweep" if what in SWEEPS else "train"
    command = typer.main.get_command(app).commands[name]
    asked = command.make_context(name, [what, *more]).params
    if asked["max_time"]:
        raise ValueError("--max-time is for a run at hand; a job's limit is --time")
    if name == "train":
        if asked["precision"] == "auto":
            raise ValueError("the machine of a job is not known yet: name --precision fp32 or bf16")
        how = asked["seed"], asked["set_"], asked["precision"], "cpu"
        recipe = _choose(what, *how)
        yield recipe, (name, what, *more)
        return
    store, runs_dir = open_store(), asked["runs_dir"] or find_project_root() / "runs"
    bars = plan(what, asked["budget"], range(asked["seeds"]), only=asked["only"])
    for recipe in {recipe.run_id: recipe for row in bars.values() for recipe in row}.values():
        if state_of(recipe, store, runs_dir) in ("waiting", "begun"):
            yield recipe, (name, what, *more, "--only", recipe.run_id, "--processes", "1")


@app.command()
def evidence(
    run: Annotated[bool, typer.Option("--run", help="carry out what has no record")] = False,
    only: Annotated[int, typer.Option(help="one item of the plan, by its number; 0: all")] = 0,
    data_dir: Annotated[Path | None, typer.Option(help="one folder a data set is here")] = None,
    runs_dir: RunsDir = None,
    max_time: MaxTime = "",
    device: Device = "cuda",
) -> None:
    """Show the plan of one GPU's runs, or carry on with it from the top; records are committed."""
    from nestlib import report
    from nestlib.evidence import list_entries, run_entries
    from nestlib.records import open_store

    store = open_store()
    complete = not run or run_entries(
        store, data_root=data_dir, runs_dir=runs_dir, device=device, only=only, say=typer.echo,
        max_seconds=parse_seconds(max_time) - process_age() - EXIT_SECONDS if max_time else None,
    )  # fmt: skip
    typer.echo(str(report.plan_table(list_entries(), store)))
    if not complete:
        raise typer.Exit(STOPPED)


@app.command()
def bench(
    name: Annotated[str, typer.Argument(help="table1, table2, small, figure7 or speed")],
    form: Annotated[str, typer.Option(help="full, quick (for a CPU), light or smoke")] = "full",
    device: Device = "auto",
    precision: Precision = "fp32",
    commit_record: CommitRecord = False,
) -> None:
    """Time models in turn: a table's, or NesT here and in timm; leaves a record."""
    from nestlib import report
    from nestlib.records import open_store
    from nestlib.studies.benches import run_bench

    record = run_bench(
        name, open_store(), form=form, device=device, precision=precision, committed=commit_record
    )
    if form == "smoke":
        typer.echo(f"{name} ran to its end; a smoke run times too little to show a result")
    elif name == "speed":
        typer.echo(str(report.ratios_table(record, [])))
        typer.echo(str(report.rivals_table(record, [])))
        typer.echo(str(report.targets_table(record, [])))
    elif name == "figure7":
        typer.echo(str(report.generators_table(record, [])))
    elif name == "small":
        typer.echo(str(report.table1_small(open_store(), bench=record)))
    else:
        typer.echo(str(report.cost_table(name, record, [])))


@app.command()
def profile(
    name: Annotated[str, typer.Argument(help=PROFILE_NAMES)],
    device: Device = "auto",
    precision: Precision = "fp32",
    commit_record: CommitRecord = False,
) -> None:
    """Measure what NesT's time goes into, or how it grows; leaves a record."""
    from nestlib import report
    from nestlib.records import open_store
    from nestlib.studies.profiles import run_profile

    record = run_profile(
        name, open_store(), device=device, precision=precision, committed=commit_record
    )
    typer.echo(str(report.show_profile(name, [record])))


@app.command()
def evaluate(
    names: Annotated[list[str], typer.Argument(help="models with published weights, or recipes")],
    dataset: Annotated[str, typer.Option(help="whose test images")] = "imagenet",
    data_dir: DataDir = None,
    device: Device = "auto",
    precision: Precision = "fp32",
    batch_size: Annotated[
        int | None, typer.Option(help="images at once; default by device")
    ] = None,
    limit: Annotated[int | None, typer.Option(help="score so many images: no result")] = None,
    seed: Annotated[int, typer.Option(help="of the recipes' runs")] = 0,
    runs_dir: WeightsDir = None,
    again: Again = False,
    commit_record: CommitRecord = False,
) -> None:
    """Score trained models on a test set, all in one pass; leaves a record of each."""
    from nestlib.records import open_store, timestamp
    from nestlib.studies.evaluations import evaluate as evaluate_models

    store, began = open_store(), timestamp()
    results = evaluate_models(
        names, store, dataset=dataset, data_dir=data_dir, device=device,
        precision=precision, batch_size=batch_size, limit=limit, seed=seed, runs_dir=runs_dir,
        committed=commit_record, again=again,
    )  # fmt: skip
    _say_found(results.values(), store, began, "scored")
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


@app.command()
def score(
    recipe: Annotated[str, typer.Argument(help="a GAN's name, as `nest recipes` lists it")],
    network: Annotated[str, typer.Option(help=f"{NETWORK_NAMES}; default by data set")] = "",
    samples: Annotated[
        int | None, typer.Option(help="of the final score; default by data set")
    ] = None,
    seed: Annotated[int, typer.Option(help="of the recipe's run")] = 0,
    noise_seed: Annotated[int, typer.Option(help="of noise, splits and subsets")] = 0,
    data_dir: DataDir = None,
    runs_dir: WeightsDir = None,
    device: Device = "auto",
    again: Again = False,
    commit_record: CommitRecord = False,
) -> None:
    """Score what a finished GAN run generates, and the samples of its history; leaves a record."""
    from nestlib import report
    from nestlib.records import open_store, timestamp
    from nestlib.studies.scores import score_run

    store, began = open_store(), timestamp()
    chosen = get_recipe(recipe, seed=seed)
    if not isinstance(chosen, GanRecipe):
        raise ValueError(f"{recipe} generates nothing; scores are of: {', '.join(NAMED_GANS)}")
    record = score_run(
        chosen, store, network=network, num_samples=samples, seed=noise_seed,
        data_dir=data_dir, runs_dir=runs_dir, device=device, committed=commit_record, again=again,
    )  # fmt: skip
    _say_found([record], store, began, "scored")
    typer.echo(str(report.score_table(record)))


@app.command()
def explain(
    what: Annotated[str, typer.Argument(help="planted, blanking or figure8")] = "planted",
    budget: Annotated[
        str, typer.Option(help="quick, gpu, or smoke: a fresh model, no result")
    ] = "quick",
    models: Annotated[int, typer.Option(help="planted: how many, of seeds 0, 1, ...")] = 3,
    dataset: Annotated[
        str, typer.Option(help="figure8: digits, tiny_imagenet, or imagenet (published weights)")
    ] = "digits",
    data_dir: DataDir = None,
    recipe: Annotated[
        str, typer.Option(help="blanking: whose finished run, a NesT of `nest recipes`")
    ] = "small/nest_narrow",
    limit: Annotated[int, typer.Option(help="imagenet: so many images, no result; 0 all")] = 0,
    seed: Annotated[int, typer.Option(help="blanking, figure8: of the runs")] = 0,
    runs_dir: WeightsDir = None,
    device: Device = "auto",
    again: Again = False,
    commit_record: CommitRecord = False,
) -> None:
    """Judge explanations by planted truth, by blanking, or by boxes (figure 8); leaves records."""
    from nestlib import report
    from nestlib.records import open_store, timestamp
    from nestlib.studies.blanking import run_blanking
    from nestlib.studies.evaluations import stop_at_failures
    from nestlib.studies.localizations import localize
    from nestlib.studies.planted import run_planted

    store, began, how = open_store(), timestamp(), {"committed": commit_record, "again": again}
    if what == "planted":
        how |= {"budget": budget, "num_models": models, "runs_dir": runs_dir}
        results = {what: run_planted(store, **how)}
        table = report.grounding_table(list(results.values()))
    elif what == "blanking":
        how |= {"seed": seed, "data_dir": data_dir, "runs_dir": runs_dir}
        results = {what: run_blanking(recipe, store, **how)}
        table = report.blanking_table(list(results.values()))
    elif what == "figure8":
        how |= {"dataset": dataset, "budget": budget, "data_dir": data_dir, "device": device}
        own = {"limit": limit} if dataset == "imagenet" else {"runs_dir": runs_dir, "seed": seed}
        results = localize(store, **how, **own)
        table = report.localization_table(dataset, results)
    else:
        raise ValueError(
            f"nothing to explain by the name {what!r}; there are: planted, blanking, figure8"
        )
    _say_found(results.values(), store, began, "measured")
    typer.echo(str(table))
    stop_at_failures(results)


def describe_gan(record: "Record") -> str:
    """One line on how a GAN's run ended."""
    summary = record.summary
    if summary["status"] == "failed":
        return f"failed: {summary['failure']}; its record says so, --again trains it anew"
    smoke = record.recipe["budget"] == "smoke"  # whose folder is gone
    return (
        f"{record.run_id}: pixel distance {summary['sample/pixel_distance']:.3g} after step "
        f"{summary['reported_step']}, {summary['train_seconds']:.0f} s on "
        f"{record.environment['device']}"
        f"{'' if smoke else '; pictures in samples/ of its run folder'}"
    )


def process_age() -> float:
    """Seconds since this process began: imports come before any clock of ours. 0 without /proc."""
    try:
        fields = Path("/proc/self/stat").read_text().rpartition(")")[2].split()
    except FileNotFoundError:
        return 0.0
    age = time.clock_gettime(time.CLOCK_BOOTTIME) - int(fields[19]) / os.sysconf("SC_CLK_TCK")
    return age if 0 <= age < 120 else 10.0  # some sandboxes report start times of another clock


def parse_seconds(text: str) -> float:
    """ "90s", "9m", "1.5h" or plain seconds.

    Raises:
        ValueError: anything else.
    """
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([smh]?)", text.strip())
    if not match:
        raise ValueError(f"{text!r} is no time; write seconds, or 90s, 9m, 1.5h")
    return float(match[1]) * {"": 1, "s": 1, "m": 60, "h": 3600}[match[2]]


def main() -> None:
    """Run the command; what a user can mend is one line, not a traceback."""
    try:
        app()
    except (ValueError, OSError, ImportError, RuntimeError) as error:
        if isinstance(error, RuntimeError) and not _is_for_users(error):
            raise
        sys.exit(f"nest: {in_options(str(error), sys.argv[1:2])}")


def _is_for_users(error: RuntimeError) -> bool:
    """Is it one of ours, whose message says what to do, and not a fault of torch or this code?"""
    return type(error).__module__.startswith("nestlib.")


def in_options(message: str, names: list[str]) -> str:
    """A message of the library in the words of the command `names`: --data-dir for data_dir=..."""
    words = dict(OPTIONS)
    commands = typer.main.get_command(app).commands
    for parameter in (p for name in names if name in commands for p in commands[name].params):
        option = next((opt for opt in parameter.opts if opt.startswith("--")), "")
        words[f"{parameter.name}=..."] = option
        if "_" in parameter.name:
            words[parameter.name] = option
    for word in sorted(filter(words.get, words), key=len, reverse=True):
        message = re.sub(rf"(?<![\w.\-]){re.escape(word)}(?![\w(])", words[word], message)
    return message


if __name__ == "__main__":
    main()
