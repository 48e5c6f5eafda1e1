"""What a notebook shows is what it leaves in figures/, once and in its order."""

import pytest
from matplotlib.figure import Figure

from nestbook import pages
from nestbook.pages import AblationPage, Page
from nestbook.report.pictures import Picture
from nestbook.report.tables import Table


@pytest.fixture
def seen(monkeypatch):
    """What is displayed, and what is written."""
    seen = {"displayed": [], "saved": []}
    monkeypatch.setattr(pages, "display", lambda *items: seen["displayed"].extend(items))
    monkeypatch.setattr(pages, "save", lambda *words: seen["saved"].append(words))
    return seen


def test_what_is_shown_is_saved_once_in_its_order(seen):
    first, second = (Table(caption, ("a",), [("1",)]) for caption in ("first", "second"))
    picture = Picture(Figure(), "x", "a picture", {})
    page = Page("x", "quick")
    page.show(first, picture)
    page.show(first)  # the cell is run again
    page.show(second)
    page.save()
    assert seen["displayed"] == [first, picture, first, second]
    assert seen["saved"] == [("x", "quick", [first, second], picture)]


def test_an_ablation_shows_a_table_a_budget_and_its_claims(seen):
    page = AblationPage("table_a3", "quick", seeds=1)
    page.show_bars("Table A3: heads")
    page.show_claims("heads")
    page.save()
    captions = [table.caption for table in seen["displayed"]]
    assert [caption.partition(":")[0] for caption in captions] == [
        "Small", "Table A3", "Quick", "The paper's findings",
    ]  # fmt: skip
    (saved,) = seen["saved"]
    assert saved == ("table_a3", "quick", seen["displayed"])
    assert len(page.bars.quick) == len(seen["displayed"][2].rows)
