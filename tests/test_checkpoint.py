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
        message = r"could not write .*step-00000002.*Newest whole checkpoint: step-00000001.*Make"
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
    with pytest.raises(pickle.UnpicklingError):
        load_newest_checkpoint(tmp_path)
    assert "this ran" not in capsys.readouterr().out
