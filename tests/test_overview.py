"""What opens the book and the README is what the records say, and every file shows it."""

import re
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest

from nestbook.claims.catalog import CLAIMS
from nestbook.paper import TABLE1
from nestbook.report.families import find_families, say_families
from nestbook.report.overview import (
    GROUPS,
    PAGES,
    fill_readme,
    groups_table,
    list_proofs,
    list_small_scale,
    make_opening,
    results_table,
)
from nestbook.sweeps.plans import plan
from nestlib.recipes.named import get_recipe
from nestlib.recipes.recipe import to_dict
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


def row_of(table, words):
    return next((row for row in table.rows if words in row[0].text), None)


def test_files_show_what_the_records_say(store, results):
    assert (ROOT / "figures" / "opening.md").read_text() == make_opening(store).to_markdown(), (
        REMEDY
    )
    assert (ROOT / "figures" / "results.md").read_text() == results.to_markdown(), REMEDY


def test_the_front_page_includes_every_part(store):
    index, opening = ((ROOT / path).read_text() for path in ("book/index.md", "figures/opening.md"))
    for name in make_opening(store).parts:
        for mark in (f"<!-- {name} -->", f"<!-- end of {name} -->"):
            assert mark in opening and f'"{mark}"' in index


@pytest.mark.parametrize("proof", list_proofs(), ids=lambda proof: proof.test)
def test_what_is_proven_has_its_test(proof):
    file, _, name = proof.test.partition("::")
    text = (ROOT / "tests" / file).read_text()
    found = re.search(
        rf"((?:^@.*\n(?:^[ )\]].*\n)*)*)^def {name}\(.*\n(?:^[ \n].*\n?|\n)*", text, re.M
    )
    assert found, proof.test
    assert not re.search("slow|skip", found[1]), "the default tests do not run it"
    assert all(words in found[0] for words in proof.held)


def test_the_readme_is_read_in_a_minute():
    words = [w for w in (ROOT / "README.md").read_text().split() if re.search("[A-Za-z0-9]", w)]
    assert len(words) <= 800


def test_the_readme_shows_what_the_records_say(results):
    readme = (ROOT / "README.md").read_text()
    assert fill_readme(readme, results) == readme, REMEDY
    assert "](../" not in readme


def test_a_readme_without_marks_is_refused(results):
    with pytest.raises(ValueError, match=r"README\.md does not have"):
        fill_readme("# title", results)


def test_every_sentence_of_the_paper_belongs_to_one_claim():
    sections = Counter(section for group in GROUPS for section in group.sections)
    assert set(sections.values()) == {1}
    assert set(sections) == {claim.section for claim in CLAIMS}
    assert all(page in PAGES for group in GROUPS for page in group.pages)


def test_without_records_nothing_is_claimed():
    assert results_table(EMPTY).rows == [] and list_small_scale(EMPTY) == []
    for row in groups_table(EMPTY).rows:
        assert not re.search("supported|contradicted|undecided", f"{row[2]} {row[3]}")


def made_record(store, recipe, seed, top1):
    """As a finished run of the recipe would leave it."""
    like = store.find("cifar10/nest_narrow-s0-8a3e1ba5")
    run = replace(recipe, seed=seed)
    summary = like.summary | {"test/top1": top1}
    return Record(run.run_id, "train", to_dict(run), like.environment, summary)


def test_a_records_number_comes_with_n_and_hardware(store, tmp_path):
    """A row's full recipe, three seeds: their mean and spread appear, and only committed ones."""
    made = Store(tmp_path / "committed", tmp_path / "local")
    for seed, top1 in enumerate((95.0, 96.0, 97.0)):
        made.add(made_record(store, get_recipe("cifar10/nest_tiny"), seed, top1), committed=True)
    row = row_of(results_table(made), "NesT-T, CIFAR-10")
    assert row[1].value == TABLE1["NesT-T"].cifar10 == 96.04
    assert str(row[2]) == "96.00 ± 1.00"
    assert row[3:5] == ("3 seeds; ± standard deviation", "EPYC, 2 cores")
    local = Store(tmp_path / "nothing", tmp_path / "committed")
    assert row_of(results_table(local), "NesT-T, CIFAR-10") is None


def test_small_scale_names_the_best_of_each_kind(store, tmp_path):
    made = Store(tmp_path, tmp_path)
    tops = {"NesT-T": 70.0, "WRN28-10": 80.0, "Pyramid-164-48": 79.0, "DeiT-T": 60.0, "PVT-T": 61.0}
    recipes = {row: first for (_, row), (first,) in plan("table1", "small", (0,)).items()}
    for row, top1 in tops.items():
        made.add(made_record(store, recipes[row], 0, top1), committed=True)
    (said,) = list_small_scale(made)[:1]
    assert say_families(find_families(made), made).rstrip(".") in said
    rows = [row[0].text for row in results_table(made).rows]
    assert [re.match(r"Narrow (\w+), 10,000 CIFAR-10", text)[1] for text in rows] == [
        "WRN",
        "NesT",
        "PVT",
    ]


def test_designs_lead_by_the_records_of_figure5(store, tmp_path):
    """Ours beside the best other design, where both have runs enough for an interval."""
    made = Store(tmp_path, tmp_path)
    recipes = {key: first for key, (first,) in plan("figure5", "small", (0,)).items()}

    def lead():
        row = row_of(results_table(made), "block aggregation")
        return row and (round(row[2].value, 6), *row[3:])

    tops = {"conv3x3_ln_maxpool3x3": 70.0, "conv3x3_stride2": 60.0, "avgpool3x3": 62.0}
    for seed in range(2):
        for (_, plane, design), recipe in recipes.items():
            if plane == "image" and design in tops:
                record = made_record(store, recipe, seed, tops[design] + seed)
                made.add(record, committed=True)
        assert (lead() is None) == (seed == 0)
    assert lead() == (8.0, "2 seeds each; ± 95 % interval", "EPYC, 2 cores")
    (said,) = [line for line in list_small_scale(made) if "aggregation" in line]
    assert "8.0 ± " in said and "ahead of AvgPool3x3, the best of 2 other designs" in said


def test_narrow_rows_show_their_records(store, results):
    row = row_of(results, "Tiny ImageNet")
    record = store.find("localize/tiny_imagenet/nest_narrow_depth2-s0-50ee4f0e")
    assert row[2].value == record.summary["gt_known"]["held_out"]["error"]
    assert row[1] == "-"  # the paper's number is of another data set


def test_boxes_of_other_weights_than_the_runs_stand_nowhere(store, tmp_path):
    """The newest record's run was trained again, so the one before is shown, then none."""
    made = Store(tmp_path, tmp_path)
    found = store.find("localize/tiny_imagenet/nest_narrow_depth2-s0-50ee4f0e")
    error = found.summary["gt_known"]["held_out"]["error"]
    run_id = found.run_id.removeprefix("localize/")
    made.add(replace(store.find(run_id), summary={"weights_sha256": "0" * 64}))

    def shown():
        row = row_of(results_table(made), "Tiny ImageNet")
        return row and row[2].value

    made.add(found)
    assert shown() == error  # an old record keeps no sum
    made.add(replace(found, environment=found.environment | {"weights": {run_id: "1" * 64}}))
    assert shown() is None
    made.add(replace(found, environment=found.environment | {"weights": {run_id: "0" * 64}}))
    assert shown() == error


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


@pytest.mark.parametrize(
    "name", ["README.md", "book/index.md", "book/model.md", "book/reference.md"]
)
def test_code_to_paste_runs(name, monkeypatch):
    monkeypatch.chdir(ROOT)
    blocks = python_blocks(ROOT / name)
    assert blocks
    for block in blocks:
        exec(block, {})
