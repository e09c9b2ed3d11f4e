"""The main job on real clips and real photos that nobody here made; the base is the toy one, so pixels mean nothing.

Needs the folder of real data (FACEID_REAL_DATA or ../shared/data) and skips, with the reason, without it.
"""

import json
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path
from subprocess import CompletedProcess

import pytest
import torch
from frame_motion import pairing_correlation
from launching import SMALL_ADAPTER, run_command, train

from faceid.data.latents.latent_reader import LatentSet
from faceid.data.shards.index import ShardIndex
from faceid.faces.identities.identity import load_identity
from faceid.media.video import decode_video_bytes, read_video
from faceid.models.adapter.adapter_file import read_adapter

pytestmark = [
    pytest.mark.slow,
    pytest.mark.starts_process,
    pytest.mark.real_data,
    pytest.mark.promise("end to end on real clips and photos", bar="all checks pass", proof="main"),
]

# The landscape pair's own aspect ratio; the portrait one is padded, so that the whole dancer stays.
FRAMES, HEIGHT, WIDTH = 17, 112, 208
SIZE = f"--num_frames {FRAMES} --height {HEIGHT} --width {WIDTH} --fit pad --model_path toy".split()
LANDSCAPE, PORTRAIT = "scail_001_832x480", "steadydancer_00002_480x832"


@dataclass(frozen=True)
class RealInputs:
    """Folders, from what was filmed and photographed to latents."""

    photos: Path
    videos: Path
    poses: Path
    identity: Path
    shards: Path
    latents: Path


@dataclass(frozen=True)
class RealRun:
    """A run folder, the command and what it said, and the adapter of its two epochs."""

    folder: Path
    flags: list[str]
    said: CompletedProcess
    after_two_epochs: dict[str, torch.Tensor]


@pytest.fixture(scope="module")
def inputs(real_data, tmp_path_factory) -> RealInputs:
    """Both real pairs and ten photos of one person, through the three tools."""
    folder = tmp_path_factory.mktemp("real")
    videos, poses = folder / "videos", folder / "poses"
    videos.mkdir()
    poses.mkdir()
    for name in (LANDSCAPE, PORTRAIT):
        shutil.copy(real_data / "dance" / "ready" / name / "video.mp4", videos / f"{name}.mp4")
        shutil.copy(real_data / "dance" / "ready" / name / "pose.mp4", poses / f"{name}_pose.mp4")
    made = RealInputs(
        real_data / "faces" / "lfw" / "Tony_Blair", videos, poses, folder / "id", folder / "s", folder / "l"
    )
    face = ("--face_images_dir", made.photos, "--output_dir", made.identity, "--encoder_path", "toy_strong")
    run_tool("prepare_face_embeddings", *face, "--identity_name", "one of five")
    run_tool(
        "make_shards", "--dance_videos_dir", videos, "--pose_videos_dir", poses, "--output_dir", made.shards, *SIZE
    )
    run_tool("encode_latents", "--shards", made.shards, "--model_path", "toy", "--output_dir", made.latents)
    return made


@pytest.fixture(scope="module")
def run(inputs, tmp_path_factory) -> RealRun:
    """Two epochs on two ZeRO-2 processes, one in each stage."""
    folder = tmp_path_factory.mktemp("real_run") / "run"
    flags = [*SMALL_ADAPTER, "--face_images_dir", inputs.photos, "--face_embedding", inputs.identity]
    flags += [
        "--latents",
        inputs.latents,
        "--shards",
        inputs.shards,
        "--output_dir",
        folder,
        "--encoder_path",
        "toy_strong",
    ]
    flags += "--batch_size 4 --num_epochs 2 --freeze_mapper_after_epochs 1 --save_every 1 --validate_every 2".split()
    flags += "--validation_steps 1 --log_every_steps 1 --num_workers 0 --warmup_steps 0 --learning_rate 1e-3".split()
    said = train(*map(str, flags), world="cpu_zero2")
    return RealRun(folder, [*map(str, flags)], said, read_adapter(folder / "face_lora_final.safetensors")[0])


def run_tool(name: str, *words: object) -> CompletedProcess:
    return run_command([sys.executable, f"tools/{name}.py", *map(str, words)])


def test_most_real_photos_of_one_person_make_an_identity(inputs):
    identity = load_identity(inputs.identity)
    assert len(list(inputs.photos.iterdir())) == 10 and len(identity.photo_embeddings) >= 7
    assert identity.name == "one of five" and sum(identity.photo_weights.values()) == pytest.approx(1)


def test_shards_hold_each_dancer_beside_the_skeleton_of_the_same_frames(inputs):
    index = ShardIndex.load(inputs.shards, "clips")
    assert [sample.key for sample in index.samples] == [LANDSCAPE, PORTRAIT]
    moving = {}
    for sample in index.samples:
        video, pose = (decode_video_bytes(index.read(sample.key, member)) for member in ("video.mp4", "pose.mp4"))
        assert video.frames.shape == pose.frames.shape == (FRAMES, HEIGHT, WIDTH, 3)
        assert video.fps == pose.fps == 16
        assert json.loads(index.read(sample.key, "json"))["pairing_correlation"] > 0.75  # over the whole films
        moving[sample.key] = video.frames, pose.frames
    # Within the clips too, the right skeleton moves with its dancer more than the other one does.
    for own, other in ((LANDSCAPE, PORTRAIT), (PORTRAIT, LANDSCAPE)):
        video = moving[own][0]
        assert pairing_correlation(video, moving[own][1]) > pairing_correlation(video, moving[other][1])


def test_latents_have_the_size_the_base_asks_for(inputs):
    latents = LatentSet.open(inputs.latents)
    assert len(latents) == 2 and latents.base_name == "toy"
    for sample in (latents[0], latents[1]):
        assert sample.video.shape == sample.pose.shape == (16, 5, 14, 26)
        assert sample.video.isfinite().all() and not torch.equal(sample.video, sample.pose)


@pytest.mark.proof_only("a minute and a half; on drawn clips it is in test_end_to_end", proof="main")
def test_both_stages_train_on_two_processes(run):
    assert "world: zero2, 2 processes" in run.said.stderr
    assert "Epoch 1/2 - Average Loss: " in run.said.stdout and "Epoch 2/2 - Average Loss: " in run.said.stdout
    before = read_adapter(run.folder / "face_lora_epoch_1.safetensors")[0]
    for name, tensor in before.items():
        is_mapper = name.startswith("face_mapper.") and "lora" not in name
        assert torch.equal(tensor, run.after_two_epochs[name]) == is_mapper, name
    (video,) = (run.folder / "validation_epoch_2").glob("*.mp4")
    assert read_video(video).frames.shape == (FRAMES, HEIGHT, WIDTH, 3)


@pytest.mark.proof_only("another minute; on drawn clips it is in test_end_to_end", proof="main")
def test_the_run_goes_on_from_its_checkpoint(run):
    resumed = train(*run.flags, "--num_epochs", "3", world="cpu_zero2")
    assert "resuming from" in resumed.stderr and "Epoch 3/3 - Average Loss: " in resumed.stdout
    records = [json.loads(line) for line in (run.folder / "metrics.jsonl").read_text().splitlines()]
    steps = [record["step"] for record in records if "train/loss" in record]
    assert steps == list(range(1, len(steps) + 1))
    assert [record["epoch/number"] for record in records if "epoch/number" in record] == [1, 2, 3]
    assert sorted(folder.name for folder in (run.folder / "checkpoints").iterdir())[-1] == f"step_{len(steps):08d}"


def render(inputs: RealInputs, adapter: Path, output: Path) -> Path:
    pose = ("--pose_video", inputs.poses / f"{LANDSCAPE}_pose.mp4", "--num_inference_steps", 2, "--seed", 5)
    words = ("--face_lora_path", adapter, "--face_embedding", inputs.identity, *pose, "--output", output)
    run_command([sys.executable, "sample.py", *map(str, words)])
    return output


@pytest.fixture(scope="module")
def rendered(inputs, run, tmp_path_factory) -> Path:
    return render(inputs, run.folder / "face_lora_final.safetensors", tmp_path_factory.mktemp("real") / "out.mp4")


@pytest.mark.proof_only("half a minute; on drawn poses it is in test_end_to_end", proof="main")
def test_both_adapter_files_render_the_same_real_pose(inputs, run, rendered, tmp_path):
    other = render(inputs, run.folder / "face_lora_final.pth", tmp_path / "pth.mp4")
    assert other.read_bytes() == rendered.read_bytes()


@pytest.mark.proof_only("trains for a minute and a half", proof="main")
def test_the_adapter_renders_a_real_pose_at_its_size_and_length(rendered):
    video = read_video(rendered)
    assert video.frames.shape == (FRAMES, HEIGHT, WIDTH, 3) and video.fps == 16
