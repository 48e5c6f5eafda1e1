"""Follow a plan's runs on a cluster: which wait, which have begun, and what queues the others."""

import shlex
from collections.abc import Mapping, Sequence

from nestbook.sweeps.runner import show_board, state_of
from nestlib.project import find_project_root
from nestlib.recipes.recipe import Recipe
from nestlib.records import Store
from nestlib.runs.cluster import enqueue, parse_minutes


def follow(
    plan: Mapping[str, Sequence[Recipe]], store: Store, *, budget: str, data_dir: str, nodes: int,
    gpus_per_node: int, time: str = "24:00:00", submit_them: bool = False,
) -> str:  # fmt: skip
    """A plan's board, and at budget paper the commands that queue the recipes that wait.

    Given again, it shows which are running and which have their record.

    Args:
        submit_them: queue them now; at budget paper alone.

    Raises:
        ValueError: `submit_them` at another budget.
    """
    if submit_them and budget != "paper":
        raise ValueError(f"only budget paper submits runs, not {budget}")
    folder = find_project_root() / "runs"
    jobs = []
    for recipe in (recipe for row in plan.values() for recipe in row):
        if state_of(recipe, store, folder) in ("waiting", "begun"):
            more = ("--data-dir", data_dir) if data_dir else ()
            jobs.append((recipe, ("train", recipe.name, "--seed", str(recipe.seed), *more)))
    lines = [show_board(plan, store, folder)]
    if submit_them and jobs:
        lines += enqueue(
            jobs, folder / "slurm", name="nest", nodes=nodes, minutes=parse_minutes(time),
            gpus_per_node=gpus_per_node,
        )  # fmt: skip
    elif budget == "paper":
        size = f"--nodes {nodes} --gpus-per-node {gpus_per_node} --time {time}"
        lines += [f"nest submit {shlex.join(words[1:])} {size}" for _, words in jobs]
    return "\n".join(lines)
