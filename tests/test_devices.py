import warnings

import pytest
import torch

from nestbook.sweeps import devices as sweep_devices
from nestlib.files import is_held
from nestlib.training import devices
from nestlib.training.devices import DeviceError, Ranks, resolve_device


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


def test_unknown_device_lists_valid_ones():
    with pytest.raises(DeviceError, match="'gpu' is not one of auto, cpu, cuda"):
        resolve_device("gpu")


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
