import hashlib
import io
import math
import pickle
import resource
from collections import OrderedDict, defaultdict, deque
from datetime import datetime
from pathlib import Path

import numpy as np
import pytest
import torch

from nestlib.training.checkpoint import CheckpointError, load_newest_checkpoint, save_checkpoint


def names(folder):
    return sorted(path.name[:13] for path in folder.iterdir())


def test_newest_is_loaded_and_two_are_kept(tmp_path):
    for step in (1, 2, 3):
        save_checkpoint(tmp_path, step, {"step": step, "weights": torch.full((3,), step)})
    assert names(tmp_path) == ["step-00000002", "step-00000003"]
    state = load_newest_checkpoint(tmp_path)
    assert state["step"] == 3 and torch.equal(state["weights"], torch.full((3,), 3))


def test_no_checkpoint_is_none(tmp_path):
    assert load_newest_checkpoint(tmp_path) is None
    assert load_newest_checkpoint(tmp_path / "absent") is None


@pytest.mark.parametrize(
    "damage", [lambda d: d[:-7], lambda d: d[:40] + b"x" + d[41:], lambda d: b""]
)
def test_damaged_checkpoint_is_named_and_the_one_before_used(tmp_path, damage):
    save_checkpoint(tmp_path, 1, {"step": 1})
    newest = save_checkpoint(tmp_path, 2, {"step": 2})
    newest.write_bytes(damage(newest.read_bytes()))
    with pytest.warns(UserWarning, match=f"{newest.name} is damaged .*using the one before it"):
        assert load_newest_checkpoint(tmp_path) == {"step": 1}
    assert newest.with_name(newest.name + ".damaged").exists()


def test_half_written_file_is_cleared_away(tmp_path):
    save_checkpoint(tmp_path, 1, {"step": 1})
    (tmp_path / ".step-00000002-abc.pt.xyz.part").write_bytes(b"half")
    assert load_newest_checkpoint(tmp_path) == {"step": 1}
    assert names(tmp_path) == ["step-00000001"]


def test_full_disk_names_the_checkpoint_that_is_whole(tmp_path):
    """The kernel itself refuses the write half-way, as a full disk does."""
    save_checkpoint(tmp_path, 1, {"step": 1})
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, hard))
    try:
        message = r"could not write .*step-00000002.*Newest whole checkpoint: step-00000001.*Free"
        with pytest.raises(CheckpointError, match=message):
            save_checkpoint(tmp_path, 2, {"weights": torch.zeros(100_000)})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert names(tmp_path) == ["step-00000001"]
    assert load_newest_checkpoint(tmp_path) == {"step": 1}


class Payload:
    def __reduce__(self):
        return (print, ("this ran while a checkpoint was loaded",))


def test_loading_runs_no_code_from_the_file(tmp_path, capsys):
    write_foreign(tmp_path, saved({"payload": Payload()}))
    with pytest.raises(CheckpointError, match="UnpicklingError"):
        load_newest_checkpoint(tmp_path)
    assert "this ran" not in capsys.readouterr().out


NOT_PLAIN = {
    "torch_version.TorchVersion": torch.__version__,
    "PosixPath": Path("a"), "datetime.datetime": datetime(2026, 1, 1), "deque": deque([1]),
    "frozenset": frozenset({1}), "defaultdict": defaultdict(int), "float64": np.float64(1),
    "int64": np.int64(1), "numpy.bool": np.bool_(True), "str_": np.str_("a"), "ndarray": np.ones(2),
}  # fmt: skip


@pytest.mark.parametrize("kind", NOT_PLAIN)
def test_what_torch_would_not_load_again_is_not_written(kind, tmp_path):
    """torch 2.11.0 and 2.14.1 refuse the same types."""
    value = NOT_PLAIN[kind]
    with pytest.raises(pickle.UnpicklingError, match="Weights only load failed"):
        torch.load(io.BytesIO(saved({"value": value})), weights_only=True)
    with pytest.raises(TypeError, match=rf"rows, item 1, x is a \S*{kind}, which a"):
        save_checkpoint(tmp_path, 1, {"rows": [{"x": 1}, {"x": value}]})
    assert not list(tmp_path.iterdir())


def test_a_key_is_plain_too(tmp_path):
    with pytest.raises(TypeError, match="a key of the state, rows is a pathlib"):
        save_checkpoint(tmp_path, 1, {"rows": {Path("a"): 1}})


def test_plain_values_come_back_as_they_are(tmp_path):
    state = {
        "rows": [{"x": 1.5, "y": None}, (1, True)], 0: OrderedDict(a=torch.ones(2)), "text": "é",
        "weights": torch.nn.Parameter(torch.ones(3, dtype=torch.bfloat16)), "infinite": math.inf,
    }  # fmt: skip
    save_checkpoint(tmp_path, 1, state)
    again = load_newest_checkpoint(tmp_path)
    assert again.keys() == state.keys() and again["rows"] == state["rows"]
    assert torch.equal(again["weights"], state["weights"]) and again["infinite"] == math.inf


def saved(value):
    buffer = io.BytesIO()
    torch.save(value, buffer)
    return buffer.getvalue()


FOREIGN = {
    "a pickle": pickle.dumps({"step": 2}), "a text": b"step 2, all is well", "nothing": b"",
    "half a file": saved({"step": 2})[:200], "a list": saved([2]), "a tensor": saved(torch.ones(2)),
    "another step": saved({"step": 1}), "a step of text": saved({"step": "2"}),
}  # fmt: skip


def write_foreign(folder, data):
    """A file whose name holds its digest, as a checkpoint's does."""
    path = folder / f"step-00000002-{hashlib.sha256(data).hexdigest()[:32]}.pt"
    path.write_bytes(data)
    return path


@pytest.mark.parametrize("data", FOREIGN.values(), ids=FOREIGN)
def test_a_whole_file_of_wrong_content_is_named_and_the_one_before_used(tmp_path, data):
    save_checkpoint(tmp_path, 1, {"step": 1})
    newest = write_foreign(tmp_path, data)
    with pytest.warns(UserWarning, match=f"{newest.name} is damaged .*using the one before it"):
        assert load_newest_checkpoint(tmp_path) == {"step": 1}
    assert newest.with_name(newest.name + ".damaged").read_bytes() == data


@pytest.mark.parametrize("data", FOREIGN.values(), ids=FOREIGN)
def test_wrong_content_alone_is_an_error_and_stays(tmp_path, data):
    path = write_foreign(tmp_path, data)
    for _ in range(2):  # the second call says so too
        with pytest.raises(CheckpointError, match=f"{path.name}: .*Move .* away to train"):
            load_newest_checkpoint(tmp_path)
    assert path.read_bytes() == data


def test_what_is_not_taken_is_as_damaged(tmp_path):
    def take(state):
        if state["step"] > 1:
            raise ValueError("its steps are too many")

    save_checkpoint(tmp_path, 1, {"step": 1})
    newest = save_checkpoint(tmp_path, 2, {"step": 2})
    with pytest.warns(UserWarning, match=f"{newest.name} is damaged .its steps are too many"):
        assert load_newest_checkpoint(tmp_path, take) == {"step": 1}


def test_where_all_are_cut_training_begins_from_the_start(tmp_path):
    paths = [save_checkpoint(tmp_path, step, {"step": step}) for step in (1, 2)]
    for path in paths:
        path.write_bytes(path.read_bytes()[:-1])
    with pytest.warns(UserWarning, match="there is no earlier one") as warned:
        assert load_newest_checkpoint(tmp_path) is None
    assert len(warned) == 2 and names(tmp_path) == ["step-00000001", "step-00000002"]


@pytest.mark.parametrize(
    "rename",
    [
        lambda name: name.replace(".pt", "(1).pt"), lambda name: f"Copy of {name}",
        lambda name: f"{name}~", str.upper, lambda name: name[:-3], lambda name: "best.pt",
        lambda name: name.replace("step-0000000", "step-"),
    ],
)  # fmt: skip
def test_a_renamed_checkpoint_is_named_and_never_lost(tmp_path, rename):
    """Alone it is an error, which says its name: training would begin again from the start."""
    path = save_checkpoint(tmp_path, 2, {"step": 2})
    other = path.rename(path.with_name(rename(path.name)))
    with pytest.raises(CheckpointError) as raised:
        load_newest_checkpoint(tmp_path)
    assert f"Call {other.name} {path.name}, or move it away" in str(raised.value)
    save_checkpoint(tmp_path, 1, {"step": 1})
    with pytest.warns(UserWarning, match=r"is not used: it does not have the name .*step-00000001"):
        assert load_newest_checkpoint(tmp_path) == {"step": 1}
    other.rename(path)
    assert load_newest_checkpoint(tmp_path) == {"step": 2}


def test_a_foreign_file_among_checkpoints_gets_no_name(tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(CheckpointError, match=r"notes.txt in .*Give it its name back, or move it"):
        load_newest_checkpoint(tmp_path)


def test_a_file_in_place_of_the_folder_is_not_answered_with_more_room(tmp_path):
    (tmp_path / "checkpoints").write_text("mine")
    with pytest.raises(CheckpointError, match=r"checkpoints is no folder, .*move it away"):
        load_newest_checkpoint(tmp_path / "checkpoints")
    with pytest.raises(CheckpointError, match="Make this folder one to write into") as raised:
        save_checkpoint(tmp_path / "checkpoints", 1, {"step": 1})
    assert "space" not in str(raised.value)
