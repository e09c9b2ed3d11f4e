"""Bad input through the real commands: one line that names what it was and what to do, exit code 2, nothing lost.

Most cases call a command's `main` in this process, the way its entry point does; some start real processes.
"""

import contextlib
import hashlib
import json
import shutil
import subprocess
import sys
import threading
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from calling import call, outcome, refused
from launching import SMALL_ADAPTER, run_command, start, train

from faceid.data.order import epoch_order
from faceid.media.video import write_video

pytestmark = pytest.mark.promise("bad input: one line, exit code 2, nothing lost", bar="every case", proof="main")

SIZE = "--num_frames 9 --height 64 --width 64".split()
# Beside data, a run writes these whenever it starts.
NOT_CONTENT = {".claims", "logs"}
# What the log says as soon as weights of a base are in memory.
LOADED = "faceid.models.base.wan: loaded"
ODD_JOB_LIST = pytest.mark.promise(
    "a job list with unreadable pose, absent pose, adapter of another base, adapter of another rank, embedding of "
    "another size, doubles and shell characters",
    bar="each told in one line that names it; the rest is rendered, each once",
    proof="sampling",
)
BATCH_THAT_CANNOT_BE = pytest.mark.promise(
    "empty folder, a file for a folder to write to, read-only disk, full disk in mid-batch",
    bar="exit code 2 and one line each; with room again the same command does the rest",
    proof="sampling",
)


def content(folder: Path) -> dict[str, str]:
    """What a folder holds, to see that nothing of it changed."""
    return {
        str(file.relative_to(folder)): hashlib.sha256(file.read_bytes()).hexdigest()
        for file in sorted(folder.rglob("*"))
        if file.is_file() and not NOT_CONTENT & set(file.relative_to(folder).parts)
    }


CLAIMS_FOLDER = """
import sys; from pathlib import Path; from faceid.training.world.attempts import Attempt
from faceid.training.world.fence import Fence
with Fence(Path(sys.argv[1]), Attempt()): print('held', flush=True); sys.stdin.read()
"""
CLAIMS_UNIT = """
import sys; from pathlib import Path; from faceid.claims import Claims
claim = Claims(Path(sys.argv[1])).take("clips-000000.tar"); print('held', flush=True); sys.stdin.read(); claim.release()
"""


@contextlib.contextmanager
def held_by_another_process(folder: Path, script: str = CLAIMS_FOLDER):
    """A live process that works in the folder, as any command does."""
    pipe = subprocess.PIPE
    holder = start([sys.executable, "-c", script, str(folder)], stdin=pipe, stdout=pipe, text=True)
    try:
        assert holder.stdout is not None and holder.stdout.readline() == "held\n"
        yield holder
    finally:
        holder.communicate()


@pytest.fixture
def clips(toy_inputs, tmp_path) -> Path:
    """A copy of the toy data set that a test may spoil."""
    return Path(shutil.copytree(toy_inputs.dataset, tmp_path / "dataset"))


def shard_flags(dataset: Path, output: Path) -> list[str]:
    folders = ("--dance_videos_dir", dataset / "videos", "--pose_videos_dir", dataset / "poses", "--output_dir", output)
    return [str(word) for word in folders] + SIZE


def first_stem(dataset: Path) -> str:
    return min((dataset / "videos").glob("*.mp4")).stem


# --- clips and poses -------------------------------------------------------------------------------------------------


def test_a_clip_without_a_pose_is_listed_and_the_rest_goes_on(clips, tmp_path):
    stem = first_stem(clips)
    (clips / "poses" / f"{stem}_pose.mp4").unlink()
    ended = call("tools/make_shards.py", *shard_flags(clips, tmp_path / "shards"))
    assert ended.code == 0 and f"{stem}.mp4: no pose video (expected {stem}_pose.mp4" in ended.screen
    index = json.loads((tmp_path / "shards" / "index.json").read_text())
    assert [drop["video"] for drop in index["dropped"]] == [f"{stem}.mp4"] and len(index["samples"]) == 3


def test_no_pose_at_all_is_refused_and_leaves_nothing(clips, tmp_path):
    for pose in (clips / "poses").glob("*.mp4"):
        pose.unlink()
    ended = call("tools/make_shards.py", *shard_flags(clips, tmp_path / "shards"))
    refused(ended, "no pose video for any of the 4 videos", f"needs {first_stem(clips)}_pose.mp4")
    assert not (tmp_path / "shards").exists()


@pytest.mark.parametrize("damage", ["empty", "text", "truncated"])
def test_a_video_that_cannot_be_read_is_dropped_with_its_reason(clips, tmp_path, damage):
    video = clips / "videos" / f"{first_stem(clips)}.mp4"
    data = video.read_bytes()
    video.write_bytes({"empty": b"", "text": b"not a video\n" * 50, "truncated": data[: len(data) // 2]}[damage])
    ended = call("tools/make_shards.py", *shard_flags(clips, tmp_path / "shards"))
    assert ended.code == 0 and f"{video.name}: left out: " in ended.screen
    (drop,) = json.loads((tmp_path / "shards" / "index.json").read_text())["dropped"]
    assert drop["video"] == video.name and len(drop["reason"]) > 20


def test_nothing_but_bad_videos_is_refused_with_the_reasons(clips, tmp_path):
    for video in (clips / "videos").glob("*.mp4"):
        video.write_bytes(b"")
    ended = call("tools/make_shards.py", *shard_flags(clips, tmp_path / "shards"))
    refused(ended, "none of 4 clips can be used", f"{first_stem(clips)}.mp4: ", "not a readable video")
    assert not (tmp_path / "shards" / "index.json").exists()


SIZES = [
    (["--num_frames", "10"], ["num_frames=10", "4n+1", "use 9 or 13"]),
    (["--height", "60"], ["height=60", "multiple of 16", "use 48 or 64"]),
    (["--width", "3"], ["width=3", "multiple of 16", "use 16 or 32"]),
    (["--height", "0"], ["height=0", "greater than or equal to 2"]),
    (["--num_frames", "many"], ["num_frames", "many"]),
]


@pytest.mark.parametrize("words, parts", SIZES)
def test_sizes_that_the_model_cannot_take_name_the_nearest_it_can(toy_inputs, tmp_path, words, parts):
    flags = shard_flags(toy_inputs.dataset, tmp_path / "shards")
    refused(call("tools/make_shards.py", *flags, *words, "--model_path", "toy"), *parts)
    run = [*SMALL_ADAPTER, *toy_inputs.raw_flags, *words, "--output_dir", tmp_path / "run"]
    refused(call("train.py", *run), *parts)
    assert not (tmp_path / "shards").exists() and not (tmp_path / "run").exists()


def test_shards_of_a_size_that_the_base_cannot_take_are_refused_before_it_is_loaded(toy_inputs, tmp_path):
    call("tools/make_shards.py", *shard_flags(toy_inputs.dataset, tmp_path / "shards"), "--num_frames", "6")
    where = ("--shards", tmp_path / "shards", "--model_path", "toy", "--output_dir", tmp_path / "latents")
    ended = call("tools/encode_latents.py", *where)
    refused(ended, "num_frames=6", "use 5 or 9", str(tmp_path / "shards"))
    assert LOADED not in ended.screen and not (tmp_path / "latents").exists()


def test_an_odd_size_is_refused_without_a_model_too(toy_inputs, tmp_path):
    flags = shard_flags(toy_inputs.dataset, tmp_path / "shards")
    refused(call("tools/make_shards.py", *flags, "--width", "63"), "width=63", "even", "62 or 64")


def test_an_output_folder_that_is_a_file_is_refused(toy_inputs, tmp_path):
    (tmp_path / "file").write_text("precious")
    refused(call("tools/make_shards.py", *shard_flags(toy_inputs.dataset, tmp_path / "file")), "file", "not a folder")
    latents = ("--shards", toy_inputs.shards, "--model_path", "toy", "--output_dir", tmp_path / "file")
    refused(call("tools/encode_latents.py", *latents), "file", "not a folder")
    run = [*SMALL_ADAPTER, *toy_inputs.prepared_flags, "--output_dir", tmp_path / "file"]
    refused(call("train.py", *run), "file", "not a folder")
    assert (tmp_path / "file").read_text() == "precious"


def test_latents_of_another_base_are_refused_and_kept(toy_inputs, other_base, tmp_path):
    latents = Path(shutil.copytree(toy_inputs.latents, tmp_path / "latents"))
    before = content(latents)
    where = ("--shards", toy_inputs.shards, "--model_path", other_base, "--output_dir", latents)
    ended = call("tools/encode_latents.py", *where)
    refused(ended, str(latents), "another base", "choose another output folder")
    assert LOADED not in ended.screen and content(latents) == before
    run = [*SMALL_ADAPTER, *toy_inputs.prepared_flags, "--model_path", other_base, "--output_dir", tmp_path / "run"]
    refused(call("train.py", *run), f"latents={toy_inputs.latents}", "base toy", str(other_base), "encode")


# --- photos ----------------------------------------------------------------------------------------------------------


def identity_flags(photos: Path, output: Path) -> list[str]:
    return ["--face_images_dir", str(photos), "--output_dir", str(output), "--encoder_path", "toy"]


def test_a_photo_without_a_face_is_dropped_with_its_reason_and_the_rest_goes_on(clips, tmp_path):
    photos = clips / "photos" / "target"
    shutil.copy(min((clips / "photos" / "d01").iterdir()), photos / "spare.jpg")
    write_grey_photo(photos / "photo_01.jpg")
    ended = call(
        "tools/prepare_face_embeddings.py", *identity_flags(photos, tmp_path / "identity"), "--check_one_person=false"
    )
    assert ended.code == 0 and "photo_01.jpg dropped: no face found" in ended.screen
    assert "no face found" in (tmp_path / "identity" / "report.html").read_text()


def test_too_few_photos_are_refused_before_anything_is_loaded_and_the_old_identity_stays(toy_inputs, clips, tmp_path):
    photos = clips / "photos" / "target"
    for photo in sorted(photos.iterdir())[2:]:
        photo.unlink()
    identity = Path(shutil.copytree(toy_inputs.identity, tmp_path / "identity"))
    before = content(identity)
    ended = call("tools/prepare_face_embeddings.py", *identity_flags(photos, identity))
    refused(ended, str(photos), "2 photos", "at least 3", "--allow_few")
    assert content(identity) == before
    run = [*SMALL_ADAPTER, *toy_inputs.raw_flags, "--face_images_dir", photos, "--output_dir", tmp_path / "run"]
    refused(call("train.py", *run), str(photos), "2 photos", "at least 3")
    assert not (tmp_path / "run").exists()


def test_too_few_photos_with_a_face_are_refused_with_every_reason(clips, tmp_path):
    photos = clips / "photos" / "target"
    first, second = sorted(photos.iterdir())[:2]
    write_grey_photo(first)
    second.write_bytes(b"no picture")
    ended = call("tools/prepare_face_embeddings.py", *identity_flags(photos, tmp_path / "identity"))
    refused(ended, "2 of 4 photos are usable", f"{first.name}: no face found", f"{second.name}: ")
    assert not (tmp_path / "identity").exists()


def test_a_missing_encoder_is_named_with_the_flag(clips, tmp_path):
    flags = identity_flags(clips / "photos" / "target", tmp_path / "identity")
    refused(
        call("tools/prepare_face_embeddings.py", *flags, "--encoder_path", tmp_path / "none"), "none", "--encoder_path"
    )


def write_grey_photo(path: Path) -> None:
    from PIL import Image

    Image.fromarray(np.full((192, 192, 3), 128, np.uint8)).save(path)


# --- flags and YAML --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "command, wrong, right",
    [
        ("train.py", "--hight", "--height"),
        ("sample.py", "--face_lora", "--face_lora_path"),
        ("tools/make_shards.py", "--pose_video_dir", "--pose_videos_dir"),
        ("tools/encode_latents.py", "--shard", "--shards"),
        ("tools/prepare_face_embeddings.py", "--alow_few", "--allow_few"),
    ],
)
def test_an_unknown_flag_names_the_nearest(command, wrong, right):
    refused(call(command, wrong, "64"), f"{wrong}: unknown key; did you mean {right}?")


def test_an_unknown_key_in_yaml_names_file_and_nearest(toy_inputs, tmp_path):
    config = tmp_path / "run.yaml"
    config.write_text("lora_rnak: 8\n")
    run = [*SMALL_ADAPTER, *toy_inputs.prepared_flags, "--output_dir", tmp_path / "run", "--config", config]
    refused(call("train.py", *run), str(config), "lora_rnak", "did you mean lora_rank?")
    assert not (tmp_path / "run").exists()


def test_yaml_that_is_none_is_refused_in_one_line(tmp_path):
    config = tmp_path / "run.yaml"
    config.write_text("a: [1\nb: 2\n")
    refused(call("train.py", "--config", config), str(config), "not YAML")
    refused(call("train.py", "--config", tmp_path / "none.yaml"), "none.yaml", "no such file")


@pytest.mark.parametrize(
    "words, parts",
    [
        (["--learning_rate", "-1"], ["learning_rate=-1", "greater than 0"]),
        (["--num_epochs", "0"], ["num_epochs=0", "greater than 0"]),
        (["--face_dropout", "1.5"], ["face_dropout=1.5", "less than or equal to 1"]),
        (["--lora_branch", "all"], ["lora_branch", "all", "both"]),
        (["--model_path", "nowhere"], ["model_path=nowhere", "no such folder"]),
        (["--face_images_dir", "nowhere"], ["face_images_dir=nowhere", "no such folder"]),
        (["--dance_videos_dir", "nowhere"], ["dance_videos_dir=nowhere", "no such folder"]),
    ],
)
def test_a_value_that_cannot_be_is_refused_with_its_key(toy_inputs, tmp_path, words, parts):
    run = [*SMALL_ADAPTER, *toy_inputs.raw_flags, "--output_dir", tmp_path / "run", *words]
    refused(call("train.py", *run), *parts)
    assert not (tmp_path / "run").exists()


def test_a_batch_that_the_processes_cannot_share_names_the_sizes_they_can(toy_inputs, tmp_path, monkeypatch):
    # As a launcher starts the main one of two processes.
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("RANK", "0")
    run = [*SMALL_ADAPTER, *toy_inputs.prepared_flags, "--output_dir", tmp_path / "run"]
    refused(call("train.py", *run, "--batch_size", "3"), "batch_size=3", "2 processes", "use 2 or 4")
    words = ("--batch_size", "4", "--micro_batch_size", "3")
    refused(call("train.py", *run, *words), "batch_size=4", "micro_batch_size 3", "use 6")
    assert not (tmp_path / "run").exists()


# --- a trained run, its adapters and checkpoints ---------------------------------------------------------------------

TWO_EPOCHS = "--num_epochs 2 --batch_size 2 --save_every 1 --warmup_steps 0 --freeze_mapper_after_epochs 1".split()
QUIET_RUN = "--num_workers 0 --log_every_steps 1 --tensorboard false --validate_every 0".split()


@pytest.fixture(scope="module")
def trained(toy_inputs, tmp_path_factory) -> Path:
    """A finished run of two epochs."""
    folder = tmp_path_factory.mktemp("trained") / "run"
    assert call("train.py", *train_flags(toy_inputs, folder)).code == 0
    return folder


@pytest.fixture
def run_folder(trained, tmp_path) -> Path:
    """A copy of it that a test may spoil."""
    return Path(shutil.copytree(trained, tmp_path / "run"))


@pytest.fixture(scope="module")
def other_base(tmp_path_factory) -> Path:
    """Another base of the same sizes."""
    from faceid.models.base.initialise import initialise_base
    from faceid.toy.shipped import BASE_CONFIGS

    folder = tmp_path_factory.mktemp("other_base") / "base"
    initialise_base(folder, BASE_CONFIGS, seed=7)
    return folder


@pytest.fixture(scope="module")
def other_identity(toy_inputs, tmp_path_factory) -> Path:
    """The same photos by another encoder of the same sizes."""
    from faceid.faces.encoders.face_encoders import initialise_clip
    from faceid.toy.shipped import ENCODER_CONFIG

    folder = tmp_path_factory.mktemp("other_encoder")
    initialise_clip(folder / "encoder", ENCODER_CONFIG, seed=7)
    flags = identity_flags(toy_inputs.dataset / "photos" / "target", folder / "identity")
    assert call("tools/prepare_face_embeddings.py", *flags, "--encoder_path", folder / "encoder").code == 0
    return folder / "identity"


def train_flags(toy_inputs, folder: Path) -> list[str]:
    return [*SMALL_ADAPTER, *TWO_EPOCHS, *QUIET_RUN, *toy_inputs.prepared_flags, "--output_dir", str(folder)]


def pose_of(toy_inputs) -> Path:
    return min((toy_inputs.dataset / "poses").glob("*.mp4"))


def sample_flags(toy_inputs, adapter: Path, output: Path) -> list[str]:
    words = ("--face_lora_path", adapter, "--face_embedding", toy_inputs.identity, "--output", output)
    pose = ("--pose_video", pose_of(toy_inputs), "--num_inference_steps", 1, "--cfg_scale", 1)
    return [str(word) for word in (*words, *pose)]


# --- checkpoints and resuming ----------------------------------------------------------------------------------------


def test_resume_none_refuses_a_folder_with_checkpoints_and_keeps_it(toy_inputs, run_folder):
    before = content(run_folder)
    ended = call("train.py", *train_flags(toy_inputs, run_folder), "--resume", "none")
    refused(ended, "resume=none", str(run_folder), "another output_dir", "--resume auto")
    assert content(run_folder) == before


@pytest.mark.parametrize(
    "words, parts",
    [
        (["--learning_rate", "1e-3"], ["learning_rate was 0.0001, now 0.001", "--learning_rate 0.0001"]),
        (["--lora_rank", "8"], ["lora_rank was 4, now 8", "--lora_rank 4"]),
        (["--batch_size", "4"], ["batch_size was 2, now 4", "--batch_size 2"]),
        (["--pairing", "constant"], ["pairing was own, now constant", "--pairing own"]),
    ],
)
def test_a_changed_recipe_is_refused_and_names_the_key(toy_inputs, run_folder, words, parts):
    before = content(run_folder)
    ended = call("train.py", *train_flags(toy_inputs, run_folder), "--num_epochs", "3", *words)
    refused(ended, *parts, "another output_dir")
    assert content(run_folder) == before


def test_resuming_with_another_persons_photos_or_identity_is_refused(toy_inputs, run_folder, tmp_path):
    flags = [*train_flags(toy_inputs, run_folder), "--num_epochs", "3"]
    photos = toy_inputs.dataset / "photos" / "d01"
    ended = call("train.py", *flags, "--face_images_dir", photos)
    refused(ended, f"face_images_dir={photos}", "photo_01.jpg", "another picture", "made from")
    call("tools/prepare_face_embeddings.py", *identity_flags(photos, tmp_path / "d01"))
    ended = call("train.py", *flags, "--face_images_dir", photos, "--face_embedding", tmp_path / "d01")
    refused(ended, "another identity", "another output_dir")


@pytest.mark.slow
def test_resuming_with_other_clips_is_refused_and_the_checkpoints_stay(toy_inputs, run_folder, clips, tmp_path):
    (clips / "videos" / f"{first_stem(clips)}.mp4").unlink()
    call("tools/make_shards.py", *shard_flags(clips, tmp_path / "shards"))
    words = ("--shards", tmp_path / "shards", "--output_dir", tmp_path / "latents")
    call("tools/encode_latents.py", *words, "--model_path", "toy")
    before = content(run_folder / "checkpoints")
    words = ("--num_epochs", "3", "--latents", tmp_path / "latents", "--shards", tmp_path / "shards")
    ended = call("train.py", *train_flags(toy_inputs, run_folder), *words)
    refused(ended, "other clips", "another output_dir")
    assert content(run_folder / "checkpoints") == before


def test_shards_that_the_latents_were_not_made_from_are_refused(toy_inputs, clips, tmp_path):
    (clips / "videos" / f"{first_stem(clips)}.mp4").unlink()
    call("tools/make_shards.py", *shard_flags(clips, tmp_path / "shards"))
    ended = call("train.py", *train_flags(toy_inputs, tmp_path / "run"), "--shards", tmp_path / "shards")
    refused(ended, f"shards={tmp_path / 'shards'}", "not made from", str(toy_inputs.latents))


@pytest.mark.parametrize("workers", ["0", pytest.param("1", marks=pytest.mark.starts_process)])
def test_a_damaged_shard_ends_training_with_its_name_whoever_reads_it(toy_inputs, tmp_path, workers):
    latents = Path(shutil.copytree(toy_inputs.latents, tmp_path / "latents"))
    flip_a_byte(latents / "latents-000000.tar")
    words = ("--latents", latents, "--num_workers", workers)
    before = set(threading.enumerate())
    ended = call("train.py", *train_flags(toy_inputs, tmp_path / "run"), *words)
    # Whoever calls training from a program of theirs is watched no longer.
    assert not [t for t in set(threading.enumerate()) - before if t.name == "watchdog" and (t.join(5) or t.is_alive())]
    refused(
        ended,
        f"{latents / 'latents-000000.tar'}: sha256",
        "damaged: copy it again, or remove it and run its command again",
    )
    assert ended.error.startswith(str(latents))


def flip_a_byte(file: Path) -> None:
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 1
    file.write_bytes(data)


@pytest.mark.slow
def test_a_damaged_newest_checkpoint_is_skipped_with_the_reason_and_the_older_one_is_used(toy_inputs, run_folder):
    flip_a_byte(run_folder / "checkpoints" / "step_00000008" / "trainables.safetensors")
    ended = call("train.py", *train_flags(toy_inputs, run_folder), "--num_epochs", "3")
    assert ended.code == 0
    assert "skipped a checkpoint" in ended.screen and "step_00000008/trainables.safetensors" in ended.screen
    assert "resuming from" in ended.screen and "4 steps done" in ended.screen


def test_no_usable_checkpoint_is_refused_rather_than_started_anew(toy_inputs, run_folder):
    for checkpoint in (run_folder / "checkpoints").iterdir():
        flip_a_byte(checkpoint / "exp_avg.safetensors")
    before = content(run_folder)
    ended = call("train.py", *train_flags(toy_inputs, run_folder), "--num_epochs", "3")
    refused(ended, "none of 2 checkpoints can be used", "exp_avg.safetensors", "damaged")
    assert content(run_folder) == before


def test_fewer_epochs_than_were_trained_are_refused_and_the_final_adapter_stays(toy_inputs, run_folder):
    before = content(run_folder)
    ended = call("train.py", *train_flags(toy_inputs, run_folder), "--num_epochs", "1")
    refused(ended, "num_epochs=1", "8 steps", "another output_dir")
    assert content(run_folder) == before


def test_a_named_checkpoint_that_is_none_is_refused(toy_inputs, run_folder, tmp_path):
    ended = call("train.py", *train_flags(toy_inputs, run_folder), "--resume", tmp_path / "nowhere")
    refused(ended, "nowhere", "resume=")


# --- folders in use --------------------------------------------------------------------------------------------------


@pytest.mark.starts_process
def test_train_refuses_a_run_folder_that_another_process_uses(toy_inputs, run_folder):
    with held_by_another_process(run_folder) as holder:
        before = content(run_folder)
        flags = [*train_flags(toy_inputs, run_folder), "--num_epochs", "3"]
        done = run_command([sys.executable, "train.py", *flags], expect=2)
        refused(outcome(2, done.stderr), str(run_folder), f"in use by process {holder.pid}", "another output folder")
        assert content(run_folder) == before


@pytest.mark.starts_process
def test_make_shards_refuses_a_folder_in_which_another_process_works_by_other_settings(toy_inputs, tmp_path):
    shards = Path(shutil.copytree(toy_inputs.shards, tmp_path / "shards"))
    (shards / ".claims").mkdir(exist_ok=True)
    (shards / ".claims/.plan").write_text("of the other process")
    with held_by_another_process(shards / ".claims", CLAIMS_UNIT) as holder:
        before = content(shards)
        command = [sys.executable, "tools/make_shards.py", *shard_flags(toy_inputs.dataset, shards)]
        done = run_command([*command, "--num_frames", "5"], expect=2)
        refused(outcome(2, done.stderr), str(shards), f"-{holder.pid}-", "with other settings or inputs")
        assert content(shards) == before


def test_shards_and_latents_are_never_written_over_each_other(toy_inputs, tmp_path):
    shards = Path(shutil.copytree(toy_inputs.shards, tmp_path / "shards"))
    latents = Path(shutil.copytree(toy_inputs.latents, tmp_path / "latents"))
    before = content(shards), content(latents)
    words = ("--shards", shards, "--model_path", "toy", "--output_dir", shards)
    refused(call("tools/encode_latents.py", *words), str(shards), "holds clips, not latents")
    flags = shard_flags(toy_inputs.dataset, latents)
    refused(call("tools/make_shards.py", *flags), str(latents), "holds latents, not clips")
    assert (content(shards), content(latents)) == before


# --- adapters --------------------------------------------------------------------------------------------------------


def test_an_adapter_for_another_base_names_both_before_weights_are_loaded(toy_inputs, trained, other_base, tmp_path):
    flags = sample_flags(toy_inputs, trained / "face_lora_final.safetensors", tmp_path / "a.mp4")
    ended = call("sample.py", *flags, "--model_path", other_base)
    refused(ended, "face_lora_final.safetensors", "trained on base toy", str(other_base), "--model_path")
    assert LOADED not in ended.screen and not (tmp_path / "a.mp4").exists()


@pytest.mark.parametrize("suffix", [".safetensors", ".pth"])
def test_an_adapter_of_another_rank_names_the_tensor_and_both_shapes(toy_inputs, trained, tmp_path, suffix):
    from faceid.models.adapter.adapter_file import read_adapter, save_adapter

    tensors, metadata = read_adapter(trained / "face_lora_final.safetensors")
    wrong = replace(metadata, settings=replace(metadata.settings, lora_rank=8))
    save_adapter(tmp_path / f"wrong{suffix}", tensors, wrong)
    ended = call("sample.py", *sample_flags(toy_inputs, tmp_path / f"wrong{suffix}", tmp_path / "a.mp4"))
    refused(ended, f"wrong{suffix}", "lora", "is [4, ", "say [8, ", "rank 8")
    assert not (tmp_path / "a.mp4").exists()


@pytest.mark.parametrize("suffix", [".safetensors", ".pth"])
@pytest.mark.parametrize("damage", ["empty", "text", "truncated", "flipped header", "missing"])
def test_a_file_that_is_no_adapter_is_refused_in_one_line(toy_inputs, trained, tmp_path, suffix, damage):
    file = tmp_path / f"bad{suffix}"
    data = (trained / f"face_lora_final{suffix}").read_bytes()
    if damage != "missing":
        bad = {"empty": b"", "text": b"hello\n" * 99, "truncated": data[:-1000], "flipped header": b"\xff" + data[1:]}
        file.write_bytes(bad[damage])
    ended = call("sample.py", *sample_flags(toy_inputs, file, tmp_path / "a.mp4"))
    refused(ended, f"face_lora_path={file}", "no such file" if damage == "missing" else "damaged")
    assert LOADED not in ended.screen


def test_another_models_lora_is_refused_as_no_adapter_of_ours(toy_inputs, tmp_path):
    import torch
    from safetensors.torch import save_file

    tensors = {"diffusion_model.blocks.0.cross_attn.k.lora_A.weight": torch.zeros(4, 96)}
    save_file(tensors, tmp_path / "lora.safetensors")
    torch.save(tensors, tmp_path / "lora.pth")
    for name in ("lora.safetensors", "lora.pth"):
        ended = call("sample.py", *sample_flags(toy_inputs, tmp_path / name, tmp_path / "a.mp4"))
        refused(ended, name, "not a faceid adapter")


def test_a_pickle_with_code_in_it_is_never_run(toy_inputs, tmp_path):
    import torch

    torch.save({"tensors": {}, "metadata": _Bomb(tmp_path / "exploded")}, tmp_path / "evil.pth")
    ended = call("sample.py", *sample_flags(toy_inputs, tmp_path / "evil.pth", tmp_path / "a.mp4"))
    refused(ended, "evil.pth")
    assert not (tmp_path / "exploded").exists()


class _Bomb:
    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self):
        return (Path.touch, (self.path,))


# --- faces and poses in sampling -------------------------------------------------------------------------------------


def test_an_identity_by_another_encoder_is_refused_in_training_and_sampling(
    toy_inputs, trained, other_identity, tmp_path
):
    flags = [*train_flags(toy_inputs, tmp_path / "run"), "--face_embedding", other_identity]
    refused(call("train.py", *flags), "face_embedding", "encoder clip", "use the same")
    flags = sample_flags(toy_inputs, trained / "face_lora_final.pth", tmp_path / "a.mp4")
    ended = call("sample.py", *flags, "--face_embedding", other_identity)
    refused(ended, "face_embedding", "encoder clip", "use that encoder")
    assert LOADED not in ended.screen


def test_a_face_without_an_adapter_is_refused_before_photos_are_read(toy_inputs, tmp_path):
    pose = ("--pose_video", pose_of(toy_inputs), "--output", tmp_path / "a.mp4")
    words = ("--model_path", "toy", "--face_images_dir", toy_inputs.dataset / "photos" / "target", *pose)
    refused(call("sample.py", *words), "face_images_dir", "give --face_lora_path")
    refused(call("sample.py", *pose), "face_lora_path: missing", "--model_path")


@pytest.mark.parametrize(
    "words, parts",
    [
        (["--num_frames", "17"], ["9 frames, 17 wanted", "--num_frames 9"]),
        (["--num_frames", "8"], ["num_frames=8", "use 5 or 9"]),
        (["--height", "50"], ["height=50", "use 48 or 64"]),
        (["--pose_video", "nowhere.mp4"], ["nowhere.mp4", "no such"]),
        (["--pose_video", "README.md"], ["README.md", "not a readable video"]),
        (["--face_scale", "-1"], ["face_scale=-1", "greater than or equal to 0"]),
        (["--output", "a.avi"], ["output=a.avi", ".mp4"]),
        (["--device", "cuda:7"], ["device='cuda:7'", "GPUs", "use cpu"]),
        (["--device", "gpu"], ["device='gpu'", "cuda:N"]),
        (["--batch"], ["pose_videos_dir: missing", "--output_dir"]),
        (["--output_dir", "x"], ["output_dir: has no meaning without --batch"]),
    ],
)
def test_a_rendering_that_cannot_be_is_refused_before_weights_are_loaded(toy_inputs, trained, tmp_path, words, parts):
    flags = sample_flags(toy_inputs, trained / "face_lora_final.pth", tmp_path / "a.mp4")
    ended = call("sample.py", *flags, *words)
    refused(ended, *parts)
    assert LOADED not in ended.screen and not (tmp_path / "a.mp4").exists()


def test_a_pose_video_is_never_overwritten(toy_inputs, trained, clips, tmp_path):
    pose = min((clips / "poses").glob("*.mp4"))
    before = content(clips)
    flags = sample_flags(toy_inputs, trained / "face_lora_final.pth", pose)
    refused(call("sample.py", *flags, "--pose_video", pose), f"output={pose}", "overwritten")
    refused(call("sample.py", *batch_flags(toy_inputs, trained, clips / "poses", clips / "poses")), "overwritten")
    assert content(clips) == before


def batch_flags(toy_inputs, trained: Path, poses: Path, output: Path) -> list[str]:
    words = ("--batch", "--pose_videos_dir", poses, "--output_dir", output)
    adapter = ("--face_lora_path", trained / "face_lora_final.pth", "--face_embedding", toy_inputs.identity)
    return [str(word) for word in (*words, *adapter, "--num_inference_steps", 1, "--cfg_scale", 1)]


@ODD_JOB_LIST
@pytest.mark.slow
def test_a_bad_pose_video_in_a_batch_is_recorded_and_the_rest_goes_on(toy_inputs, trained, clips, tmp_path):
    (clips / "poses" / "broken.mp4").write_bytes(b"nothing")
    write_video(clips / "poses" / "short.mp4", np.zeros((5, 64, 64, 3), np.uint8), 16)
    ended = call("sample.py", *batch_flags(toy_inputs, trained, clips / "poses", tmp_path / "out"))
    assert ended.code == 1 and "4 of 6 videos rendered" in ended.screen
    lines = (tmp_path / "out" / "jobs.jsonl").read_text().splitlines()
    jobs = {job["pose"]: job for job in map(json.loads, lines)}
    assert "not a readable video" in jobs["broken.mp4"]["error"] and "--num_frames 5" in jobs["short.mp4"]["error"]
    good = [job for job in jobs.values() if not job["error"]]
    assert len(good) == 4 and all((tmp_path / "out" / job["output"]).is_file() and job["sha256"] for job in good)
    assert not (tmp_path / "out" / "broken.mp4").exists()


@ODD_JOB_LIST
@pytest.mark.slow
def test_a_job_list_with_anything_in_its_names_is_only_names(toy_inputs, trained, clips, tmp_path, monkeypatch):
    pose = min((clips / "poses").glob("*.mp4"))
    names = ["$(touch canary).mp4", "a b;touch canary.mp4", "-rf'\".mp4", "touch canary & 'a' | b*?.mp4"]
    for name in names:
        shutil.copy(pose, clips / "poses" / name)
    rows = [{"pose": [*names, names[0]], "prompt": "`touch canary` $(touch canary)"}, {"pose": "absent.mp4"}]
    (tmp_path / "jobs.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    flags = batch_flags(toy_inputs, trained, clips / "poses", tmp_path / "out")
    monkeypatch.chdir(tmp_path)
    ended = call("sample.py", *flags, "--jobs", tmp_path / "jobs.jsonl")
    assert ended.code == 1 and "4 of 5 videos rendered" in ended.screen and "rendered once" in ended.screen
    found = [json.loads(line) for line in (tmp_path / "out" / "jobs.jsonl").read_text().splitlines()]
    assert [row["pose"] for row in found] == [*names, "absent.mp4"] and "no such pose video" in found[-1]["error"]
    assert all((tmp_path / "out" / row["output"]).is_file() for row in found[:-1])
    assert not list(tmp_path.rglob("canary")) and not list(Path(clips).rglob("canary"))


@BATCH_THAT_CANNOT_BE
def test_an_empty_pose_folder_is_refused(toy_inputs, trained, tmp_path):
    (tmp_path / "poses").mkdir()
    refused(
        call("sample.py", *batch_flags(toy_inputs, trained, tmp_path / "poses", tmp_path / "out")), "no video in it"
    )
    refused(call("sample.py", *batch_flags(toy_inputs, trained, tmp_path / "none", tmp_path / "out")), "no such folder")
    assert not (tmp_path / "out").exists()


@BATCH_THAT_CANNOT_BE
def test_a_batch_is_not_written_to_a_file(toy_inputs, trained, tmp_path):
    (tmp_path / "out").write_text("precious")
    poses = toy_inputs.dataset / "poses"
    refused(call("sample.py", *batch_flags(toy_inputs, trained, poses, tmp_path / "out")), f"output_dir={tmp_path}/out")
    assert (tmp_path / "out").read_text() == "precious"


# --- options without effect ------------------------------------------------------------------------------------------


def test_options_without_effect_are_named_in_training(toy_inputs, run_folder):
    words = ("--num_frames", "17", "--caption", "a dog", "--aggregation", "median")
    ended = call("train.py", *train_flags(toy_inputs, run_folder), *words)
    assert ended.code == 0
    for name in ("num_frames: has no effect with --latents", "caption: has no effect", "aggregation: has no effect"):
        assert name in ended.screen
    # A size that agrees with the latents is no mistake.
    assert "height: has no effect" not in call("train.py", *train_flags(toy_inputs, run_folder), "--height", 64).screen


@pytest.mark.slow
def test_options_without_effect_are_named_in_sampling(toy_inputs, trained, tmp_path):
    flags = sample_flags(toy_inputs, trained / "face_lora_final.pth", tmp_path / "a.mp4")
    ended = call("sample.py", *flags, "--negative_prompt", "fog", "--aggregation", "median")
    assert ended.code == 0 and (tmp_path / "a.mp4").is_file()
    for name in ("negative_prompt: has no effect with cfg_scale=1", "aggregation: has no effect without"):
        assert name in ended.screen
    assert "face_scale=0: the base model alone renders" in call("sample.py", *flags, "--face_scale", 0).screen
    assert "face_scale=3.0: outside 0.3 to 2" in call("sample.py", *flags, "--face_scale", 3).screen


# --- real processes --------------------------------------------------------------------------------------------------


@pytest.mark.starts_process
@pytest.mark.slow
def test_one_line_and_exit_code_2_from_a_real_process(toy_inputs, tmp_path):
    (tmp_path / "a.safetensors").write_bytes(b"x" * 100)
    command = [sys.executable, "sample.py", *sample_flags(toy_inputs, tmp_path / "a.safetensors", tmp_path / "a.mp4")]
    ended = outcome(2, run_command(command, expect=2, cold=True).stderr)
    refused(ended, "face_lora_path=", "damaged")
    assert ended.screen.count("\n") == 1


@pytest.mark.starts_process
@pytest.mark.slow
def test_two_processes_say_a_users_fault_once(toy_inputs, tmp_path):
    flags = [*SMALL_ADAPTER, *toy_inputs.prepared_flags, "--output_dir", str(tmp_path / "run"), "--batch_size", "3"]
    done = train(*flags, world="cpu_zero2", expect=None)
    # The launcher (torchrun) turns every exit code into 1 and adds its own lines.
    assert done.returncode != 0
    assert done.stderr.count("error: batch_size=3: not divisible by 2 processes; use 2 or 4") == 1
    assert not (tmp_path / "run").exists()


@pytest.mark.starts_process
@pytest.mark.slow
def test_what_one_process_alone_meets_is_shown_and_ends_all(toy_inputs, tmp_path):
    latents = Path(shutil.copytree(toy_inputs.latents, tmp_path / "latents"))
    flip_a_byte(latents / "latents-000000.tar")
    # Of 4 clips and 4 photos, the main process begins with a photo, the other one with a clip of the damaged shard.
    seed = next(seed for seed in range(100) if (order := epoch_order(seed, 0, 8))[0] >= 4 and order[1] < 4)
    words = ("--latents", str(latents), "--seed", str(seed), "--num_workers", "1")
    done = train(*train_flags(toy_inputs, tmp_path / "run"), *words, world="cpu_zero2", expect=None)
    assert done.returncode != 0 and "rank1 ERROR" in done.stderr, done.stderr
    assert f"{latents / 'latents-000000.tar'}: sha256" in done.stderr and "Original Traceback" not in done.stderr
