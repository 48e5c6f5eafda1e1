"""What the pages on generation show: the decoder's own table, scores, speeds, and whence."""

import pytest

from nestlib import paper
from nestlib.models import create_generator
from nestlib.report import table_a4
from nestlib.report.table_a4 import describe_hierarchies


def test_table_a4_is_read_from_the_model():
    model = create_generator("nest_decoder", img_size=64)
    assert describe_hierarchies(model) == paper.TABLE_A4
    assert list(describe_hierarchies(model)) == list(paper.TABLE_A4)  # 4 to 1
    narrow = create_generator(
        "nest_decoder", img_size=32, embed_dim=128, num_heads=2, depths=[1, 2, 3]
    )
    assert describe_hierarchies(narrow) == {3: (128, 2, 3, 1), 2: (32, 2, 2, 4), 1: (8, 2, 1, 16)}


def test_table_a4_shows_both_readings_beside_the_paper():
    architecture, parameters = table_a4()
    for row in architecture.rows[1:]:  # but for the noise
        assert row[1] == row[2] == row[3], row
    assert architecture.rows[0][2:] == (
        "256 values, a linear layer to 65,536", "65,536 values, reshaped alone"
    )  # fmt: skip
    cells = {row[0]: row[1:] for row in parameters.rows}
    embedding, whole = (cells[part] for part in ("noise to 1 x n x d", "all"))
    assert [number.value for number in embedding] == [257 * 65536 / 1e6, 0]
    assert whole[0].value - whole[1].value == pytest.approx(embedding[0].value)
    parts = [row[1].value for row in parameters.rows[:-1]]
    rest = 2 * 16 + 3 * 16 + 3  # LayerNorm and Conv1x1
    assert whole[0].value - sum(parts) == pytest.approx(rest / 1e6)
