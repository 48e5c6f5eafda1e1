"""A notebook that did not run to its end is noticed by its cells, by make and by the book."""

import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import nbformat
import pytest
import yaml
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output
from sphinx.errors import ExtensionError

from nestbook.finished import find_fault, main

ROOT = Path(__file__).parents[1]
BIN = Path(sys.executable).parent
NOTEBOOKS = sorted((ROOT / "experiments").glob("*.ipynb"))
CONFIG = yaml.safe_load((ROOT / "_config.yml").read_text())
KERNEL = {"kernelspec": {"name": "python3", "language": "python", "display_name": "Python"}}
# As nbclient notes them: all four of a cell that ended, two of one whose kernel was killed.
KILLED = {"iopub.execute_input": "...", "iopub.status.busy": "..."}
ENDED = KILLED | {"iopub.status.idle": "...", "shell.execute_reply": "..."}


def ran(source: str, count: int | None, *, tags=(), timings=None, outputs=()):
    metadata = {"tags": list(tags)} | ({} if timings is None else {"execution": timings})
    return new_code_cell(source, execution_count=count, metadata=metadata, outputs=list(outputs))


EXITED = new_output("error", ename="SystemExit", evalue="", traceback=[])
CLEARED = ("setup", "remove-output")
FINISHED = [
    [ran("a", 1), ran("b", 2), ran("c", 3)],
    [ran("a", 1, timings=ENDED), ran("b", 2, timings=ENDED)],
    [ran("a", None, tags=["remove-cell"]), ran("b", None, tags=CLEARED), ran("c", 3)],
    [ran("a", 1), ran(" ", None), ran("c", 2)],  # nothing to run
    [],
]
UNFINISHED = [
    ([ran("a", 1), ran("b", None), ran("c", None)], r"cell 2 of 3 \(b\) did not run to its end"),
    ([ran("a", 1), ran("b", None), ran("c", 3)], r"cell 2 of 3 \(b\) did not run to its end"),
    ([ran("a", 1), ran("b", None, tags=CLEARED)], r"cell 2 of 2 \(b\) did not run to its end"),
    ([ran("a", None), ran("b", None)], r"cell 1 of 2 \(a\) did not run"),
    ([ran("a", 1, timings=ENDED), ran("b", 2, timings=KILLED)], r"cell 2 of 2 \(b\).* was killed"),
    ([ran("a", 1), ran("b\nc", 2, outputs=[EXITED])], r"2 of 2 \(b\) stopped with SystemExit$"),
    ([ran("a", 1), ran("b", 3)], r"cell 2 of 2 \(b\) ran as number 3"),
    ([ran("a", 1), ran("x = 1", 2, tags=["injected-parameters"])], r"\(x = 1\).*delete the cell$"),
]  # fmt: skip


@pytest.fixture
def path(tmp_path):
    return tmp_path / "experiments" / "page.ipynb"


def write(path: Path, cells: list) -> Path:
    path.parent.mkdir(exist_ok=True)
    notebook = new_notebook(cells=[new_markdown_cell("# A page"), *cells], metadata=KERNEL)
    nbformat.write(notebook, path)
    return path


@pytest.mark.parametrize("cells", FINISHED)
def test_a_notebook_that_ran_to_its_end_has_no_fault(cells, path):
    assert find_fault(write(path, cells)) == ""


@pytest.mark.parametrize(("cells", "fault"), UNFINISHED)
def test_an_unfinished_notebook_is_told_with_its_cell(cells, fault, path):
    with pytest.raises(pytest.fail.Exception, match=fault):
        pytest.fail(find_fault(write(path, cells)))


def test_an_injected_cell_belongs_to_a_run_with_parameters(path):
    write(path, [ran("a", 1), ran("# Parameters\nx = 1", 2, tags=["injected-parameters"])])
    assert find_fault(path, given=True) == ""
    assert "injected for another run" in find_fault(path)


@pytest.mark.parametrize("committed", NOTEBOOKS, ids=lambda path: path.stem)
def test_committed_notebooks_are_finished(committed):
    assert find_fault(committed) == ""


@pytest.mark.parametrize(
    ("cells", "status", "returned"),
    [(FINISHED[0], 0, 0), (FINISHED[0], 1, 1), (UNFINISHED[0][0], 0, 1),
     (UNFINISHED[0][0], 138, 138)],
)  # fmt: skip
def test_papermills_status_is_kept(cells, status, returned, path, monkeypatch, capsys):
    write(path, cells)
    monkeypatch.setattr(sys, "argv", ["finished", str(path), "--status", str(status)])
    assert main() == returned
    told = capsys.readouterr().err
    assert ("page.ipynb is unfinished: code cell 2 of 3" in told) == (cells is UNFINISHED[0][0])
    path.unlink()
    assert main() == (status or 1)


# The book


def test_the_book_refuses_all_unfinished_pages_by_name(path, monkeypatch):
    monkeypatch.syspath_prepend(ROOT / CONFIG["sphinx"]["local_extensions"]["finished_pages"])
    import finished_pages

    for name, (cells, _) in zip("ab", UNFINISHED):
        write(path.with_name(f"{name}.ipynb"), cells)
    write(path.with_name("c.ipynb"), FINISHED[0])
    files = {"a": "experiments/a.ipynb", "b": "experiments/b.ipynb", "c": "experiments/c.ipynb",
             "d": "book/d.md"}  # fmt: skip
    app = SimpleNamespace(srcdir=path.parents[1])
    env = SimpleNamespace(doc2path=lambda name, base: files[name])
    with pytest.raises(ExtensionError) as error:
        finished_pages.refuse(app, env, [*files])
    first, second = str(error.value).splitlines()
    assert first.startswith("experiments/a.ipynb is unfinished: code cell 2 of 3 (b)")
    assert second.endswith("then run: make notebooks NOTEBOOKS=experiments/b.ipynb")
    finished_pages.refuse(app, env, ["c", "d"])


# What papermill and jupyter leave

BODIES = {
    "fine": "print(1)",
    "killed": "import os, time\ntime.sleep(1)\nos.kill(os.getpid(), 9)",
    "exited": "import sys\nsys.exit()",
}


def write_to_run(path: Path, body: str, *, last: bool) -> Path:
    parameters = new_code_cell(
        'budget: str = "quick"  # how long', metadata={"tags": ["parameters"]}
    )
    cells = [new_code_cell(body), new_code_cell("print(budget)")]
    return write(path, [parameters, *(reversed(cells) if last else cells)])


def make(folder: Path, *words: str) -> subprocess.CompletedProcess:
    """A target of the Makefile over the notebooks of a folder."""
    shutil.copy(ROOT / "Makefile", folder)
    if not (folder / ".venv").exists():
        (folder / ".venv").symlink_to(BIN.parent)
    return subprocess.run(
        ["make", "-o", ".venv/ready", *words], cwd=folder, capture_output=True, text=True,
        check=False,
    )  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("last", [False, True], ids=["middle", "last"])
@pytest.mark.parametrize(
    ("kind", "status", "fault"),
    [("killed", 138, "its kernel was killed; memory"), ("exited", 1, "stopped with SystemExit")],
)
def test_make_notices_an_unfinished_notebook(kind, status, fault, last, path, tmp_path):
    """papermill's own status: 138 of a killed kernel, 0 after sys.exit()."""
    table1 = write_to_run(path.with_name("table1.ipynb"), BODIES[kind], last=last)
    before = table1.read_text()
    for target, injected in (("table1", 0), ("smoke", 1)):
        done = make(tmp_path, target)
        assert done.returncode == 2 and f"Error {status}\n" in done.stderr, done.stderr[-2000:]
        place = f"code cell {2 + last + injected} of {3 + injected}"
        assert f"table1.ipynb is unfinished: {place}" in done.stderr
        assert fault in done.stderr
    done = make(tmp_path, "notebooks")
    assert done.returncode == 2 and table1.read_text() == before, done.stderr[-2000:]


@pytest.mark.slow
def test_make_notices_parameters_of_an_earlier_run(path, tmp_path):
    """papermill run in place leaves its injected cell, which the next run without -p keeps."""
    table1 = write_to_run(path.with_name("table1.ipynb"), BODIES["fine"], last=False)
    assert make(tmp_path, "smoke").returncode == 0
    assert "table1.md" in make(tmp_path, "table1").stderr  # ran to its end; wrote no table
    given = [BIN / "papermill", table1, table1, "-p", "budget", "small"]
    subprocess.run(given, check=True, capture_output=True)
    done = make(tmp_path, "table1")
    assert done.returncode == 2 and "(# Parameters) holds parameters" in done.stderr
    assert make(tmp_path, "smoke").returncode == 0  # injects its own


@pytest.mark.slow
def test_no_page_is_rendered_from_an_unfinished_notebook(path, tmp_path):
    write(path, UNFINISHED[4][0])
    folder = ROOT / CONFIG["sphinx"]["local_extensions"]["finished_pages"]
    settings = {"execute": CONFIG["execute"],
                "sphinx": {"local_extensions": {"finished_pages": str(folder)}}}  # fmt: skip
    (tmp_path / "_config.yml").write_text(yaml.safe_dump(settings))
    (tmp_path / "_toc.yml").write_text("format: jb-book\nroot: experiments/page\n")
    build = [BIN / "jupyter-book", "build", tmp_path]
    done = subprocess.run(build, capture_output=True, text=True, check=False)
    assert done.returncode == 1, done.stderr[-2000:]
    assert "experiments/page.ipynb is unfinished: code cell 2 of 2 (b)" in done.stderr
    assert not list((tmp_path / "_build").rglob("page.html"))
    write(path, FINISHED[1])
    subprocess.run(build, capture_output=True, check=True)
    assert list((tmp_path / "_build").rglob("page.html"))
