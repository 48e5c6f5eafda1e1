"""The paper's points and ours stand apart: no reader can take one for the other."""

from dataclasses import replace
from xml.etree import ElementTree

import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.text import Annotation, Text
from matplotlib.transforms import Bbox

from nestbook.paper import TABLE1, TABLE2
from nestbook.report.pictures import drawing_style
from nestbook.report.trade_off import Point, plot_trade_off

SVG = "{http://www.w3.org/2000/svg}"
SIDES, COSTS = ("paper", "here"), ("speed", "params")


def points_of(table):
    """Costs as if this machine were three times as fast, accuracies for NesT alone."""
    return [
        Point(
            name, row, row.cifar10 if table is TABLE1 else row.top1, 3 * row.images_per_second,
            row.params_m, 90.0 if name.startswith("NesT") else None,
            "mean ± 0.1, n = 3, <a record>", "5 rounds & a GPU",
            relative_speed=row.images_per_second / table["NesT-T"].images_per_second,
        )
        for name, row in table.items()
    ]  # fmt: skip


def plot(points, cost="speed", stem="stem", machine="a GPU, fp32"):
    return plot_trade_off(
        points, cost, stem=stem, accuracy_label="top-1 (%)", description="a test", machine=machine
    )


def panel_marks(picture, side):
    lines = [line for line in picture.figure.axes[SIDES.index(side)].lines if is_mark(line)]
    return {line.get_gid().split("-", 2)[2]: line for line in lines}


def is_mark(line):
    return (line.get_gid() or "").startswith(SIDES)


def note(picture):
    """The text under the right-hand panel."""
    (text,) = [
        text.get_text().replace("\n", " ") for text in picture.figure.axes[1].texts
        if isinstance(text, Annotation) and text.xycoords == "axes fraction"
    ]  # fmt: skip
    return text


@pytest.fixture(scope="module", params=[TABLE1, TABLE2], ids=["table1", "table2"])
def table(request):
    return request.param


@pytest.fixture(scope="module", params=COSTS)
def cost(request):
    return request.param


@pytest.fixture(scope="module")
def picture(table, cost):
    return plot(points_of(table), cost)


def test_every_point_has_a_tooltip_in_both_panels(picture, table, cost):
    root = ElementTree.fromstring(picture.to_svg())
    groups = {group.get("id"): group for group in root.iter(f"{SVG}g")}
    for side in SIDES:
        marks = panel_marks(picture, side)
        assert len(marks) == len(table)
        for slug, name in zip(marks, table):
            for gid in (f"stem-{side}-{cost}-{slug}", f"stem-{side}-{cost}-{slug}-label"):
                text = groups[gid].find(f"{SVG}title").text
                assert text.startswith(f"{name}, ")
                assert ("5 rounds & a GPU" in text) == (side == "here")


def test_filled_marks_are_of_one_source_and_hollow_ones_say_whose_accuracy_they_show(picture):
    for side in SIDES:
        for slug, line in panel_marks(picture, side).items():
            tooltip = picture.tooltips[line.get_gid()]
            ours = side == "here" and slug.startswith("nest")
            assert (line.get_markerfacecolor() == "white") == (side == "here" and not ours)
            assert ("<a record>" in tooltip) == ours == (line.get_ydata()[0] == 90)
            if line.get_markerfacecolor() == "white":
                assert "from the paper, no record of ours" in tooltip
    legend = [text.get_text() for legend in picture.figure.legends for text in legend.get_texts()]
    assert "hollow: accuracy from the paper, cost measured here" in legend


def test_speed_is_relative_to_nest_t_of_the_same_machine(table):
    picture = plot(points_of(table))
    paper, here = (panel_marks(picture, side) for side in SIDES)
    assert here["nest-t"].get_xdata()[0] == paper["nest-t"].get_xdata()[0] == 1
    for slug in paper:
        assert here[slug].get_xdata()[0] == pytest.approx(paper[slug].get_xdata()[0])


def test_rows_without_a_cost_here_are_named_below():
    points = points_of(TABLE1)
    assert [note(plot(points, cost)) for cost in COSTS] == ["", ""]
    points[0] = replace(points[0], images_per_second=None)
    points[7] = replace(points[7], images_per_second=None, params_m=None)
    speed, params = (plot(points, cost) for cost in COSTS)
    assert note(speed) == "not measured here: Pyramid-164-48, PVT-B"
    assert note(params) == "not measured here: PVT-B"
    assert "pyramid-164-48" not in panel_marks(speed, "here")
    assert "pyramid-164-48" in panel_marks(params, "here")
    assert "pyramid-164-48" in panel_marks(speed, "paper")


def test_without_nest_t_no_speed_has_a_unit():
    points = [
        replace(p, relative_speed=None) if p.name != "NesT-T"
        else replace(p, relative_speed=None, images_per_second=None)
        for p in points_of(TABLE2)
    ]  # fmt: skip
    picture = plot(points)
    assert panel_marks(picture, "here") == {}
    assert "not measured here: NesT-T measured here, but not NesT-T, the unit: " in note(picture)
    assert all(name in note(picture) for name in TABLE2)


def test_nothing_measured_leaves_no_mark_and_names_every_row():
    points = [replace(p, images_per_second=None, params_m=None) for p in points_of(TABLE1)]
    for cost in COSTS:
        picture = plot(points, cost, machine="not measured yet")
        assert panel_marks(picture, "here") == {} and picture.figure.axes[1].texts[1:] == []
        assert all(name in note(picture) for name in TABLE1)
        picture.to_svg()


def test_unsure_rows_keep_the_papers_question_mark():
    root = ElementTree.fromstring(plot(points_of(TABLE1)).to_svg())
    shown = [text.text for text in root.iter(f"{SVG}text")]
    assert shown.count("PVT-B?") == 2 and "PVT-B" not in shown


def test_same_bytes_twice_and_two_pictures_share_no_id(table, cost, picture):
    first, again = picture, plot(points_of(table), cost)
    second = plot(points_of(table), cost, stem="other")
    assert first.to_svg() == first.to_svg() == again.to_svg()
    ids = [
        element.get("id")
        for one in (first, second)
        for element in ElementTree.fromstring(one.to_svg()).iter()
        if element.get("id")
    ]
    assert len(ids) == len(set(ids))


def test_names_overlap_neither_each_other_nor_marks(picture):
    renderer = FigureCanvasAgg(picture.figure).get_renderer()
    point = renderer.points_to_pixels(1)
    with drawing_style():
        picture.figure.draw(renderer)  # this places annotations
    for axes in picture.figure.axes:
        labels = [text for text in axes.texts if (text.get_gid() or "").endswith("-label")]
        with drawing_style():  # the text alone: an annotation's own box reaches to its mark
            boxes = [Text.get_window_extent(text, renderer) for text in labels]
        lines = [line for line in axes.lines if is_mark(line)]
        places = [axes.transData.transform(line.get_xydata()[0]) for line in lines]
        marks = [Bbox([at - 2 * point, at + 2 * point]) for at in places]
        for i, box in enumerate(boxes):
            for other in boxes[:i] + marks:
                shared = Bbox.intersection(box, other)
                assert shared is None or min(shared.width, shared.height) < 0.5 * point, labels[i]


def test_text_is_large_enough_to_print_and_inside_the_picture():
    points = [replace(p, images_per_second=None, params_m=None) for p in points_of(TABLE1)[:9]]
    machine = "2 threads of an Intel(R) Xeon(R) Platinum 8581C CPU @ 2.30GHz, fp32, batch 8"
    figure = plot(points + points_of(TABLE1)[9:], machine=machine).figure
    assert figure.get_figwidth() == 7
    texts = [text for text in figure.findobj(Text) if text.get_text()]
    assert len(texts) > 25 and min(text.get_fontsize() for text in texts) >= 7
    with drawing_style():
        drawn = figure.get_tightbbox(FigureCanvasAgg(figure).get_renderer())
    assert 0 <= drawn.x0 and drawn.x1 <= 7
    assert 0 <= drawn.y0 and drawn.y1 <= figure.get_figheight()
