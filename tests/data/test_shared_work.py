"""Shards and latents by several processes that are killed at random: the bytes of a single, quiet run."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from drawn_clips import add_clips
from killed_workers import kill_at_work
from launching import SIZES, start
from warm_process import WarmProcess

from faceid.claims import CLAIMS_NAME
from faceid.data.clip_settings import ClipSettings
from faceid.data.clips import clip_shards
from faceid.data.clips.clip_shards import write_clip_shards
from faceid.data.shards import shard_work, shard_writer
from faceid.data.shards.index import ShardIndex
from faceid.data.shards.shard_work import ShardUnit, make_shards_together
from faceid.data.shards.shard_writer import Entry
from faceid.errors import DataError

pytestmark = pytest.mark.promise(
    "several processes, killed ones too, make what one makes; a finished folder is not read",
    bar="all checks pass",
    proof="data",
)

REPOSITORY = Path(__file__).resolve().parents[2]
SMALL = ClipSettings(num_frames=5, height=32, width=48, fps=8, clips_per_shard=2)
# One after another: each with kills of its own, at other moments.
RUNS = 7 if SIZES == "full" else 1
FLAGS = "--num_frames 5 --height 32 --width 48 --fps 8 --clips_per_shard 2"


@pytest.fixture(scope="module")
def many_clips(tmp_path_factory):
    return add_clips(tmp_path_factory.mktemp("many"), 16)


@pytest.fixture(scope="module")
def alone(many_clips, tmp_path_factory):
    """Clip shards and latent shards by one process."""
    root = tmp_path_factory.mktemp("alone")
    write_clip_shards(*many_clips, root / "shards", SMALL)
    assert start_encode(root / "shards", root / "latents").wait(300) == 0
    return root


def content(folder: Path) -> dict[str, bytes]:
    """Every file a reader sees; provenance has times in it."""
    return {f.name: f.read_bytes() for f in folder.iterdir() if f.is_file() and f.name != "provenance.json"}


def start_tool(words: str) -> WarmProcess | subprocess.Popen:
    return start([sys.executable, *words.split()], stderr=subprocess.DEVNULL)


def start_encode(shards: Path, latents: Path) -> WarmProcess | subprocess.Popen:
    return start_tool(f"tools/encode_latents.py --shards {shards} --model_path toy --output_dir {latents} --device cpu")


def killed_promise(what: str):
    bar = "the bytes of a single run, no clip lost or doubled"
    return pytest.mark.promise(f"{what} by 4 processes under kill -9", bar=bar, proof="data")


@pytest.mark.starts_process
@killed_promise("shards")
@pytest.mark.parametrize("seed", range(RUNS))
def test_clip_shards_of_killed_processes_are_those_of_a_quiet_one(many_clips, alone, tmp_path, seed, record_property):
    videos, poses = many_clips
    words = (
        f"tools/make_shards.py --dance_videos_dir {videos} --pose_videos_dir {poses} --output_dir {tmp_path}/s {FLAGS}"
    )
    claims, kills = tmp_path / "s" / CLAIMS_NAME, 4
    kill_at_work(lambda: start_tool(words), claims, num_workers=4, num_kills=kills, within_s=0.2, seed=seed)
    assert content(tmp_path / "s") == content(alone / "shards")
    record_property("measured", f"{kills * RUNS} kills in {RUNS} runs, the same bytes")


@pytest.mark.starts_process
@killed_promise("latents")
@pytest.mark.parametrize("seed", range(RUNS))
@pytest.mark.slow
def test_latent_shards_of_killed_processes_are_those_of_a_quiet_one(alone, tmp_path, seed, record_property):
    claims, kills = tmp_path / "l" / CLAIMS_NAME, 4

    def begin():
        return start_encode(alone / "shards", tmp_path / "l")

    kill_at_work(begin, claims, num_workers=4, num_kills=kills, within_s=0.3, seed=seed)
    assert content(tmp_path / "l") == content(alone / "latents")
    record_property("measured", f"{kills * RUNS} kills in {RUNS} runs, the same bytes")


@pytest.mark.starts_process
def test_a_finished_folder_is_recognised_without_reading_it(many_clips, alone, monkeypatch):
    def refuse(*_):
        raise AssertionError("a finished folder was read")

    for module in (clip_shards, shard_writer):
        monkeypatch.setattr(module, "sha256_file", refuse)
    before = times_of(alone / "shards")
    write_clip_shards(*many_clips, alone / "shards", SMALL)
    assert times_of(alone / "shards") == before


def times_of(folder: Path) -> dict[str, int]:
    """Of all but the claims: who looks says that he is there."""
    return {f.name: f.stat().st_mtime_ns for f in folder.iterdir() if f.name != ".claims"}


@pytest.mark.starts_process
def test_a_damaged_shard_is_made_again_once_it_is_removed(many_clips, alone, tmp_path):
    write_clip_shards(*many_clips, tmp_path / "s", SMALL)
    (tmp_path / "s/clips-000003.tar").unlink()
    with pytest.raises(DataError, match=r"clips-000003\.tar: missing"):
        ShardIndex.load(tmp_path / "s").verify_all()
    write_clip_shards(*many_clips, tmp_path / "s", SMALL)
    assert content(tmp_path / "s") == content(alone / "shards")


def test_another_run_with_other_settings_in_one_folder_is_noticed(tmp_path, monkeypatch):
    def unit(settings: str) -> ShardUnit:
        return ShardUnit(tmp_path / "clips-000000.tar", settings)

    def entries_of(one: ShardUnit):
        return [Entry("a", {"json": one.seen.encode()}, {})]

    real = shard_work.share_work

    def then_another(*arguments, **keywords):
        """The work, and then, before the records are read, a run that replaces one."""
        yield from real(*arguments, **keywords)
        monkeypatch.setattr(shard_work, "share_work", real)
        make_shards_together(tmp_path, [unit("second")], entries_of)

    monkeypatch.setattr(shard_work, "share_work", then_another)
    with pytest.raises(DataError, match="another run with other settings"):
        make_shards_together(tmp_path, [unit("first")], entries_of)
