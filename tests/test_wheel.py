"""A wheel is whole: installed alone and run outside of the checkout, without a network.

It is built from a copy of the tree, and installed into an environment of its own, which sees the
other packages that are installed here, but not this checkout.
"""

import json
import re
import shutil
import subprocess
import sys
import zipfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from typer.main import get_command

from nestlib import __version__
from nestlib.cli.main import app
from nestlib.recipes import get_recipe, with_overrides
from nestlib.records import Store, open_store

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[1]
PLANTED = "digits/nest_planted-s2-56ad650c"  # its weights are committed
LARGE = "digits/nest_planted-s1-56ad650c"  # its weights are made up, too large for a wheel
LARGEST_BYTES = 8e6
NO_NETWORK = """
import socket

def refuse(*_):
    raise OSError("this test has no network")

socket.socket.connect = socket.socket.connect_ex = socket.getaddrinfo = refuse
"""


def run(*words, cwd: Path, **how) -> subprocess.CompletedProcess:
    return subprocess.run(
        list(map(str, words)), cwd=cwd, capture_output=True, text=True, check=False, **how
    )


def check(*words, cwd: Path) -> str:
    done = run(*words, cwd=cwd)
    assert not done.returncode, done.stdout[-2000:] + done.stderr[-3000:]
    return done.stdout


@pytest.fixture(scope="module")
def tree(tmp_path_factory) -> Path:
    """A copy of the working tree as it is, with large weights beside the committed ones."""
    folder = tmp_path_factory.mktemp("tree")
    listed = check("git", "ls-files", "-co", "--exclude-standard", "-z", cwd=ROOT).split("\0")
    for name in filter(None, listed):
        if (ROOT / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, folder / name)
    experiments = folder / "experiments"
    record = replace(open_store(ROOT).find(PLANTED), run_id=LARGE)
    record.recipe["seed"] = 1
    Store(experiments / "records", folder).add(record, committed=True)
    large = experiments / "weights" / f"{LARGE}.safetensors"
    large.write_bytes(bytes(5 * 2**20))
    large.with_name(f"{large.name}.sha256").write_text(f"{'0' * 64}  {large.name}\n")
    return folder


@pytest.fixture(scope="module")
def wheel(tree, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    how = ("--no-deps", "--no-build-isolation", "--no-index", "-w", folder)
    check(sys.executable, "-m", "pip", "wheel", tree, *how, cwd=folder)
    (made,) = folder.iterdir()
    return made


@pytest.fixture(scope="module")
def python(wheel, tmp_path_factory) -> Path:
    """The Python of an environment with the wheel; it lies within another project's repository."""
    venv = tmp_path_factory.mktemp("elsewhere") / "venv"
    check("git", "init", "-q", venv.parent, cwd=venv.parent)
    author = ("-c", "user.name=x", "-c", "user.email=x@x")
    check("git", *author, "commit", "-qm", "x", "--allow-empty", cwd=venv.parent)
    check(sys.executable, "-m", "venv", "--without-pip", venv, cwd=venv.parent)
    made = venv / "bin" / "python"
    how = ("--no-deps", "--no-index", "-q")
    check(sys.executable, "-m", "pip", "--python", made, "install", *how, wheel, cwd=venv.parent)
    packages, others = (
        Path(
            check(
                one, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))", cwd=venv
            ).strip()
        )
        for one in (made, sys.executable)
    )
    (packages / "others.pth").write_text(f"{others}\n")
    (packages / "sitecustomize.py").write_text(NO_NETWORK)
    return made


@pytest.fixture
def nest(python, tmp_path):
    return lambda *words: run(python.with_name("nest"), *words, cwd=tmp_path)


def test_it_holds_the_packages_their_data_and_the_licence(wheel, tree):
    expected = {
        "licenses/LICENSE",
        "METADATA",
        "WHEEL",
        "entry_points.txt",
        "top_level.txt",
        "RECORD",
    }
    expected = {f"nestlib-{__version__}.dist-info/{name}" for name in expected}
    for root, package in ((tree, "nestlib"), (tree / "experiments", "nestbook")):
        found = {path.relative_to(root).as_posix() for path in (root / package).rglob("*.*")}
        expected |= {name for name in found if not re.search("__pycache__|/[.]", name)}
    experiments, committed = tree / "experiments", set()
    for summed in (experiments / "weights").rglob("*.sha256"):
        run_id = summed.relative_to(experiments / "weights").as_posix().partition(".")[0]
        committed |= {f"weights/{run_id}.safetensors.sha256", f"records/{run_id}.json"}
        if run_id != LARGE and summed.with_suffix("").stat().st_size < 4 * 2**20:
            committed.add(f"weights/{run_id}.safetensors")
    assert f"weights/{PLANTED}.safetensors" in committed
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
        for name in committed:
            packed = archive.read(f"nestlib/committed/{name}")
            assert packed == (experiments / name).read_bytes(), name
    assert names == expected | {f"nestlib/committed/{name}" for name in committed}
    assert wheel.stat().st_size < LARGEST_BYTES


def test_a_wheel_made_of_the_source_distribution_is_the_same(wheel, tree, tmp_path):
    script = "from setuptools.build_meta import build_sdist as make; import sys; make(sys.argv[1])"
    check(sys.executable, "-c", script, tmp_path, cwd=tree)
    (source,) = tmp_path.iterdir()
    how = ("--no-deps", "--no-build-isolation", "--no-index", "-w", tmp_path / "again")
    check(sys.executable, "-m", "pip", "wheel", source, *how, cwd=tmp_path)
    (again,) = (tmp_path / "again").iterdir()
    with zipfile.ZipFile(wheel) as one, zipfile.ZipFile(again) as other:
        assert set(one.namelist()) == set(other.namelist())


LIBRARY = """
import json, sys
from pathlib import Path

import torch

import nestbook, nestlib
from nestlib.explain import cam, gradcat
from nestlib.models.generator import NesTDecoder
from nestlib.runs.weights import load_trained

for package in (nestlib, nestbook):
    assert Path(package.__file__).is_relative_to(sys.prefix), package
images = torch.linspace(-1, 1, 2 * 3 * 64 * 64).reshape(2, 3, 64, 64)
small = nestlib.create_model("nest_tiny_cifar", num_classes=10)
assert small(images[..., :32, :32]).shape == (2, 10)
model = nestlib.create_model("digits/nest_planted", pretrained=True).eval()
tuned = nestlib.create_model("digits/nest_planted", pretrained=True, num_classes=3)
assert tuned(images).shape == (2, 3)
assert isinstance(load_trained("digits/gan_nest_narrow"), NesTDecoder)
said = []
for name, options in (("imagenet/nest_tiny", {}), ("digits/nest_planted", {"seed": 1})):
    try:
        nestlib.create_model(name, pretrained=True, **options)
    except FileNotFoundError as error:
        said.append(str(error))
with torch.no_grad():
    found = {"logits": model(images).tolist(), "cam": cam(model, images).mean((1, 2)).tolist()}
found["path"] = torch.as_tensor(gradcat(model, images, classes=3).path).tolist()
print(json.dumps(found | {"said": said, "listed": nestlib.list_models(pretrained=True)}))
"""


def test_the_library_works_with_its_committed_weights(python, tmp_path):
    """And computes the same as this checkout."""
    found = json.loads(check(python, "-c", LIBRARY, cwd=tmp_path))
    here = LIBRARY.replace(".is_relative_to(sys.prefix)", "").replace(
        ', {"seed": 1}', ', {"seed": 99}'
    )
    expected = json.loads(check(sys.executable, "-c", here, cwd=ROOT))
    for name in ("logits", "cam", "path"):
        np.testing.assert_allclose(found[name], expected[name], atol=1e-5, err_msg=name)
    assert found["listed"] == expected["listed"]
    unknown, large = found["said"]
    assert "`nest train imagenet/nest_tiny --seed 0` makes it" in unknown
    assert f"{LARGE} are too large to be installed with nestlib, and it names no" in large
    assert not list(tmp_path.iterdir())


def test_recipes_are_listed_and_one_trains(nest, tmp_path):
    assert nest("--version").stdout == f"nestlib {__version__}\n"
    assert "digits/nest_planted " in nest("recipes", "planted", "here 87.52 %").stdout
    changes = ["epochs=1", "warmup_epochs=0", "dataset_options.num_images=64"]
    train = ["train", "digits/nest_narrow", "--device", "cpu"]
    short = [*train, *(word for change in changes for word in ("--set", change))]
    for words in ([*train, "--budget", "smoke"], short):
        done = nest(*words)
        assert not done.returncode and "% top-1 after epoch 1" in done.stdout, done.stderr[-3000:]
    recipe = with_overrides(get_recipe("digits/nest_narrow"), changes)
    record = Store(tmp_path, tmp_path / "runs" / "records").find(recipe.run_id)
    assert record.environment["commit"] is None  # and not that of the repository around
    assert record.environment["packages"]["nestlib"] == __version__
    assert (tmp_path / "runs" / recipe.run_id / "weights.safetensors").is_file()
    assert "not trained, because a record exists" in nest(*short).stderr
    assert [path.name for path in tmp_path.iterdir()] == ["runs"]


def test_a_found_record_is_shown_and_weights_are_scored(nest):
    shown = nest("train", "digits/nest_planted", "--seed", "2")
    assert "nestlib/committed/records" in shown.stderr and "87.52 % top-1" in shown.stdout
    scored = nest("evaluate", "digits/nest_planted", "--seed", "2", "--dataset", "digits",
                  "--device", "cpu", "--limit", "16")  # fmt: skip
    assert re.search(r"top-1 .* in fp16", scored.stdout), scored.stderr[-3000:]


NEED_CHECKOUT = (
    "train digits/nest_narrow --commit-record", "bench table1 --form smoke --commit-record",
    "export digits/nest_planted --seed 2", "evidence", "evidence --run",
    "evidence --minutes 3 --device cpu", "evidence --pack packs",
)  # fmt: skip
# And a word of what they miss, which is data, a run or a valid name.
MISS_OTHERS = {
    "train cifar10/nest_tiny": "--data-dir",
    "shard imagenet --source . --out shards": "--source",
    "check-shards .": "no shards in",
    "inspect cifar10": "--data-dir",
    "convert nothing.safetensors out.safetensors": "nothing.safetensors",
    "push cifar10/nest_tiny --folder card": "`nest train cifar10/nest_tiny",
    "evaluate nest_tiny_imagenet --device cpu": "not scored",
    "score digits/gan_nest": "did you mean",
    "explain blanking --recipe cifar10/nest_tiny": "`nest train cifar10/nest_tiny",
    "sweep nothing": "table1",
    "profile nothing": "step",
}
WORK = (
    "recipes cifar10", "sweep figure5 --board", "submit digits/nest_narrow --dry-run",
    "bench table1 --form smoke --device cpu", "push digits/nest_planted --seed 2 --folder card",
)  # fmt: skip


@pytest.mark.parametrize("words", NEED_CHECKOUT)
def test_what_needs_the_checkout_says_so(nest, tmp_path, words):
    done = nest(*words.split())
    assert done.returncode == 1 and done.stdout == ""
    (line,) = done.stderr.splitlines()
    assert re.search(rf"needs a checkout of .*{tmp_path} is in none; .* NESTLIB_PROJECT", line)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("words", MISS_OTHERS)
def test_other_commands_say_what_they_miss(nest, words):
    done = nest(*words.split())
    assert done.returncode == 1 and "Traceback" not in done.stderr
    assert MISS_OTHERS[words] in done.stdout + done.stderr


@pytest.mark.parametrize("words", WORK)
def test_commands_that_need_no_checkout_work(nest, words):
    done = nest(*words.split())
    assert not done.returncode and done.stdout, done.stderr[-3000:]


def test_every_command_was_tried():
    tried = {words.split()[0] for words in (*NEED_CHECKOUT, *MISS_OTHERS, *WORK)}
    assert tried == set(get_command(app).commands)


def test_a_notebook_says_that_it_needs_a_clone(python, tmp_path):
    script = (
        "from nestbook.notebook import check_parameters as check; check(['', 'seeds: int = 1'])"
    )
    done = run(python, "-c", script, cwd=tmp_path)
    assert "is not in a clone of this project, so there are no records to show" in done.stderr
