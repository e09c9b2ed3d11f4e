"""Which device a name means; processes that share their work take a GPU each."""

import pytest
import torch

from faceid.device import pick_device
from faceid.errors import ConfigError


@pytest.fixture
def four_gpus(monkeypatch):
    for name in ("LOCAL_RANK", "SLURM_LOCALID"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 4)


@pytest.mark.parametrize(
    ("environment", "place"),
    [({}, 0), ({"LOCAL_RANK": "2"}, 2), ({"SLURM_LOCALID": "3"}, 3), ({"LOCAL_RANK": "1", "SLURM_LOCALID": "3"}, 1)],
)
def test_auto_takes_the_gpu_of_this_process(four_gpus, monkeypatch, environment, place):
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert pick_device("auto") == torch.device("cuda", place)
    # A name that was given is taken as it is.
    assert pick_device("cuda:1") == torch.device("cuda", 1) and pick_device("cpu") == torch.device("cpu")


def test_where_each_process_sees_one_gpu_it_takes_that(four_gpus, monkeypatch):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    monkeypatch.setenv("SLURM_LOCALID", "3")
    assert pick_device(None) == torch.device("cuda", 0)


def test_a_gpu_that_is_not_there_is_refused(four_gpus):
    with pytest.raises(ConfigError, match="has 4 GPUs"):
        pick_device("cuda:4")
    with pytest.raises(ConfigError, match="not a device"):
        pick_device("tpu of mine")
