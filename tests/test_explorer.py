"""The fragment of a page: it holds every image and class, shares a page, and fetches nothing."""

import json
import re
import shutil
import subprocess
import tomllib
from base64 import b64decode
from html.parser import HTMLParser
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from nestbook.explorer.answer import Exploration
from nestbook.explorer.live import alert
from nestbook.explorer.static import (
    SCRIPTS,
    STYLE,
    Exhibit,
    Explorer,
    Picture,
    exploration_table,
    page_script,
    say_explore,
)
from nestbook.report.grounding import DEFAULT
from nestlib.explain import Traversal
from nestlib.records import Record

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "experiments" / "nestbook" / "explorer" / "page"
BLACK = np.zeros((64, 64, 3), np.uint8)
NAMES = ["cat", "</script><b>", "dog & <i>"]


def make_exploration(seed=0, classes=3, size=64) -> Exploration:
    """Random values of a tree of two steps, with the path and the boxes that follow from them."""
    rng = np.random.default_rng(seed)
    activations = rng.normal(size=(classes, 2, 2, 2)).astype(np.float32)
    path = activations.reshape(classes, 2, 4).argmax(-1)
    corner = np.zeros((classes, 2), int)
    boxes = []
    for step in range(2):
        corner = 2 * corner + np.stack([path[:, step] % 2, path[:, step] // 2], 1)
        edge = size >> (step + 1)
        boxes.append(np.hstack([corner * edge, corner * edge + edge - 1]))
    maps = rng.normal(size=(classes, 4, 4)).astype(np.float32)
    logits = np.tile(maps.mean((1, 2)), (classes, 1))
    shares = np.exp(logits[0]) / np.exp(logits[0]).sum()
    walk = Traversal(path, activations, np.stack(boxes, 1), np.arange(classes), logits)
    return Exploration(walk, maps, shares)


def make_explorer(count=2) -> Explorer:
    rng = np.random.default_rng(1)
    exhibits = [
        Exhibit(Picture(f"picture <{i}>", pixels, ["cut & resized"]), make_exploration(i))
        for i, pixels in enumerate(rng.integers(0, 256, (count, 64, 64, 3), np.uint8))
    ]  # fmt: skip
    return Explorer(exhibits, NAMES, "a model")


class Reader(HTMLParser):
    """Collects ids, addresses, images, the text of script elements and all other text."""

    def __init__(self, text):
        super().__init__()
        self.ids, self.addresses, self.images, self.scripts, self.words = [], [], [], [], ""
        self.inside = None
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        attributes = dict(attrs)
        self.ids += [attributes["id"]] if "id" in attributes else []
        self.images += [attributes["src"]] if tag == "img" else []
        self.addresses += [attributes[n] for n in ("src", "href", "srcset") if n in attributes]
        self.inside = tag if tag in ("script", "style") else self.inside

    def handle_endtag(self, tag):
        self.inside = None if tag == self.inside else self.inside

    def handle_data(self, data):
        if self.inside == "script":
            self.scripts.append(data)
        elif self.inside is None:
            self.words += data


def test_fragment_holds_every_image_and_class():
    explorer = make_explorer(3)
    page = Reader(explorer._repr_html_())
    for exhibit, uri in zip(explorer.exhibits, page.images, strict=True):
        png = Image.open(BytesIO(b64decode(uri.removeprefix("data:image/png;base64,"))))
        assert np.array_equal(np.asarray(png), exhibit.picture.pixels)
    data = json.loads(page.scripts[0])
    assert [image["caption"] for image in data["images"]] == [f"picture <{i}>" for i in range(3)]
    for image, exhibit in zip(data["images"], explorer.exhibits):
        assert [row["name"] for row in image["rows"]] == NAMES
        walk, seen = exhibit.exploration.traversal, exhibit.exploration
        for i, row in enumerate(image["rows"]):
            assert row["path"] == walk.path[i].tolist()
            np.testing.assert_allclose(row["values"], walk.activations[i].reshape(2, 4), rtol=1e-3)
            np.testing.assert_allclose(row["map"], seen.maps[i], rtol=1e-3)
            np.testing.assert_allclose(row["logit"], seen.maps[i].mean(), rtol=1e-3)
        assert image["start"] == seen.probabilities.argmax()
        assert image["said"] == ["cut & resized"]


def test_names_of_classes_end_no_script_and_are_text():
    page = Reader(make_explorer()._repr_html_())
    assert len(page.scripts) == 2 and "picture <0>: predicted" in page.words


def test_fragments_share_a_page_and_fetch_nothing():
    first, second = make_explorer(2)._repr_html_(), make_explorer(3)._repr_html_()
    ids = Reader(first + second).ids
    assert len(ids) == len(set(ids)) == 2
    assert (
        first == make_explorer(2)._repr_html_()
    )  # the same, so that a diff of a notebook is small
    assert all(a.startswith("data:image/png;base64,") for a in Reader(first).addresses)
    text = "".join((PAGE / name).read_text() for name in (*SCRIPTS, STYLE))
    allowed = "http://www.w3.org/2000/svg"  # the name of a namespace
    assert re.findall(r"https?://[^\"' )]+", text) == [allowed]
    assert not re.search(r"\b(fetch|XMLHttpRequest|import|eval|@import|url)\b *\(", text)


def test_style_touches_nothing_but_the_fragment():
    css = re.sub(r"/\*.*?\*/", "", (PAGE / STYLE).read_text(), flags=re.DOTALL)
    assert "&" not in css  # which could put the fragment behind another selector
    nested, rules = css, 0
    while found := re.findall(r"\{[^{}]*\}", nested):
        nested, rules = re.sub(r"\{[^{}]*\}", ";", nested), rules + len(found)
    assert rules > 50 and nested.split() == [".nest-explorer", ";"]  # all within its one rule


def test_script_keeps_to_itself_and_parses():
    script = page_script()
    assert script.startswith("(() => {") and script.rstrip().endswith("})();")
    node = shutil.which("node")
    if node is None:
        pytest.skip("no node to parse with; tests/test_browser.py runs the script")
    subprocess.run([node, "--check", "-"], input=script, text=True, check=True)


def test_a_wheel_holds_the_page():
    patterns = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]
    (pattern,) = patterns["package-data"]["nestbook.explorer"]
    packed = {path.name for path in PAGE.parent.glob(pattern)}
    assert packed >= {*SCRIPTS, STYLE} and packed == {path.name for path in PAGE.iterdir()}


def test_paths_are_judged_where_the_truth_is_known():
    seen = make_exploration()
    x0, y0, x1, y1 = seen.traversal.boxes[0, -1].tolist()
    elsewhere = (63 - x1, 63 - y1, 63 - x0, 63 - y0)  # the opposite block, in another quadrant
    exhibit = Exhibit(Picture("x", BLACK, truth={0: (x0, y0, x1, y1)}), seen)
    assert [exhibit.judge(row) for row in range(3)] == [(True, True), None, None]
    exhibit = Exhibit(Picture("x", BLACK, truth={0: elsewhere}), seen)
    assert exhibit.judge(0) == (False, False)
    table = exploration_table(Explorer([exhibit], ["a", "b", "c"], "m"))
    assert table.rows[0][2:] == ("-", "-", "a")


def test_the_point_counts_the_paths_that_end_on_their_class():
    seen = make_exploration()
    first, second, _ = (tuple(boxes[-1].tolist()) for boxes in seen.traversal.boxes)
    x0, y0, x1, y1 = second
    elsewhere = (63 - x1, 63 - y1, 63 - x0, 63 - y0)
    pictures = Picture("x", BLACK, truth={0: first, 1: elsewhere}), Picture("y", BLACK)
    lone = Picture("z", BLACK, truth={0: first})
    names, planted = ["a", "b", "c"], make_planted(runs=["m"])

    def say(*pictures, records=()):
        return say_explore(Explorer([Exhibit(p, seen) for p in pictures], names, "m"), records)

    assert say(*pictures).endswith("path ends on 1 of 2 that share a canvas.")
    both = say(*pictures, lone, records=[planted])
    assert "on 1 of 2 that share a canvas and on 1 of 1 that stand alone." in both
    walks = "60.0 % of 500 walks (chance: 22.0 %)"
    assert both.endswith(f"in {walks} with four digits and {walks} with one.")
    assert "60.0" not in say(lone, records=[make_planted(runs=["another"])])
    assert "not known where" in say(pictures[1], records=[planted])


def make_planted(runs) -> Record:
    """A record of planted truth, of the default way's leaf blocks alone."""
    ways = {DEFAULT: {"leaf": {"rate": 0.6, "interval": [0.55, 0.65]}}}
    canvas = {"queries": 500, "chance": {"leaf": 0.22}, "ways": ways}
    summary = {"runs": runs, "together": {"four": canvas, "small": canvas}}
    return Record("planted/x", "explain", {}, {}, summary)


def test_what_cannot_be_shown_is_refused():
    with pytest.raises(ValueError, match="nothing to explore"):
        Explorer([], NAMES, "m")
    with pytest.raises(ValueError, match=r"expected uint8 \(H, W, 3\)"):
        Picture("x", np.zeros((64, 64)))
    with pytest.raises(ValueError, match="class 7 was not explored"):
        Exhibit(Picture("x", BLACK), make_exploration(), start=7)


def test_what_went_wrong_is_an_alert():
    assert "no &lt;weights&gt;" in alert("no <weights>") and 'role="alert"' in alert("x")


def test_the_committed_notebook_shows_this_page():
    notebook = json.loads((ROOT / "experiments" / "explore.ipynb").read_text())
    shown = [
        "".join(output["data"]["text/html"])
        for cell in notebook["cells"] if cell["cell_type"] == "code"
        for output in cell["outputs"] if "text/html" in output.get("data", {})
    ]  # fmt: skip
    (fragment,) = [text for text in shown if "nest-explorer" in text]
    style = (PAGE / STYLE).read_text()
    assert page_script() in fragment and style in fragment, (
        "execute experiments/explore.ipynb again"
    )
    assert len(fragment) < 100_000
