"""Shared fixtures. Tests that need the real images in ../shared skip where it is absent."""

import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

# Two processes share two cores: waiting threads must not spin. Set before torch is imported.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import pytest
import torch
from browsing import CHROMIUM, QUIET, ROOT, SCREENSHOTS, serve
from hypothesis import HealthCheck, settings

from nestlib.data.augmentation import Augmentation
from nestlib.recipes.recipe import Recipe
from nestlib.records import Store
from nestlib.runs import staleness

# The tests that hypothesis makes inputs for, test_fuzz_*.py: the same inputs at each run, or many
# more that nobody has tried, by `pytest tests/test_fuzz_*.py --hypothesis-profile long`.
_FUZZ = settings(
    deadline=None, database=None, print_blob=True,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)  # fmt: skip
settings.register_profile("same", _FUZZ, derandomize=True, max_examples=200)
settings.register_profile("long", _FUZZ, max_examples=5000)
settings.load_profile("same")

SHARED = Path(__file__).resolve().parents[2] / "shared"


@pytest.fixture
def tiny_recipe() -> Recipe:
    """Trains in a second, with everything on that draws random numbers."""
    return Recipe(
        name="digits/tiny", model="nest_tiny_cifar", dataset="digits",
        model_options={"embed_dim": 12, "num_hierarchies": 2, "patch_size": 4},
        dataset_options={"num_images": 96}, augmentation=Augmentation(flip=0.0), epochs=3,
        warmup_epochs=1, batch_size=32, drop_path_rate=0.2, ema_decay=0.9, budget="quick",
    )  # fmt: skip


@pytest.fixture
def store(tmp_path) -> Store:
    """Without a record."""
    return Store(tmp_path / "committed", tmp_path / "local")


@pytest.fixture
def no_fingerprints(monkeypatch):
    """As where no images are, whose fingerprints no made-up record could have."""
    monkeypatch.setattr(staleness, "_fingerprint", lambda *_: None)


@pytest.fixture(autouse=True)
def _one_thread():
    """Small models are faster so, and bit-equal runs need one number of threads."""
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def book_html(tmp_path_factory) -> Path:
    """The folder of the book, built once, where any warning is an error."""
    command = shutil.which("jupyter-book", path=Path(sys.executable).parent)
    if command is None:
        pytest.skip("jupyter-book is not installed: pip install 'nestlib[book]'")
    folder = tmp_path_factory.mktemp("book")
    paths = "--config", "_config.yml", "--toc", "book/_toc.yml", "--path-output", str(folder)
    done = subprocess.run(
        [command, "build", ".", *paths, "-W", "--keep-going", "-n"],
        cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    return folder / "_build" / "html"


@pytest.fixture
def short_time():
    """A pipe's reader would wait for ever; here it gets TimeoutError."""

    def stop(*_):
        raise TimeoutError

    before = signal.signal(signal.SIGALRM, stop)
    signal.alarm(5)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)


@pytest.fixture(scope="module")
def site(book_html):
    """The built book's address."""
    with serve(book_html) as address:
        yield address


@pytest.fixture(scope="module")
def browser():
    playwright = pytest.importorskip("playwright.sync_api", reason="needs `pip install playwright`")
    SCREENSHOTS.mkdir(parents=True, exist_ok=True)
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=CHROMIUM, args=QUIET)
        yield browser
        browser.close()
