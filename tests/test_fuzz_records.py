"""Whatever a record file holds: its reader has the record, or a RecordError that names the file;
and a record that is written is read as it was."""

import copy
import json
import re

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from nestbook.report import grounding, inspections, localization, scale
from nestbook.report.all_records import families_table, headline_of, records_table
from nestbook.report.cost import cost_tables
from nestbook.report.generation import score_table
from nestbook.report.loader import decoder_table
from nestbook.report.profiles import show_profile
from nestbook.report.table2 import table2_own
from nestlib.cli.runs import describe_reached
from nestlib.project import find_project_root
from nestlib.records import Record, RecordError, Store, load_record, open_store

COMMITTED = open_store(find_project_root()).committed
NUMBERS = st.integers(-1, 101) | st.integers() | st.floats(-2, 200) | st.floats(allow_nan=False)
SCALARS = st.none() | st.booleans() | NUMBERS | st.text(max_size=4)
VALUES = SCALARS | st.lists(SCALARS, max_size=3) | st.dictionaries(st.text(max_size=2), SCALARS)


def profile(name):
    return lambda record, store: show_profile(name, store.find_benches(name))


def trained(record, store):
    seeds = store.find_seeds(record.make_recipe())
    return describe_reached(seeds), [one.top1 for one in seeds]


def located(record, store):
    found = {record.summary["row"]: record}
    localization.localization_table("digits", found, explain=False)
    localization.plot_localization({"digits": found}, "x")


# A committed record of each kind and form, and what shows it.
READERS = {
    "cifar10/nest_narrow-s0-*": trained,
    "digits/wrn_narrow-s0-*": trained,
    "digits/gan_nest_narrow-s0-*": trained,
    "score/digits/gan_nest_narrow-s0-*-digits": lambda record, store: score_table(record),
    "evaluate/tiny_imagenet/*nest*": lambda record, store: table2_own(
        store, {record.recipe["name"]: record}
    ),
    "faults/two-ranks": lambda record, store: (
        scale.make_faults_point(record), scale.faults_table(record)
    ),
    "inspect/cifar10": lambda record, store: inspections.inspection_table(record),
    "inspect/tiny_imagenet": lambda record, store: inspections.tiny_table(store),
    "planted/*": lambda record, store: grounding.grounding_table([record]),
    "localize/digits/resnet*": located,
    "bench/table1-*": lambda record, store: cost_tables("table1", None, [record]),
    "bench/loader-*amd*": lambda record, store: decoder_table([record]),
    "bench/scaling-*": lambda record, store: scale.scaling_table(record),
    **{f"bench/{name}-full-*fp32": profile(name)
       for name in ("attention", "products", "explaining", "export", "growth", "roofline", "step",
                    "input", "loader", "data-faults")},
    "bench/streaming-full-amd*": profile("streaming"),
}  # fmt: skip
CASES = [(next(iter(sorted(COMMITTED.glob(f"{name}.json")))), read)
         for name, read in READERS.items()]  # fmt: skip


@pytest.mark.parametrize(("path", "read"), CASES)
def test_every_record_of_the_books_has_a_form_of_its_own(tmp_path, path, read):
    """A text in the place of any part of its summary is refused, whoever reads it."""
    values = json.loads(path.read_bytes())
    for name, value in values["summary"].items():
        if isinstance(value, (dict, list)):
            copy = tmp_path / path.relative_to(COMMITTED)
            copy.parent.mkdir(parents=True, exist_ok=True)
            copy.write_text(json.dumps({**values, "summary": {**values["summary"], name: "x"}}))
            with pytest.raises(RecordError, match=f"its summary, {re.escape(name)} is 'x'"):
                load_record(copy)


@st.composite
def changes(draw):
    """A committed record with one value of any place changed or removed, and what shows it."""
    path, read = draw(st.sampled_from(CASES))
    values = inner = json.loads(path.read_bytes())
    while True:
        keys = list(inner) if isinstance(inner, dict) else list(range(len(inner)))
        key = draw(st.sampled_from(keys))
        if isinstance(inner[key], (dict, list)) and inner[key] and draw(st.integers(0, 4)):
            inner = inner[key]
            continue
        if draw(st.booleans()):
            inner[key] = draw(VALUES)
        else:
            del inner[key]
        return path.relative_to(COMMITTED), values, read


@given(changed=changes())
def test_a_changed_record_is_read_or_its_file_is_named(tmp_path, changed):
    name, values, read = changed
    path = tmp_path / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(values))
    store = Store(tmp_path, tmp_path / "local")
    try:
        record = store.find(name.as_posix().removesuffix(".json"))
        assert (record.kind, record.summary) == (values["kind"], values["summary"])
        headline_of(record)
        records_table(store), families_table(store)
        read(record, store)
    except RecordError as error:
        assert str(path) in str(error) and "delete" not in str(error)
    finally:
        path.unlink()


@given(
    content=st.binary(max_size=40) | st.from_regex(r"[\[\]{}\",:0-9eNaI-]{0,30}").map(str.encode)
)
@example(content=b'{"kind": 1, "kind": 2}')
@example(content=b'{"summary": 1e999}')
@example(content=b"[" * 100_000)
@example(content=b"1" * 5000)
@example(content=b"\xff\xfe\x00")
def test_a_file_of_anything_is_named(tmp_path, content):
    path = tmp_path / "x.json"
    path.write_bytes(content)
    with pytest.raises(RecordError, match=f"{re.escape(str(path))} is not a record"):
        load_record(path)


PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner),
    max_leaves=5,
)
PARTS = st.dictionaries(st.text(max_size=5), PLAIN, max_size=4)


@given(parts=st.tuples(PARTS, PARTS, PARTS))
@example(parts=({}, {}, {"x": [float("nan")]}))
@example(parts=({}, {}, {"x": 2**63}))
def test_a_record_that_is_written_is_read_as_it_was(tmp_path, parts):
    """Of a kind that nobody says anything of; what would not be read again is not written."""
    store, record = Store(tmp_path, tmp_path / "local"), Record("mine/one", "mine", *parts)
    kept = copy.deepcopy(record)
    path = store.local / "mine" / "one.json"
    try:
        assert store.add(record) == path
    except RecordError as error:
        assert str(path) in str(error)
        assert not list(tmp_path.rglob("*.json"))
        return
    assert record == kept == store.find("mine/one")
    path.unlink()
