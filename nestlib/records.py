"""Records of runs: one JSON file per run, written when the run has finished.

Records of real runs are committed under experiments/records/; those of this machine alone lie under
runs/records/, out of git. A wheel holds the records of the weights that it holds. A number shown
anywhere comes from the paper, a record, or a measurement that the page itself made. What is
published (`make notebooks`) is made of committed records alone.

torch is imported where a machine is described: to read records takes none.
"""

import json
import os
import platform
import re
import subprocess
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nestlib.files import write_atomically
from nestlib.json_files import pair_up, parse_json, read_json
from nestlib.project import (
    PUBLISH,
    find_clone,
    find_committed,
    find_project_root,
    is_publishing,
    require_project,
)
from nestlib.recipes.recipe import GanRecipe, Recipe, RunRecipe, from_dict
from nestlib.record_checks import REMEDY, Fields, RecordError, check_record, name_unfit

if TYPE_CHECKING:
    import torch

SCHEMA = 1
CPUINFO = Path("/proc/cpuinfo")  # Linux
PACKAGES = (
    "nestlib", "torch", "torchvision", "timm", "transformers", "vit-pytorch", "pytorchcv", "pillow",
    "numpy", "torch-fidelity",
)  # fmt: skip


@dataclass(frozen=True)
class Record:
    """One finished run: its recipe, its environment, its history and its results."""

    run_id: str
    kind: str  # "train", "gan", "score", "bench", "evaluate", "faults", ...
    recipe: dict[str, Any]
    environment: dict[str, Any]
    summary: dict[str, Any]
    epochs: list[dict[str, Any]] = field(default_factory=list)
    schema: int = SCHEMA

    @property
    def top1(self) -> tuple[float, str] | None:
        """A classifier's last accuracy (%), and of which images: test, or held_out of training."""
        splits = [split for split in ("test", "held_out") if f"{split}/top1" in self.summary]
        if self.kind == "train" and not splits:
            splits = ["test"]  # every classifier has one: a file without it is told
        return (self.summary[f"{splits[0]}/top1"], splits[0]) if splits else None

    def make_recipe(self) -> Recipe | GanRecipe:
        """The recipe that was run.

        Raises:
            RecordError: the record keeps no recipe that can be made.
        """
        try:
            return from_dict(self.recipe)
        except ValueError as error:
            where = getattr(self.recipe, "path", self.run_id)
            raise RecordError(f"{where} holds no recipe ({error}); {REMEDY}") from error

    @property
    def class_names(self) -> list[str] | None:
        """The classes of a run's training images, by number; older records do not keep them."""
        return self.environment.get("data", {}).get("train", {}).get("class_names")


_TYPES = {
    "run_id": str, "kind": str, "recipe": dict, "environment": dict, "summary": dict,
    "epochs": list,
}  # fmt: skip


@dataclass(frozen=True)
class Store:
    """The folders that hold records; new ones go to `local`.

    Without `local` the store is read only: nothing is run for it. Where the committed ones came
    with an installed nestlib (`shipped`), no others are committed.
    """

    committed: Path
    local: Path | None
    shipped: bool = False

    @property
    def read_only(self) -> bool:
        return self.local is None

    @property
    def folders(self) -> list[Path]:
        """The folders that hold records, the committed one first."""
        return [folder for folder in (self.committed, self.local) if folder is not None]

    def find(self, run_id: str) -> Record | None:
        """The record of a run, the committed one first."""
        return next(iter(self.find_all(run_id)), None)

    def find_all(self, run_id: str) -> list[Record]:
        """A run's committed record, and the one that this checkout made, if they exist."""
        return [_load(folder, path) for folder, path in self._paths(run_id)]

    def find_local(self, run_id: str) -> Record | None:
        """The record of a run that this checkout itself made and did not commit."""
        own = [path for folder, path in self._paths(run_id) if folder == self.local]
        return _load(self.local, own[0]) if own else None

    def path_of(self, record: Record) -> Path:
        """The file of a record that `find` gave, the committed one first."""
        paths = self._paths(record.run_id)
        return next(path for folder, path in paths if _load(folder, path) == record)

    def _paths(self, run_id: str) -> list[tuple[Path, Path]]:
        """The files of a run's name, each with its folder: links to nowhere, too, which
        `load_record` refuses, or the run would be made again beside its record."""
        paths = [(folder, folder / f"{run_id}.json") for folder in self.folders]
        return [(folder, path) for folder, path in paths if _is_there(path)]

    def find_seeds(self, recipe: RunRecipe) -> list[Record]:
        """All records of a recipe, whatever their seed, in the order of seeds."""
        return self.find_runs(recipe.name, recipe.config_hash)

    def find_runs(self, name: str, config_hash: str) -> list[Record]:
        """As `find_seeds`, by name and hash, without making the recipe."""
        found: dict[str, Record] = {}
        for root in reversed(self.folders):  # the committed one wins
            for path in root.glob(f"{name}-s*-{config_hash}.json"):
                record = _load(root, path)
                # The pattern takes <name>-second-s0-... too.
                if re.fullmatch(r"-s\d+", record.run_id[len(name) : -len(config_hash) - 1]):
                    found[record.run_id] = record
        return sorted(found.values(), key=lambda record: record.recipe["seed"])

    def find_benches(self, name: str) -> list[Record]:
        """Committed bench records of a table, GPUs first, then the newest first."""
        records = self.find_committed(f"bench/{name}-")
        return sorted(records, key=lambda record: record.environment["device_kind"] != "cuda")

    def find_committed(self, beginning: str) -> list[Record]:
        """Committed records whose id begins with `beginning`, the newest first."""
        paths = self.committed.glob(f"{beginning}*.json")
        records = [_load(self.committed, path) for path in paths]
        return sorted(records, key=lambda r: r.environment["finished"], reverse=True)

    def all_committed(self) -> list[Record]:
        """Every committed record, in the order of their ids."""
        return [_load(self.committed, path) for path in sorted(self.committed.rglob("*.json"))]

    def add(self, record: Record, *, committed: bool = False) -> Path:
        """Write a record where it belongs and return its path.

        Raises:
            RecordError: the store is read only, or the record is one that `load_record` would
                refuse; the message names the file that is not written.
            FileNotFoundError: as `check_committing`.
            OSError: the file cannot be written.
        """
        if committed:
            self.check_committing("a committed record")
        if self.read_only:
            raise RecordError(
                f"{record.run_id} was run where only committed records are read ({PUBLISH} is set)"
            )
        path = (self.committed if committed else self.local) / f"{record.run_id}.json"
        values = asdict(record)
        try:
            text = json.dumps(values, indent=1, sort_keys=True, allow_nan=False)
            check_record(Record(**parse_json(text.encode(), partial(_make_fields, path))))
        except ValueError as error:
            reason = f"{error}{name_unfit(values)}"
            raise RecordError(
                f"{path} is not written ({reason}); what the run left stays where it is"
            ) from error
        write_atomically(path, (text + "\n").encode())
        return path

    def check_committing(self, what: str) -> None:
        """Raise FileNotFoundError, which says that `what` needs a checkout, if none is here."""
        if self.shipped:
            require_project(what)


def open_store(start: Path | None = None) -> Store:
    """The store of the project (`find_project_root`); read only while publishing.

    Outside of every project the committed records are those that came with an installed nestlib,
    and new ones go to runs/records/ of the working folder.
    """
    folder, shipped = find_committed(start)
    local = None if is_publishing() else find_project_root(start) / "runs" / "records"
    return Store(folder / "records", local, shipped)


def load_record(path: Path, run_id: str = "") -> Record:
    """Read one record, of the run `run_id` where that is known.

    What a record need not hold is asked for by its readers: see `Fields`.

    Raises:
        RecordError: it is of a newer nestlib; or it cannot be read, is no JSON, or fields are
            unknown, missing, of another type or out of their range; or it is of another run than
            the file is named after, or of another recipe than its run. The file is named.
    """
    try:
        values = read_json(path, partial(_make_fields, path))
        if (schema := _schema_of(values)) == SCHEMA:
            record = _build(values)
    except (ValueError, TypeError, OSError) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else error
        raise RecordError(f"{path} is not a record ({reason}); {REMEDY}") from error
    if schema > SCHEMA:
        raise RecordError(
            f"{path} was made by a newer nestlib, schema {schema}; this one reads {SCHEMA}: update "
            "nestlib"
        )
    alike = f"/{path.as_posix()}".endswith(f"/{record.run_id}.json")
    if not alike or (run_id and record.run_id != run_id):
        raise RecordError(
            f"{path} holds the record of another run, {record.run_id}; give the file its run's "
            "name, or restore it"
        )
    return record


def _make_fields(path: Path, pairs: list[tuple[str, Any]]) -> Fields:
    """An object of the record file at `path`."""
    fields = Fields(pair_up(pairs))
    fields.path = path
    return fields


def _load(folder: Path, path: Path) -> Record:
    """`load_record` of a file in a store's folder, whose place there is its run's whole id."""
    return load_record(path, path.relative_to(folder).as_posix().removesuffix(".json"))


def _is_there(path: Path) -> bool:
    try:
        path.lstat()
    except (FileNotFoundError, NotADirectoryError):
        return False
    return True


def _schema_of(values: Any) -> int:
    if not isinstance(values, dict):
        raise TypeError(f"it holds a {type(values).__name__}")
    schema = values.get("schema", SCHEMA)
    if type(schema) is not int or schema < SCHEMA:
        raise ValueError(f"its schema is {schema!r:.40}, this nestlib reads {SCHEMA}")
    return schema


def _build(values: dict[str, Any]) -> Record:
    record = Record(**values)
    for name, kind in _TYPES.items():
        if not isinstance(getattr(record, name), kind):
            raise TypeError(f"its {name} is {getattr(record, name)!r:.40}")
    check_record(record)
    return record


def describe_environment(device: "torch.device") -> dict[str, Any]:
    """Versions, device and commit: the origin of a number."""
    import torch

    return {
        "device": device_name(device),
        "device_kind": device.type,
        "threads": torch.get_num_threads(),
        "python": platform.python_version(),
        "packages": {name: _version(name) for name in PACKAGES},
        "cuda": torch.version.cuda if device.type == "cuda" else None,
        **_git_state(),
        "started": timestamp(),
    }


def timestamp() -> str:
    """Now, in UTC, to the second."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def device_name(device: "torch.device") -> str:
    """The GPU's name; or the processor's with its generation, as the kernel gives it, and cores.

    Clouds give processors of several generations one name, such as AMD EPYC.
    """
    if device.type == "cuda":
        import torch

        return torch.cuda.get_device_name(device)
    name = platform.processor() or platform.machine()
    if CPUINFO.exists():
        lines = (line.partition(":") for line in CPUINFO.read_text().splitlines())
        found = {key.strip(): value.strip() for key, _, value in lines}  # all cores' are equal
        name = found.get("model name", name)
        if {"cpu family", "model"} <= found.keys():
            name += f" (family {found['cpu family']}, model {found['model']})"
    return f"{name}, {os.cpu_count()} cores"


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:  # nestlib from a checkout, uninstalled
        return None


def _git_state() -> dict[str, Any]:
    """Commit and whether tracked files differ from it; None outside a checkout.

    Raises:
        ValueError: NESTLIB_COMMIT is no commit.
    """
    folder = Path(__file__).parent

    def git(*words: str) -> str | None:
        done = subprocess.run(["git", *words], cwd=folder, capture_output=True, text=True)
        return done.stdout.strip() if done.returncode == 0 else None

    try:  # an installed package may lie within another project's repository
        commit = git("rev-parse", "HEAD") if find_clone() else None
    except OSError:  # no git here
        commit = None
    if commit is None:  # a copy without .git: whoever made it can say what it is a copy of
        named = os.environ.get("NESTLIB_COMMIT") or None
        if named and not re.fullmatch("[0-9a-f]{7,64}", named):
            raise ValueError(
                f"NESTLIB_COMMIT is {named!r:.60}, must be the hex digits of a commit, as `git "
                "rev-parse HEAD` prints them; correct it or unset it"
            )
        return {"commit": named, "dirty": None}
    return {"commit": commit, "dirty": bool(git("status", "--porcelain", "--", "."))}
