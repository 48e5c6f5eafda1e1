"""Recipes listed, trained, exported, and queued on Slurm."""

import os
import statistics
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Annotated

import typer

from nestlib.choices import check_choice
from nestlib.cli.options import (
    STOPPED,
    Again,
    CommitRecord,
    DataDir,
    Device,
    MaxTime,
    RunsDir,
    WeightsDir,
    parse_seconds,
    refuse,
    say_found,
    seconds_left,
)
from nestlib.extensions import extended
from nestlib.project import find_project_root
from nestlib.recipes.named import get_recipe, list_recipes, plain_fields
from nestlib.recipes.recipe import GanRecipe, Recipe, hash_config, with_overrides
from nestlib.records import Record, open_store, timestamp

if TYPE_CHECKING:
    from click import Group

Job = tuple[Recipe | GanRecipe, tuple[str, ...]]  # and the words of `nest` that make its run


def recipes(
    words: Annotated[
        list[str] | None, typer.Argument(help="list those that hold each of these words")
    ] = None,
) -> None:
    """List named recipes, one a line: what each reaches in the paper, and here in what time.

    Without a record it names the budget that the recipe is made for.
    """
    named, paper, store = list_recipes(), extended({}, "expected"), open_store()
    width = max(map(len, named))
    lines = []
    for name, (text, _) in named.items():
        fields = plain_fields(name)
        reached = describe_reached(store.find_runs(name, hash_config(fields)))
        expected = [paper.get(name), reached or f"budget {fields['budget']}"]
        lines.append("; ".join([f"{name:<{width}}  {text}", *filter(None, expected)]))
    wanted = [word.casefold() for word in words or []]
    found = [line for line in lines if all(word in line.casefold() for word in wanted)]
    if not found:
        raise ValueError(f"no recipe holds {' and '.join(words)}; `nest recipes` lists all")
    typer.echo("\n".join(found))


def describe_reached(records: Sequence[Record]) -> str:
    """What a recipe's runs reached, and how long each took on what; of several, the means."""
    if not records:
        return ""
    minutes = statistics.mean(record.summary["train_seconds"] for record in records) / 60
    cost = f"{minutes:.1f} min" if minutes < 60 else f"{minutes / 60:.1f} h"
    scores = [record.top1[0] for record in records if record.top1]
    reached = [f"{statistics.mean(scores):.2f} %"] if scores else []
    seeds = [f"{len(records)} seeds"] if len(records) > 1 else []
    return f"here {', '.join([*reached, *seeds, cost])} on {records[0].environment['device']}"


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
        int | None, typer.Option(min=1, help="so many images at once; their gradients are added")
    ] = None,
    step: Annotated[
        str, typer.Option(help="how a GPU gets it: eager, compiled, graph or compiled_graph")
    ] = "",
    rank_timeout: Annotated[
        str, typer.Option(help="ranks wait so long for one another, then all are lost")
    ] = "10m",
    again: Again = False,
    commit_record: CommitRecord = False,
) -> None:
    """Train a recipe, or go on where it stopped; leaves a record, and weights.safetensors.

    Ctrl-C stops it after its step, with a checkpoint.
    """
    from nestlib.runs.run import carry_out, describe_stop

    chosen, store = _choose(recipe, seed, set_, precision, device), open_store()
    check_used(
        chosen, budget=budget, data_dir=data_dir, download=download, runs_dir=runs_dir,
        micro_batch=micro_batch, step=step,
    )  # fmt: skip
    if budget:
        chosen = chosen.at_budget(budget)
    began = timestamp()
    record = carry_out(
        chosen, store, data_dir=data_dir, runs_dir=runs_dir, device=device,
        max_seconds=seconds_left(max_time),
        checkpoint_seconds=parse_seconds(checkpoint_every), committed=commit_record,
        download=download, micro_batch=micro_batch, step=step,
        rank_timeout=parse_seconds(rank_timeout), again=again,
    )  # fmt: skip
    if record is None:
        following = describe_stop(chosen, "the same command")
        typer.echo(f"{chosen.run_id} stopped before its end; {following}")
        # At any other code than 0 torch elastic would start the ranks anew at once.
        raise typer.Exit(0 if "TORCHELASTIC_RUN_ID" in os.environ else STOPPED)
    say_found([record], store, began, "trained")
    typer.echo(describe_end(record))
    if record.summary.get("status") == "failed":
        raise typer.Exit(1)


def check_used(chosen: Recipe | GanRecipe, *, budget: str = "", **given) -> None:
    """Raise ValueError for options of `nest train` that this recipe would not use."""
    if budget:
        check_choice("budget of train", budget, ["smoke"], "(a recipe has the others itself)")
    if chosen.dataset == "digits":
        refuse((name for name in ("data_dir", "download") if given.get(name)), "a run on digits")
    if budget == "smoke":
        refuse(["runs_dir"] if given.get("runs_dir") else [], "a smoke run, which keeps nothing,")
    if isinstance(chosen, GanRecipe):
        refuse((name for name in ("micro_batch", "step") if given.get(name)), "a GAN's run")


def describe_end(record: Record) -> str:
    """One line on how a run ended."""
    summary = record.summary
    if summary.get("status") == "failed":
        return f"failed: {summary['failure']}; its record says so, --again trains it anew"
    spent = f"{summary['train_seconds']:.0f} s on {record.environment['device']}"
    if record.kind == "gan":
        smoke = record.recipe["budget"] == "smoke"  # whose folder is gone
        return (
            f"{record.run_id}: pixel distance {summary['sample/pixel_distance']:.3g} after step "
            f"{summary['reported_step']}, {spent}"
            f"{'' if smoke else '; pictures in samples/ of its run folder'}"
        )
    top1, split = record.top1
    held_out = " of the training images held out" if split == "held_out" else ""
    epoch = summary["reported_epoch"]
    return f"{record.run_id}: {top1:.2f} % top-1{held_out} after epoch {epoch}, {spent}"


def _choose(
    name: str, seed: int, assignments: list[str], precision: str, device: str
) -> Recipe | GanRecipe:
    """A named recipe with what was asked of it; without a precision it keeps its own."""
    set_ = {assignment.partition("=")[0] for assignment in assignments}
    for field, given in (("seed", seed), ("precision", precision)):
        if given and field in set_:
            raise ValueError(f"--{field} {given} and --set {field}=... both say it; give one")
    chosen = with_overrides(get_recipe(name, seed=seed), assignments)
    if chosen.budget == "smoke":
        raise ValueError(
            "--set budget=smoke would train the whole recipe and keep nothing; --budget smoke cuts "
            "it to seconds"
        )
    if not precision:
        return chosen
    from nestlib.precision import resolve_precision
    from nestlib.training.devices import resolve_device

    return replace(chosen, precision=resolve_precision(precision, resolve_device(device)))


def export(
    recipe: Annotated[str, typer.Argument(help="a name that `nest recipes` lists")],
    seed: Annotated[int, typer.Option(help="of its run")] = 0,
    runs_dir: WeightsDir = None,
) -> None:
    """Round a finished run's weights to fp16 beside the committed records, to be loaded by name."""
    from nestlib.runs.weights import commit_weights

    path = commit_weights(get_recipe(recipe, seed=seed), open_store(), runs_dir=runs_dir)
    typer.echo(f"wrote {path}, {path.stat().st_size / 1e6:.2f} MB")


def submit(
    context: typer.Context,
    what: Annotated[str, typer.Argument(help="a recipe; or a figure: a job for each of its runs")],
    nodes: Annotated[int, typer.Option(min=1, help="machines of one run")] = 1,
    gpus_per_node: Annotated[
        int, typer.Option(min=0, help="a rank each; 0: one rank, on the CPU")
    ] = 1,
    cpus_per_rank: Annotated[int, typer.Option(min=1, help="to decode images")] = 8,
    time: Annotated[str, typer.Option(help="of one job; then it is queued again")] = "12:00:00",
    slurm: Annotated[list[str], typer.Option(help="any option of sbatch: partition=gpu")] = [],  # noqa: B006
    dry_run: Annotated[bool, typer.Option("--dry-run", help="print the script alone")] = False,
) -> None:
    """Queue a run, or a figure's, on Slurm; other options go on to `nest train` or `nest sweep`."""
    from nestlib.runs import cluster

    figures = extended({}, "queues")
    if what in figures and nodes * gpus_per_node > 1:
        raise ValueError(f"each run of {what} takes one GPU: leave --nodes and --gpus-per-node out")
    lines = cluster.enqueue(
        list(find_jobs(what, context.args, context.parent.command)),
        find_project_root() / "runs" / "slurm",
        name=what.replace("/", "-"), nodes=nodes,
        minutes=cluster.parse_minutes(time), gpus_per_node=gpus_per_node,
        cpus_per_rank=cpus_per_rank, dry_run=dry_run,
        options={key: value or True for key, _, value in (word.partition("=") for word in slurm)},
    )  # fmt: skip
    for line in lines:
        typer.echo(line)


def find_jobs(what: str, more: Sequence[str], nest: "Group") -> Iterator[Job]:
    """The jobs of a recipe's run, or of a figure's runs that wait; `more` words of its command."""
    figures = extended({}, "queues")
    queue, name = (figures[what], "sweep") if what in figures else (_queue_run, "train")
    asked = nest.commands[name].make_context(name, [what, *more]).params
    if asked["max_time"]:
        raise ValueError("--max-time is for a run at hand; a job's limit is --time")
    yield from queue(what, asked, tuple(more))


def _queue_run(what: str, asked: dict, more: tuple[str, ...]) -> Iterator[Job]:
    """A recipe's job; a typing error shows now, not in the queue."""
    if asked["precision"] == "auto":
        raise ValueError("the machine of a job is not known yet: name --precision fp32 or bf16")
    recipe = _choose(what, asked["seed"], asked["set_"], asked["precision"], "cpu")
    check_used(recipe, **asked)
    yield recipe, ("train", what, *more)
