"""What a notebook shows is what it leaves in figures/, once and in its order."""

import pytest
from matplotlib.figure import Figure

from nestbook import pages
from nestbook.pages import AblationPage, Page
from nestbook.report.pictures import Picture
from nestbook.report.points import MEASURED, Chip
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


def test_an_ablation_shows_its_bars_that_have_numbers_and_its_claims(seen):
    page = AblationPage("table_a3", "quick", seeds=1)
    page.show_bars("Table A3: heads")
    page.show_claims("heads")
    page.save()
    *tables, remarks, claims = seen["displayed"]
    with_numbers = {
        "Narrow models on a part": [bar for bar in page.bars.small if bar.records],
        "Table A3: heads": [bar for bar in page.bars.real if bar.records or bar.printed],
        "Narrow models on digits": [bar for bar in page.bars.quick if bar.records],
    }
    with_numbers = {name: bars for name, bars in with_numbers.items() if bars}
    assert all(table.caption.startswith(name) for table, name in zip(tables, with_numbers))
    for table, bars in zip(tables, with_numbers.values(), strict=True):
        assert len(table.rows) == len({bar.recipe.run_id for bar in bars})
    assert "bars of paper" in remarks.to_markdown()
    assert claims.caption.startswith("The paper's findings")
    (saved,) = seen["saved"]
    assert saved == ("table_a3", "quick", seen["displayed"])


def test_a_page_with_the_papers_own_table_does_not_repeat_it(seen):
    page = AblationPage("table_a3", "quick", seeds=1)
    page.show_bars()
    assert not any("Paper (%)" in getattr(table, "columns", ()) for table in seen["displayed"])


def test_a_measurement_that_no_claim_asks_for_has_a_chip_of_its_own(seen):
    page = Page("x", "quick")
    page.show_point(None, "A sentence.", "generator-fid", measured="measured in 3 rounds")
    page.show_point(None, "Another.")
    with_claim, alone = seen["displayed"]
    assert with_claim.chips[-1] == Chip("measured in 3 rounds", MEASURED)
    assert len(with_claim.chips) > 1 and alone.chips == ()
