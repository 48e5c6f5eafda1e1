"""Notebooks only call; their text twins are equal; wrong parameters stop them at once."""

import ast
import os
import subprocess
import sys
from pathlib import Path

import jupytext
import nbformat
import pytest
from test_accuracy import save_classes

from nestbook.notebook import ParameterError, check_parameters, declared_parameters
from nestbook.recipes.rows import TABLE2

ROOT = Path(__file__).parents[1]
EXPERIMENTS = ROOT / "experiments"
NOTEBOOKS = sorted(EXPERIMENTS.glob("*.ipynb"))
BIN = Path(sys.executable).parent

each_notebook = pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)


def code_cells(path):
    """All but the one that book/colab.py adds, which tests/test_colab.py holds."""
    cells = nbformat.read(path, as_version=4).cells
    return [c for c in cells if c.cell_type == "code" and "colab" not in c.metadata.get("tags", [])]


@each_notebook
def test_twin_is_equal(path):
    text = jupytext.writes(jupytext.read(path), fmt="py:percent")
    twin = path.with_suffix(".py").read_text()
    assert text.split("# %%", 1)[1] == twin.split("# %%", 1)[1]


def misread_cells(twin):
    """The cells of a twin that jupytext reads as a command, or other than it writes them."""
    kept = {"extension": ".py", "format_name": "percent", "comment_magics": False}
    read, plain = jupytext.reads(twin, "py:percent"), jupytext.reads(twin, kept)
    again = jupytext.reads(jupytext.writes(read, "py:percent"), "py:percent")
    cells = zip(read.cells, plain.cells, again.cells, strict=True)
    return [one.source for one, *others in cells if {one.source} != {o.source for o in others}]


@each_notebook
def test_twin_is_read_as_the_notebook(path):
    """jupytext 1.19 takes a comment such as "# cat and dog" for the shell's command."""
    twin = path.with_suffix(".py").read_text()
    assert misread_cells(twin) == [], "begin these comments with another word"
    read = jupytext.reads(twin, "py:percent").cells
    cells = nbformat.read(path, as_version=4).cells
    assert [cell.source for cell in read] == [cell.source for cell in cells]


@pytest.mark.parametrize(
    ("code", "is_safe"),
    [
        ("# cat and dog share a colour", False),
        ("# mv the figures\nx = 1", False),
        ("x = 1\n# ls", False),
        ("# x = !ls", False),
        ("if x:\n    x = !ls", False),  # comes back as a comment, for good
        ("# the cat, then echo", True),
        ("if x:\n    # cat\n    x = 2  # ls", True),
    ],
)
def test_both_traps_of_twins_are_found(code, is_safe):
    twin = f"# %% [markdown]\n# # A page\n\n# %%\n{code}\n\n# %%\nprint(x)\n"
    assert (misread_cells(twin) == []) == is_safe


@each_notebook
def test_notebook_only_calls(path):
    cells = code_cells(path)
    assert len(cells) <= 10
    for cell in cells:
        assert len(cell.source.splitlines()) <= 8, cell.source
        for node in ast.walk(ast.parse(cell.source)):
            assert not isinstance(
                node, ast.FunctionDef | ast.ClassDef | ast.For | ast.While | ast.ListComp
            ), cell.source
        assert "import torch" not in cell.source


@each_notebook
def test_notebook_has_one_parameters_cell_with_a_budget(path):
    (cell,) = [c for c in code_cells(path) if "parameters" in c.metadata.get("tags", [])]
    parameters = declared_parameters(cell.source)
    assert parameters["budget"].default == "quick"
    assert all(parameter.help for parameter in parameters.values())


@each_notebook
def test_notebook_is_committed_executed_and_without_errors(path):
    for cell in code_cells(path):
        cleared = "remove-output" in cell.metadata.get(
            "tags", []
        )  # progress bars, with their count
        assert cell.execution_count or cleared, cell.source
        assert not any(out.output_type == "error" for out in cell.outputs)
        assert "execution" not in cell.metadata  # timings


@each_notebook
def test_notebook_checks_its_parameters_first(path):
    cells = code_cells(path)
    assert "check_parameters(In)" in cells[1].source
    with pytest.raises(ParameterError, match=r"unknown parameter 'bugdet'.*did you mean budget"):
        check_parameters([cells[0].source, "# Parameters\nbugdet = 'quick'\n"])


@each_notebook
@pytest.mark.slow
def test_papermill_stops_at_an_unknown_parameter(path, tmp_path):
    done = subprocess.run(
        [BIN / "papermill", path, tmp_path / "out.ipynb", "-p", "epoch", "3"],
        cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode != 0
    assert "unknown parameter 'epoch'" in done.stderr and "budget: str = 'quick'" in done.stderr


@pytest.mark.slow
def test_bare_papermill_refuses_a_terminal_and_pipes_json():
    """What the README says of the form without an output path; piped, it runs to its end.

    Of one notebook: `make smoke` runs them all.
    """
    done = subprocess.run(
        [BIN / "papermill", EXPERIMENTS / "table1.ipynb", "-p", "budget", "smoke"],
        cwd=ROOT, capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    notebook = nbformat.reads(done.stdout, as_version=4)
    *_, saved = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert "wrote runs/smoke/figures/" in saved.outputs[0].text


@pytest.mark.slow
def test_table2_is_scored_on_a_small_folder_in_imagenets_layout(tmp_path):
    """End to end but for the weights, which need a network: each row says so, and the run fails."""
    save_classes(tmp_path / "imagenet" / "val")
    done = subprocess.run(
        [BIN / "papermill", EXPERIMENTS / "table2.ipynb", tmp_path / "out.ipynb", "-p", "budget",
         "smoke", "-p", "imagenet_dir", str(tmp_path / "imagenet"), "-p", "limit", "12"],
        cwd=ROOT, capture_output=True, text=True, check=False,
        env=os.environ | {"HF_HUB_OFFLINE": "1", "HF_HUB_CACHE": str(tmp_path / "hub")},
    )  # fmt: skip
    assert done.returncode == 1, done.stderr[-2000:]
    assert "14 not scored; what was scored is kept" in done.stderr
    shown = (ROOT / "runs" / "smoke" / "figures" / "table2.md").read_text()
    assert shown.count("not scored: timm/") == len(TABLE2), shown
    assert "is not in the cache and the Hugging Face hub does not answer" in shown
