"""A session on one device: its time, and its parts, each noted in a state file when it ends.

A killed call loses the part that it was at. The state, new records and weights are packed as one
archive whenever a part has ended, for a machine from which files alone come back.
"""

import json
import math
import tarfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import torch

from nestbook.recipes.rows import TABLE1
from nestbook.run_plan.entries import HEADLINE, RIVALS, SCHEDULES
from nestlib.data.datasets import dataset_info
from nestlib.files import open_atomically, write_atomically
from nestlib.json_files import read_json
from nestlib.project import find_project_root
from nestlib.recipes.named import get_recipe
from nestlib.recipes.recipe import Recipe
from nestlib.records import Store

LEAST_MINUTES = 2
CALL_SECONDS = 9 * 60  # that one call may take
STATE, TESTS_LOG, RESULTS = "state.json", "tests.txt", "results.tar.gz"  # in its folder


@dataclass(frozen=True)
class Program:
    """What a session measures and trains on a kind of device.

    recipes: the first that has no record of such a device is trained. epochs: to choose from. On a
    CPU, where the script is rehearsed, the run is one of seconds.
    """

    recipes: tuple[str, ...]
    epochs: tuple[int, ...]
    forms: tuple[str, ...]


PROGRAMS = {
    "cuda": Program(
        (HEADLINE, "cifar10/nest_tiny", *(TABLE1[row].on("cifar10") for row in RIVALS)),
        SCHEDULES["epochs"], ("eager", "graph", "compiled_graph"),
    ),
    "cpu": Program(("digits/nest_narrow",), (5, 4, 3, 2, 1), ("eager", "graph")),
}  # fmt: skip


@dataclass
class Session:
    """One device's time, and the parts that were done in it.

    Args:
        folder: the state file, logs, caches and results; it outlives a call.
        minutes: of both stages together.
        data_root: holds one folder per data set; default: the project's data/.
        out: results are copied here too, whenever a part has ended.
        age: seconds that this call took before.
        again: forget what earlier calls have done of a stage that is begun, and of what follows it.
        now: seconds of a clock.
    """

    store: Store
    folder: Path
    device: torch.device
    minutes: float = 12
    data_root: Path | None = None
    out: Path | None = None
    age: float = 0.0
    again: bool = False
    say: Callable[[str], None] = print
    now: Callable[[], float] = time.monotonic
    parts: dict[str, dict] = field(default_factory=dict)

    def __post_init__(self):
        if not LEAST_MINUTES <= self.minutes < math.inf:  # nan neither
            raise ValueError(
                f"--minutes {self.minutes:g} is no length of a session; give {LEAST_MINUTES} or "
                "more (12 for a GPU that is lent for 15)"
            )
        self.folder.mkdir(parents=True, exist_ok=True)
        self.parts = {**self.parts, **self._read_parts(self.folder / STATE)}
        self.began = self.now() - self.age
        self.found = _list_committed(self.store)
        self.recipe = choose_recipe(self.program.recipes, self.store, self.device.type)

    def _read_parts(self, path: Path) -> dict[str, dict]:
        """What earlier calls noted. A damaged file is set aside, and its parts are done again."""
        if not path.exists():
            return {}
        try:
            parts = read_json(path)
            for part in parts.values():
                _ = part["done"], part["this_call"], part["said"] + "", part["seconds"] + 0.0
            return parts
        except (ValueError, AttributeError, KeyError, TypeError) as error:
            aside = path.replace(path.with_name(f"{path.name}.damaged"))
            self.say(f"{path} is damaged ({error!r:.100}): all is done again; kept as {aside.name}")
            return {}

    @property
    def program(self) -> Program:
        return PROGRAMS[self.device.type]

    @property
    def data_dir(self) -> Path | None:
        return self.data_root and self.data_root / self.recipe.dataset

    def share(self, seconds: float) -> float:
        """A part's seconds in this session, given those of a session of twelve minutes."""
        return seconds * min(1, self.minutes / 12)

    def left(self) -> float:
        """Seconds that this call may still take."""
        elapsed = self.now() - self.began
        earlier = sum(part["seconds"] for part in self.parts.values() if not part["this_call"])
        return min(CALL_SECONDS, 60 * self.minutes - earlier) - elapsed

    def is_done(self, part: str) -> bool:
        return bool(self.parts.get(part, {}).get("done"))

    @contextmanager
    def part(self, name: str) -> Iterator[Callable[[str], None] | None]:
        """Time a part and note in the state file what it says; None if an earlier call did it.

        An error ends this part alone.
        """
        if self.is_done(name):
            self.say(f"{name}: done before (--again repeats it): {self.parts[name]['said']}")
            yield None
            return
        begin, said = self.now(), []
        outcome = {"done": False, "this_call": True, "seconds": 0.0, "said": "killed"}
        self._note(name, outcome)
        try:
            yield said.append
            outcome["done"] = True
        except Exception as error:  # what one part lacks must not cost the others their time
            said.append(f"failed: {type(error).__name__}: {error}")
        outcome |= {"seconds": round(self.now() - begin, 2), "said": "; ".join(said)}
        self._note(name, outcome)
        self.say(f"{name}: {outcome['seconds']:.1f} s: {outcome['said']}")

    def _note(self, name: str, outcome: dict) -> None:
        self.parts[name] = outcome
        kept = {name: {**part, "this_call": False} for name, part in self.parts.items()}
        write_atomically(self.folder / STATE, json.dumps(kept, indent=1).encode())
        pack_results(self)


def choose_recipe(names: Sequence[str], store: Store, device_type: str) -> Recipe:
    """The first recipe that can be built here and has no record of such a device, of any schedule.

    The last where all have one.
    """
    for name in names:
        recipe, found = get_recipe(name), store.find_committed(f"{name}-s0-")
        has_record = any(one.environment["device_kind"] == device_type for one in found)
        if not has_record and _can_be_built(recipe):
            break
    return recipe


def _can_be_built(recipe: Recipe) -> bool:
    """Whether the library of a recipe's model is installed."""
    try:
        with torch.device("meta"):
            recipe.build_model(dataset_info(recipe.dataset).num_classes)
    except ImportError:
        return False
    return True


def pack_results(session: Session) -> None:
    """Write records and weights of this call, its state and the tests' log as one archive: unpacked
    in the root of a checkout, each lies where it belongs."""
    root, written = find_project_root(), _list_committed(session.store)
    made = [path for path, mark in written.items() if session.found.get(path) != mark]
    target = session.folder / RESULTS
    with open_atomically(target) as file, tarfile.open(fileobj=file, mode="w:gz") as archive:
        for path in made:
            inside = path.is_relative_to(root)
            archive.add(path, path.relative_to(root) if inside else path.name)
        for name in (STATE, TESTS_LOG):
            if (session.folder / name).is_file():
                archive.add(session.folder / name, f"runs/gpu/{name}")
    if session.out:
        write_atomically(session.out / RESULTS, target.read_bytes())


def _list_committed(store: Store) -> dict[Path, tuple[int, int]]:
    """Committed records and weights, and a mark that changes when one is written again: an inode
    and a time, which is compared with itself alone, as a clock may be set meanwhile."""
    folders = store.committed, store.committed.parent / "weights"
    paths = [path for folder in folders for path in sorted(folder.rglob("*.*"))]
    return {path: (status.st_ino, status.st_mtime_ns) for path in paths if (status := path.stat())}
