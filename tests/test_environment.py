"""pyproject.toml, environment.yml, the lock file and the README describe one environment."""

import re
import tomllib
from pathlib import Path

import yaml

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
REQUIREMENTS = set(PROJECT["dependencies"]) | {
    requirement for extra in PROJECT["optional-dependencies"].values() for requirement in extra
}
ASKED_FOR = {"jupyter", "jupytext", "torch", "torchvision", "matplotlib", "seaborn", "papermill",
             "jupyter-book"}  # fmt: skip


def name(requirement):
    return re.match(r"[\w.-]+", requirement)[0].lower().replace("_", "-")


def test_conda_environment_is_the_projects():
    conda = yaml.safe_load((ROOT / "environment.yml").read_text())["dependencies"]
    pip = next(entry["pip"] for entry in conda if isinstance(entry, dict))
    assert set(pip) - {"-e ."} == REQUIREMENTS
    assert f"python{PROJECT['requires-python']}" in conda


def test_everything_asked_for_is_there():
    assert set(map(name, REQUIREMENTS)) >= ASKED_FOR


def test_lock_holds_every_requirement_and_no_address():
    lock = (ROOT / "requirements.lock").read_text()
    locked = {name(line) for line in lock.splitlines() if re.match(r"[a-zA-Z0-9]", line)}
    assert {name(r) for r in REQUIREMENTS} <= locked
    assert "://" not in lock


def test_licence_is_apache():
    assert PROJECT["license"] == "Apache-2.0"
    assert "Apache License" in (ROOT / "LICENSE").read_text()


def test_readme_commands_exist_in_the_makefile():
    makefile = (ROOT / "Makefile").read_text()
    commands = re.findall(r"(?:^ *|`)make ([\w-]+)", (ROOT / "README.md").read_text(), re.MULTILINE)
    assert {"table1", "test", "book"} <= set(commands)
    for command in commands:
        assert re.search(rf"^{command}:", makefile, re.MULTILINE), command
