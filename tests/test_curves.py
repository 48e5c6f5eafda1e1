"""Curves and the list of records say what the files say."""

import json
from pathlib import Path

import pytest
import yaml

from nestbook.report.all_records import headline_of, records_table
from nestbook.report.curves import METRICS, curves_table, family_of, find_trained, plot_curves
from nestbook.report.tables import Link, Table
from nestlib.records import Store, open_store

ROOT = Path(__file__).parents[1]
RECORDS = ROOT / "experiments" / "records"
FILES = {
    path.relative_to(RECORDS).with_suffix("").as_posix(): path for path in RECORDS.rglob("*.json")
}


@pytest.fixture(scope="module")
def trained():
    return find_trained(open_store(ROOT))


def test_every_trained_record_has_its_curves_as_in_its_file(trained):
    files = {name: json.loads(path.read_text()) for name, path in FILES.items()}
    files = {name: record for name, record in files.items() if record["kind"] in ("train", "gan")}
    assert {record.run_id for record in trained} == files.keys() and len(trained) > 10
    drawn = plot_curves(trained)
    lines = {line.get_gid(): line for axes in drawn.figure.axes for line in axes.lines}
    assert lines.keys() == drawn.tooltips.keys()
    found = {}
    for gid, text in drawn.tooltips.items():
        run_id, said = text.split("\n")
        key = next(key for key, (label, *_) in METRICS.items() if said.startswith(label))
        found[run_id, key] = lines[gid]
        assert f"{lines[gid].get_ydata()[-1]:.2f}" in said or key != "test/top1"
    expected = {
        (name, key): [epoch[key] for epoch in record["epochs"] if key in epoch]
        for name, record in files.items() for key in METRICS
        if any(key in epoch for epoch in record["epochs"])
    }  # fmt: skip
    assert found.keys() == expected.keys()
    assert all(list(found[place].get_ydata()) == values for place, values in expected.items())


def test_the_table_has_each_record_with_its_last_value(trained):
    rows = {row[0].text: row for row in curves_table(trained).rows}
    assert rows.keys() == {record.run_id for record in trained}
    _, what, over, first, best, last = rows["cifar10/nest_narrow-s0-8a3e1ba5"]
    assert (what, over) == ("test top-1 (%)", "epochs 1 to 10")
    assert first.value < last.value <= best.value and str(last) == "77.63"


def test_families_are_by_name(trained):
    found = {record.recipe["name"]: family_of(record) for record in trained}
    assert found["tiny_imagenet/nest_narrow_depth2"] == found["digits/gan_nest_narrow"]
    assert found["digits/deit_narrow"] == "others"


def test_no_curves_are_refused(tmp_path):
    with pytest.raises(ValueError, match="no record has epochs"):
        find_trained(Store(tmp_path, tmp_path))


def test_the_committed_notebook_shows_all_records():
    text = (ROOT / "experiments" / "records.ipynb").read_text()
    outputs = "".join(
        "".join(output["data"]["text/html"])
        for cell in json.loads(text)["cells"] if cell["cell_type"] == "code"
        for output in cell["outputs"] if "text/html" in output.get("data", {})
    )  # fmt: skip
    remedy = "run: make notebooks NOTEBOOKS=experiments/records.ipynb"
    assert 'id="curves-picture"' in outputs, remedy
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
