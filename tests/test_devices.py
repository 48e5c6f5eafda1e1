import warnings

import pytest
import torch

from nestbook.sweeps import devices as sweep_devices
from nestlib.files import is_held
from nestlib.training import devices
from nestlib.training.devices import DeviceError, Ranks, count_ranks, resolve_device


def fail(message):
    def init():
        raise RuntimeError(message)

    return init


TOO_OLD = "The NVIDIA driver on your system is too old (found version 12000)."


@pytest.mark.parametrize("name", ["auto", "cuda"])
def test_old_driver_is_an_error_not_a_cpu_run(monkeypatch, name):
    monkeypatch.setattr(torch.cuda, "init", fail(TOO_OLD))
    monkeypatch.setattr(devices, "_has_nvidia_driver", lambda: True)
    with pytest.raises(DeviceError, match=r"too old \(found version 12000\).*--device cpu"):
        resolve_device(name)


def test_machine_without_driver_runs_on_the_cpu(monkeypatch):
    monkeypatch.setattr(torch.cuda, "init", fail("Found no NVIDIA driver on your system."))
    monkeypatch.setattr(devices, "_has_nvidia_driver", lambda: False)
    assert resolve_device("auto").type == "cpu"
    with pytest.raises(DeviceError, match="Found no NVIDIA driver"):
        resolve_device("cuda")


@pytest.mark.parametrize("hidden", ["", "-1"])
def test_hidden_gpus_mean_the_cpu(monkeypatch, hidden):
    monkeypatch.setattr(torch.cuda, "init", fail("No CUDA GPUs are available"))
    monkeypatch.setattr(devices.os.path, "exists", lambda _: True)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", hidden)
    assert resolve_device("auto").type == "cpu"


@pytest.mark.parametrize("name", ["gpu", "cuda:", "cuda:one", "cuda:-1", "cudax", ""])
def test_unknown_device_lists_valid_ones(name):
    with pytest.raises(DeviceError, match=f"'{name}' is not one of auto, cpu, cuda"):
        resolve_device(name)


@pytest.fixture
def four_gpus(monkeypatch):
    """By names alone; the list of those that were made the current one."""
    current = []
    monkeypatch.setattr(torch.cuda, "init", lambda: None)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 4)
    monkeypatch.setattr(torch.cuda, "set_device", current.append)
    return current


@pytest.mark.parametrize(
    ("name", "local_rank", "index"),
    [("auto", None, 0), ("auto", "2", 2), ("cuda", "3", 3), ("cuda", None, 0), ("cuda:1", "2", 1)],
)
def test_a_rank_makes_its_own_gpu_the_current_one(monkeypatch, four_gpus, name, local_rank, index):
    """NCCL sends objects from the current GPU, which would be the first on every rank; a recorded
    step runs on its stream."""
    if local_rank:
        monkeypatch.setenv("LOCAL_RANK", local_rank)
    assert resolve_device(name) == torch.device("cuda", index)
    assert four_gpus == [torch.device("cuda", index)]


@pytest.mark.parametrize(("name", "local_rank"), [("cuda:4", "0"), ("auto", "4"), ("cuda", "5")])
def test_more_ranks_than_gpus_are_told(monkeypatch, four_gpus, name, local_rank):
    monkeypatch.setenv("LOCAL_RANK", local_rank)
    with pytest.raises(DeviceError, match=r"cuda:[45] is not there; .*cuda:0 to cuda:3.*one rank"):
        resolve_device(name)
    assert not four_gpus


def test_ranks_share_each_batch():
    order = torch.arange(12)
    parts = [Ranks(rank, 2).share(order, batch_size=4) for rank in (0, 1)]
    assert parts[0].tolist() == [0, 1, 4, 5, 8, 9]
    assert parts[1].tolist() == [2, 3, 6, 7, 10, 11]


def test_each_slurm_job_locks_its_own_gpus(monkeypatch):
    """Slurm may count a job's GPUs from 0, so two jobs of one machine see the same number."""
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0")
    locks = []
    for job in ("11", "12"):
        monkeypatch.setenv("SLURM_JOB_ID", job)
        with sweep_devices.free_device(["cuda:0"]):  # no GPU is touched
            locks.append(sweep_devices._device_lock("cuda:0"))
            assert is_held(locks[-1])
    assert len(set(locks)) == 2


@pytest.mark.parametrize(("shared", "warned"), [("True", True), ("False", False)])
def test_a_store_that_restarted_ranks_would_share_is_named(monkeypatch, shared, warned):
    monkeypatch.setenv("TORCHELASTIC_MAX_RESTARTS", "3")
    monkeypatch.setenv("TORCHELASTIC_USE_AGENT_STORE", shared)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        devices._warn_of_shared_store()
    found = [str(w.message) for w in caught]
    assert any("TORCH_DISABLE_SHARE_RDZV_TCP_STORE=1" in text for text in found) == warned


@pytest.mark.parametrize("text", ["two", "-1", "0", "1.5", "9" * 20])
def test_a_number_of_ranks_that_is_none_names_its_variable(monkeypatch, text):
    monkeypatch.setenv("WORLD_SIZE", text)
    with pytest.raises(DeviceError, match=f"WORLD_SIZE is '{text}', must be a whole number from 1"):
        count_ranks()
    monkeypatch.setenv("WORLD_SIZE", "")
    assert count_ranks() == 1
