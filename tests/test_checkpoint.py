import hashlib
import io
import pickle
import resource

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
    save_checkpoint(tmp_path, 1, {"payload": Payload()})
    with pytest.raises(CheckpointError, match="UnpicklingError"):
        load_newest_checkpoint(tmp_path)
    assert "this ran" not in capsys.readouterr().out


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
