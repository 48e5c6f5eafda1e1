"""Pictures explain their marks without scripts, and share a page without touching each other."""

import re
from xml.etree import ElementTree

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from nestbook.report.pictures import Picture, drawing_style, label_marks

SVG = "{http://www.w3.org/2000/svg}"
LINK = "{http://www.w3.org/1999/xlink}href"


def draw(stem="first", tooltips=None):
    """Marks, a clipped line, a hatched bar, an image, text: all that Matplotlib refers to by id."""
    with drawing_style():
        figure = Figure(figsize=(3, 2))
        axes = figure.subplots()
        axes.plot([0, 1], [0, 1], "o-", gid="line")
        axes.bar([0], [1], hatch="//")
        axes.scatter([0.2, 0.4, 0.6], [0.1, 0.2, 0.3], gid="cloud")
        axes.imshow(np.eye(2), extent=(0.5, 1, 0, 0.5), gid="image")
        axes.set_title("a & b < c")
    texts = {"line": 'a "line" & <more>\nsecond', "cloud": "cloud", "image": "an image"}
    return Picture(figure, stem, 'what & <where> "x"', texts if tooltips is None else tooltips)


def ids(root):
    return [element.get("id") for element in root.iter() if element.get("id")]


def references(root):
    values = [value for element in root.iter() for value in element.attrib.values()]
    links = [element.get(LINK) for element in root.iter() if element.get(LINK)]
    local = [link[1:] for link in links if link.startswith("#")]
    return local + [name for value in values for name in re.findall(r"url\(#([^)]+)\)", value)]


def test_marks_carry_their_tooltips_and_the_picture_its_description():
    picture = draw()
    root = ElementTree.fromstring(picture.to_svg())
    assert (root.get("role"), root.get("aria-label")) == ("img", picture.description)
    parents = {child: parent for parent in root.iter() for child in parent}
    titles = {parents[t].get("id"): t.text for t in root.iter(f"{SVG}title")}
    assert titles == {f"first-{gid}": text for gid, text in picture.tooltips.items()}


def test_a_tooltip_of_nothing_is_refused():
    with pytest.raises(ValueError, match="'nowhere'"):
        draw(tooltips={"nowhere": "text"}).to_svg()


def test_two_pictures_of_a_page_share_no_id_and_refer_only_to_their_own():
    first, second = (ElementTree.fromstring(draw(stem).to_svg()) for stem in ("first", "second"))
    together = ids(first) + ids(second)
    assert len(together) == len(set(together))
    for root in (first, second):
        assert references(root) and set(references(root)) <= set(ids(root))
        assert root.find(f".//{SVG}style") is None  # it would rule the whole page


def test_same_picture_same_bytes_whatever_the_session_has_set():
    first = draw()
    expected = first.to_svg()
    assert first.to_svg() == expected
    with mpl.rc_context({"font.family": "serif", "lines.linewidth": 5, "axes.facecolor": "red"}):
        assert draw().to_svg() == expected


def test_drawing_leaves_no_trace_in_the_session():
    before = dict(mpl.rcParams)
    draw().to_svg()
    assert dict(mpl.rcParams) == before
    assert plt.get_fignums() == []  # an open one would be shown a second time


def test_html_is_the_svg_alone_on_white_and_its_text_is_text():
    html = draw()._repr_html_()
    assert html.startswith("<svg ") and "<?xml" not in html and "<!DOCTYPE" not in html
    root = ElementTree.fromstring(html)
    assert "max-width:100%" in root.get("style")
    background = next(root.iter(f"{SVG}path"))
    assert "fill: #ffffff" in background.get("style")
    (title,) = [text for text in root.iter(f"{SVG}text") if text.text == "a & b < c"]
    assert title.get("style").rstrip(";").split(",")[-1].strip().startswith("sans-serif")


def test_names_keep_off_each_other_and_the_marks():
    random = np.random.default_rng(1)
    marks = {f"name {i}": tuple(at) for i, at in enumerate(random.random((12, 2)))}
    with drawing_style():
        axes = Figure(figsize=(4, 4)).subplots()
        for x, y in marks.values():
            axes.plot(x, y, "o", ms=6)
        axes.set(xlim=axes.get_xlim(), ylim=axes.get_ylim())
        labels = label_marks(axes, marks, size=7, mark_size=6)
    assert list(labels) == list(marks)
    renderer = FigureCanvasAgg(axes.figure).get_renderer()
    boxes = [label.get_window_extent(renderer) for label in labels.values()]
    for i, box in enumerate(boxes):
        assert not any(box.overlaps(other) for other in boxes[:i])
        assert not any(box.contains(*axes.transData.transform(mark)) for mark in marks.values())
    assert label_marks(axes, {}, size=7, mark_size=6) == {}
