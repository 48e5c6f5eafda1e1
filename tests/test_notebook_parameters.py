import ast
import math
import os
import re
import subprocess
import sys
from pathlib import Path

import nbformat
import numpy as np
import papermill
import pytest
from click.testing import CliRunner
from papermill.cli import papermill as command
from papermill.exceptions import PapermillExecutionError
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
        ("seeds = 1" + "0" * 400, "parameter 'seeds' is 1000.*, which must be 1 to 1,000"),
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


# papermill's ways in


class Prepared:
    """A notebook into which papermill itself injects parameters, as text of its injected cell."""

    def __init__(self, folder: Path) -> None:
        self.path, self.out, self.file = (
            folder / name for name in ("in.ipynb", "out.ipynb", "f.yaml")
        )
        cell = nbformat.v4.new_code_cell(DECLARED, metadata={"tags": ["parameters"]})
        kernel = {"name": "python3", "language": "python", "display_name": "Python"}
        notebook = nbformat.v4.new_notebook(cells=[cell], metadata={"kernelspec": kernel})
        nbformat.write(notebook, self.path)

    def by_words(self, *words: str) -> str:
        """By papermill's command line; the line of -f goes into a file."""
        if words[0] == "-f":
            self.file.write_text(words[1])
            words = "-f", str(self.file)
        done = CliRunner().invoke(command, [*map(str, (self.path, self.out)), "--prepare-only",
                                            *words])  # fmt: skip
        assert done.exit_code == 0, done.output
        return nbformat.read(self.out, as_version=4).cells[1].source

    def by_call(self, parameters: dict) -> str:
        papermill.execute_notebook(self.path, self.out, parameters, prepare_only=True)
        return nbformat.read(self.out, as_version=4).cells[1].source


@pytest.fixture
def prepared(tmp_path):
    return Prepared(tmp_path)


# What is typed, and what arrives of it in papermill 2.7.
CHANGED = [
    (("-p", "ema", "true"), "'true' (str)"),
    (("-p", "budget", "4823e91"), "4.823e+94 (float)"),  # a hash
    (("-p", "budget", "1_000"), "1000 (int)"),
    (("-p", "budget", "None"), "None (NoneType)"),
    (("-p", "seeds", "1e3"), "1000.0 (float)"),
    (("-r", "seeds", "3"), "'3' (str)"),
    (("-r", "ema", "True"), "'True' (str)"),
    (("-y", "rate: 1e-3"), "'1e-3' (str)"),
    (("-y", "budget: no"), "False (bool)"),
    (("-y", "budget: 12:30"), "750 (int)"),
    (("-y", "budget: [quick, .nan]"), "['quick', nan] (list)"),
    (("-f", "budget: 010"), "8 (int)"),
    (("-f", "rate: 1e+3"), "'1e+3' (str)"),
]


@pytest.mark.parametrize(("words", "arrived"), CHANGED, ids=lambda value: str(value))
def test_a_value_that_papermill_changed_is_refused_as_it_arrived(words, arrived, prepared):
    with pytest.raises(ParameterError, match=re.escape(f", got {arrived}; what works: ")):
        check_parameters([DECLARED, prepared.by_words(*words)])


def test_values_that_no_check_can_notice_arrive_so(prepared):
    """As book/index.md says: papermill's YAML is version 1.1, and -p reads numbers as Python."""
    for words, value in ((("-y", "seeds: 010"), 8), (("-y", "seeds: 12:30"), 750),
                         (("-p", "seeds", "010"), 10), (("-p", "seeds", "1_0"), 10)):  # fmt: skip
        injected = prepared.by_words(*words)
        assert injected.split() == ["#", "Parameters", "seeds", "=", str(value)]
        check_parameters([DECLARED, injected])


def test_what_python_calls_change(prepared):
    with pytest.raises(ParameterError, match=r"must be int, got '\(1, 2\)' \(str\); what works"):
        check_parameters([DECLARED, prepared.by_call({"seeds": (1, 2)})])
    assert nbformat.read(prepared.out, 4).metadata.papermill.parameters == {"seeds": [1, 2]}
    for number in (np.int64(3), np.float32(0.5), np.bool_(True)):
        with pytest.raises(TypeError, match="is not JSON serializable"):
            prepared.by_call({"seeds": number})
    check_parameters([DECLARED, prepared.by_call({"rate": np.float64(0.5)})])  # a float of Python's


@pytest.mark.parametrize(
    ("arrived", "spelled"),
    [
        ({"ema": "true"}, True), ({"ema": "yes"}, True), ({"ema": 1}, True), ({"ema": "x"}, False),
        ({"seeds": "1_000"}, 1000), ({"seeds": 1000.0}, 1000), ({"seeds": "nan"}, 3),
        ({"seeds": "-1"}, 3), ({"seeds": 2.5}, 3), ({"rate": "1e-5"}, 1e-5), ({"rate": "a"}, 0.5),
    ],
    ids=str,
)  # fmt: skip
def test_the_message_gives_what_was_meant_where_that_is_clear(arrived, spelled):
    (name,) = arrived
    with pytest.raises(ParameterError, match=re.escape(f"what works: -p {name} {spelled}; ")):
        check_parameters([DECLARED, PythonTranslator.codify(arrived)])


ALL = {
    (p.name, p.default): p
    for path in NOTEBOOKS for p in declared_parameters(declared_in(path)).values()
}  # fmt: skip
OTHER = {"str": 2024, "int": "1e2", "float": "1e-5", "bool": "true"}
VALID = {"budget": "smoke", "dataset": "digits", "precision": "fp32", "weights": "trained",
         "network": "inception", "device": "cpu"}  # fmt: skip
WORKS = (
    r"what works: (.*?); -y '(.*?)', also as a line of a file for -f; in Python parameters=(.*?); "
)


@pytest.mark.parametrize("parameter", ALL.values(), ids=map(str, ALL))
def test_what_the_message_says_works_in_every_way_in(parameter, prepared):
    declared = f"{parameter.name}: {parameter.type} = {parameter.default!r}  # {parameter.help}"
    injected = PythonTranslator.codify({parameter.name: OTHER[parameter.type]})
    with pytest.raises(ParameterError) as error:
        check_parameters([declared, injected])
    text = "" if parameter.name in ("data_dir", "imagenet_dir", "image") else "2024"
    text = VALID.get(parameter.name, text)
    option, line, call = (
        words.replace("TEXT", text) for words in re.search(WORKS, str(error.value)).groups()
    )
    check_parameters([declared, prepared.by_words(*option.split(" "))])
    for way in ("-y", "-f"):
        check_parameters([declared, prepared.by_words(way, line)])
    check_parameters([declared, prepared.by_call(ast.literal_eval(call))])


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "words", "message"),
    [
        ("table2", ("-p", "submit", "true"), "got 'true' (str); what works: -p submit True;"),
        ("figure_a4", ("-r", "count", "3"), "got '3' (str); what works: -p count 3;"),
        ("scale", ("-y", "price_per_hour: 1e-3"), "got '1e-3' (str); what works: -p price"),
        ("explore", ("-f", "model: 010"), "got 8 (int); what works: -r model TEXT;"),
    ],
    ids=lambda value: value if isinstance(value, str) else value[0],
)  # fmt: skip
def test_the_notebook_itself_stops_so(name, words, message, prepared, tmp_path):
    option, *rest = words
    if option == "-f":
        prepared.file.write_text(rest[0])
        rest = [prepared.file]
    done = subprocess.run(
        [Path(sys.executable).parent / "papermill", EXPERIMENTS / f"{name}.ipynb",
         tmp_path / "out.ipynb", option, *rest],
        cwd=EXPERIMENTS.parent, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 1 and message in done.stderr, done.stderr[-2000:]


@pytest.mark.slow
def test_the_notebook_itself_stops_at_a_tuple_from_python(tmp_path):
    with pytest.raises(
        PapermillExecutionError, match=r"got '\(1, 2\)' \(str\); what works: -p seeds"
    ):
        papermill.execute_notebook(
            EXPERIMENTS / "table_a3.ipynb", tmp_path / "out.ipynb", {"seeds": (1, 2)},
            cwd=EXPERIMENTS.parent, progress_bar=False,
        )  # fmt: skip


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
