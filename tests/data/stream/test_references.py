"""Reference frames of samples: whom they show, how often, and that they leave everything else as it is."""

from dataclasses import replace

import pytest
import torch

from faceid.data.dancer_faces.face_bank import FaceBank
from faceid.data.latents.latent_reader import LatentSet
from faceid.data.latents.photo_latents import PhotoLatent
from faceid.data.latents.reference_latents import References
from faceid.data.stream.pairing import Pairing
from faceid.data.stream.pairing_settings import PairingSettings
from faceid.data.stream.stream_order import StreamOrder
from faceid.data.stream.training_set import TrainingSet, collate
from faceid.faces.identities.identity import load_identity
from faceid.models.base.model_files import ModelFiles
from faceid.toy.shipped import resolve_model_path

SEED, POSITIONS = 5, 200


def marked(number, like):
    """A reference latent that can be told from others."""
    return torch.full_like(like[:, :1], float(number))


@pytest.fixture(scope="module")
def make(toy_inputs):
    latents, identity = LatentSet.open(toy_inputs.latents), load_identity(toy_inputs.identity)
    video = latents[0].video
    dancers = sorted(set(latents.dancers))
    clips = dict(zip(latents.clips, latents.dancers, strict=True))
    of_dancer = {
        dancer: [(f"performance {at}", marked(10 * place + at, video)) for at in range(2)]
        for place, dancer in enumerate(dancers, start=1)
    }
    photos = {
        name: PhotoLatent(torch.randn_like(video[:, :1].float()).bfloat16(), torch.ones(1, *video.shape[2:]))
        for name in ("p1", "p2", "p3")
    }
    small = {f"{name}@small": half_size(photo, name) for name, photo in photos.items()}
    # Of each there is one of the clips' size and one of half the side.
    of_target = [
        (name, marked(100 + number, like))
        for number, name in enumerate(photos)
        for like in (video, small[f"{name}@small"].latent)
    ]
    statistics = ModelFiles.find(resolve_model_path("toy")).statistics

    def training_set(share, micro_batch_size=1, known=True, with_small=False, **settings):
        pairing = Pairing(PairingSettings(reference_share=share, **settings), SEED, identity, FaceBank(), clips)
        references = References(of_target, of_dancer if known else {}) if share else None
        order = StreamOrder(SEED, micro_batch_size=micro_batch_size, **({} if known else {"stage2_from_epoch": 0}))
        return TrainingSet(
            latents, {**photos, **(small if with_small else {})}, pairing, statistics, order, references=references
        )

    training_set.statistics, training_set.dancers, training_set.dancer_of = statistics, dancers, clips
    return training_set


def half_size(photo, name):
    _, _, height, width = photo.latent.shape
    latent = photo.latent[:, :, : height // 2, : width // 2]
    mask = photo.head_mask[:, : height // 2, : width // 2]
    return PhotoLatent(latent, mask, inactive=torch.zeros_like(latent), photo=name)


def numbers_of(sample, statistics):
    """The marks of a sample's reference frames, in the order of its frames."""
    frames = sample.x0[0, :, : sample.num_references]
    raw = frames * torch.tensor(statistics.std).view(-1, 1, 1, 1) + torch.tensor(statistics.mean).view(-1, 1, 1, 1)
    return [round(float(raw[:, place].mean())) for place in range(sample.num_references)]


def test_they_show_the_person_in_the_pixels_and_never_the_photo_itself(make):
    training_set, seen = make(1.0), set()
    for g in range(POSITIONS):
        sample = training_set[g]
        numbers = numbers_of(sample, make.statistics)
        assert 1 <= len(numbers) <= 2 and len(set(numbers)) == len(numbers)
        seen.add((sample.kinds[0], len(numbers)))
        if sample.kinds == ["photo"]:
            own = 100 + ["p1", "p2", "p3"].index(sample.keys[0])
            assert own not in numbers and all(number >= 100 for number in numbers)
        else:
            place = 1 + make.dancers.index(make.dancer_of[sample.keys[0]])
            assert {number // 10 for number in numbers} == {place}
    assert seen == {(kind, count) for kind in ("photo", "clip") for count in (1, 2)}


def test_a_body_is_shown_the_target_and_the_rest_of_the_sample_stays_as_it_is(make):
    plain, bodies, counted = make(1.0), make(1.0, body_share=0.5), {True: 0, False: 0}
    for g in range(POSITIONS):
        before, sample = plain[g], bodies[g]
        assert sample.bodies == [sample.kinds == ["clip"] and "body" in sample.choices]
        count = (before.num_references, sample.num_references)
        for name in ("x0", "noise", "control"):
            one, other = (getattr(each, name)[:, :, n:] for each, n in zip((before, sample), count, strict=True))
            assert torch.equal(one, other)
        assert torch.equal(before.text, sample.text) and torch.equal(before.head_mask, sample.head_mask)
        is_target = sample.bodies[0] or sample.kinds == ["photo"]
        assert sample.target_share.item() == float(is_target)
        if is_target:
            assert all(number >= 100 for number in numbers_of(sample, make.statistics))
        else:
            assert torch.equal(before.face, sample.face)
        if sample.bodies[0]:
            has_face = not {"face_dropped", "both_dropped"} & set(sample.choices)
            assert torch.equal(sample.face[0], bodies.pairing.target * has_face)
        if sample.kinds == ["clip"]:
            counted[sample.bodies[0]] += 1
    assert 0.4 < counted[True] / sum(counted.values()) < 0.6


def test_a_clip_whose_head_is_not_known_is_no_body(make, monkeypatch):
    bodies = make(0.0, body_share=1.0)
    clips = [g for g in range(50) if bodies[g].kinds == ["clip"]]
    assert all(bodies[g].bodies == [True] for g in clips)
    read = bodies.latents.__class__.__getitem__

    def without_head(latents, number):
        clip = read(latents, number)
        return replace(clip, head_mask=torch.zeros_like(clip.head_mask))

    monkeypatch.setattr(bodies.latents.__class__, "__getitem__", without_head)
    assert all(bodies[g].bodies == [False] and bodies[g].target_share.item() == 0 for g in clips)


def test_the_naive_recipe_has_no_bodies(make):
    naive = make(0.0, body_share=1.0, pairing="constant")
    assert not any(naive[g].bodies[0] for g in range(50))


def test_as_often_as_asked_and_the_rest_of_the_sample_stays_as_it_is(make):
    without, half = make(0.0), make(0.5)
    counted = 0
    for g in range(POSITIONS):
        plain, sample = without[g], half[g]
        count = sample.num_references
        counted += count > 0
        assert torch.equal(sample.x0[:, :, count:], plain.x0) and torch.equal(sample.noise[:, :, count:], plain.noise)
        assert torch.equal(sample.control[:, :, count:], plain.control)
        for name in ("text", "face", "head_mask"):
            assert torch.equal(getattr(sample, name), getattr(plain, name))
        # What is kept, not generated: the reference in the inactive half, nothing in the reactive one, a mask of 0.
        channels = sample.x0.shape[1]
        assert torch.equal(sample.control[:, :channels, :count], sample.x0[:, :, :count])
        assert not sample.control[:, channels:, :count].any()
    assert 0.4 < counted / POSITIONS < 0.6


def test_what_teaches_the_bases_own_dancers_has_none(make):
    # Not even, in micro-batches, one that shows nobody.
    for size in (1, 2):
        training_set = make(1.0, size, known=False, stage2_photos=0, stage2_clips=0, stage2_null=1)
        assert {training_set[g].num_references for g in range(40)} == {0}


def test_a_dancer_of_whom_there_is_none_goes_without(make):
    training_set = make(1.0, known=False, stage2_photos=0, stage2_clips=1, stage2_null=0)
    assert {training_set[g].num_references for g in range(20)} == {0}


def test_samples_of_a_micro_batch_have_the_same_number_and_can_be_joined(make):
    training_set = make(0.5, micro_batch_size=2)
    counts = set()
    for chunk in range(40):
        joined = collate([training_set[2 * chunk + place] for place in range(2)])
        counts.add(joined.num_references)
        assert joined.x0.shape == joined.noise.shape
    assert counts == {0, 1, 2}


def test_the_same_position_gives_the_same_ones(make):
    one, other = make(0.5), make(0.5)
    assert all(torch.equal(one[g].x0, other[g].x0) for g in range(30))


def test_with_one_picture_alone_it_is_shown_for_its_own_photo(make):
    one = torch.zeros(16, 1, 4, 4)
    alone = References([("p1", one)], {"d01": [("a", one)]})
    assert len(alone.for_photo("p1", one)) == 1 and len(alone.for_photo("p2", one)) == 1
    assert len(alone.for_clip("a", "d01", one)) == 1 and alone.for_clip("a", "d02", one) == []


def test_a_smaller_photo_gets_one_of_its_own_size(make):
    training_set, sides = make(1.0, with_small=True), set()
    for g in range(POSITIONS):
        sample = training_set[g]
        assert sample.num_references
        if sample.kinds == ["photo"]:
            own = 100 + ["p1", "p2", "p3"].index(sample.photos[0])
            numbers = numbers_of(sample, make.statistics)
            assert own not in numbers and all(number >= 100 for number in numbers)
            sides.add(sample.x0.shape[-1])
    assert len(sides) == 2


def test_a_sample_moves_whole(make):
    sample = make(1.0)[0]
    assert replace(sample).to("cpu").num_references == sample.num_references
