"""Samples of several sizes: micro-batches of one size, each entry as often as the others, from the position alone."""

from collections import Counter
from types import SimpleNamespace

import pytest
import torch
from launching import QUIET, SMALL_ADAPTER, losses, run_command, train

from faceid.data.latents.latent_reader import LatentSet
from faceid.data.latents.latent_sets import LatentSets
from faceid.data.stream.buckets import BucketedMixture, _Stage, make_mixture
from faceid.data.stream.mixture import Mixture
from faceid.data.stream.stream_order import StreamOrder
from faceid.errors import DataError

LANDSCAPE, PORTRAIT, PHOTO = (65, 480, 832), (65, 832, 480), (1, 480, 832)
CLIPS = [LANDSCAPE] * 13 + [PORTRAIT] * 6
PHOTOS = [PHOTO] * 5
SHARES = {"photo": 0.5, "clip": 0.3, "null": 0.2}


def mixture(chunk=4, stage2_from=3, **changes):
    order = StreamOrder(7, stage2_from, chunk, changes.pop("stage2_samples", 0))
    return BucketedMixture(CLIPS, PHOTOS, changes.pop("shares", SHARES), order)


def size_of(place):
    return PHOTO if place.kind == "photo" else CLIPS[place.number]


def test_a_micro_batch_has_one_size_and_one_kind():
    made = mixture()
    for first in range(0, 40 * made.length.stage1, 4):
        places = [made[first + at] for at in range(4)]
        assert len({(size_of(place), place.kind) for place in places}) == 1


def test_in_stage_one_every_entry_comes_as_often_as_any_other():
    made = mixture(stage2_from=10**6)
    epochs = 120
    counts = Counter(made[g] for g in range(epochs * made.length.stage1))
    assert set(counts) == {*(("clip", n) for n in range(19)), *(("photo", n) for n in range(5))}
    expected = epochs * made.length.stage1 / 24
    assert max(counts.values()) - min(counts.values()) <= 4 and min(counts.values()) > expected - 4


def test_in_stage_two_kinds_have_their_shares_and_sizes_theirs_within_a_kind():
    made = mixture(stage2_from=0)
    places = [made[g] for g in range(200 * made.length.stage1)]
    kinds = Counter(place.kind for place in places)
    for kind, share in SHARES.items():
        assert kinds[kind] / len(places) == pytest.approx(share, abs=0.005)
    for kind in ("clip", "null"):
        portraits = sum(size_of(place) == PORTRAIT for place in places if place.kind == kind)
        assert portraits / kinds[kind] == pytest.approx(6 / 19, abs=0.01)
    assert sum(made.quotas.values()) == pytest.approx(made.length.stage1, abs=1)


def test_stage_two_may_have_a_length_of_its_own():
    made, plain = mixture(stage2_samples=9), mixture()
    # Whole micro-batches of four.
    assert (made.length.stage1, made.length.stage2) == (24, 8)
    boundary = made.length.before(3)
    assert [made[g] for g in range(boundary)] == [plain[g] for g in range(boundary)]
    kinds = Counter(made[g].kind for g in range(boundary, made.length.before(203)))
    assert kinds["photo"] / 1600 == pytest.approx(0.5, abs=0.01)


def test_a_position_says_which_entry_whoever_asks_and_in_whatever_order():
    made, again = mixture(), mixture()
    positions = list(range(12 * made.length.stage1))
    forwards = [made[g] for g in positions]
    assert [again[g] for g in reversed(positions)] == forwards[::-1]
    assert forwards != [BucketedMixture(CLIPS, PHOTOS, SHARES, StreamOrder(8, 3, 4))[g] for g in positions]


def test_chunks_fall_evenly_and_never_go_back():
    stage = _Stage(1, [SimpleNamespace()] * 4, [5.0, 3.0, 0.0, 0.02])
    before = [0, 0, 0, 0]
    for count in range(1, 2000):
        now = stage.chunks_of_each(count)
        assert sum(now) == count and now[2] == 0
        assert all(later >= earlier for later, earlier in zip(now, before, strict=True))
        assert all(abs(n - share * count) < 1.5 for n, share in zip(now, stage.shares, strict=True))
        before = now


def test_one_size_or_one_sample_at_a_time_needs_no_buckets():
    assert isinstance(make_mixture(CLIPS, PHOTOS, SHARES, StreamOrder(7, 3, 1)), Mixture)
    assert isinstance(make_mixture([LANDSCAPE] * 9, [], SHARES, StreamOrder(7, 3, 4)), Mixture)
    assert isinstance(make_mixture([LANDSCAPE] * 9, PHOTOS, SHARES, StreamOrder(7, 3, 4)), BucketedMixture)


@pytest.fixture(scope="module")
def portrait(toy_inputs, tmp_path_factory):
    """The toy's clips once more, as portraits of fewer frames, under other names."""
    import shutil
    import sys

    folder = tmp_path_factory.mktemp("portrait")
    videos, poses = folder / "videos", folder / "poses"
    for source, target in ((toy_inputs.dataset / "videos", videos), (toy_inputs.dataset / "poses", poses)):
        target.mkdir()
        for file in source.glob("*.mp4"):
            shutil.copy(file, target / file.name.replace("_c01_", "_c02_"))
    shards = ["--dance_videos_dir", videos, "--pose_videos_dir", poses, "--output_dir", folder / "shards"]
    size = "--num_frames 5 --height 64 --width 48".split()
    run_command([sys.executable, "tools/make_shards.py", *map(str, shards), *size])
    encode = ["--shards", folder / "shards", "--model_path", "toy", "--output_dir", folder / "latents"]
    run_command([sys.executable, "tools/encode_latents.py", *map(str, encode)])
    return folder


@pytest.mark.starts_process
def test_several_folders_are_numbered_through(toy_inputs, portrait):
    first, second = LatentSet.open(toy_inputs.latents), LatentSet.open(portrait / "latents")
    both = LatentSets([first, second])
    assert len(both) == len(first) + len(second) and both.keys == first.keys + second.keys
    assert Counter(both.sizes) == {(9, 64, 64): len(first), (5, 64, 48): len(second)}
    for number in (0, len(first) - 1, len(first), len(both) - 1):
        sample = both[number]
        assert sample.key == both.keys[number] and sample.dancer == both.dancers[number]
    assert torch.equal(both[len(first)].video, second[0].video)
    assert both.head_boxes(len(first)) == second.head_boxes(0)
    assert LatentSets([first]).sha256 == first.sha256 != both.sha256


def test_a_clip_in_two_folders_is_refused(toy_inputs):
    one = LatentSet.open(toy_inputs.latents)
    with pytest.raises(DataError, match=f"{one.keys[0]} is in .* as well"):
        LatentSets([one, one])


def flags(toy_inputs, portrait, folder, *more):
    photos = ("--face_images_dir", toy_inputs.dataset / "photos" / "target", "--face_embedding", toy_inputs.identity)
    latents = ("--latents", f"[{toy_inputs.latents}, {portrait / 'latents'}]")
    shards = ("--shards", f"[{toy_inputs.shards}, {portrait / 'shards'}]")
    words = [*map(str, (*photos, *latents, *shards)), *"--batch_size 4 --num_epochs 3 --learning_rate 3e-3".split()]
    return [*SMALL_ADAPTER, *QUIET, *words, *more, "--output_dir", str(folder)]


@pytest.mark.starts_process
@pytest.mark.promise(
    "a run over clips of several sizes and single frames, in one process and in two",
    bar="the same samples, the same losses",
    proof="data",
)
@pytest.mark.proof_only("a minute", proof="data")
def test_a_run_mixes_sizes_and_single_frames_whatever_the_world(toy_inputs, portrait, tmp_path):
    two_at_a_time = ("--micro_batch_size", "2", "--freeze_mapper_after_epochs", "1", "--checkpoint_every_steps", "2")
    done = train(*flags(toy_inputs, portrait, tmp_path / "one", *two_at_a_time))
    assert "clips of several sizes, 2 to a micro-batch of one size: 4 of 9 frames at 64x64, 4 of 5" in done.stderr
    train(*flags(toy_inputs, portrait, tmp_path / "two", *two_at_a_time), world="cpu_zero2")
    one, two = losses(tmp_path / "one"), losses(tmp_path / "two")
    assert len(one) == 9 and two == pytest.approx(one, rel=1e-4)
    # The order of the stream is by micro-batch: another size of it is another run.
    more = ("--micro_batch_size", "1", "--freeze_mapper_after_epochs", "1", "--num_epochs", "4")
    refused = train(*flags(toy_inputs, portrait, tmp_path / "one", *more), expect=2)
    assert "grouped by micro_batch_size 2, now 1; resume with --micro_batch_size 2" in refused.stderr


@pytest.mark.starts_process
def test_shards_belong_to_latents_one_to_one(toy_inputs, portrait, tmp_path):
    given = flags(toy_inputs, portrait, tmp_path / "run")
    given[given.index("--shards") + 1] = str(toy_inputs.shards)
    assert "shards: 1 folders for 2 of latents" in train(*given, expect=2).stderr
    given[given.index("--shards") + 1] = f"[{portrait / 'shards'}, {toy_inputs.shards}]"
    assert "were not made from these clips" in train(*given, expect=2).stderr
