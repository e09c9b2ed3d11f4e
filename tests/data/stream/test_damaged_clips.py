"""A damaged clip is not trained on: another stands in for it, chosen by the position, and all of it is counted."""

import pytest
import torch
from damaged_latents import one_clip_per_shard, rewrite_clip
from launching import QUIET, SMALL_ADAPTER, train

from faceid.data.dancer_faces.face_bank import FaceBank
from faceid.data.latents.latent_reader import LatentSet
from faceid.data.shards.index import MISSING, NOT_FINITE, UNREADABLE, WRONG_SHA256, WRONG_SIZE, DamagedError
from faceid.data.shards.shard_writer import shard_name
from faceid.data.stream.held_out import NOTHING
from faceid.data.stream.pairing import Pairing
from faceid.data.stream.pairing_settings import PairingSettings
from faceid.data.stream.stream_order import StreamOrder
from faceid.data.stream.training_set import MOST_TRIES, TrainingSet
from faceid.faces.identities.identity import load_identity
from faceid.models.base.model_files import ModelFiles
from faceid.toy.shipped import resolve_model_path
from faceid.training.measuring.metrics import read_metrics
from faceid.training.validation.scenes import choose_scenes

SEED = 5


@pytest.fixture
def latents(toy_inputs, tmp_path):
    """Sixteen clips, one in each shard, made of the toy's."""
    return one_clip_per_shard(toy_inputs.latents, tmp_path / "latents", 16)


@pytest.fixture
def open_set(latents, toy_inputs):
    def make():
        opened = LatentSet.open(latents)
        dancers = dict(zip(opened.keys, opened.dancers, strict=True))
        pairing = Pairing(PairingSettings(), SEED, load_identity(toy_inputs.identity), FaceBank(), dancers)
        return TrainingSet(
            opened, {}, pairing, ModelFiles.find(resolve_model_path("toy")).statistics, StreamOrder(SEED)
        )

    return make


def cut(path):
    path.write_bytes(path.read_bytes()[:-512])


def flip(path):
    data = bytearray(path.read_bytes())
    data[700] ^= 1
    path.write_bytes(data)


@pytest.mark.parametrize(
    ("damage", "kind"), [(cut, WRONG_SIZE), (flip, WRONG_SHA256), (lambda path: path.unlink(), MISSING)]
)
def test_another_clip_stands_in_for_a_damaged_one(latents, open_set, damage, kind, caplog):
    whole = [open_set()[g] for g in range(16)]
    damage(latents / shard_name("latents", 3))
    # Two readers, which meet the positions in other orders and beginning elsewhere.
    there, back = open_set(), open_set()
    samples, again = [there[g] for g in range(16)], [back[g] for g in reversed(range(16))][::-1]
    for before, sample, other in zip(whole, samples, again, strict=True):
        assert torch.equal(sample.x0, other.x0) and sample.keys == other.keys and sample.damages == other.damages
        if before.keys == ["clip_03"]:
            assert sample.damages == [kind] and sample.keys != ["clip_03"]
        else:
            assert sample.damages == [] and torch.equal(sample.x0, before.x0)
        # Noise and what is dropped belong to the position.
        assert torch.equal(sample.noise, before.noise)
    said = [record.message for record in caplog.records if "clip_03: not trained on" in record.message]
    assert len(said) == 2 and shard_name("latents", 3) in said[0]


def test_values_that_are_not_finite_are_not_trained_on(latents, open_set):
    """As an encoder writes them that overflowed: the checksum fits."""
    rewrite_clip(latents, 3, lambda tensors: tensors["video"].view(-1)[7].fill_(float("nan")))
    damages = [damage for g in range(16) for damage in open_set()[g].damages]
    assert damages == [NOT_FINITE]


def test_a_shard_that_holds_no_latents_is_not_trained_on(latents, open_set):
    rewrite_clip(latents, 3, lambda tensors: tensors.pop("pose"))
    assert [damage for g in range(16) for damage in open_set()[g].damages] == [UNREADABLE]


def test_when_all_are_damaged_the_first_reason_is_given(latents, open_set):
    for number in range(16):
        cut(latents / shard_name("latents", number))
    training_set = open_set()
    with pytest.raises(DamagedError, match="bytes, the index says"):
        training_set[0]
    assert MOST_TRIES < 100


def test_validation_renders_a_clip_that_is_whole(latents):
    cut(latents / shard_name("latents", 0))
    opened = LatentSet.open(latents)
    scenes = choose_scenes(opened, FaceBank(), torch.ones(4), NOTHING, num_videos=16, num_people=0)
    assert scenes and "clip_00" not in {scene.key for scene in scenes}


@pytest.mark.starts_process
def test_a_run_goes_on_past_a_damaged_clip_and_counts_it(latents, toy_inputs, tmp_path):
    flip(latents / shard_name("latents", 3))
    done = train(*_flags(toy_inputs, latents, tmp_path / "run"), "--max_damaged_share", "0.2")
    records = read_metrics(tmp_path / "run" / "metrics.jsonl")
    # The clip is met once in an epoch.
    assert max(record.get(f"data/damaged_{WRONG_SHA256}", 0) for record in records) == 1
    assert "clip_03: not trained on, another clip stands in for it" in done.stderr


@pytest.mark.starts_process
@pytest.mark.slow
def test_a_run_stops_past_the_share_on_every_rank_and_keeps_its_checkpoint(latents, toy_inputs, tmp_path):
    flip(latents / shard_name("latents", 3))
    folder = tmp_path / "run"
    done = train(*_flags(toy_inputs, latents, folder), world="cpu_zero2", expect=None)
    assert done.returncode != 0
    assert "error: latents: damaged clips in" in done.stderr, done.stderr
    assert f"{WRONG_SHA256} 1; over max_damaged_share 0.01" in done.stderr
    assert list((folder / "checkpoints").glob("step_*")), done.stderr


def _flags(toy_inputs, latents, folder):
    photos = str(toy_inputs.dataset / "photos" / "target")
    inputs = ("--face_images_dir", photos, "--face_embedding", str(toy_inputs.identity), "--latents", str(latents))
    schedule = "--num_epochs 1 --batch_size 4 --save_every 9".split()
    return [*QUIET, *SMALL_ADAPTER, *inputs, "--output_dir", str(folder), *schedule]
