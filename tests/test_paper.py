"""Our copy of the paper's numbers against an independent transcription, where it is at hand."""

import pytest
import yaml
from conftest import SHARED

from nestbook import paper

REFERENCE = SHARED / "paper" / "reference.yaml"
needs_reference = pytest.mark.skipif(
    not REFERENCE.exists(), reason="the second transcription (../shared/paper) is not here"
)


@needs_reference
def test_table1_as_printed():
    rows = yaml.safe_load(REFERENCE.read_text())["table1"]["rows"]
    assert list(rows) == list(paper.TABLE1)
    for name, (group, *numbers) in rows.items():
        row = paper.TABLE1[name]
        ours = [row.params_m, row.gpu_memory_mb, row.images_per_second, row.cifar10, row.cifar100]
        assert ours == numbers, name
        assert row.group.replace(", ", " ").replace(" attention", "-attention") == group


@needs_reference
def test_table_a1_as_printed_and_corrected():
    reference = yaml.safe_load(REFERENCE.read_text())["table_a1"]
    printed = reference["imagenet_S4"]["printed"]
    assert paper.TABLE_A1_IMAGENET == {key: tuple(printed[key]) for key in "dhk"}
    assert [list(h) for h in paper.TABLE_A1[3].hierarchies] == [printed[i] for i in (1, 2, 3)]
    corrected = reference["imagenet_S4"]["corrected"]
    assert paper.TABLE_A1_IMAGENET_CORRECTED == {k: tuple(corrected[k]) for k in "dhk"}
    ours = [list(h) for h in paper.TABLE_A1_IMAGENET_ROW_CORRECTED.hierarchies]
    assert ours[::-1] == corrected["bottom_to_top"]
    for row in paper.TABLE_A1[:3]:
        entry = reference["cifar_S1"][f"{row.block_edge}x{row.block_edge}"]
        assert [h[3] for h in row.hierarchies][::-1] == entry["blocks"]
        assert {h[2] for h in row.hierarchies} == {entry["layers_per_hierarchy"]}


@needs_reference
def test_table2_as_printed():
    rows = yaml.safe_load(REFERENCE.read_text())["table2"]["rows"]
    assert list(rows) == list(paper.TABLE2)
    for name, (group, *numbers) in rows.items():
        row = paper.TABLE2[name]
        ours = [row.image_size, row.params_m, row.gflops, row.images_per_second, row.top1]
        assert ours == numbers, name
        assert row.group.replace(", ", " ").replace(" attention", "-attention") == group


@needs_reference
def test_figure8_as_printed():
    reference = yaml.safe_load(REFERENCE.read_text())["figure8_right"]
    assert paper.FIGURE8 == reference["rows"]
    cited = next(note for note in reference["notes"] if "cited" in note)
    assert all(name in cited.split(";")[1] for name in paper.FIGURE8_CITED)


@needs_reference
def test_figures_and_appendix_as_printed():
    reference = yaml.safe_load(REFERENCE.read_text())
    assert paper.FIGURE4_EPOCHS == reference["figure4_left"]["printed"]["NesT-B"]
    removed = reference["figure4_right"]["rows"]
    removed["none"] = removed.pop("none removed")
    assert {k: list(v) for k, v in paper.FIGURE4_REMOVED.items()} == removed
    tiny = reference["figure6"]["printed"]["NesT3-T S=2"]
    assert paper.FIGURE6_NEST3_TINY == (tiny["cifar10"], tiny["throughput"])
    left = reference["table_a2_left"]["rows"]
    for name, values in paper.TABLE_A2_TEACHERS.items():
        assert left[f"{name} (teacher)"] == list(values)
        assert left[f"NesT-B taught by {name}"] == list(paper.TABLE_A2_NEST_BASE[name])
    right = reference["table_a2_right"]
    assert {k: list(v) for k, v in paper.TABLE_A2_TAUGHT.items()} == right["rows"]
    longest = right["printed"]["nest_b_cifar100_distilled_1000_epochs"]
    assert longest == paper.TABLE_A2_1000_EPOCHS
    heads = reference["table_a3"]["rows"]
    assert {heads: row[1] for heads, row in heads.items()} == paper.TABLE_A3


@needs_reference
def test_table_a4_and_figure7_as_printed():
    reference = yaml.safe_load(REFERENCE.read_text())
    rows = [[d, layers, blocks] for d, _, layers, blocks in paper.TABLE_A4.values()]
    assert rows == reference["table_a4"]["hierarchies_from_input"]
    said = " ".join(str(reference["table_a4"]).split())
    assert {heads for _, heads, _, _ in paper.TABLE_A4.values()} == {4}
    edge = paper.TABLE_A4_BLOCK_EDGE
    assert f"{paper.TABLE_A4_IMAGE_SIZE} x {paper.TABLE_A4_IMAGE_SIZE} x 3" in said
    assert paper.TABLE_A4[1][3] * edge**2 == paper.TABLE_A4_IMAGE_SIZE**2
    printed = reference["figure7"]["printed"]
    assert printed["throughput_ratio_nest_over_transgan"] == paper.FIGURE7_THROUGHPUT_RATIO
    assert printed["best_unsampling"] == paper.FIGURE7_BEST_UNSAMPLING
