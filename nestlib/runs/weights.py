"""Models trained here, with the weights that their records name.

A run leaves its weights under runs/, out of git. Those worth looking into without training them
first are committed too, rounded to fp16: experiments/weights/<run id>.safetensors. Such a file says
in its metadata which run it is of and the SHA-256 of the weights that it was rounded from, which
must be the record's. The SHA-256 of its own bytes stands beside it, as `sha256sum` writes it.

A wheel holds the committed weights too, but of large ones the SHA-256 alone: those are fetched from
the repository when they are asked for, and kept in ~/.cache/nestlib/weights.
"""

import hashlib
import json
import os
import re
import shlex
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from torch import nn

from nestlib.data.datasets import dataset_info
from nestlib.data.fetching import FEW_TRIES, BadFile, Unreachable, read_url
from nestlib.files import read_regular, write_atomically
from nestlib.models.tensor_files import read_metadata
from nestlib.models.weights import hash_weights, load_weights, save_weights
from nestlib.project import PROJECT, find_clone, find_project_root, is_project, repository_url
from nestlib.recipes.named import get_recipe
from nestlib.recipes.recipe import GanRecipe, Recipe, to_dict
from nestlib.records import Record, Store, open_store
from nestlib.training.loop import RUN_WEIGHTS

LARGEST_MB = 16  # of a committed file


def load_trained(
    name: str, *, seed: int | None = None, store: Store | None = None,
    runs_dir: Path | None = None,
) -> nn.Module:  # fmt: skip
    """A named recipe's model as it was trained here, in evaluation mode on the CPU.

    Of a GAN that is the EMA's generator. The run's own weights are taken where they are, else the
    committed ones, which an installed nestlib has too. Large ones it fetches once.

    Args:
        name: a recipe (`nest recipes`).
        seed: of the run; default: the lowest with committed weights, else with any.
        store, runs_dir: default those of the project that the working folder lies in; outside of
            every project runs/ of the working folder, and what came with nestlib.

    Raises:
        ValueError: no such recipe.
        FileNotFoundError: no record, or no weights; the message says which command makes them.
        OSError: weights of another run than the record's, or weights that cannot be fetched.
    """
    store = store or open_trained()
    return load_run(choose_run(name, seed, store, runs_dir), store, runs_dir)


def open_trained() -> Store:
    """`open_store()`, but where that is outside of every project an editable install has the
    committed weights of its clone, as a wheel has those that came with it."""
    store, clone = open_store(), find_clone()
    if clone is None or is_project(find_project_root()):
        return store
    return Store(clone / "experiments" / "records", store.local, shipped=True)


def choose_run(
    name: str, seed: int | None, store: Store, runs_dir: Path | None = None
) -> Recipe | GanRecipe:
    """A named recipe with `seed`.

    None: the lowest seed whose weights are committed, so that machines agree; else the lowest with
    weights of this machine's own, then one whose weights can be fetched, then 0.
    """
    if seed is not None:
        return get_recipe(name, seed=seed)
    recipe = get_recipe(name, seed=0)
    runs = [get_recipe(name, seed=r.recipe["seed"]) for r in store.find_seeds(recipe)]
    committed = [run for run in runs if committed_path(run, store).is_file()]
    own = [] if store.read_only else [r for r in runs if weights_path(r, runs_dir).is_file()]
    fetchable = [run for run in runs if _sum_path(committed_path(run, store)).is_file()]
    return next(iter([*committed, *own, *fetchable]), recipe)


def load_run(recipe: Recipe | GanRecipe, store: Store, runs_dir: Path | None = None) -> nn.Module:
    """As `load_trained`, for a recipe that need not have a name."""
    return find_weights(recipe, store, runs_dir).load()


@dataclass(frozen=True)
class Weights:
    """A file of a finished run's weights, and their record; `rounded` to fp16 if committed."""

    recipe: Recipe | GanRecipe
    path: Path
    record: Record
    rounded: bool = False

    def load(self) -> nn.Module:
        """The run's model with these weights, in evaluation mode.

        Raises:
            OSError: no such file, a damaged one, or other weights than the record's.
            ValueError: weights that do not fit the recipe's model.
        """
        model = load_weights(_build(self.recipe, self.record), self.path).eval()
        if self.rounded:  # `find_weights` has compared the file, and what it was rounded from
            return model
        found, named = hash_weights(model), self.record.summary["weights_sha256"]
        if found != named:
            raise OSError(
                f"{self.path} holds weights {found[:12]}..., the record of {self.recipe.run_id} "
                f"names {named[:12]}...; restore the file, or train again: "
                f"`{train_command(self.recipe, again=True)}`"
            )
        return model


def find_weights(
    recipe: Recipe | GanRecipe, store: Store, runs_dir: Path | None = None
) -> Weights:  # fmt: skip
    """The run's own weights if they exist, else the committed ones.

    A store that is read only takes committed weights alone.

    Raises:
        FileNotFoundError: no record, or no weights; the message says which command makes them.
        OSError: committed weights that are damaged, or of another run than the record's, or that
            cannot be fetched.
    """
    record = find_run(recipe, store, runs_dir)
    full, half = weights_path(recipe, runs_dir), committed_path(recipe, store)
    if full.is_file() and not store.read_only:
        return Weights(recipe, full, record)
    if store.shipped and not half.is_file() and _sum_path(half).is_file():
        half = _find_cached(recipe.run_id, _sum_path(half))
    if not half.is_file():
        raise FileNotFoundError(
            f"the weights of {recipe.run_id} are neither at {full} nor committed at {half}; "
            f"`{train_command(recipe, again=True)}` makes them"
        )
    _check_bytes(half)
    sha256 = record.summary["weights_sha256"]
    source = read_metadata(half).get("rounded_from_sha256", "unknown")
    if source != sha256:
        raise OSError(
            f"{half} was rounded from weights {source[:12]}..., the record of {recipe.run_id} "
            f"names {sha256[:12]}...; restore the file"
        )
    return Weights(recipe, half, record, rounded=True)


def _find_cached(run_id: str, shipped_sum: Path) -> Path:
    """Committed weights that an installed nestlib knows by their SHA-256 alone, fetched once."""
    sha256, path = _read_sum(shipped_sum), _cache_folder() / f"{run_id}.safetensors"
    if not path.is_file() or _hash_bytes(path) != sha256:
        write_atomically(path, _fetch(run_id, sha256, path))
    write_atomically(_sum_path(path), read_regular(shipped_sum))
    return path


def _fetch(run_id: str, sha256: str, path: Path) -> bytes:
    """The file's bytes from the repository; the remedy names `path`, where they are looked for."""
    file, repository = f"experiments/weights/{run_id}.safetensors", repository_url()
    remedy = (
        f"put {file} of the repository at {path}, or work in a checkout, or name its folder in the "
        f"environment variable {PROJECT}"
    )
    if not repository:
        raise FileNotFoundError(
            f"the weights of {run_id} are too large to be installed with nestlib, and it names no "
            f"repository to fetch them from; {remedy}"
        )
    address = f"{_raw_address(repository)}/{file}"
    try:
        data = read_url(address, tries=FEW_TRIES)
    except (BadFile, Unreachable) as error:
        raise type(error)(
            f"the weights of {run_id} are to be fetched: {error}; {remedy}"
        ) from error
    found = hashlib.sha256(data).hexdigest()
    if found != sha256:
        raise BadFile(
            f"{address} has SHA-256 {found[:12]}..., this nestlib names {sha256[:12]}...: it is "
            "damaged, or of another version; update nestlib, or work in a checkout"
        )
    return data


def _cache_folder() -> Path:
    """The folder `weights` beside the cached shards, in $NESTLIB_CACHE or ~/.cache/nestlib."""
    return Path(os.environ.get("NESTLIB_CACHE") or Path.home() / ".cache" / "nestlib") / "weights"


def _raw_address(repository: str) -> str:
    """Below which address the files of a repository's default branch lie as they are."""
    owner, host = urlsplit(repository).path, urlsplit(repository).netloc
    if host == "github.com":  # which answers /raw/ with a redirect to another host
        return f"https://raw.githubusercontent.com{owner}/HEAD"
    return f"{repository}/raw/HEAD"


def commit_weights(
    recipe: Recipe | GanRecipe, store: Store, *, runs_dir: Path | None = None
) -> Path:
    """Round a finished run's weights to fp16 beside the committed records, and return the file.

    Raises:
        FileNotFoundError: no record, or no weights of it, or no checkout to commit them in.
        OSError: weights of another run than the record's.
        ValueError: a model too large to be committed.
    """
    store.check_committing("to commit weights")
    record = store.find_local(recipe.run_id) or find_run(recipe, store)
    if record.summary["num_params"] * 2 > LARGEST_MB * 2**20:
        raise ValueError(
            f"{recipe.run_id} has {record.summary['num_params'] / 1e6:.1f} M parameters, more than "
            f"{LARGEST_MB} MB in fp16; publish such weights with push_to_hub"
        )
    model = Weights(recipe, weights_path(recipe, runs_dir), record).load()
    path, sha256 = committed_path(recipe, store), record.summary["weights_sha256"]
    said = {"run_id": recipe.run_id, "rounded_from_sha256": sha256}
    save_weights(model, path, half=True, metadata=said)
    write_atomically(_sum_path(path), f"{_hash_bytes(path)}  {path.name}\n".encode())
    return path


def _sum_path(path: Path) -> Path:
    return path.with_name(f"{path.name}.sha256")


def _read_sum(path: Path) -> str:
    """The SHA-256 of the file beside this one, which `sha256sum` wrote.

    Raises:
        OSError: it holds something else, or the SHA-256 of another file; the message names it.
    """
    text = read_regular(path).decode(errors="replace")
    found = re.fullmatch(r"([0-9a-f]{64}) [ *](\S+)\n?", text)
    if found is None or Path(found[2]).name != path.name.removesuffix(".sha256"):
        raise OSError(
            f"{path} holds {text!r:.100}, must hold the SHA-256 of "
            f"{path.name.removesuffix('.sha256')}, two spaces and that name; restore it"
        )
    return found[1]


def _hash_bytes(path: Path) -> str:
    return hashlib.sha256(read_regular(path)).hexdigest()


def _check_bytes(path: Path) -> None:
    if not _sum_path(path).is_file():  # as before such files had one
        warnings.warn(
            f"{path} cannot be checked: {_sum_path(path).name} is not there", stacklevel=3
        )
        return
    found, kept = _hash_bytes(path), _read_sum(_sum_path(path))
    if found != kept:
        raise OSError(
            f"{path} is damaged: its SHA-256 is {found[:12]}..., {_sum_path(path).name} says "
            f"{kept[:12]}...; restore both files"
        )


def _build(recipe: Recipe | GanRecipe, record: Record) -> nn.Module:
    if isinstance(recipe, GanRecipe):
        return recipe.build_generator()
    return recipe.build_model(count_classes(recipe, record))


def count_classes(recipe: Recipe, record: Record) -> int:
    """The number of classes that a run tells apart, perhaps a part of its data set's."""
    return len(record.class_names or ()) or dataset_info(recipe.dataset).num_classes


def find_run(
    recipe: Recipe | GanRecipe, store: Store, runs_dir: Path | None = None
) -> Record:  # fmt: skip
    """The record of a finished run, as `record_of` finds it.

    Raises:
        FileNotFoundError: there is none; the message says which command makes it.
    """
    record = record_of(recipe.run_id, store, runs_dir)
    if record is None:
        raise FileNotFoundError(
            f"no finished run {recipe.run_id}; `{train_command(recipe)}` makes it"
        )
    return record


def record_of(run_id: str, store: Store, runs_dir: Path | None = None) -> Record | None:
    """A run's record, the committed one first, or this checkout's own if its weights are here.

    What lies in `runs_dir` was made with this checkout's record, where it has one of its own.
    """
    here = (_runs(runs_dir) / run_id / RUN_WEIGHTS).is_file()
    return (store.find_local(run_id) if here else None) or store.find(run_id)


def train_command(recipe: Recipe | GanRecipe, *, again: bool = False) -> str:
    """The command that makes a recipe's run, with `--set` for fields that its name does not set."""
    try:
        named, own = to_dict(get_recipe(recipe.name, seed=recipe.seed)), to_dict(recipe)
    except ValueError:  # a recipe of the caller's own has no command
        return f"carry_out(recipe, store{', again=True' if again else ''})"
    changes = [f" --set {shlex.quote(change)}" for change in _list_changes(own, named)]
    changes += [" --again"] if again else []
    return f"nest train {recipe.name} --seed {recipe.seed}{''.join(changes)}"


def _list_changes(own: dict[str, Any], named: dict[str, Any], outer: str = "") -> Iterator[str]:
    """The assignments by which `with_overrides` turns `named` into `own`."""
    for key, value in own.items():
        name, base = f"{outer}{key}", named.get(key)
        options = key.endswith("_options")
        if key in named and json.dumps(value) == json.dumps(base):
            continue
        if isinstance(value, dict) and not outer and not (options and base.keys() - value.keys()):
            yield from _list_changes(value, base or {}, f"{key}.")
        else:  # a field's text stands as it is, an option's would be read as JSON
            plain = isinstance(value, str) and not outer.endswith("_options.")
            yield f"{name}={value if plain else json.dumps(value)}"


def weights_path(recipe: Recipe | GanRecipe, runs_dir: Path | None = None) -> Path:
    """The file of a run's weights in `runs_dir` (default: runs/)."""
    return _runs(runs_dir) / recipe.run_id / RUN_WEIGHTS


def _runs(runs_dir: Path | None) -> Path:
    return runs_dir or find_project_root() / "runs"


def committed_path(recipe: Recipe | GanRecipe, store: Store) -> Path:
    return store.committed.parent / "weights" / f"{recipe.run_id}.safetensors"
