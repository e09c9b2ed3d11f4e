"""The main job on the embedded toy, as a user types it: photos and clips to an adapter to rendered videos.

Every stage is a real process; training is two processes under real DeepSpeed ZeRO-2.
"""

import json
import sys
from dataclasses import dataclass
from pathlib import Path
from subprocess import CompletedProcess

import pytest
import torch
from launching import SMALL_ADAPTER, ToyInputs, run_command, train

from faceid.media.video import read_video
from faceid.models.adapter.adapter_file import read_adapter

pytestmark = [
    pytest.mark.slow,
    pytest.mark.starts_process,
    pytest.mark.promise(
        "end to end on the toy base, 2 ZeRO-2 processes", bar="under 180 s", proof="main", longest_s=180
    ),
]

EPOCHS = "--num_epochs 2 --freeze_mapper_after_epochs 1 --save_every 1 --validate_every 1 --validation_steps 1".split()
RUN = "--batch_size 2 --warmup_steps 0 --learning_rate 1e-3 --log_every_steps 1 --num_workers 0".split()
STEPS_PER_EPOCH = 4  # 4 clips and 4 photos, 2 at a time


@dataclass(frozen=True)
class Trained:
    """A run folder as two epochs left it, and what the resumed third added."""

    folder: Path
    flags: list[str]
    first: CompletedProcess
    first_metrics: list[dict]
    first_final: dict[str, torch.Tensor]
    resumed: CompletedProcess


@pytest.fixture(scope="module")
def trained(toy_inputs: ToyInputs, tmp_path_factory) -> Trained:
    """Two epochs over both stages, then the same command with one epoch more."""
    folder = tmp_path_factory.mktemp("trained") / "run"
    flags = [*SMALL_ADAPTER, *EPOCHS, *RUN, *toy_inputs.prepared_flags, "--output_dir", str(folder)]
    first = train(*flags, world="cpu_zero2", cold=True)
    first_metrics, first_final = metrics(folder), read_adapter(folder / "face_lora_final.safetensors")[0]
    # All else as the run folder's own config says: it reads back.
    words = ("--config", str(folder / "config.yaml"), "--num_epochs", "3")
    resumed = train(*words, world="cpu_zero2")
    return Trained(folder, flags, first, first_metrics, first_final, resumed)


def metrics(folder: Path) -> list[dict]:
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def tensors(file: Path) -> dict[str, torch.Tensor]:
    return read_adapter(file)[0]


def test_safetensors_and_pth_hold_equal_tensors_and_metadata(trained):
    safe, metadata = read_adapter(trained.folder / "face_lora_final.safetensors")
    pth, pth_metadata = read_adapter(trained.folder / "face_lora_final.pth")
    assert safe.keys() == pth.keys() and all(torch.equal(safe[name], pth[name]) for name in safe)
    assert metadata == pth_metadata
    assert (metadata.base_name, metadata.encoder_path, metadata.num_frames) == ("toy", "toy", 9)
    assert metadata.step == 3 * STEPS_PER_EPOCH


def test_stage_two_holds_the_mapper_to_the_bit_while_the_rest_learns(trained):
    before, after = tensors(trained.folder / "face_lora_epoch_1.safetensors"), trained.first_final
    mapper = {name for name in before if name.startswith("face_mapper.") and "lora" not in name}
    assert len(mapper) >= 4 and before.keys() == after.keys()
    for name in before:
        assert torch.equal(before[name], after[name]) == (name in mapper), name


def test_console_and_metrics_tell_the_same_losses(trained):
    lines = [line for line in trained.first.stdout.splitlines() if line.startswith("Epoch ")]
    epochs = [record for record in trained.first_metrics if "epoch/number" in record]
    assert [record["epoch/number"] for record in epochs] == [1, 2]
    steps = [record for record in trained.first_metrics if "train/loss" in record]
    assert [record["step"] for record in steps] == list(range(1, 2 * STEPS_PER_EPOCH + 1))
    for number, (line, epoch) in enumerate(zip(lines, epochs, strict=True)):
        own = steps[number * STEPS_PER_EPOCH : (number + 1) * STEPS_PER_EPOCH]
        assert epoch["epoch/average_loss"] == pytest.approx(sum(r["train/loss"] for r in own) / STEPS_PER_EPOCH)
        rate = own[-1]["optimizer/learning_rate"]
        expected = f"Epoch {number + 1}/2 - Average Loss: {epoch['epoch/average_loss']:.4f} - LR: {rate:.2e}"
        assert line == expected
    frozen = [record["optimizer/mapper_is_frozen"] for record in steps]
    assert frozen == [0.0] * STEPS_PER_EPOCH + [1.0] * STEPS_PER_EPOCH
    assert all(record["optimizer/gradient_norm"] > 0 and record["time/step_s"] > 0 for record in steps)


def test_tensorboard_shows_what_metrics_say_and_the_validation_picture(trained):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(trained.folder / "tensorboard"), size_guidance={"images": 0})
    events.Reload()
    records = metrics(trained.folder)
    for name in ("train/loss", "optimizer/learning_rate", "optimizer/gradient_norm", "memory/gib", "time/data_wait_s"):
        shown = {event.step: event.value for event in events.Scalars(name)}
        told = {record["step"]: record[name] for record in records if name in record}
        assert shown == pytest.approx(told, rel=1e-6), name
    (tag,) = events.Tags()["images"]
    pictures = events.Images(tag)
    assert tag.startswith("validation/") and [picture.step for picture in pictures] == [4, 8, 12]
    # Rows of pose, clip, base and render; five frames of 64 px each, and the reference photo.
    assert (pictures[0].width, pictures[0].height) == (6 * 64, 4 * 64)


def test_the_run_folder_says_what_made_it(trained):
    from faceid.config import parse_sections
    from faceid.training.recipe.recipe_settings import OptimizerSettings

    text = (trained.folder / "config.yaml").read_text()
    assert "num_epochs: 3" in text and "lora_rank: 4" in text and "model_path: toy" in text
    words = [line.split(": ") for line in text.splitlines() if line.startswith(("learning_rate", "seed", "num_epochs"))]
    (settings,) = parse_sections("x", "", [OptimizerSettings], [f"--{key}={value}" for key, value in words])
    assert (settings.learning_rate, settings.seed, settings.num_epochs) == (1e-3, 42, 3)
    provenance = json.loads((trained.folder / "provenance.json").read_text())
    assert provenance["command"][0] == "train.py" and provenance["versions"]["torch"]
    assert provenance["inputs"]["recipe"]["lora_rank"] == 4
    assert sorted(file.name for file in (trained.folder / "logs").iterdir()) == ["rank0000.log", "rank0001.log"]
    assert not list(trained.folder.rglob("*.tmp*")) and not list((trained.folder / "cache").glob("ready-*"))


def test_validation_videos_have_the_clips_size_and_length(trained):
    for epoch in (1, 2, 3):
        (video,) = (trained.folder / f"validation_epoch_{epoch}").glob("*.mp4")
        assert read_video(video).frames.shape == (9, 64, 64, 3)


def test_the_same_command_goes_on_and_appends(trained):
    assert "resuming from" in trained.resumed.stderr and "8 steps done" in trained.resumed.stderr
    assert "Epoch 3/3 - Average Loss: " in trained.resumed.stdout and "Epoch 1/" not in trained.resumed.stdout
    records = metrics(trained.folder)
    assert records[: len(trained.first_metrics)] == trained.first_metrics
    assert [record["step"] for record in records if "train/loss" in record] == list(range(1, 13))
    checkpoints = {folder.name for folder in (trained.folder / "checkpoints").iterdir()}
    # The best one, and the two newest others.
    assert checkpoints == {"step_00000004", "step_00000008", "step_00000012"}
    assert len(list((trained.folder / "checkpoints").glob("*/PINNED"))) == 1
    final = tensors(trained.folder / "face_lora_final.safetensors")
    assert any(not torch.equal(final[name], trained.first_final[name]) for name in final)


def test_raw_folders_are_prepared_once_and_found_again(toy_inputs, tmp_path):
    run = tmp_path / "run"
    flags = [*SMALL_ADAPTER, *RUN, *toy_inputs.raw_flags, "--output_dir", str(run), "--validate_every", "0"]
    flags += ["--num_epochs", "1", "--save_every", "1"]
    first = train(*flags, world="cpu_zero2")
    for line in (
        "identity 'target' from 4 of 4 photos",
        "clips: 4 clips in 1 shards",
        "entries of 4 clips in 1 shards",
    ):
        assert line in first.stderr
    made = {file: file.stat().st_mtime_ns for file in (run / "cache").rglob("*") if file.is_file() and is_data(file)}
    assert {"identity", "clips", "latents", "faces", "photos"} == {f.relative_to(run / "cache").parts[0] for f in made}
    # A finished run, started again by hand on one process: nothing is made, nothing is trained, all stays.
    final = tensors(run / "face_lora_final.safetensors")
    second = train(*flags)
    assert "entries of" not in second.stderr and "identity 'target' from" not in second.stderr
    assert {file: file.stat().st_mtime_ns for file in made} == made
    assert "4 steps done" in second.stderr and "Epoch 1/" not in second.stdout
    again = tensors(run / "face_lora_final.safetensors")
    assert again.keys() == final.keys() and all(torch.equal(again[name], final[name]) for name in final)


def is_data(file: Path) -> bool:
    return file.suffix in {".tar", ".safetensors", ".pt"}


def sample(*flags: object, cold: bool = False) -> CompletedProcess:
    words = "--num_inference_steps 2 --seed 7 --prompt".split()
    return run_command([sys.executable, "sample.py", *map(str, flags), *words, "a person dancing"], cold=cold)


def test_both_adapter_files_render_the_same_videos_without_naming_the_base(toy_inputs, trained, tmp_path):
    poses = sorted((toy_inputs.dataset / "poses").glob("*.mp4"))
    pth, safe = (("--face_lora_path", trained.folder / f"face_lora_final{end}") for end in (".pth", ".safetensors"))
    photos = ("--face_images_dir", toy_inputs.dataset / "photos" / "target")
    sample(*pth, *photos, "--pose_video", poses[0], "--output", tmp_path / "one.mp4", cold=True)
    batch = ("--batch", "--pose_videos_dir", toy_inputs.dataset / "poses", "--output_dir", tmp_path / "batch")
    sample(*safe, "--face_embedding", toy_inputs.identity, *batch)
    assert (tmp_path / "batch" / f"{poses[0].stem}.mp4").read_bytes() == (tmp_path / "one.mp4").read_bytes()
    jobs = [json.loads(line) for line in (tmp_path / "batch" / "jobs.jsonl").read_text().splitlines()]
    assert [job["pose"] for job in jobs] == [pose.name for pose in poses] and not any(job["error"] for job in jobs)
    for job in jobs:
        video = read_video(tmp_path / "batch" / job["output"])
        assert video.frames.shape == (9, 64, 64, 3) and video.fps == 16
