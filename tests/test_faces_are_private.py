"""What shows a face is its owner's alone, however deep it lies and whatever the umask: every file and every folder."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from calling import call
from launching import SMALL_ADAPTER, ToyInputs
from nothing_lost import COMMANDS, REPLACED, World, make_world

from faceid.models.adapter_settings import AdapterSettings
from faceid.training.checkpoints.run_folder import FOLDERS_WITH_FACES

ROWS = {row.name: row for row in COMMANDS}
SHOWING = (
    *("identity", "people", "face bank", "evaluation", "contact sheet", "shards' sheet", "video", "batch"),
    "description",
)
# Nobody's group on any machine.
TEAM = 64200
# Validating, with pictures for TensorBoard, once.
VALIDATED = (
    "--num_epochs 1 --num_workers 0 --batch_size 2 --save_every 1 --validate_every 1 --validation_steps 1 "
    "--validation_cfg_scale 1"
).split()


@pytest.fixture(scope="module")
def world(tmp_path_factory, toy_inputs) -> World:
    settings = AdapterSettings(conditioning_dim=40, mapper_hidden_dim=48, num_tokens=3, lora_rank=4, mapper_dropout=0.0)
    return make_world(tmp_path_factory.mktemp("world"), toy_inputs, settings)


@pytest.fixture(autouse=True)
def open_to_all() -> Iterator[None]:
    """The umask of a careless machine."""
    before = os.umask(0)
    yield
    os.umask(before)


@pytest.fixture
def place(tmp_path) -> Path:
    """A folder that anybody may look into: pytest's own are private."""
    folder = tmp_path / "place"
    folder.mkdir()
    return folder


def within(*tops: Path) -> dict[str, str]:
    """Modes of what is there, by path."""
    paths = [path for top in tops for path in [top, *top.rglob("*")]]
    return {str(path): oct(path.lstat().st_mode & 0o777) for path in paths}


def open_ones(*tops: Path) -> list[str]:
    """What somebody else might look at."""
    return [f"{path}: {mode}" for path, mode in within(*tops).items() if mode not in ("0o700", "0o600")]


@pytest.mark.fault("T3")
@pytest.mark.parametrize("name", SHOWING)
@pytest.mark.slow
def test_what_a_command_leaves_is_its_owners(name, world, place):
    out = place / f"out{ROWS[name].suffix}"
    shown = []
    if name == "batch":
        shutil.copytree(world.dataset / "references" / "target", place / "people" / "known")
        shown = ["--references_dir", place / "people", "--gallery", "true"]
    ended = call(ROWS[name].script, *ROWS[name].words(world, out, False), *shown)
    assert ended.code == 0, ended.screen
    pictures = [path for path in out.rglob("*") if path.suffix in (".jpg", ".html")]
    assert out.is_file() or len(pictures) >= (3 if name == "batch" else name != "face bank")
    assert not open_ones(out)


@pytest.fixture
def team(place) -> Path:
    """A folder of a group that works together: what is made in it is the group's, and open to it."""
    if os.geteuid() != 0:
        pytest.skip("gives a folder to another group, which only root can")
    os.chown(place, -1, TEAM)
    place.chmod(0o2770)
    os.umask(0o007)
    return place


def closed_to_the_team(top: Path) -> list[str]:
    """What a colleague could not go on with: not the group's, or not open to it."""
    found = []
    for path in [top, *top.rglob("*")]:
        status = path.lstat()
        wanted = 0o2770 if path.is_dir() else 0o660
        if status.st_gid != TEAM or status.st_mode & wanted != wanted:
            found.append(f"{path}: {oct(status.st_mode)} {status.st_gid}")
    return found


@pytest.mark.parametrize("name", [row.name for row in COMMANDS if not row.not_run])
@pytest.mark.slow
def test_what_is_shared_is_the_group_s_and_as_open_as_the_umask_says(name, world, team):
    shared = ["--shared", "true"] if name in SHOWING else []
    for other in (False, True) if ROWS[name].older == REPLACED else (False,):
        ended = call(ROWS[name].script, *ROWS[name].words(world, team / f"out{ROWS[name].suffix}", other), *shared)
        assert ended.code == 0, ended.screen
        assert not closed_to_the_team(team)


@pytest.mark.slow
def test_a_run_is_shared_whole(toy_inputs: ToyInputs, team):
    words = [*SMALL_ADAPTER, *VALIDATED, *toy_inputs.raw_flags, "--output_dir", team / "run", "--shared", "true"]
    ended = call("train.py", *words)
    assert ended.code == 0, ended.screen
    assert (team / "run" / "cache" / "photos" / ".faceid").is_dir()
    assert not closed_to_the_team(team)


@pytest.mark.fault("T3")
@pytest.mark.slow
def test_a_run_keeps_faces_to_its_owner_and_adapters_open(toy_inputs: ToyInputs, place):
    run = place / "run"
    ended = call("train.py", *SMALL_ADAPTER, *VALIDATED, *toy_inputs.raw_flags, "--output_dir", run)
    assert ended.code == 0, ended.screen
    showing = [run / name for name in FOLDERS_WITH_FACES] + list(run.glob("validation_epoch_*"))
    assert len(showing) > len(FOLDERS_WITH_FACES)
    assert {"clips", "latents", "faces", "identity", "photos"} <= {path.name for path in (run / "cache").iterdir()}
    assert not open_ones(*showing)
    assert within(run)[str(run / "face_lora_final.safetensors")] == "0o666"
