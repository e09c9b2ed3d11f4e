"""Position to sample: each epoch everything once, the same on any machine, normalised once."""

import pytest
import torch

from faceid.data.aist import performance_of
from faceid.data.dancer_faces.face_bank import FaceBank
from faceid.data.latents.latent_reader import LatentSet
from faceid.data.latents.photo_latents import PhotoLatent
from faceid.data.stream.held_out import HeldOut, hold_back
from faceid.data.stream.pairing import Pairing
from faceid.data.stream.pairing_settings import PairingSettings
from faceid.data.stream.stream_order import StreamOrder
from faceid.data.stream.training_set import TrainingSet, collate
from faceid.errors import DataError
from faceid.faces.identities.identity import load_identity
from faceid.models.base.model_files import ModelFiles
from faceid.models.wan_vace.control import control_channels, pose_control
from faceid.toy.shipped import resolve_model_path

SEED = 5


@pytest.fixture(scope="module")
def training_set(toy_inputs):
    latents, identity = LatentSet.open(toy_inputs.latents), load_identity(toy_inputs.identity)
    dancer_of = dict(zip(latents.keys, latents.dancers, strict=True))
    pairing = Pairing(
        PairingSettings(face_dropout=0, text_dropout=0.5, both_dropout=0), SEED, identity, FaceBank(), dancer_of
    )
    photos = {
        name: PhotoLatent(torch.randn(16, 1, 8, 8).bfloat16(), torch.ones(1, 8, 8)) for name in ("p1", "p2", "p3")
    }
    return TrainingSet(
        latents, photos, pairing, ModelFiles.find(resolve_model_path("toy")).statistics, StreamOrder(SEED)
    )


def test_every_epoch_takes_everything_once_in_another_order(training_set):
    count = len(training_set)
    epochs = [[training_set[epoch * count + place].keys[0] for place in range(count)] for epoch in range(3)]
    everything = sorted([*training_set.latents.keys, *training_set.photos])
    assert count == 4 + 3 and all(sorted(epoch) == everything for epoch in epochs)
    assert epochs[0] != epochs[1]


def test_held_out_dancers_are_in_no_sample(training_set):
    latents, photos = training_set.latents, training_set.photos
    heldout = sorted(set(latents.dancers))[:1]
    rest = TrainingSet(
        latents, photos, training_set.pairing, training_set.statistics, StreamOrder(SEED), HeldOut(frozenset(heldout))
    )
    dancer_of = dict(zip(latents.keys, latents.dancers, strict=True))
    seen = {key for g in range(2 * len(rest)) for key in rest[g].keys}
    assert len(rest) == 2 + 3 and seen >= set(photos)
    assert {dancer_of[key] for key in seen - set(photos)} == set(latents.dancers) - set(heldout)


def test_held_out_performances_are_in_no_sample_and_each_dancer_keeps_one(training_set):
    latents = training_set.latents
    held_out = hold_back(latents.clips, latents.dancers, 0, 5, SEED)
    # Two dancers, two performances each.
    assert len(held_out.performances) == 2
    arguments = (training_set.photos, training_set.pairing, training_set.statistics, StreamOrder(SEED))
    rest = TrainingSet(latents, *arguments, held_out)
    kept = {latents.keys[n] for n, clip in enumerate(latents.clips) if performance_of(clip) in held_out.performances}
    seen = {key for g in range(2 * len(rest)) for key in rest[g].keys} - rest.photos.keys()
    assert len(kept) == 2 and seen == set(latents.keys) - kept
    dancer_of = dict(zip(latents.keys, latents.dancers, strict=True))
    assert {dancer_of[key] for key in seen} == set(latents.dancers)


def test_of_a_performance_all_cameras_and_parts_are_held_out_together():
    clips = [
        f"gbr_sbm_c{camera:02d}_d01_mbr0_ch{dance:02d}_clip_{part:03d}"
        for camera in (1, 2)
        for dance in range(3)
        for part in range(2)
    ]
    clips += [f"gbr_sbm_c01_d02_mbr0_ch{dance:02d}" for dance in range(3)]
    dancers = ["d01"] * 12 + ["d02"] * 3
    held_out = hold_back(clips, dancers, 0, 1, SEED)
    held = [clip for clip, dancer in zip(clips, dancers, strict=True) if held_out.has(clip, dancer)]
    assert len(held_out.performances) == 2 and len(held) == 4 + 1
    # Of a dancer who is held out, no performance is drawn besides.
    whole = hold_back(clips, dancers, 1, 1, SEED)
    assert len(whole.dancers) == len(whole.performances) == 1
    # Others stay where they are when clips are added.
    assert hold_back([*clips, "new"], [*dancers, "d03"], 0, 1, SEED) == held_out


def test_a_sample_is_a_function_of_its_position(training_set):
    first, again, other = training_set[3], training_set[3], training_set[3 + len(training_set)]
    for name in ("x0", "control", "text", "face", "head_mask", "noise"):
        assert torch.equal(getattr(first, name), getattr(again, name))
    assert not torch.equal(first.noise[..., :1], other.noise[..., :1])


def test_latents_are_normalised_once_and_the_control_is_the_pose(training_set):
    statistics, geometry = training_set.statistics, ModelFiles.find(resolve_model_path("toy")).geometry
    for g in range(len(training_set)):
        place = training_set.mixture[g]
        if place.kind == "photo":
            continue
        raw, sample = training_set.latents[place.number], training_set[g]
        assert torch.equal(sample.x0, statistics.normalise(raw.video.unsqueeze(0)))
        pose, inactive = (statistics.normalise(x.unsqueeze(0)) for x in (raw.pose, raw.inactive))
        assert torch.equal(sample.control, pose_control(pose, inactive, geometry))
        assert sample.control.shape[1] == control_channels(geometry) and sample.keys == [raw.key]


def test_a_photo_is_one_frame_without_a_pose(training_set):
    samples = [sample for g in range(len(training_set)) if (sample := training_set[g]).kinds == ["photo"]]
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
    clip = next(g for g in range(7) if training_set.mixture[g].kind == "clip")
    photo = next(g for g in range(7) if training_set.mixture[g].kind == "photo")
    assert collate([training_set[clip], training_set[clip]]).x0.shape[0] == 2
    with pytest.raises(DataError, match="cannot share a batch"):
        collate([training_set[clip], training_set[photo]])
