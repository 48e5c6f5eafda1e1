"""Exploring in a real browser: in the rendered book without a kernel, and live in JupyterLab.

Screenshots are written to runs/screenshots, to be looked at.
"""

import io
import os
import re
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import numpy as np
import pytest
from browsing import NEEDS_BROWSER, ROOT, SCREENSHOTS, Watch, contrast, luminance
from PIL import Image

playwright = pytest.importorskip("playwright.sync_api", reason="needs `pip install playwright`")

BIN = Path(sys.executable).parent

pytestmark = NEEDS_BROWSER


# The book, without a kernel


@pytest.fixture(scope="module")
def book(site):
    return f"{site}/experiments"


def open_page(browser, book, width=1300, scheme="light"):
    watch = Watch(browser, viewport={"width": width, "height": 1000}, color_scheme=scheme)
    watch.page.goto(f"{book}/explore.html")
    watch.page.wait_for_selector(".nx-app")
    return watch, watch.page.locator(".nest-explorer")


def drawn(explorer) -> dict[str, list]:
    """What a reader sees: tree, frames, class map, words."""
    return {
        "tree": explorer.locator(".nx-node").evaluate_all(
            "nodes => nodes.map(n => n.getAttribute('aria-label'))"
        ),
        "frames": explorer.locator(".nx-frame").evaluate_all(
            "rects => rects.map(r => ['x', 'y', 'width', 'stroke'].map(n => r.getAttribute(n)))"
        ),
        "map": explorer.locator(".nx-map rect").evaluate_all(
            "rects => rects.map(r => [r.getAttribute('fill'), r.getAttribute('fill-opacity')])"
        ),
        "words": [explorer.locator(".nx-words").inner_text()],
        "image": [explorer.locator(".nx-picture image").first.get_attribute("href")],
    }


def test_the_page_works_offline_and_without_an_error(browser, book):
    watch, explorer = open_page(browser, book)
    watch.page.wait_for_load_state("networkidle")
    assert (watch.errors, watch.failed) == ([], [])
    assert explorer.locator(".nx-plain").count() == 0
    seen = drawn(explorer)
    assert len(seen["tree"]) == 9 and len(seen["map"]) == 16
    assert sum("chosen" in node for node in seen["tree"]) == 2


def test_an_image_and_a_class_are_chosen_by_click(browser, book):
    watch, explorer = open_page(browser, book)
    first = drawn(explorer)
    explorer.get_by_role("radio", name="Four digits (test 1)").click()
    second = drawn(explorer)
    explorer.get_by_role("radio", name=re.compile("^3: ")).click()
    third = drawn(explorer)
    for before, after in ((first, second), (second, third)):
        for part in ("tree", "frames", "map", "words"):
            assert before[part] != after[part], part
    assert first["image"] != second["image"] == third["image"]
    assert "3: step 2 compares" in third["words"][0]
    watch.page.close()


def test_the_keyboard_alone_does_it_all(browser, book):
    watch, explorer = open_page(browser, book)
    page, focused = watch.page, "document.activeElement.getAttribute('aria-label')"
    first = drawn(explorer)
    explorer.locator(".nx-thumb :checked").focus()
    page.keyboard.press("ArrowRight")
    assert page.evaluate(focused).startswith("Four digits (test 1)")
    second = drawn(explorer)
    page.keyboard.press("Tab")  # the classes are the next stop, at the one that is chosen
    chosen = page.evaluate(focused)
    page.keyboard.press("ArrowLeft")
    assert page.evaluate(focused) != chosen
    third = drawn(explorer)
    assert first["image"] != second["image"] and second["tree"] != third["tree"]
    assert second["map"] != third["map"] and second["frames"] != third["frames"]
    explorer.get_by_role("button", name="Back").focus()
    page.keyboard.press("ArrowLeft")
    assert explorer.locator(".nx-position").inner_text() == "Step 1 of 2"
    page.keyboard.press("Enter")
    assert explorer.locator(".nx-position").inner_text() == "Root"
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowRight")
    assert len(drawn(explorer)["tree"]) == 9
    explorer.locator(".nx-node[tabindex='0']").focus()
    page.keyboard.press("ArrowUp")
    assert page.evaluate(focused).startswith("Step 1,")
    assert explorer.locator(".nx-touch.nx-lit").count() == 1
    page.close()


def test_stepping_tells_what_is_compared(browser, book):
    watch, explorer = open_page(browser, book)
    words, shown = explorer.locator(".nx-words"), []
    explorer.get_by_role("button", name="Back").click()
    explorer.get_by_role("button", name="Back").click()
    for frames in range(3):
        if frames:
            explorer.get_by_role("button", name="Next").click()
        shown.append(words.inner_text())
        current = explorer.locator(".nx-paths li").last.inner_text()
        color = explorer.locator(".nx-paths li").last.get_attribute("style").split(": ")[1]
        assert explorer.locator(f".nx-frame[stroke='{color}']").count() == frames, current
    assert "root, the whole image" in shown[0] and "logit" in shown[0]
    assert "compares the four quadrants" in shown[1] and "4 \u00d7 4 map" in shown[1]
    assert "8 \u00d7 8 map" in shown[2] and "leaf" in shown[2]
    assert words.get_attribute("aria-live") == "polite"
    assert explorer.get_by_role("button", name="Next").get_attribute("aria-disabled") == "true"
    watch.page.close()


def test_a_block_and_its_node_are_marked_together(browser, book):
    watch, explorer = open_page(browser, book)
    marked = ".nx-lit"
    explorer.locator("[data-key='2.3'] .nx-edge").hover()
    assert explorer.locator(f"{marked}[data-key='2.3']").count() == 2
    explorer.locator(".nx-touch[data-key='1.0']").hover()  # the path leads to the lower right
    keys = explorer.locator(marked).evaluate_all("all => all.map(e => e.dataset.key)")
    assert len(keys) == 2 and keys[0] == keys[1]
    assert "map here" in explorer.locator(".nx-readout").inner_text()
    watch.page.close()


def test_opacity_colours_outline_and_kept_paths_answer(browser, book):
    watch, explorer = open_page(browser, book)
    opacity = "e => getComputedStyle(e).opacity"
    explorer.get_by_label("Opacity").fill("0")
    assert explorer.locator(".nx-map").evaluate(opacity) == "0"
    explorer.get_by_label("Opacity").fill("100")
    assert explorer.locator(".nx-map").evaluate(opacity) == "1"
    about_mean = drawn(explorer)["map"]
    explorer.get_by_label("Colours centred on").select_option("zero")
    assert drawn(explorer)["map"] != about_mean
    ticks = explorer.locator(".nx-ticks span").all_inner_texts()
    assert ticks[1] == "0.00" and ticks[0] == "\u2212" + ticks[2]
    explorer.get_by_label("Outline the").check()
    assert explorer.locator(".nx-truth").count() == 2
    frames = explorer.locator(".nx-frame").count()
    explorer.locator(".nx-paths button[aria-pressed=true]").first.click()
    assert explorer.locator(".nx-frame").count() == frames - 2
    watch.page.close()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_both_themes_are_readable(browser, book, scheme):
    watch, explorer = open_page(browser, book, scheme=scheme)
    assert watch.page.evaluate("document.documentElement.dataset.theme") == scheme
    text, page = (
        explorer.evaluate("e => getComputedStyle(e).color"),
        watch.page.evaluate("getComputedStyle(document.body).backgroundColor"),
    )
    behind = explorer.evaluate("e => getComputedStyle(e.closest('.text_html')).backgroundColor")
    behind = page if behind == "rgba(0, 0, 0, 0)" else behind
    assert contrast(text, behind) > 7
    assert (luminance(behind) < 0.1) == (scheme == "dark")
    explorer.get_by_role("radio", name="Four digits (test 2)").click()
    watch.page.screenshot(path=SCREENSHOTS / f"book_{scheme}_top.png")
    explorer.screenshot(path=SCREENSHOTS / f"book_{scheme}.png")
    watch.page.close()


def test_a_phone_shows_it_without_overflow(browser, book):
    watch, explorer = open_page(browser, book, width=390)
    width = watch.page.evaluate("document.documentElement.scrollWidth")
    assert width <= 390
    for name in (".nx-picture", ".nx-tree", ".nx-controls", ".nx-classes"):
        box = explorer.locator(name).bounding_box()
        assert box["x"] >= 0 and box["x"] + box["width"] <= 390, name
    explorer.screenshot(path=SCREENSHOTS / "book_phone.png")
    watch.page.close()


def test_print_keeps_picture_tree_and_words(browser, book):
    watch, explorer = open_page(browser, book)
    watch.page.emulate_media(media="print")
    for name, visible in ((".nx-picture", True), (".nx-tree", True), (".nx-words", True),
                          (".nx-stepper", False)):  # fmt: skip
        assert explorer.locator(name).is_visible() == visible, name
    watch.page.close()


def test_without_scripts_images_and_words_are_left(browser, book):
    context = browser.new_context(java_script_enabled=False)
    page = context.new_page()
    page.goto(f"{book}/explore.html")
    plain = page.locator(".nx-plain")
    assert plain.locator("img").count() == 6
    assert "predicted" in plain.inner_text() and "path" in plain.inner_text()
    context.close()


# JupyterLab, live

LAB_SETTINGS = {  # cells out of sight stay in the page, so that they can be found
    "notebook-extension/tracker": '{"windowingMode": "none"}',
    "apputils-extension/notification": '{"fetchNews": "false"}',
}


@pytest.fixture(scope="module")
def lab(tmp_path_factory):
    """JupyterLab on a copy of the notebook; under runs/, so that the kernel finds the project."""
    if not (BIN / "jupyter-lab").is_file():
        pytest.skip("JupyterLab is not installed: pip install 'nestlib[book]'")
    folder = ROOT / "runs" / "browser"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    shutil.copy(ROOT / "experiments" / "explore.ipynb", folder)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    home = tmp_path_factory.mktemp("jupyter")
    for plugin, setting in LAB_SETTINGS.items():
        path = home / "settings" / "@jupyterlab" / f"{plugin}.jupyterlab-settings"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(setting)
    server = subprocess.Popen(
        [BIN / "jupyter-lab", "--no-browser", "--ip=127.0.0.1", f"--port={port}", "--allow-root",
         f"--ServerApp.root_dir={folder}", "--IdentityProvider.token=", "--ServerApp.password=",
         "--LabApp.news_url=",
         "--LabApp.check_for_updates_class=jupyterlab.NeverCheckForUpdate"],
        env=os.environ | {
            "PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'experiments'}",
            "JUPYTER_CONFIG_DIR": str(home), "JUPYTER_DATA_DIR": str(home),
            "JUPYTER_RUNTIME_DIR": str(home), "JUPYTERLAB_WORKSPACES_DIR": str(home),
            "JUPYTERLAB_SETTINGS_DIR": str(home / "settings"),
        },
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    address = f"http://127.0.0.1:{port}"
    try:
        wait_for_server(address, server)
        yield f"{address}/lab/tree/explore.ipynb?reset"
    finally:
        server.terminate()
        server.wait(30)
        shutil.rmtree(folder)


def wait_for_server(address, server, seconds=120):
    end = time.monotonic() + seconds
    while True:
        try:
            urllib.request.urlopen(f"{address}/api", timeout=5)
            return
        except OSError:
            assert server.poll() is None, "JupyterLab ended"
            assert time.monotonic() < end, "JupyterLab does not answer"
            time.sleep(0.5)


def png(image) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return buffer.getvalue()


GOOD = Image.fromarray(np.random.default_rng(0).integers(0, 256, (90, 120, 3), np.uint8))


def test_the_live_notebook_takes_uploads_and_survives_bad_ones(browser, lab):
    watch = Watch(browser, viewport={"width": 1400, "height": 1300})
    page = watch.page
    page.goto(lab)
    # A machine that is slow to start the kernel is asked which one to take.
    page.add_locator_handler(page.locator(".jp-Dialog .jp-mod-accept"), lambda b: b.click())
    page.locator(".jp-StatusBar-TextItem", has_text="| Idle").wait_for(timeout=120_000)
    page.locator(".lm-MenuBar-itemLabel", has_text="Run").click()
    page.locator(".lm-Menu").get_by_text("Run All Cells", exact=True).click()
    expect = playwright.expect
    live = page.locator(".widget-output .nest-explorer")
    expect(live.locator(".nx-app")).to_be_visible(timeout=120_000)
    message = page.locator(".widget-vbox > .widget-html .widget-html-content")

    def send(name, content):
        with page.expect_file_chooser() as chooser:
            page.get_by_role("button", name="Your own").click()
        chooser.value.set_files({"name": name, "mimeType": "image/png", "buffer": content})

    def caption():
        return live.locator(".nx-caption").inner_text()

    expect(message).to_contain_text("Shown: Four digits (test 0)")
    first = drawn(live)
    send("photo.png", png(GOOD))
    expect(message).to_contain_text("Shown: Your own: photo.png", timeout=30_000)
    expect(live.locator(".nx-caption")).to_contain_text("photo.png")
    assert "the middle square of 120 x 90 pixels, shrunk to 64 x 64" in caption()
    second = drawn(live)
    assert first["image"] != second["image"] and first["tree"] != second["tree"]

    clear = GOOD.convert("RGBA")
    clear.putalpha(Image.fromarray(np.tile(np.uint8([0] * 60 + [255] * 60), (90, 1))))
    send("clear.png", png(clear))
    expect(live.locator(".nx-caption")).to_contain_text("clear.png", timeout=30_000)
    assert "transparency laid over white" in caption()

    send("broken.png", png(GOOD)[:2000])
    expect(message).to_contain_text("Broken.png cannot be decoded", timeout=30_000)
    assert "clear.png" in caption()  # what stood there stands
    send("notes.png", b"no picture at all")
    expect(message).to_contain_text("cannot be read as an image; choose", timeout=30_000)

    page.locator(".widget-dropdown select").nth(1).select_option("7")
    expect(message).to_contain_text("Shown: Your own: clear.png", timeout=30_000)
    expect(live.locator(".nx-words")).to_contain_text("7: step 2 compares")
    page.locator(".widget-dropdown select").first.select_option(index=1)
    expect(live.locator(".nx-caption")).to_contain_text("Four digits (test 1)", timeout=30_000)
    page.screenshot(path=SCREENSHOTS / "live.png")
    assert page.locator(".nest-explorer .nx-app").count() == 2  # the prepared one, and the live one
    assert watch.failed == [] and watch.errors == []
    page.close()
