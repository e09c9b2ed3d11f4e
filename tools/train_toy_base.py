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
from toy_factory.work_folder import PARTS

CURVES = {"epoch_losses": "epoch/average_loss", "swap_gaps_heldout_dancers": "validation/swap_gap_heldout_dancers"}
FINAL = "face_lora_final.safetensors"
# Flags of the run after configs/toy_stage1.yaml, from its adapter: half the learning rate, with its own warm-up.
SECOND_RUN = ["--num_epochs", "20", "--learning_rate", "1e-3"]
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


def build_adapter(work: Path) -> dict[str, Any]:
    """Make the first adapter with the product's own commands: stage 1 on the training world's dancers."""
    identity = work / "adapter_identity"
    # Training needs a target. Without photos among the samples, nobody in particular is learnt.
    _run(
        [
            "tools/prepare_face_embeddings.py",
            "--face_images_dir",
            str(work / "world/photos/target"),
            "--output_dir",
            str(identity),
            "--identity_name",
            "nobody",
            "--encoder_path",
            "toy",
            "--allow_few",
        ]
    )
    launch = "-m accelerate.commands.launch --config_file launch/accelerate/cpu.yaml --main_process_port 0".split()
    flags = ["--face_embedding", str(identity), "--latents", str(work / "latents"), "--shards", str(work / "shards")]
    first, second = work / "adapter_run", work / "adapter_run_2"
    train = [*launch, "train.py", "--config", "configs/toy_stage1.yaml", *flags]
    _run([*train, "--output_dir", str(first)])
    _run([*train, "--output_dir", str(second), *SECOND_RUN, "--init_adapter", str(first / FINAL)])
    from faceid.files.outputs import staged_folder
    from toy_factory.work_folder import PART

    with staged_folder(work / "adapter", PART, key="work_dir") as staged:
        shutil.copyfile(second / FINAL, staged / "face_lora_toy.safetensors")
    return {"runs": [describe_adapter(run) for run in (first, second)]}


def describe_adapter(run: Path) -> dict[str, Any]:
    """The record's entry for a stage-1 run: its command, and its curves."""
    command = read_json(run / "provenance.json")["command"]
    return {"flags": command, **{name: _curve(run, key) for name, key in CURVES.items()}}


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
        build_base.build_stage(work, name, {**build_base.STAGES, "adapter": build_adapter})
    if settings.publish:
        size = work_folder.publish(work, weights, record_file)
        print(f"{weights}: {size / 1e6:.1f} MB; record in {record_file}")
    return 0


if __name__ == "__main__":
    run_entry_point(main)
