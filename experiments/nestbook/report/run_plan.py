"""What one GPU has still to measure, and how much of the paper has a record."""

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from itertools import groupby

from nestbook.claims.claim import NO_RECORD
from nestbook.paper import FIGURE6_NEST3_TINY
from nestbook.report.points import MEASURED, Chip, Point
from nestbook.report.speed import TARGETS
from nestbook.report.tables import Number, Sources, Table
from nestbook.run_plan.entries import (
    ASSUMED_TFLOPS,
    BENCH_MINUTES,
    HEADLINE,
    SCHEDULES,
    TRAIN_MINUTES,
    Entry,
)
from nestbook.run_plan.session import PROGRAMS, Session, choose_recipe
from nestbook.run_plan.stages import STAGES
from nestlib.records import Record, Store

ASSUMED = f"assumed, not measured: {ASSUMED_TFLOPS} TFLOP/s in bf16, {BENCH_MINUTES} min per bench"
GPU_TARGETS = [target for target in TARGETS if target.device_kind == "cuda"]


def make_plan_point(entries: Sequence[Entry], store: Store) -> Point:
    """What one session of a GPU decides next, and how much of the plan has a record."""
    open_questions = [what for _, what in _decisions(store)]
    found = sum(entry.find(store) is not None for entry in entries)
    return Point(
        f"One GPU, lent for {Session.minutes} minutes, is to decide "
        f"{', and '.join(open_questions)}. So far {found} of the plan's {len(entries)} runs have "
        "a record of a GPU.",
        (Chip(f"records of a GPU: {found} of {len(entries)}", MEASURED if found else NO_RECORD),),
    )


def session_table(store: Store) -> Table:
    """The two calls of a session: what each does, and what that decides."""
    rows = [
        ("1", "runs the tests that ask for a GPU", "whether the library is right on this GPU"),
        ("1", "times a large matrix product and a large copy",
         "what the machine could reach at most, instead of assumed rates"),
        *((str(len(STAGES) if "train" in does else 1), does, what)
          for does, what in _decisions(store)),
    ]  # fmt: skip
    return Table(
        f"A session of {Session.minutes} minutes",
        ("Call", "What it does", "What that decides"),
        rows,
        ["Each part writes its result when it has it, so a killed call loses one part"],
    )  # fmt: skip


def _decisions(store: Store) -> list[tuple[str, str]]:
    """What a session does and what that decides, but for what a GPU's record has decided."""
    timed = any(r.environment["device_kind"] == "cuda" for r in store.find_benches("speed"))
    found = [] if timed else [(
        "times NesT here, timm's NesT and DeiT-S, forward in bf16",
        f"whether NesT here, compiled, is at least {GPU_TARGETS[0].at_least:g} times as fast as "
        "timm's as it comes",
    )]  # fmt: skip
    program = PROGRAMS["cuda"]
    recipe = choose_recipe(program.recipes, store, "cuda")
    printed = f"how near NesT3-T comes to the paper's {FIGURE6_NEST3_TINY[0]} % on CIFAR-10"
    epochs = ", ".join(map(str, program.epochs[:-1]))
    return [*found, (
        f"trains {recipe.name}: of {epochs} or {program.epochs[-1]} epochs the most that end in "
        "time", printed if recipe.name == HEADLINE else f"what {recipe.name} reaches in minutes",
    )]  # fmt: skip


def items_table(
    entries: Sequence[Entry], store: Store, left_out: Sequence[Entry] = ()
) -> Table:  # fmt: skip
    """The plan by item: what it decides, how many runs have a GPU's record, the minutes left.

    left_out: what the sources count as too long for the plan.
    """
    rows = []
    for item, runs in groupby(entries, key=lambda entry: entry.item):
        runs = list(runs)
        missing = [entry for entry in runs if not entry.find(store)]
        rows.append((
            str(item), runs[0].title, runs[0].decides,
            f"{len(runs) - len(missing)} of {len(runs)}",
            Number(sum(entry.minutes for entry in missing), ASSUMED, 0),
        ))  # fmt: skip
    return Table(
        "The plan by item",
        ("Item", "What for", "What it decides", "With a record", "Minutes left"),
        rows,
        sources=Sources(f"Minutes are {ASSUMED}", tuple(_describe_left_out(left_out))),
    )


def plan_table(entries: Sequence[Entry], store: Store) -> Table:
    """Every run of the plan in its order: its command, and its record once there is one."""
    records = [entry.find(store) for entry in entries]
    rows = [
        (str(entry.item), entry.command, Number(entry.minutes, ASSUMED, 1),
         f"{record.run_id} ({record.environment['device']})" if record else "")
        for entry, record in zip(entries, records)
    ]  # fmt: skip
    shown = 4 if any(records) else 3
    return Table(
        f"The plan of one GPU's runs, in order: {sum(map(bool, records))} of {len(records)} have "
        "a record",
        ("Item", "Command", "Minutes", "Record")[:shown],
        [row[:shown] for row in rows],
        sources=Sources(
            f"Minutes are {ASSUMED}",
            ("Multiply-adds of the recipe, twice, over that rate. A record's id holds its recipe's "
             "name, seed and a hash of its settings",),
        ),
    )  # fmt: skip


def _describe_left_out(entries: Sequence[Entry]) -> list[str]:
    """Counts them by item and recipe; says nothing where there are none."""
    if not entries:
        return []
    counts = Counter((entry.item, entry.recipe.name) for entry in entries)
    listed = ", ".join(f"{count} of {name} (item {item})" for (item, name), count in counts.items())
    epochs, steps = SCHEDULES["epochs"][-1], SCHEDULES["steps"][-1]
    return [
        f"{len(entries)} runs are left out, as they take more than {TRAIN_MINUTES} expected "
        f"minutes even at {epochs} epochs (generators: {steps:,} steps): {listed}",
        f"{HEADLINE} keeps its whole schedule here; a session may cut it to end in time",
    ]


def coverage_table(found: Mapping[str, Mapping[object, Sequence[Record]]]) -> Table:
    """Of the rows or bars planned for each table or figure, how many have a record here.

    found: {figure: {row: its records at budget paper}}.
    """
    rows = [
        (_title(figure), str(len(bars)), str(sum(bool(records) for records in bars.values())))
        for figure, bars in found.items()
    ]
    return Table(
        "How much of the paper has a record of its own data and schedule",
        ("Table or figure", "Rows or bars planned", "With a record"),
        rows,
        ["Planned: what the sweeps train for it, in Table A3 with both kinds of attention; a model "
         "that stands in two bars counts in both. Not counted as a record: quick runs on digits, "
         "small runs and shorter runs of one GPU"],
    )  # fmt: skip


def _title(figure: str) -> str:
    """Such as "Figure A1" of figure_a1, "Table 1, CIFAR-10" of "table1, cifar10"."""
    name, _, dataset = figure.partition(", ")
    found = re.fullmatch(r"(figure|table)_?(\w+)", name)
    title = f"{found[1].capitalize()} {found[2].upper()}" if found else name
    return f"{title}, {dataset.replace('cifar', 'CIFAR-')}" if dataset else title
