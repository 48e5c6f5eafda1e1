"""What opens the book and the README is what the records say, and every file shows it."""

import re
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest

from nestbook.claims.catalog import CLAIMS
from nestbook.paper import TABLE1, TABLE2
from nestbook.report.overview import GROUPS, PAGES, fill_readme, opening_table, results_table
from nestbook.report.tables import Number
from nestlib.recipes.named import get_recipe
from nestlib.records import Record, Store, open_store

ROOT = Path(__file__).parents[1]
REMEDY = "run: make notebooks NOTEBOOKS=experiments/records.ipynb"
EMPTY = Store(ROOT / "no such folder", ROOT / "no such folder")


@pytest.fixture(scope="module")
def store():
    return open_store(ROOT)


@pytest.fixture(scope="module")
def results(store):
    return results_table(store)


def test_files_show_what_the_records_say(store, results):
    assert (ROOT / "figures" / "opening.md").read_text() == opening_table(store).to_markdown(), (
        REMEDY
    )
    assert (ROOT / "figures" / "results.md").read_text() == results.to_markdown(), REMEDY


def test_the_readme_shows_what_the_records_say(results):
    readme = (ROOT / "README.md").read_text()
    assert fill_readme(readme, results) == readme, REMEDY
    assert "](../" not in readme


def test_a_readme_without_marks_is_refused(results):
    with pytest.raises(ValueError, match=r"README\.md lacks"):
        fill_readme("# title", results)


def test_every_sentence_of_the_paper_belongs_to_one_claim():
    sections = Counter(section for group in GROUPS for section in group.sections)
    assert set(sections.values()) == {1}
    assert set(sections) == {claim.section for claim in CLAIMS}
    assert all(page in PAGES for group in GROUPS for page in group.pages)


def test_printed_numbers_are_the_papers(results):
    paper = {row[0]: row[1].value for row in results.rows if isinstance(row[1], Number)}
    assert paper["NesT-T, CIFAR-10 top-1 (%)"] == TABLE1["NesT-T"].cifar10 == 96.04
    assert paper["NesT-B, ImageNet top-1 (%)"] == TABLE2["NesT-B"].top1 == 83.8


def test_without_records_nothing_is_claimed():
    table = results_table(EMPTY)
    assert not any(isinstance(row[2], Number) for row in table.rows)
    for row in opening_table(EMPTY).rows[1:]:
        assert "supported" not in row[1] and "contradicted" not in row[1]


def test_a_records_number_comes_with_n_and_hardware(store, tmp_path):
    """A row's full recipe, three seeds: their mean and spread appear, and only committed ones."""
    recipe = get_recipe("cifar10/nest_tiny")
    like = store.find("cifar10/nest_narrow-s0-8a3e1ba5")
    made = Store(tmp_path / "committed", tmp_path / "local")
    for seed, top1 in enumerate((95.0, 96.0, 97.0)):
        run = replace(recipe, seed=seed)
        record = Record(
            run.run_id, "train", like.recipe | {"seed": seed}, like.environment,
            like.summary | {"test/top1": top1},
        )  # fmt: skip
        made.add(record, committed=True)
    row = next(row for row in results_table(made).rows if row[0].startswith("NesT-T, CIFAR-10"))
    assert str(row[2]) == "96.00 ± 1.00" and row[3:5] == ("3", "AMD EPYC, 2 cores")
    local = Store(tmp_path / "nothing", tmp_path / "committed")
    row = next(row for row in results_table(local).rows if row[0].startswith("NesT-T, CIFAR-10"))
    assert row[2] == "not run yet"


def test_narrow_rows_show_their_records(store, results):
    ours = {row[0]: row for row in results.rows}
    (title,) = (name for name in ours if "Tiny ImageNet" in name)
    record = store.find("localize/tiny_imagenet/nest_narrow_depth2-s0-50ee4f0e")
    assert ours[title][2].value == record.summary["top1"]["best"]["error"]
    assert ours[title][1] == "-"  # the paper's number is of another data set


def test_boxes_of_other_weights_than_the_runs_stand_nowhere(store, tmp_path):
    """The newest record's run was trained again, so the one before is shown, then none."""
    made = Store(tmp_path, tmp_path)
    found = store.find("localize/tiny_imagenet/nest_narrow_depth2-s0-50ee4f0e")
    error = found.summary["top1"]["best"]["error"]
    run_id = found.run_id.removeprefix("localize/")
    made.add(replace(store.find(run_id), summary={"weights_sha256": "0" * 64}))

    def shown():
        return next(row[2] for row in results_table(made).rows if "Tiny ImageNet" in row[0])

    made.add(found)
    assert shown().value == error  # an old record keeps no sum
    made.add(replace(found, environment=found.environment | {"weights": {run_id: "1" * 64}}))
    assert shown() == "not run yet"
    made.add(replace(found, environment=found.environment | {"weights": {run_id: "0" * 64}}))
    assert shown().value == error


@pytest.mark.parametrize("stem", PAGES)
def test_every_page_says_how_to_run_it_and_what_differs(stem):
    """The frame of a page: what the paper shows, what stands here, how to run it, what differs."""
    path = ROOT / "experiments" / f"{stem}.py"
    if not path.is_file():
        pytest.skip(f"{stem} is not there yet")
    text = path.read_text()
    commands = re.findall(
        rf"^#     (?:papermill experiments/{stem}\.ipynb|nest) ", text, re.MULTILINE
    )
    assert commands, f"{stem} shows no command that makes it"
    if stem != "claims":
        assert "paper" in text and re.search(r"\[D\d+\]\(d\d+\)", text), (
            f"{stem} names no difference"
        )


def python_blocks(path):
    """What a reader would paste, but for lines that need a network."""
    blocks = re.findall(r"^```python\n(.*?)^```", path.read_text(), re.DOTALL | re.MULTILINE)
    blocks = [block for block in blocks if "import nestlib" in block]
    return ["\n".join(x for x in b.splitlines() if "pretrained=True" not in x) for b in blocks]


@pytest.mark.parametrize("name", ["README.md", "book/index.md", "book/model.md"])
def test_code_to_paste_runs(name, monkeypatch):
    monkeypatch.chdir(ROOT)
    blocks = python_blocks(ROOT / name)
    assert blocks
    for block in blocks:
        exec(block, {})
