"""A validation says how much face, pose and text matter, whose face came out, and which checkpoint was the best."""

import json
import logging
import math
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from adapter_inputs import train_a_little
from asked_for import asked_for
from calling import call
from launching import QUIET, SMALL_ADAPTER, train
from PIL import Image

from faceid import flow
from faceid.data.dancer_faces.face_bank import FaceBank
from faceid.data.latents.latent_reader import LatentSet
from faceid.data.stream.held_out import NOTHING, HeldOut
from faceid.errors import ConfigError
from faceid.media.video import read_video
from faceid.models.adapter.adapter_file import read_adapter
from faceid.models.adapter.face_adapter import install_adapter
from faceid.training.checkpoints import checkpoint
from faceid.training.measuring.metrics import read_metrics
from faceid.training.validate import groups_of
from faceid.training.validation.best import Best, better_of, check_best_metric, metrics_of
from faceid.training.validation.judge import Judge, mean_scores
from faceid.training.validation.losses import CONDITIONS, HEAD, WHOLE, FacePair, gap_of, measure_losses, swap_gap
from faceid.training.validation.scenes import TARGET, Scene, choose_scenes, strip


class TestNoiseBands:
    def test_each_band_holds_an_equal_share_of_what_training_draws(self):
        generator = torch.Generator().manual_seed(0)
        for shift, share in ((3.0, 0.5), (5.0, 0.2), (1.0, 0.0), (3.0, 1.0)):
            drawn = flow.stratified_sigmas(200_000, shift, share, generator).double().sort().values
            for place, level in enumerate(flow.sigma_quantiles(4, shift, share)):
                below = float((drawn < level).double().mean())
                assert below == pytest.approx((place + 0.5) / 4, abs=0.004), (shift, share, level)


@pytest.fixture(scope="module")
def full_size_latents(tmp_path_factory):
    """Latents of two clips of the size that the embedded base knows: at another it hardly follows a pose."""
    folder = tmp_path_factory.mktemp("full_size")
    size = "--num_frames 9 --height 96 --width 96".split()
    clips = ("--dance_videos_dir", folder / "world/videos", "--pose_videos_dir", folder / "world/poses")
    small = "--num_people 2 --clips_per_person 1 --photos_per_person 0 --framings [whole]".split()
    for tool, flags in {
        "make_toy_dataset": ("--output_dir", folder / "world", *small),
        "make_shards": (*clips, *size, "--output_dir", folder / "shards"),
        "encode_latents": ("--shards", folder / "shards", "--model_path", "toy", "--output_dir", folder / "latents"),
    }.items():
        made = call(f"tools/{tool}.py", *flags)
        assert made.code == 0, made.screen
    return folder / "latents"


class TestLosses:
    @pytest.fixture
    def measured(self, toy_wan, full_size_latents, small_adapter_settings):
        adapter = install_adapter(toy_wan.transformer, small_adapter_settings, 64)
        train_a_little(adapter)
        toy_wan.transformer.eval()
        latents = LatentSet.open(full_size_latents)
        one, other = torch.nn.functional.normalize(torch.randn(2, 64, generator=torch.Generator().manual_seed(3)))

        def measure(number, right=one, wrong=other, **options):
            pair = FacePair(number, right, wrong)
            return measure_losses(toy_wan.transformer, latents, toy_wan.statistics, pair, seed=1, **options)

        return SimpleNamespace(measure=measure, one=one, latents=latents, wan=toy_wan)

    @pytest.mark.slow
    def test_every_condition_changes_the_loss_and_it_repeats(self, measured):
        first, again = measured.measure(0), measured.measure(0)
        assert first.shape == (len(CONDITIONS), 4, 2) and torch.equal(first, again)
        for side in (HEAD, WHOLE):
            assert len({round(value, 9) for value in first[:, 1, side].tolist()}) == len(CONDITIONS)
        # Without a skeleton the body is anywhere: at high noise that costs more than any face.
        assert first[CONDITIONS.index("no_pose"), -1, WHOLE] > 1.2 * first[0, -1, WHOLE]

    def test_the_same_face_on_both_sides_has_no_gap(self, measured):
        losses = measured.measure(0, wrong=measured.one)
        assert gap_of([losses]).gap == pytest.approx(0, abs=1e-7)

    def test_no_face_is_the_null_face(self, measured):
        losses = measured.measure(0, right=torch.zeros(64))
        assert torch.allclose(losses[CONDITIONS.index("no_face")], losses[0], rtol=1e-5)

    @pytest.mark.slow
    def test_the_gap_alone_is_the_gap_among_all(self, measured):
        pairs = [FacePair(number, measured.one, -measured.one) for number in range(2)]
        alone = swap_gap(measured.wan.transformer, measured.latents, measured.wan.statistics, pairs, seed=1)
        both = gap_of([measured.measure(n, wrong=-measured.one) for n in range(2)])
        assert alone == both and alone.gap != 0


def named(*dancers):
    """A latent set of which only names are asked for, two clips of each dancer and a nearer view of the first."""
    keys = [key for dancer in dancers for key in (f"{dancer}_1", f"{dancer}_1-head", f"{dancer}_2")]
    clips = [key.removesuffix("-head") for key in keys]

    class Named(SimpleNamespace):
        def __getitem__(self, number):
            return self.keys[number]

    return Named(keys=keys, clips=clips, dancers=[key[0] for key in keys])


def bank_of(latents):
    faces = {key: torch.nn.functional.normalize(torch.randn(2, 8), dim=1) for key in latents.clips}
    return FaceBank.of_clips(faces, dict(zip(latents.clips, latents.dancers, strict=True)))


class TestScenes:
    TARGET = torch.nn.functional.normalize(torch.ones(8), dim=0)

    def test_held_out_poses_and_people_when_there_are_some(self):
        latents = named(*"abcd")
        scenes = choose_scenes(latents, bank_of(latents), self.TARGET, HeldOut(frozenset("cd")), 1, 2)
        assert [(scene.key, scene.who) for scene in scenes] == [("c_1", TARGET), ("c_1", "c"), ("d_1", "d")]
        # What they look like is shown by another of their clips.
        assert [scene.shown_by and latents.keys[scene.shown_by] for scene in scenes] == [None, "c_2", "d_2"]
        assert torch.equal(scenes[0].face, self.TARGET) and scenes[1].name == "c_1_as_c"

    def test_training_poses_and_no_people_when_none_is_held_out(self):
        latents = named(*"abcd")
        scenes = choose_scenes(latents, bank_of(latents), self.TARGET, NOTHING, 2, 2)
        assert [(scene.key, scene.who) for scene in scenes] == [("a_1", TARGET), ("d_1", TARGET)]
        assert choose_scenes(latents, bank_of(latents), self.TARGET, NOTHING, 0, 0) == []

    def test_held_out_poses_of_people_who_are_trained_on_when_only_those_are(self):
        latents = named(*"abcd")
        held_out = HeldOut(performances=frozenset({"b_2", "d_2"}))
        scenes = choose_scenes(latents, bank_of(latents), self.TARGET, held_out, 5, 5)
        assert [(scene.key, scene.who) for scene in scenes] == [("b_2", TARGET), ("d_2", TARGET)]
        groups = groups_of(latents, HeldOut(frozenset("c"), held_out.performances))
        assert {name: [latents.keys[n] for n in numbers] for name, numbers in groups.items()} == {
            "training_dancers": ["a_1", "a_1-head", "a_2", "b_1", "b_1-head", "d_1", "d_1-head"],
            "heldout_clips": ["b_2", "d_2"],
            "heldout_dancers": ["c_1", "c_1-head", "c_2"],
        }

    def test_a_strip_has_a_row_a_video_and_the_reference_beside_the_first(self):
        videos = [np.full((9, 8, 6, 3), shade, np.uint8) for shade in (10, 20, 30)]
        picture = strip(videos, np.full((8, 6, 3), 200, np.uint8))
        assert picture.shape == (24, 36, 3)
        assert (picture[:8, :6] == 200).all() and (picture[8:, :6] == 128).all()
        assert [int(picture[row, 20, 0]) for row in (4, 12, 20)] == [10, 20, 30]
        assert strip(videos, None).shape == (24, 30, 3)


COLOURS = {TARGET: 0, "a": 1, "b": 2}


class TestJudge:
    """Colours are people: whoever is painted in a person's colour is that person."""

    class ByColour:
        name = "by colour"

        def embed(self, faces):
            means = np.stack([face.reshape(-1, 3).mean(0) for face in faces])
            return torch.nn.functional.normalize(torch.tensor(means, dtype=torch.float32), dim=1)

    def painted(self, who, frames=4):
        video = np.zeros((frames, 32, 32, 3), np.uint8)
        video[:, 8:24, 8:24, COLOURS[who]] = 255
        return video

    @pytest.fixture
    def judge(self):
        latents = SimpleNamespace(
            keys=["a_1", "b_1", "b_2"],
            clips=["a_1", "b_1", "b_2"],
            dancers=["a", "b", "b"],
            head_boxes=lambda number: [(10.0, 10.0, 22.0, 22.0)] * 3 + [None],
        )
        judge = Judge(self.ByColour(), latents, face_margin=0.0)
        renderer = SimpleNamespace(clip=lambda number: self.painted(latents.dancers[number]))
        judge.know(list(self.painted(TARGET)[:2, 8:24, 8:24]), ["a", "b"], renderer)
        return judge

    def test_who_came_out(self, judge):
        for who in ("a", "b", TARGET):
            scene = Scene(0, "a_1", who, torch.zeros(2))
            right = judge.score(scene, self.painted(who))
            assert right["rank1"] == 1 and right["similarity"] > 0.99 and right["margin"] > 0.9
            wrong = judge.score(scene, self.painted("b" if who == "a" else "a"))
            assert wrong["rank1"] == 0 and wrong["margin"] < -0.9

    def test_who_is_not_known_or_not_seen_has_no_score(self, judge):
        assert judge.score(Scene(0, "a_1", "nobody", torch.zeros(2)), self.painted("a")) == {}
        judge.latents.head_boxes = lambda number: []
        assert judge.score(Scene(0, "a_1", "a", torch.zeros(2)), self.painted("a")) == {}

    def test_means_are_of_the_target_and_of_people(self):
        one, two = {"margin": 0.5, "flicker": math.nan}, {"margin": 0.1, "flicker": 7.0}
        assert mean_scores([(TARGET, {"margin": 1.0, "flicker": math.nan}), ("a", one), ("b", two), ("c", {})]) == {
            "validation/margin_target": 1.0,
            "validation/margin_people": pytest.approx(0.3),
            "validation/flicker_people": 7.0,
        }


class TestBest:
    def test_higher_is_better_of_a_gap_and_lower_of_a_loss(self):
        gap, loss = Best("swap_gap_training_dancers"), Best("loss_heldout_dancers_right_face")
        seen = [
            (best.update({f"validation/{best.metric}": value}, step))
            for best, values in ((gap, (0.1, 0.3, 0.2, 0.3)), (loss, (0.5, 0.6, 0.4, float("nan"))))
            for step, value in enumerate(values, start=1)
        ]
        assert seen == [True, True, False, False, True, False, True, False]
        assert (gap.value, gap.step, gap.validations_since) == (0.3, 2, 2)
        assert gap.is_over(2) and not gap.is_over(3) and not gap.is_over(0)

    def test_of_a_metric_that_its_table_calls_better_when_lower_lower_is_better(self):
        best = Best("flicker_target")
        seen = [best.update({"validation/flicker_target": value}, 1) for value in (3.0, 4.0, 2.0)]
        assert seen == [True, False, True]

    @pytest.mark.parametrize(
        ("metric", "better"),
        [
            ("loss_heldout_dancers_right_face", "lower"),
            ("head_loss_training_dancers", "lower"),
            ("swap_gap_training_dancers", "higher"),
            ("similarity_target", "higher"),
            ("own_encoder_rank1_people", "higher"),
            ("own_encoder_best_impostor_target", "lower"),
            ("dynamic_degree_target", "neither"),
        ],
    )
    def test_which_way_is_better_is_what_its_table_says(self, metric, better):
        assert better_of(metric) == better

    def test_auto_is_people_never_seen_where_they_were_measured(self):
        best = Best()
        assert not best.update({"validation/other": 1.0}, 1) and best.metric == "auto"
        assert best.update({"validation/swap_gap_heldout_dancers": 0.1, "validation/swap_gap_training_dancers": 1}, 2)
        assert best.metric == "swap_gap_heldout_dancers"

    def check(self, **options):
        sections = asked_for(**options)
        check_best_metric(sections.validation, sections.held_out)

    def test_a_metric_that_no_validation_measures_is_refused_by_name(self):
        many = {"heldout_dancers": 2, "heldout_clips": 1}
        for metric in (
            "auto",
            "swap_gap_training_dancers",
            "loss_training_dancers_no_face",
            "own_encoder_rank1_target",
        ):
            self.check(best_metric=metric)
        for metric in ("swap_gap_heldout_clips", "head_loss_heldout_dancers", "own_encoder_margin_people"):
            self.check(best_metric=metric, **many)
            with pytest.raises(ConfigError, match=rf"^best_metric='{metric}': no validation .* measures it"):
                self.check(best_metric=metric)
        for metric, near in (("x", "give auto, or one of"), ("", "give auto"), ("swap_gap_training", "did you mean")):
            with pytest.raises(ConfigError, match=near):
                self.check(best_metric=metric)
        # Nothing is validated, and that it has no effect is said (validation_settings.py).
        self.check(best_metric="x", validate_every=0)

    def test_a_resumed_run_goes_on_with_what_it_had_unless_another_metric_is_asked_for(self):
        best = Best("auto")
        best.update({"validation/swap_gap_training_dancers": 0.2}, 7)
        saved = json.loads(json.dumps(best.as_saved()))
        assert Best.restored("auto", saved) == best == Best.restored("swap_gap_training_dancers", saved)
        assert Best.restored("margin_target", saved) == Best("margin_target")
        assert Best.restored("auto", None) == Best()


def validate_flags(toy_inputs, folder, *more):
    flags = [*SMALL_ADAPTER, *QUIET, *toy_inputs.prepared_flags, *"--batch_size 4 --num_epochs 3".split()]
    flags += ["--validate_every", "1", "--validation_steps", "2", "--validation_recogniser", "toy_recogniser"]
    return [*flags, *more, "--output_dir", str(folder)]


@pytest.mark.starts_process
@pytest.mark.promise(
    "a validation in ZeRO-2 and ZeRO-3 processes beside one process's",
    bar="the same measurements",
    proof="training",
    full=True,
)
@pytest.mark.proof_only("two minutes", proof="training", full=True)
def test_every_world_measures_the_same_as_one_process(toy_inputs, tmp_path):
    flags = ["--learning_rate", "3e-3", "--validation_videos", "2", "--num_epochs", "1", "--tensorboard", "true"]
    train(*validate_flags(toy_inputs, tmp_path / "one", *flags))
    for world in ("cpu_zero2", "cpu_zero3"):
        train(*validate_flags(toy_inputs, tmp_path / world, *flags), world=world)
        _measured_the_same(tmp_path / "one", tmp_path / world)


def _measured_the_same(alone_folder, together_folder):
    one, many = (
        [row for row in read_metrics(folder / "metrics.jsonl") if "validation/best_step" in row]
        for folder in (alone_folder, together_folder)
    )
    assert len(one) == len(many) == 1
    for alone, together in zip(one, many, strict=True):
        assert alone.keys() == together.keys()
        for name in alone:
            assert together[name] == pytest.approx(alone[name], rel=1e-3, abs=1e-4), name
    videos = sorted((alone_folder / "validation_epoch_1").glob("*.mp4"))
    assert len(videos) == 2
    for path in videos:
        theirs = read_video(together_folder / path.parent.name / path.name).frames.astype(int)
        assert np.abs(theirs - read_video(path).frames).mean() < 2
    # Whoever rendered it, a picture has its own scene's name.
    shown, same = (_pictures(folder / "tensorboard") for folder in (alone_folder, together_folder))
    assert len(shown) == 2 and shown.keys() == same.keys()
    for name, picture in shown.items():
        assert np.abs(np.asarray(picture, int) - np.asarray(same[name], int)).mean() < 2, name


@pytest.mark.starts_process
@pytest.mark.slow
def test_a_run_keeps_its_best_checkpoint_and_ends_early(toy_inputs, tmp_path):
    """At a learning rate that moves nothing the first validation stays the best."""
    folder = tmp_path / "run"
    flags = ["--num_epochs", "40", "--learning_rate", "1e-30", "--warmup_steps", "0", "--ema", "0"]
    flags += ["--best_metric", "loss_training_dancers_right_face", "--early_stop_after", "3", "--save_every", "1"]
    # The loss alone decides.
    flags += ["--validation_videos", "0", "--validation_recogniser", "none"]
    done = train(*validate_flags(toy_inputs, folder, *flags))
    rows = [row for row in read_metrics(folder / "metrics.jsonl") if "validation/best_step" in row]
    metric = "validation/loss_training_dancers_right_face"
    best = min(range(len(rows)), key=lambda place: rows[place][metric])
    assert len(rows) == best + 4 and "ended early: 3 validations without a better" in done.stderr
    step = int(rows[best]["step"])
    pinned = folder / "checkpoints" / checkpoint.name_of(step)
    assert (pinned / "PINNED").read_text() == "best\n" and checkpoint.verify(pinned)["step"] == step
    assert read_adapter(folder / "face_lora_best.safetensors")[1].step == step
    assert read_adapter(folder / "face_lora_final.safetensors")[1].step == rows[-1]["step"]
    # Run again it is finished: nothing is trained, nothing is lost.
    again = train(*validate_flags(toy_inputs, folder, *flags))
    assert "ended early" in again.stderr and "Epoch" not in again.stdout
    assert read_adapter(folder / "face_lora_final.safetensors")[1].step == rows[-1]["step"]


@pytest.mark.starts_process
@pytest.mark.slow
def test_what_a_validation_leaves(toy_inputs, tmp_path, caplog):
    logging.getLogger("faceid").propagate = True
    folder = tmp_path / "run"
    flags = validate_flags(toy_inputs, folder, *"--num_epochs 1 --tensorboard true --validation_cfg_scale 1.5".split())
    done = train(*flags)
    (video,) = (folder / "validation_epoch_1").glob("*.mp4")
    (base,) = (folder / "validation_base" / "cfg_1.5_steps_2_own_noises").glob("*.mp4")
    assert video.name == base.name and read_video(video).frames.shape == read_video(base).frames.shape
    (row,) = [row for row in read_metrics(folder / "metrics.jsonl") if "validation/best_step" in row]
    measured = {name.removeprefix("validation/") for name in row if name.startswith("validation/")}
    judged = asked_for(validation_recogniser="toy_recogniser")
    assert measured - {"best_step"} == set(metrics_of(judged.validation, judged.held_out)), (
        "what may be asked for is what is measured"
    )
    for name in ("similarity_target", "margin_target", "swap_gap_training_dancers"):
        assert f"validation/{name}" in row
    for condition in CONDITIONS:
        assert row[f"validation/loss_training_dancers_{condition}"] > 0
    bands = [name for name in row if name.startswith("bands/head_loss_training_dancers_right_face_")]
    assert len(bands) == 4
    assert "validation judges by" in done.stderr and "among 3 people" in done.stderr
    events = _pictures(folder / "tensorboard")
    assert [name for name in events if name.startswith("validation/")] == [f"validation/{video.stem}"]
    assert events[f"validation/{video.stem}"].size == (6 * 64, 4 * 64)


def _pictures(folder):
    import io

    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(folder), size_guidance={"images": 0})
    events.Reload()
    return {tag: Image.open(io.BytesIO(events.Images(tag)[-1].encoded_image_string)) for tag in events.Tags()["images"]}
