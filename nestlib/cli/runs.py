"""Commands that list and train recipes, and queue them on Slurm."""

import os
import statistics
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Annotated

import typer

from nestlib.arguments import MAX_BATCH, MAX_NODES, MAX_PROCESSES
from nestlib.choices import check_choice
from nestlib.cli.options import (
    PAUSE,
    STOPPED,
    Again,
    CommitRecord,
    DataDir,
    Device,
    MaxTime,
    RunsDir,
    parse_seconds,
    refuse,
    say_found,
    seconds_left,
    seed_option,
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
        list[str] | None, typer.Argument(help="show only recipes that contain all of these words")
    ] = None,
) -> None:
    """List named recipes, one per line.

    Each line names the accuracy in the paper and here. A recipe without a record shows the budget
    that it is made for.
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
        raise ValueError(f"no recipe contains {' and '.join(words)}; `nest recipes` lists all")
    typer.echo("\n".join(found))


def describe_reached(records: Sequence[Record]) -> str:
    """The accuracy of a recipe's runs, their time and their device; means of several runs."""
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
    set_: Annotated[
        list[str],
        typer.Option("--set", help="change a field of the recipe: field=value; may be repeated"),
    ] = [],  # noqa: B006
    seed: Annotated[int, seed_option("seed of weights, image order and augmentation")] = 0,
    data_dir: DataDir = None,
    download: Annotated[bool, typer.Option(help="download the data set if it is missing")] = False,
    runs_dir: RunsDir = None,
    max_time: MaxTime = None,
    checkpoint_every: Annotated[str, typer.Option(help="time between checkpoints")] = "5m",
    budget: Annotated[str, typer.Option(help="smoke: cut the recipe to a run of seconds")] = "",
    device: Device = "auto",
    precision: Annotated[
        str,
        typer.Option(
            help="fp32, bf16 or auto (bf16 if the device computes it, else fp32); default: the "
            "recipe's own"
        ),
    ] = "",
    micro_batch: Annotated[
        int | None,
        typer.Option(
            min=1,
            max=MAX_BATCH,
            help="largest number of images at once; gradients are accumulated",
        ),
    ] = None,
    step: Annotated[
        str, typer.Option(help="how a step runs: eager, compiled, graph or compiled_graph")
    ] = "",
    rank_timeout: Annotated[
        str, typer.Option(help="how long ranks wait for one another before the run fails")
    ] = "10m",
    again: Again = False,
    commit_record: CommitRecord = False,
) -> None:
    """Train a recipe, or resume a run that stopped.

    A finished run leaves a record and weights.safetensors. Ctrl-C stops a run after the current
    step, with a checkpoint.
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
        checkpoint_seconds=parse_seconds("--checkpoint-every", checkpoint_every, PAUSE),
        committed=commit_record,
        download=download, micro_batch=micro_batch, step=step,
        rank_timeout=parse_seconds("--rank-timeout", rank_timeout), again=again,
    )  # fmt: skip
    if record is None:
        following = describe_stop(chosen, "the same command", runs_dir)
        typer.echo(f"{chosen.run_id} stopped before its end; {following}")
        # At any other code than 0 torch elastic would start the ranks anew at once.
        raise typer.Exit(0 if "TORCHELASTIC_RUN_ID" in os.environ else STOPPED)
    say_found([record], store, began, "trained")
    typer.echo(describe_end(record))
    if record.summary.get("status") == "failed":
        raise typer.Exit(1)


def check_used(chosen: Recipe | GanRecipe, *, budget: str = "", **given) -> None:
    """Raise ValueError if options of `nest train` are given that this recipe does not use."""
    if budget:
        check_choice("--budget", budget, ["smoke"], "(other budgets belong to recipes)")
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
        return f"failed: {summary['failure']}; --again trains it again"
    spent = f"{summary['train_seconds']:.0f} s on {record.environment['device']}"
    if record.kind == "gan":
        smoke = record.recipe["budget"] == "smoke"  # whose folder is gone
        return (
            f"{record.run_id}: pixel distance {summary['sample/pixel_distance']:.3g} after step "
            f"{summary['reported_step']}, {spent}"
            f"{'' if smoke else '; pictures in samples/ of its run folder'}"
        )
    top1, split = record.top1
    held_out = " on held-out training images" if split == "held_out" else ""
    epoch = summary["reported_epoch"]
    return f"{record.run_id}: {top1:.2f} % top-1{held_out} after epoch {epoch}, {spent}"


def _choose(
    name: str, seed: int, assignments: list[str], precision: str, device: str
) -> Recipe | GanRecipe:
    """A named recipe with the changes that were asked for; it keeps its precision by default."""
    set_ = {assignment.partition("=")[0] for assignment in assignments}
    for field, given in (("seed", seed), ("precision", precision)):
        if given and field in set_:
            raise ValueError(
                f"--{field} {given} and --set {field}=... set the same field; give one of them"
            )
    chosen = with_overrides(get_recipe(name, seed=seed), assignments)
    if chosen.budget == "smoke":
        raise ValueError(
            "--set budget=smoke would train the whole recipe and keep nothing; use --budget "
            "smoke, which cuts it to seconds"
        )
    if not precision:
        return chosen
    from nestlib.precision import resolve_precision
    from nestlib.training.devices import resolve_device

    return replace(chosen, precision=resolve_precision(precision, resolve_device(device)))


def submit(
    context: typer.Context,
    what: Annotated[str, typer.Argument(help="a recipe, or a figure (one job per run)")],
    nodes: Annotated[int, typer.Option(min=1, max=MAX_NODES, help="machines per run")] = 1,
    gpus_per_node: Annotated[
        int,
        typer.Option(
            min=0,
            max=MAX_PROCESSES,
            help="GPUs per machine, one rank each; 0: one rank on the CPU",
        ),
    ] = 1,
    cpus_per_rank: Annotated[
        int, typer.Option(min=1, max=MAX_PROCESSES, help="CPU cores per rank, to decode images")
    ] = 8,
    time: Annotated[
        str, typer.Option(help="time limit per job; an unfinished job is queued again")
    ] = "12:00:00",
    slurm: Annotated[
        list[str],
        typer.Option(help="an option of sbatch, such as partition=gpu; may be repeated"),
    ] = [],  # noqa: B006
    dry_run: Annotated[bool, typer.Option("--dry-run", help="only print the job script")] = False,
) -> None:
    """Queue a run, or all runs of a figure, on Slurm.

    Other options are passed to `nest train` or `nest sweep`.
    """
    from nestlib.runs import cluster

    figures = extended({}, "queues")
    if what in figures and nodes * gpus_per_node > 1:
        raise ValueError(f"each run of {what} takes one GPU; leave out --nodes and --gpus-per-node")
    lines = cluster.enqueue(
        list(find_jobs(what, context.args, context.parent.command)),
        find_project_root() / "runs" / "slurm",
        name=what.replace("/", "-"), nodes=nodes,
        minutes=cluster.parse_minutes(time), gpus_per_node=gpus_per_node,
        cpus_per_rank=cpus_per_rank, dry_run=dry_run,
        options=dict(map(cluster.parse_option, slurm)),
    )  # fmt: skip
    for line in lines:
        typer.echo(line)


def find_jobs(what: str, more: Sequence[str], nest: "Group") -> Iterator[Job]:
    """The job of a recipe, or of each waiting run of a figure; `more`: further words of `nest`."""
    figures = extended({}, "queues")
    queue, name = (figures[what], "sweep") if what in figures else (_queue_run, "train")
    asked = nest.commands[name].make_context(name, [what, *more]).params
    if asked["max_time"] is not None:
        raise ValueError("--max-time is for a run on this machine; a job's limit is --time")
    yield from queue(what, asked, tuple(more))


def _queue_run(what: str, asked: dict, more: tuple[str, ...]) -> Iterator[Job]:
    """The job of a recipe's run; typing errors are raised now, not in the queue."""
    if asked["precision"] == "auto":
        raise ValueError(
            "the job's machine is not known yet; give --precision fp32 or bf16 instead of auto"
        )
    recipe = _choose(what, asked["seed"], asked["set_"], asked["precision"], "cpu")
    check_used(recipe, **asked)
    yield recipe, ("train", what, *more)
