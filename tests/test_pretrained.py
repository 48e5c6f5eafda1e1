"""Trained models by their recipes' names, in a checkout and where nestlib is installed alone."""

import hashlib
import re
import shutil
import subprocess
import sys
from email.message import Message
from pathlib import Path

import pytest
import torch
from test_fetching import serve
from torch import nn

import nestlib
from nestlib import project
from nestlib.data import fetching
from nestlib.models import PUBLISHED
from nestlib.models.weights import load_weights
from nestlib.recipes import get_recipe
from nestlib.records import Store, describe_environment, open_store
from nestlib.runs import weights
from nestlib.runs.weights import commit_weights, load_trained

ROOT = Path(__file__).parents[1]
EXPERIMENTS = ROOT / "experiments"
NAME, RUN_ID = "digits/nest_planted", "digits/nest_planted-s2-56ad650c"
FILE = EXPERIMENTS / "weights" / f"{RUN_ID}.safetensors"


@pytest.fixture
def images():
    return torch.randn(2, 3, 64, 64, generator=torch.manual_seed(0))


@pytest.fixture
def installed(tmp_path, monkeypatch):
    """The folder that a wheel brings, with one run; the working folder is in no project."""
    committed, work = tmp_path / "nestlib" / "committed", tmp_path / "work"
    for path in (f"records/{RUN_ID}.json", f"weights/{RUN_ID}.safetensors"):
        (committed / path).parent.mkdir(parents=True)
        shutil.copy(EXPERIMENTS / path, committed / path)
    shutil.copy(
        f"{FILE}.sha256",
        f"{committed / 'weights' / FILE.relative_to(EXPERIMENTS / 'weights')}.sha256",
    )
    work.mkdir()
    monkeypatch.chdir(work)
    monkeypatch.setattr(project, "SHIPPED", committed)
    monkeypatch.setattr(project, "_PACKAGE", committed.parent)
    monkeypatch.setenv(project.PROJECT, "")
    monkeypatch.setenv("NESTLIB_CACHE", str(tmp_path / "cache"))
    return committed


@pytest.fixture
def unshipped(installed):
    """The file of weights that the wheel leaves out, as one too large for it."""
    file = installed / "weights" / f"{RUN_ID}.safetensors"
    file.unlink()
    return file


def test_a_recipes_name_gives_its_trained_model(images):
    model = nestlib.create_model(NAME, pretrained=True)
    assert model.training and not load_trained(NAME).training
    expected = load_weights(get_recipe(NAME).build_model(10), FILE).eval()(images)
    assert torch.equal(model.eval()(images), expected)
    assert torch.equal(load_trained(NAME, seed=2)(images), expected)
    untrained = nestlib.create_model(NAME)
    assert untrained.num_classes == 10 and not torch.equal(untrained.eval()(images), expected)


@pytest.mark.parametrize("name", [NAME, "digits/deit_planted", "digits/resnet_planted"])
def test_another_number_of_classes_has_a_fresh_head(name, images):
    known, fresh, none = (
        nestlib.create_model(name, pretrained=True, **classes).eval()
        for classes in ({}, {"num_classes": 7}, {"num_classes": 0})
    )
    assert fresh(images).shape == (2, 7)
    trained, own = known.state_dict(), fresh.state_dict()
    other = {key for key in trained if not torch.equal(trained[key], own[key])}
    (head,) = {key.rpartition(".")[0] for key in other}
    assert other == {f"{head}.weight", f"{head}.bias"}
    assert isinstance(known.get_submodule(head), nn.Linear)
    assert torch.allclose(known.get_submodule(head)(none(images)), known(images), atol=1e-5)


def test_another_image_size_resizes_the_embeddings():
    large = torch.randn(1, 3, 128, 128, generator=torch.manual_seed(0))
    model = nestlib.create_model(NAME, pretrained=True, img_size=128, num_classes=10).eval()
    expected = load_weights(nestlib.create_model(NAME, img_size=128), FILE).eval()
    # The file's embeddings are resized in fp16 there.
    assert torch.allclose(model(large), expected(large), atol=1e-3)


def test_what_has_weights_is_listed(images):
    names = nestlib.list_models(pretrained=True)
    assert set(PUBLISHED) <= set(names) and len(names) == len(set(names))
    recipes = [name for name in names if "/" in name]
    assert NAME in recipes and "digits/gan_nest_narrow" not in recipes
    for name in recipes:
        assert nestlib.create_model(name, pretrained=True)(images).shape == (2, 10)
    assert not any("/" in name for name in nestlib.list_models())


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("digits/nest_plantd", {}, "no recipe 'digits/nest_plantd'; did you mean digits/nest_pl"),
        ("digits/gan_nest_narrow", {}, r"a generator, not a classifier; .*load_trained\('digits/g"),
        (NAME, {"seed": 1}, f"`nest train {NAME} --seed 1"),
        ("imagenet/nest_base", {}, "`nest train imagenet/nest_base --seed 0` makes it"),
        (NAME, {"seed": 2, "pretrained": False}, "seed=2 chooses among trained weights"),
        (NAME, {"embed_dim": 24}, r"size mismatch for patch_embed\.weight"),
        (NAME, {"no_option": 1}, r"nest_tiny_64 has no option \['no_option'\]"),
    ],
)  # fmt: skip
def test_what_cannot_be_given_is_said(name, options, message):
    with pytest.raises(Exception, match=message):
        nestlib.create_model(name, **{"pretrained": True, **options})


def test_models_do_not_import_runs():
    """A recipe is made of a model, not the other way round."""
    script = "import nestlib, sys; print([m for m in sys.modules if m.startswith('nestlib.runs')])"
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    assert done.stdout == "[]\n"


def test_outside_of_a_project_the_installed_weights_are_found(installed, images):
    store = open_store()
    assert store == Store(installed / "records", Path.cwd() / "runs" / "records", shipped=True)
    expected = load_weights(get_recipe(NAME).build_model(10), FILE).eval()(images)
    assert torch.equal(nestlib.create_model(NAME, pretrained=True).eval()(images), expected)
    assert nestlib.list_models(pretrained=True)[-1] == NAME
    assert not list(Path.cwd().iterdir())


def test_in_a_project_its_own_records_count(installed, monkeypatch):
    monkeypatch.chdir(EXPERIMENTS)
    assert open_store() == Store(EXPERIMENTS / "records", ROOT / "runs" / "records")
    monkeypatch.chdir(installed)
    monkeypatch.setenv(project.PROJECT, str(ROOT))
    assert open_store() == Store(EXPERIMENTS / "records", ROOT / "runs" / "records")


def test_an_editable_install_has_its_clones_weights_and_not_its_records(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv(project.PROJECT, "")
    assert open_store() == Store(
        tmp_path / "experiments" / "records", tmp_path / "runs" / "records"
    )
    assert weights.find_weights(get_recipe(NAME, seed=2), weights.open_trained()).path == FILE
    assert nestlib.create_model(NAME, pretrained=True) and load_trained(NAME)
    assert NAME in nestlib.list_models(pretrained=True)


def test_nothing_is_committed_to_an_installed_nestlib(installed):
    before = {path: path.read_bytes() for path in installed.rglob("*.*")}
    store = open_store()
    record = store.find(RUN_ID)
    needs = rf"needs a checkout .*{Path.cwd()} is in none; clone .*{project.PROJECT}"
    with pytest.raises(FileNotFoundError, match=needs):
        store.add(record, committed=True)
    with pytest.raises(FileNotFoundError, match=needs):
        commit_weights(get_recipe(NAME, seed=2), store)
    assert {path: path.read_bytes() for path in installed.rglob("*.*")} == before
    assert store.add(record) == Path.cwd() / "runs" / "records" / f"{RUN_ID}.json"


def test_an_installed_nestlib_names_no_commit(monkeypatch):
    """Its folder may lie in a virtual environment inside another project's repository."""
    commit = describe_environment(torch.device("cpu"))["commit"]
    assert commit is None or re.fullmatch("[0-9a-f]{40}", commit)
    monkeypatch.setattr("nestlib.records.find_clone", lambda: None)
    monkeypatch.delenv("NESTLIB_COMMIT", raising=False)
    assert describe_environment(torch.device("cpu"))["commit"] is None


@pytest.fixture
def repository(tmp_path, monkeypatch):
    """A server of the repository's files, which an installed nestlib names."""
    folder = tmp_path / "server"
    with serve(folder) as server:
        monkeypatch.setattr(weights, "repository_url", lambda: f"{server.url}/owner/name")
        server.file = f"owner/name/raw/HEAD/experiments/weights/{RUN_ID}.safetensors"
        (folder / server.file).parent.mkdir(parents=True)
        shutil.copy(FILE, folder / server.file)
        yield server


def test_large_weights_are_fetched_once(unshipped, repository, tmp_path, images):
    expected = load_trained(NAME, store=open_store(ROOT))(images)
    for _ in range(2):
        assert torch.equal(load_trained(NAME)(images), expected)
    assert repository.counts == {repository.file: 1}
    assert NAME in nestlib.list_models(pretrained=True)
    kept = tmp_path / "cache" / "weights" / f"{RUN_ID}.safetensors"
    kept.write_bytes(kept.read_bytes()[:-1])  # as a full disk leaves it
    assert torch.equal(load_trained(NAME)(images), expected)
    assert repository.counts == {repository.file: 2}
    assert kept.read_bytes() == FILE.read_bytes() and not unshipped.exists()


def test_a_server_that_fails_for_a_moment_is_asked_again(unshipped, repository, monkeypatch):
    monkeypatch.setattr(fetching, "FIRST_DELAY", 0.001)
    repository.failures = 2
    load_trained(NAME)
    assert repository.counts == {repository.file: 3}


def test_other_bytes_than_the_shipped_sum_are_refused(unshipped, repository, tmp_path):
    path = repository.folder / repository.file
    path.write_bytes(path.read_bytes()[:-1] + b"?")
    found = hashlib.sha256(path.read_bytes()).hexdigest()[:12]
    with pytest.raises(
        OSError, match=rf"has SHA-256 {found}.*update nestlib, or work in a checkout"
    ):
        load_trained(NAME)
    assert not (tmp_path / "cache" / "weights").exists()


def test_what_cannot_be_fetched_is_said_with_what_to_do(unshipped, repository, monkeypatch):
    monkeypatch.setattr(fetching, "FIRST_DELAY", 0.001)
    remedy = r"put experiments/weights/.* of the repository at .*cache.*, or work in a checkout"
    (repository.folder / repository.file).unlink()
    with pytest.raises(OSError, match=f"is not there .*{remedy}"):
        load_trained(NAME)
    repository.failures = 100
    with pytest.raises(OSError, match=f"could not be fetched in 4 tries .*{remedy}"):
        load_trained(NAME)
    monkeypatch.setattr(weights, "repository_url", lambda: "")
    with pytest.raises(
        FileNotFoundError, match=f"names no repository to fetch them from; {remedy}"
    ):
        load_trained(NAME)


def test_the_file_that_the_remedy_names_is_taken(unshipped, monkeypatch, images):
    monkeypatch.setattr(weights, "repository_url", lambda: "")
    with pytest.raises(FileNotFoundError) as raised:
        load_trained(NAME)
    source, place = re.search(r"put (\S+) of the repository at (\S+),", str(raised.value)).groups()
    Path(place).parent.mkdir(parents=True)
    shutil.copy(ROOT / source, place)
    assert torch.equal(
        load_trained(NAME)(images), load_trained(NAME, store=open_store(ROOT))(images)
    )


@pytest.mark.parametrize(
    ("repository", "raw"),
    [
        ("https://github.com/o/n", "https://raw.githubusercontent.com/o/n/HEAD"),
        ("https://gitlab.com/o/n", "https://gitlab.com/o/n/raw/HEAD"),
    ],
)
def test_files_lie_below_the_repositorys_raw_address(repository, raw):
    assert weights._raw_address(repository) == raw


def test_the_repository_is_the_one_that_the_package_names(monkeypatch):
    named = Message()
    monkeypatch.setattr(project, "metadata", lambda name: named)
    assert project.repository_url() == ""
    named["Project-URL"] = "Documentation, https://example.org/docs"
    named["Project-URL"] = "Repository, https://example.org/o/n/"
    assert project.repository_url() == "https://example.org/o/n"
