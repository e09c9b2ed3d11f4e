"""Position to sample: each epoch everything once, the same on any machine, normalised once."""

import pytest
import torch

from faceid.data.face_bank import face_bank_is_current, read_face_bank, write_face_bank
from faceid.data.identities import encoder_of
from faceid.data.latents import LatentSet
from faceid.data.pairing import Pairing, PairingSettings
from faceid.data.photo_latents import PhotoLatent
from faceid.data.training_set import TrainingSet, collate
from faceid.errors import DataError
from faceid.faces.detect import load_detector
from faceid.faces.identity import load_identity
from faceid.faces.settings import FaceSettings
from faceid.models.wan import read_geometry, read_statistics
from faceid.toy.base import resolve_encoder_path, resolve_model_path
from faceid.vace import pose_control

SEED = 5


@pytest.fixture(scope="module")
def encoder():
    return encoder_of(FaceSettings(encoder_path=resolve_encoder_path("toy")))


@pytest.fixture(scope="module")
def training_set(toy_inputs):
    latents, identity = LatentSet.open(toy_inputs.latents), load_identity(toy_inputs.identity)
    dancer_of = dict(zip(latents.keys, latents.dancers, strict=True))
    pairing = Pairing(PairingSettings(face_dropout=0, text_dropout=0.5, both_dropout=0), SEED, identity, {}, dancer_of)
    photos = {
        name: PhotoLatent(torch.randn(16, 1, 16, 16).bfloat16(), torch.ones(1, 16, 16)) for name in ("p1", "p2", "p3")
    }
    return TrainingSet(latents, photos, pairing, read_statistics(resolve_model_path("toy")), SEED)


def test_every_epoch_takes_everything_once_in_another_order(training_set):
    count = len(training_set)
    epochs = [[training_set.entry(epoch * count + place) for place in range(count)] for epoch in range(3)]
    assert count == 4 + 3 and all(sorted(epoch) == list(range(count)) for epoch in epochs)
    assert epochs[0] != epochs[1]


def test_held_out_dancers_are_in_no_sample(training_set):
    latents, photos = training_set.latents, training_set.photos
    heldout = sorted(set(latents.dancers))[:1]
    rest = TrainingSet(latents, photos, training_set.pairing, training_set.statistics, SEED, heldout)
    dancer_of = dict(zip(latents.keys, latents.dancers, strict=True))
    seen = {key for g in range(2 * len(rest)) for key in rest[g].keys}
    assert len(rest) == 2 + 3 and seen >= set(photos)
    assert {dancer_of[key] for key in seen - set(photos)} == set(latents.dancers) - set(heldout)


def test_a_sample_is_a_function_of_its_position(training_set):
    first, again, other = training_set[3], training_set[3], training_set[3 + len(training_set)]
    for name in ("x0", "control", "text", "face", "head_mask", "noise"):
        assert torch.equal(getattr(first, name), getattr(again, name))
    assert not torch.equal(first.noise[..., :1], other.noise[..., :1])


def test_latents_are_normalised_once_and_the_control_is_the_pose(training_set):
    statistics, geometry = training_set.statistics, read_geometry(resolve_model_path("toy"))
    for g in range(len(training_set)):
        number = training_set.entry(g)
        if number >= len(training_set.latents):
            continue
        raw, sample = training_set.latents[number], training_set[g]
        assert torch.equal(sample.x0, statistics.normalise(raw.video.unsqueeze(0)))
        pose, inactive = (statistics.normalise(x.unsqueeze(0)) for x in (raw.pose, raw.inactive))
        assert torch.equal(sample.control, pose_control(pose, inactive, geometry))
        assert sample.control.shape[1] == geometry.control_channels and sample.keys == [raw.key]


def test_a_photo_is_one_frame_without_a_pose(training_set):
    samples = [training_set[g] for g in range(len(training_set)) if training_set.entry(g) >= 4]
    assert len(samples) == 3
    for sample in samples:
        assert sample.x0.shape[2] == 1
        inactive, reactive = sample.control[:, :16], sample.control[:, 16:32]
        assert torch.equal(inactive, reactive) and bool(sample.head_mask.all())


def test_dropped_text_is_the_empty_prompts_embedding(training_set):
    latents = training_set.latents
    for g in range(40):
        is_dropped = training_set.pairing.drops(g)[1]
        expected = latents.prompt("" if is_dropped else latents.caption).float()
        assert torch.equal(training_set[g].text[0], expected)


def test_samples_of_other_sizes_do_not_share_a_batch(training_set):
    clip = next(g for g in range(7) if training_set.entry(g) < 4)
    photo = next(g for g in range(7) if training_set.entry(g) >= 4)
    assert collate([training_set[clip], training_set[clip]]).x0.shape[0] == 2
    with pytest.raises(DataError, match="cannot share a batch"):
        collate([training_set[clip], training_set[photo]])


def test_the_face_bank_holds_each_clips_faces_and_knows_its_encoder(toy_inputs, encoder, tmp_path):
    bank = tmp_path / "faces"
    assert not face_bank_is_current(toy_inputs.shards, bank, encoder, 0.3)
    written = write_face_bank(toy_inputs.shards, bank, encoder, load_detector("haar"), 0.3)
    # The toy's clips bring head boxes, so no detector has to find a 22-pixel face.
    assert set(written) == set(LatentSet.open(toy_inputs.latents).keys)
    faces = read_face_bank(bank, encoder.fingerprint)
    for key, embeddings in written.items():
        assert embeddings.shape == (8, encoder.dim) and torch.equal(faces[key], embeddings)
    assert face_bank_is_current(toy_inputs.shards, bank, encoder, 0.3)
    assert not face_bank_is_current(toy_inputs.shards, bank, encoder, 0.5)
    with pytest.raises(DataError, match="use one encoder"):
        read_face_bank(bank, "0" * 64)
    damaged = bytearray((bank / "faces.safetensors").read_bytes())
    damaged[-3] ^= 1
    (bank / "faces.safetensors").write_bytes(damaged)
    with pytest.raises(DataError, match="damaged"):
        read_face_bank(bank, encoder.fingerprint)
