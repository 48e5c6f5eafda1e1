"""Two storeys: nestlib is a library by itself; the book's own code stands on it, and imports go one
way."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
# Each may import those before it and its own group. runs comes last: it carries out what all others
# say; nestlib/__init__.py alone names models above them.
FLOORS = (
    {
        "arguments",
        "choices",
        "extensions",
        "files",
        "json_files",
        "processor",
        "project",
        "signals",
    },
    {"precision"},
    {"data", "models"},
    {"explain", "recipes"},
    {"metrics", "record_checks", "records"},
    {"training"},
    {"runs"},
    {"zoo"},
    {"cli", "timm"},
)
HEAVY = (
    "matplotlib",
    "seaborn",
    "IPython",
    "ipywidgets",
    "jupyter_core",
    "transformers",
    "nestbook",
)


def imported_by(path: Path) -> set[str]:
    """Dotted names of all modules that a file imports, those within functions included."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom):
            names |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
        elif isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
    return names


def floor_of(name: str) -> int:
    return next(number for number, group in enumerate(FLOORS) if name in group)


LIBRARY = sorted((ROOT / "nestlib").rglob("*.py"))


@pytest.mark.parametrize("path", LIBRARY, ids=lambda p: p.relative_to(ROOT).as_posix())
def test_nestlib_imports_nothing_above_it(path):
    imports = imported_by(path)
    assert not {name for name in imports if name.split(".")[0] in ("nestbook", "matplotlib")}
    place = path.relative_to(ROOT / "nestlib").with_suffix("").parts[0]
    ours = {name.split(".")[1] for name in imports if name.startswith("nestlib.")}
    known = {name for group in FLOORS for name in group}
    if place == "__init__":
        return
    assert place in known, f"say in FLOORS where {place} stands"
    above = {name for name in ours & known if floor_of(name) > floor_of(place)}
    assert not above, f"{path.name} imports from above: {above}"


def test_to_import_nestlib_takes_no_drawing_no_notebook_and_no_rival():
    code = f"import sys, nestlib; print([name for name in {HEAVY} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_every_module_of_nestlib_is_imported_where_the_books_packages_are_missing():
    """As on a node that trains: no matplotlib, no Jupyter; no package of the book's own."""
    modules = [
        ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
        for path in LIBRARY if path.stem not in ("__main__", "main")
    ]  # fmt: skip
    code = f"""
import importlib, sys
sys.modules.update(dict.fromkeys({HEAVY}))  # None: to import it raises
for name in {modules}:
    importlib.import_module(name)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
