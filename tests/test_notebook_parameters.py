import math
import os
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest
from papermill.translators import PythonTranslator

from nestbook.notebook import RULES, ParameterError, check_parameters, declared_parameters
from nestbook.report.tables import Table, save
from nestlib import project, records

EXPERIMENTS = Path(__file__).parents[1] / "experiments"
NOTEBOOKS = sorted(EXPERIMENTS.glob("*.ipynb"))
WRONG = {
    "budget": "cheap", "precision": "fp8", "weights": "mine", "network": "vgg", "device": "tpu",
    "data_dir": "/nowhere", "imagenet_dir": "/nowhere", "image": "/nowhere.jpg", "seed": -1,
    "seeds": 0, "processes": 0, "limit": -1, "canvas": 128, "count": 0, "images": 0, "nodes": 0,
    "gpus_per_node": -1, "epochs": 0, "loader_cores": 0, "images_per_second": math.nan,
    "loader_images_per_second": -1.0, "bandwidth_gb_per_second": 0.0, "price_per_hour": math.inf,
}  # fmt: skip
# What the functions say that take it: the words of papermill, and of the message.
LATER = {
    "table1": ("-p dataset cifar10", "budget quick does not train on 'cifar10'"),
    "figure_a4": ("-p dataset cifar10", "budget quick does not localize on 'cifar10'"),
    "figure1": ("-p model nest_tyni_cifar", "did you mean nest_tiny_cifar"),
    "explore": ("-p model digits/nest_plante", "did you mean digits/nest_planted"),
    "figure7": ("-p rows SAGAN", "no bar with 'SAGAN'"),
    "figure8": ("-p weights pretrained", "give imagenet_dir too"),
    "table2": ("-p submit True", "only budget paper submits runs, not quick"),
    "figure5": ("-p train True -p budget gpu", "runs without a record are missing their images"),
}  # fmt: skip
SWITCHES = ("train", "submit")  # true or false

DECLARED = """budget: str = "quick"  # how long
seeds: int = 3  # runs of each row
rate: float = 0.5  # of something
ema: bool = False  # or not
"""


def given(text):
    check_parameters(["import x", DECLARED, f"# Parameters\n{text}\n", "from nestlib import y"])


def test_known_parameters_pass():
    given("budget = 'smoke'\nseeds = 1\nrate = 1\nema = True")
    check_parameters(["", DECLARED, "print(1)"])  # nothing injected


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("seed = 3", r"unknown parameter 'seed' \(did you mean seeds\?\); valid parameters:"),
        ("zzz = 3", "unknown parameter 'zzz'; valid parameters:"),
        ("seeds = 2.5", r"parameter 'seeds' must be int, got 2.5 \(float\)"),
        ("seeds = True", r"parameter 'seeds' must be int, got True \(bool\)"),
        ('ema = "yes"', r"parameter 'ema' must be bool, got 'yes' \(str\)"),
        ("budget = 1", r"parameter 'budget' must be str, got 1 \(int\)"),
        # As papermill writes what is no literal; a number without a rule of its own has this one.
        ("budget = float('nan')", "parameter 'budget' must be str, got nan"),
        ("seeds = float('inf')", "parameter 'seeds' must be int, got inf"),
        ("rate = float('nan')", "parameter 'rate' is nan, which must be 0 or more"),
        ("rate = float('-inf')", "parameter 'rate' is -inf, which must be 0 or more"),
        ("rate = -0.5", "parameter 'rate' is -0.5, which must be 0 or more"),
    ],
)
def test_others_stop_with_the_valid_ones(text, message):
    with pytest.raises(ParameterError, match=message) as error:
        given(text)
    for line in ("budget: str = 'quick'  (how long)", "seeds: int = 3  (runs of each row)"):
        assert line in str(error.value)


def test_declarations_are_read_with_their_help():
    parameters = declared_parameters(DECLARED)
    assert [str(p) for p in parameters.values()][2] == "rate: float = 0.5  (of something)"
    assert declared_parameters("%matplotlib inline") == {}


def declared_in(path):
    cells = nbformat.read(path, as_version=4).cells
    return next(c.source for c in cells if "parameters" in c.metadata.get("tags", []))


def test_every_parameter_of_every_notebook_has_a_rule():
    names = {name for path in NOTEBOOKS for name in declared_parameters(declared_in(path))}
    assert names == set(RULES) | {"dataset", "model", "rows", *SWITCHES}
    assert set(WRONG) == set(RULES)


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_wrong_value_of_each_stops_the_notebook(path):
    """As papermill writes it down; with no value at all the notebook's defaults pass."""
    declared = declared_in(path)
    check_parameters([declared, "# Parameters\n"])
    for name in set(declared_parameters(declared)) & set(RULES):
        injected = PythonTranslator.codify({name: WRONG[name]})
        with pytest.raises(ParameterError, match=f"parameter '{name}' is .*valid parameters"):
            check_parameters([declared, injected])


@pytest.mark.slow
@pytest.mark.parametrize("name", LATER)
def test_what_depends_on_other_parameters_stops_it_too(name, tmp_path):
    words, message = LATER[name]
    done = subprocess.run(
        [Path(sys.executable).parent / "papermill", EXPERIMENTS / f"{name}.ipynb",
         tmp_path / "out.ipynb", *words.split()],
        cwd=EXPERIMENTS.parent, capture_output=True, text=True, check=False,
        env={key: value for key, value in os.environ.items() if key != "NESTLIB_DATA"},
    )  # fmt: skip
    assert done.returncode == 1 and message in done.stderr, done.stderr[-2000:]


def test_pages_are_published_with_default_parameters(monkeypatch):
    monkeypatch.setenv(project.PUBLISH, "1")
    check_parameters(["", DECLARED])
    with pytest.raises(ParameterError, match=r"published with default parameters, not {.seeds"):
        given("seeds = 1")


def test_from_another_folder_the_records_are_the_clones(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv(project.PROJECT, "")
    check_parameters(["", DECLARED])
    assert project.find_project_root() == EXPERIMENTS.parent
    assert records.open_store().committed == EXPERIMENTS / "records"


def test_from_another_folder_figures_are_written_beside_the_clones_own(monkeypatch, tmp_path):
    """`papermill /elsewhere/experiments/x.ipynb` run in a folder that is no project."""
    clone, here = tmp_path / "clone", tmp_path / "here"
    (clone / "experiments" / "records").mkdir(parents=True)
    (clone / "_config.yml").touch()
    here.mkdir()
    monkeypatch.chdir(here)
    monkeypatch.setenv(project.PROJECT, "")
    monkeypatch.setattr("nestbook.notebook.__file__", str(clone / "experiments" / "x.py"))
    check_parameters(["", DECLARED])
    save("table", "quick", [Table("c", ("a",), [("1",)])])
    assert (clone / "runs" / "figures" / "table.md").is_file()
    assert records.open_store().local == clone / "runs" / "records"
    assert not list(here.iterdir())


def test_where_no_clone_is_it_is_said(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv(project.PROJECT, "")
    monkeypatch.setattr("nestbook.notebook.__file__", str(tmp_path / "site" / "nestlib" / "x.py"))
    with pytest.raises(FileNotFoundError, match=r"is not in a clone of this project.*--cwd FOLDER"):
        check_parameters(["", DECLARED])
