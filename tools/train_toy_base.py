"""Make the embedded toy world's weights from nothing but drawings: VAE, base, face encoder, judges, first adapter.

This takes hours on two CPU cores. Every stage is recorded in --work_dir, and skipped when its record is there. Run it
again to continue. A stage that needs the base under its name `toy` (adapter) takes the published one. So publish first.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from dataclasses import field
from pathlib import Path
from typing import Any

from pydantic.dataclasses import dataclass

from faceid.config import parse_sections
from faceid.errors import ConfigError, run_entry_point
from faceid.files.documents import read_json
from faceid.logs import set_up_logging
from faceid.toy.worlds import TRAINING_WORLD
from toy_factory.work_folder import PARTS

CURVES = {"epoch_losses": "epoch/average_loss", "swap_gaps_heldout_dancers": "validation/swap_gap_heldout_dancers"}
FINAL = "face_lora_final.safetensors"
# Who dances in stage 1, and how.
DANCERS = "--num_people 800 --clips_per_person 3 --photos_per_person 0"
NOBODY = "--num_people 1 --clips_per_person 1"
REPOSITORY = Path(__file__).resolve().parents[1]


@dataclass(frozen=True)
class ToyBaseSettings:
    """Where to work and what to do."""

    work_dir: Path
    """Folder for intermediate results and records, some hundred MB. A new one, or one that this command made. A folder
    in memory (/dev/shm) is much faster."""
    stages: list[str] = field(default_factory=lambda: list(PARTS))
    """Stages to run, in this order. data needs vae; transformer needs text and data; adapter the published base."""
    publish: bool = False
    """Then put the weights into the package (faceid/toy/weights) in place of those there, and the records into
    benchmarks/records. All stages must have ended. The earlier adapter stays until its own stage has."""


def build_dancers(work: Path) -> dict[str, Any]:
    """Draw who the stage-1 adapters learn from, with the product's own commands: 2,400 clips as shards and latents."""
    world, shards = work / "world", work / "shards"
    draw = ["tools/make_toy_dataset.py", *DANCERS.split(), "--with_target", "false", "--seed", str(TRAINING_WORLD)]
    _run([*draw, "--output_dir", str(world)])
    # Training needs a target. Without photos among the samples, nobody in particular is learnt.
    _run(["tools/make_toy_dataset.py", *NOBODY.split(), "--output_dir", str(work / "nobody")])
    size = ["--num_frames", "9", "--height", "96", "--width", "96"]
    films = ["--dance_videos_dir", str(world / "videos"), "--pose_videos_dir", str(world / "poses")]
    _run(["tools/make_shards.py", *films, *size, "--output_dir", str(shards)])
    latents = ["--shards", str(shards), "--model_path", "toy", "--output_dir", str(work / "latents")]
    _run(["tools/encode_latents.py", *latents])
    return {"flags": DANCERS}


def build_adapter(work: Path) -> dict[str, Any]:
    """Make the first adapter of the weak encoder with the product's own commands: stage 1 on those dancers."""
    return _stage1(work, "toy", "adapter")


def build_strong_adapter(work: Path) -> dict[str, Any]:
    """The same of the strong encoder."""
    return _stage1(work, "toy_strong", "strong_adapter")


def _stage1(work: Path, encoder: str, part: str) -> dict[str, Any]:
    from faceid.files.outputs import staged_folder
    from faceid.toy.shipped import ADAPTER_FILE
    from toy_factory.work_folder import PART

    identity, run = work / f"{part}_identity", work / f"{part}_run"
    photos = ["--face_images_dir", str(work / "nobody/photos/target"), "--encoder_path", encoder, "--allow_few"]
    person = [*photos, "--identity_name", "nobody", "--output_dir", str(identity)]
    _run(["tools/prepare_face_embeddings.py", *person])
    launch = ["-m", "accelerate.commands.launch", "--config_file", "launch/accelerate/cpu.yaml"]
    # Both adapters are made at once, each on a core of its own.
    launch += ["--num_processes", "1", "--main_process_port", "0"]
    flags = ["--face_embedding", str(identity), "--encoder_path", encoder]
    flags += ["--latents", str(work / "latents"), "--shards", str(work / "shards")]
    _run([*launch, "train.py", "--config", "configs/toy_stage1.yaml", *flags, "--output_dir", str(run)])
    with staged_folder(work / part, PART, key="work_dir") as staged:
        shutil.copyfile(run / FINAL, staged / ADAPTER_FILE)
    return describe_adapter(run)


def describe_adapter(run: Path) -> dict[str, Any]:
    """The record's entry for a stage-1 run: its flags, and its curves."""
    command = read_json(run / "provenance.json")["command"]
    return {"flags": command, **{name: _curve(run, key) for name, key in CURVES.items()}}


STAGES = {"dancers": build_dancers, "adapter": build_adapter, "strong_adapter": build_strong_adapter}


def _run(command: list[str]) -> None:
    subprocess.run([sys.executable, *command], cwd=REPOSITORY, check=True)


def _curve(run: Path, key: str) -> list[float]:
    from faceid.training.measuring.metrics import read_metrics

    return [round(row[key], 4) for row in read_metrics(run / "metrics.jsonl") if key in row]


def main(argv: list[str] | None = None) -> int:
    """Parse, run the stages, publish."""
    words = sys.argv[1:] if argv is None else argv
    (settings,) = parse_sections("tools/train_toy_base.py", __doc__ or "", [ToyBaseSettings], words)
    for name in settings.stages:
        if name not in PARTS:
            raise ConfigError(f"stages: {name} is none of {', '.join(PARTS)}")
    set_up_logging()
    # Heavy imports come only once the command line is known to be good.
    from faceid.files.outputs import claim_folder
    from faceid.toy import shipped
    from toy_factory import build_base, work_folder

    work, weights, record_file = settings.work_dir, shipped.WEIGHTS, work_folder.RECORD
    if settings.publish:
        work_folder.refuse_publishing(weights, record_file)
    claim_folder(work, work_folder.WORK, [weights], key="work_dir")
    work_folder.refuse_work(work, settings.stages)
    for name in settings.stages:
        build_base.build_stage(work, name, {**build_base.STAGES, **STAGES})
    if settings.publish:
        size = work_folder.publish(work, weights, record_file)
        print(f"{weights}: {size / 1e6:.1f} MB; record in {record_file}")
    return 0


if __name__ == "__main__":
    run_entry_point(main)
