"""Curves and the list of records say what the files say, and work by mouse and keyboard."""

import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml

from nestbook.explorer.static import page_script
from nestbook.report.all_records import headline_of, records_table
from nestbook.report.curves import SCRIPTS, STYLE, Curves, family_of, training_curves
from nestbook.report.tables import Link, Table
from nestlib.records import Store, open_store

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "experiments" / "nestbook" / "explorer" / "page"
RECORDS = ROOT / "experiments" / "records"
FILES = {
    path.relative_to(RECORDS).with_suffix("").as_posix(): path for path in RECORDS.rglob("*.json")
}


@pytest.fixture(scope="module")
def curves():
    return training_curves(open_store(ROOT))


def test_every_trained_record_has_its_curve_as_in_its_file(curves):
    runs = {run["id"]: run for run in curves.data()["runs"]}
    trained = {}
    for name, path in FILES.items():
        record = json.loads(path.read_text())
        if record["kind"] in ("train", "gan"):
            trained[name] = record
    assert runs.keys() == trained.keys() and len(runs) > 10
    for name, run in runs.items():
        epochs = trained[name]["epochs"]
        assert run["x"] == [epoch[run["unit"]] for epoch in epochs]
        for key, values in run["y"].items():
            for value, epoch in zip(values, epochs, strict=True):
                assert (value is None) == (key not in epoch)
                assert value is None or value == pytest.approx(epoch[key], abs=6e-3)


def test_numbers_stand_in_the_page_without_scripts(curves):
    text = re.sub(r"<script.*?</script>", "", curves._repr_html_(), flags=re.DOTALL)
    last = curves.records[0].epochs[-1]["test/top1"]
    assert f"{last:.2f}" in text and all(run.run_id in text for run in curves.records)


def test_families_are_by_name():
    names = {
        "nest_narrow_depth2": "NesT",
        "gan_nest_narrow": "NesT decoder",
        "deit_small": "others",
    }
    assert {name: family_of(name) for name in names} == names


def test_no_curves_are_refused(tmp_path):
    with pytest.raises(ValueError, match="no record has epochs"):
        training_curves(Store(tmp_path, tmp_path))


def test_page_fetches_nothing_and_styles_nothing_else():
    css = re.sub(r"/\*.*?\*/", "", (PAGE / STYLE).read_text(), flags=re.DOTALL)
    selectors = re.findall(r"([^{};]+)\{(?=[^{}]*\})", css)
    assert all(".nest-curves" in s for s in ",".join(selectors).split(",")), selectors
    script = page_script(SCRIPTS)
    assert re.findall(r"https?://[^\"' )]+", script) == ["http://www.w3.org/2000/svg"]
    node = shutil.which("node")
    if node:
        subprocess.run([node, "--check", "-"], input=script, text=True, check=True)


def test_the_committed_notebook_shows_this_page_and_all_records(curves):
    text = (ROOT / "experiments" / "records.ipynb").read_text()
    outputs = "".join(
        "".join(output["data"]["text/html"])
        for cell in json.loads(text)["cells"] if cell["cell_type"] == "code"
        for output in cell["outputs"] if "text/html" in output.get("data", {})
    )  # fmt: skip
    remedy = "run: make notebooks NOTEBOOKS=experiments/records.ipynb"
    assert page_script(SCRIPTS) in outputs, remedy
    missing = [name for name in FILES if f'href="records/{name}.json"' not in outputs]
    assert not missing, f"{missing}; {remedy}"


# The table


def test_every_record_stands_in_the_table_and_leads_to_its_file():
    table = records_table(open_store(ROOT))
    assert {row[0].text for row in table.rows} == FILES.keys()
    assert all((ROOT / row[0].path).is_file() for row in table.rows)
    assert f"All {len(FILES)} committed records" in table.caption
    assert all(row[2] and "None" not in row[2] for row in table.rows)


def test_headlines_are_the_files_numbers():
    record = open_store(ROOT).find("cifar10/nest_narrow-s0-8a3e1ba5")
    assert headline_of(record) == ("1 run, seed 0", "77.63 % test top-1, epoch 10")
    for record in open_store(ROOT).all_committed():
        if record.kind == "evaluate":
            assert headline_of(record)[1] == f"{record.summary['top1']:.2f} % top-1"


def test_links_lead_from_where_they_stand():
    table = Table("t", ("a", "b"), [(Link("<x>", "experiments/records/x.json"), "y")])
    assert "[<x>](../experiments/records/x.json)" in table.to_markdown()
    assert '<a href="records/x.json">&lt;x&gt;</a>' in table._repr_html_()
    assert Link("x", "book/model.md").to_html() == '<a href="../book/model.md">x</a>'


def test_the_built_book_holds_the_records():
    config = yaml.safe_load((ROOT / "_config.yml").read_text())
    assert config["sphinx"]["local_extensions"]["record_files"] == "book/_ext"


# In a browser


@pytest.mark.slow
def test_curves_answer_mouse_keyboard_and_filters(curves: Curves, tmp_path):
    sync = pytest.importorskip("playwright.sync_api", reason="needs `pip install playwright`")
    chromium = shutil.which("chromium")
    if chromium is None:
        pytest.skip("needs `apt-get install chromium`")
    page_file = tmp_path / "curves.html"
    page_file.write_text(f"<!doctype html><meta charset=utf-8>{curves._repr_html_()}")
    with sync.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": 900, "height": 900})
        errors = []
        page.on("pageerror", lambda error: errors.append(str(error)))
        page.goto(page_file.as_uri())
        rows = page.locator(".nc-runs button")
        shown = sum("test/top1" in run["y"] for run in curves.data()["runs"])
        assert rows.count() == shown == page.locator("svg.nc-chart .nc-family").count()

        page.get_by_role("searchbox").fill("cifar10/nest_narrow-s0-8a3")
        assert rows.count() == 1
        rows.first.focus()
        readout = page.locator(".nc-readout")
        assert readout.text_content() == "cifar10/nest_narrow-s0-8a3e1ba5, epoch 10: 77.63 %"
        page.keyboard.press("ArrowLeft")
        epoch9 = next(
            r for r in curves.records if r.run_id.startswith("cifar10/nest_narrow-s0-8a3")
        ).epochs[8]
        assert readout.text_content().endswith(f"epoch 9: {epoch9['test/top1']:.2f} %")
        page.keyboard.press("Enter")
        assert rows.first.get_attribute("aria-pressed") == "true"

        box = page.locator("svg.nc-chart").bounding_box()
        page.mouse.move(box["x"] + box["width"] - 14, box["y"] + 30)
        page.get_by_role("searchbox").fill("")
        page.get_by_label("digits").uncheck()
        assert 0 < rows.count() < shown
        page.get_by_label("Show").select_option(label="Training loss")
        assert "epoch" in page.locator("svg.nc-chart").text_content()
        page.get_by_role("searchbox").fill("no such run")
        assert "No curve fits" in page.locator("svg.nc-chart").text_content()
        assert not errors
        browser.close()
