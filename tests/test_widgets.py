"""A widget saved in a notebook is drawn in the book without a kernel and without a network."""

import subprocess
import sys
from pathlib import Path

import nbformat
import pytest
import yaml
from browsing import NEEDS_BROWSER, ROOT, Watch, serve

ipywidgets = pytest.importorskip("ipywidgets", reason="needs `pip install 'nestlib[book]'`")

pytestmark = NEEDS_BROWSER
VIEW = "application/vnd.jupyter.widget-view+json"
STATE = "application/vnd.jupyter.widget-state+json"


def write_notebook(path: Path, widget) -> None:
    from ipywidgets.embed import embed_data

    data = embed_data(views=[widget])
    output = nbformat.v4.new_output(
        "display_data", data={VIEW: data["view_specs"][0], "text/plain": "a slider"}
    )
    cells = [
        nbformat.v4.new_markdown_cell("# A page"), nbformat.v4.new_code_cell("w", outputs=[output])
    ]  # fmt: skip
    metadata = {"widgets": {STATE: data["manager_state"]}}
    nbformat.write(nbformat.v4.new_notebook(cells=cells, metadata=metadata), path)


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    """The folder of a book of one page, with our settings."""
    script = "book/_static/vendor/libembed-amd.js"
    made = subprocess.run(["make", "-o", ".venv/ready", script], cwd=ROOT, capture_output=True)
    if made.returncode:
        pytest.skip("the package registry that carries html-manager cannot be reached")
    folder = tmp_path_factory.mktemp("widgets")
    write_notebook(folder / "page.ipynb", ipywidgets.IntSlider(value=7, description="Seed"))
    ours = yaml.safe_load((ROOT / "_config.yml").read_text())["sphinx"]["config"]
    sphinx = {"html_static_path": [str(ROOT / "book" / "_static")],
              "nb_ipywidgets_js": ours["nb_ipywidgets_js"]}  # fmt: skip
    settings = {"execute": {"execute_notebooks": "off"}, "sphinx": {"config": sphinx}}
    (folder / "_config.yml").write_text(
        yaml.safe_dump(settings, sort_keys=False)
    )  # scripts load in turn
    (folder / "_toc.yml").write_text("format: jb-book\nroot: page\n")
    command = Path(sys.executable).parent / "jupyter-book"
    subprocess.run([command, "build", folder], check=True, capture_output=True)
    return folder / "_build" / "html"


def test_a_saved_slider_is_drawn_offline(browser, page):
    with serve(page) as address:
        watch = Watch(browser)
        watch.page.goto(f"{address}/page.html")
        slider = watch.page.locator(".widget-slider")
        slider.wait_for()
        assert slider.locator(".widget-label").inner_text() == "Seed"
        assert slider.locator(".widget-readout").inner_text() == "7"
        assert watch.failed == []
        watch.page.close()
