"""A page's sentence and chips follow from verdicts; tables say once what is not run."""

import re
from dataclasses import replace

import pytest

from nestbook.claims.catalog import CLAIMS
from nestbook.claims.claim import NO_RECORD, Outcome, Ruling
from nestbook.claims.verdict import CONTRADICTED, SUPPORTED, UNDECIDED
from nestbook.report.means import find_sources, short_device
from nestbook.report.points import MEASURED, Chip, Point, find_chips, make_point
from nestbook.report.tables import NOT_RUN, NOT_RUN_MARK, Number, Sources, Table
from nestlib.records import Store, open_store

PLAIN = next(claim for claim in CLAIMS if claim.small and claim.printed is None)


def outcome(status, small=None, runs=()):
    return Outcome(PLAIN, Ruling(status, (), ()), small and Ruling(small, (), tuple(runs)))


@pytest.fixture
def runs():
    """Three seeds of one recipe."""
    like = open_store().find("cifar10/nest_narrow-s0-8a3e1ba5")
    return [replace(like, run_id=f"cifar10/nest_narrow-s{seed}-8a3e1ba5") for seed in range(3)]


def test_one_claims_chips_say_its_verdict_at_each_scale(runs):
    chips = find_chips([outcome(NO_RECORD, SUPPORTED, runs)])
    assert chips == (
        Chip("paper's data: not run", NO_RECORD), Chip("small scale: supported, n = 3", SUPPORTED)
    )  # fmt: skip


def test_several_claims_are_counted_and_a_mixed_chip_is_undecided():
    found = [outcome(SUPPORTED), outcome(CONTRADICTED), outcome(NO_RECORD)]
    (chip,) = find_chips(found)
    assert chip == Chip("paper's data: 1 supported, 1 contradicted, 1 not run", UNDECIDED)


def test_what_cannot_be_asked_has_no_chip():
    assert [chip.text for chip in find_chips([outcome(NO_RECORD)])] == ["paper's data: not run"]
    assert find_chips([]) == ()


def test_seeds_are_counted_per_recipe(runs):
    other = replace(runs[0], run_id="cifar10/deit_narrow-s0-00000000")
    _, chip = find_chips([outcome(NO_RECORD, UNDECIDED, [*runs, other])])
    assert chip.text == "small scale: undecided, n = 1 to 3"


def test_a_point_shows_its_sentence_and_chips_as_text_and_as_html():
    point = Point("A < B", (Chip("measured: 3 rounds", MEASURED),))
    assert str(point) == "**What this page shows.** A < B\n\nmeasured: 3 rounds\n\n"
    assert "A &lt; B" in point._repr_html_() and "measured: 3 rounds" in point._repr_html_()


def test_chips_of_unknown_claims_are_refused(tmp_path):
    with pytest.raises(ValueError, match="figure5"):
        make_point("x", Store(tmp_path, None), ["figure6"])


# Tables

PAPER = Number(96.04, "paper", 2)


def test_a_missing_run_is_a_mark_that_one_note_explains():
    table = Table("t", ("Row", "Ours"), [("a", PAPER), ("b", NOT_RUN), ("c", NOT_RUN)])
    for text in (table.to_markdown(), re.sub(r'title="[^"]*"', "", table._repr_html_())):
        assert text.count(NOT_RUN_MARK) == 3 and text.count(NOT_RUN) == 1


def test_columns_of_missing_runs_alone_are_left_out_and_named():
    table = Table("t", ("Row", "Paper", "Ours (%)", "n"), [("a", PAPER, NOT_RUN, "")] * 2)
    text = table.to_markdown()
    assert "| Row |" in text and "| n |" not in text and NOT_RUN_MARK not in text
    assert "Columns left out until they are run: Ours (%)" in text
    assert 'scope="col"' in table._repr_html_() and ">n</th>" not in table._repr_html_()


def test_a_column_that_is_empty_for_another_reason_stays():
    table = Table("t", ("Row", "Note", "Ours"), [("a", "", PAPER)])
    assert "Note" in table.to_markdown()


def test_a_table_of_nothing_but_missing_runs_keeps_them():
    table = Table("t", ("Row", "Ours"), [("a", NOT_RUN)])
    assert f"| {NOT_RUN_MARK}" in table.to_markdown()


@pytest.mark.parametrize("blank", [0, 2])
def test_the_column_of_names_always_stays(blank):
    """As where nothing at all has been run."""
    table = Table("t", ("Row", "Ours", "n")[: blank + 1], [(NOT_RUN, *[""] * blank)])
    assert f"| {NOT_RUN_MARK}" in table.to_markdown() and NOT_RUN_MARK in table._repr_html_()


def test_sources_are_a_line_that_opens():
    table = Table("t", ("Row",), [("a",)], sources=Sources("22 runs on Xeon", ("x-s0", "x-s1")))
    assert "- 22 runs on Xeon\n  - x-s0\n  - x-s1" in table.to_markdown()
    assert "<summary>22 runs on Xeon</summary><ul><li>x-s0</li>" in table._repr_html_()
    plain = Table("t", ("Row",), [("a",)], sources=Sources("1 run on Xeon"))
    assert "<details" not in plain._repr_html_() and "1 run on Xeon" in plain._repr_html_()


@pytest.mark.parametrize(
    ("device", "short"),
    [
        ("Intel(R) Xeon(R) Processor, 2 cores", "Xeon, 2 cores"),
        ("AMD EPYC (family 25, model 17), 2 cores", "EPYC, 2 cores"),
        ("NVIDIA H200", "H200"),
        ("cpu", "cpu"),
    ],
)
def test_hardware_has_short_names(device, short):
    assert short_device(device) == short


def test_sources_count_runs_and_list_each_devices_ids(runs):
    other = replace(runs[2], environment=runs[2].environment | {"device": "NVIDIA H200"})
    found = find_sources([*runs[:2], other, runs[0]])
    assert found.line == "3 runs on EPYC, 2 cores and H200, 10,000 test images"
    assert found.details == (
        f"{runs[0].environment['device']}: {runs[0].run_id}, {runs[1].run_id}",
        f"NVIDIA H200: {runs[2].run_id}",
    )
    assert find_sources([]) is None
