"""What launchers say in the environment is a whole number, or one line that names it."""

import pytest

from faceid.device import pick_device
from faceid.errors import ConfigError
from faceid.processes import number_in
from faceid.sampling.jobs.place import place_among_workers
from faceid.training.world.attempts import read_attempt
from faceid.training.world.launched import read_launch

pytestmark = pytest.mark.fault("W5")


@pytest.mark.parametrize("value", ["abc", "-1", "1.5", "1_0", "²", "9" * 40, "0x1"])
def test_a_number_that_is_none_is_named(monkeypatch, tmp_path, value):
    with pytest.raises(ConfigError, match=f"^RANK={value!r}: launchers set a whole number"):
        number_in({"RANK": value}, "RANK")
    for name in ("RANK", "WORLD_SIZE"):
        environment = {"RANK": "0", "WORLD_SIZE": "2", name: value}
        with pytest.raises(ConfigError, match=f"^{name}="):
            read_launch(None, tmp_path, dict(environment))
        for key, said in environment.items():
            monkeypatch.setenv(key, said)
        with pytest.raises(ConfigError, match=f"^{name}="):
            place_among_workers()
        monkeypatch.undo()
    with pytest.raises(ConfigError, match=r"^SLURM_RESTART_COUNT="):
        read_attempt({"SLURM_RESTART_COUNT": value})
    monkeypatch.setenv("LOCAL_RANK", value)
    with pytest.raises(ConfigError, match=r"^LOCAL_RANK="):
        pick_device("auto")


def test_an_unset_or_empty_one_is_the_default(tmp_path):
    assert (number_in({}, "RANK", 0), number_in({"RANK": ""}, "RANK", 3), number_in({"RANK": "12"}, "RANK")) == (
        0,
        3,
        12,
    )
    with pytest.raises(ConfigError, match=r"^RANK=2, WORLD_SIZE=2: ranks go from 0 to WORLD_SIZE - 1"):
        read_launch(None, tmp_path, {"RANK": "2", "WORLD_SIZE": "2"})
