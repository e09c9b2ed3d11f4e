"""VACE-1.3B at its true sizes, with random weights, from files named as the Wan repositories name them: it loads into
little more memory than it has weights, and trains and samples by the commands of the README. On the CPU, in bf16."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys

import pytest
from launching import REPOSITORY, losses
from measured_memory import peak_bytes_of
from true_base import write_true_base

from faceid.models.adapter.adapter_file import read_adapter

pytestmark = [
    pytest.mark.slow,
    pytest.mark.xdist_group("true size"),  # one folder of 5 GB for all of them
    pytest.mark.proof_only("writes 5 GB and takes minutes", proof="model"),
]
BF16_ON_CPU = """
compute_environment: LOCAL_MACHINE
distributed_type: 'NO'
use_cpu: true
num_machines: 1
num_processes: 1
mixed_precision: bf16
"""
# One transformer token is 16 x 16 pixels of 4 frames: 8 tokens, 1 frame and 4 more.
SMALLEST = "--num_frames 5 --height 32 --width 32".split()
LOADS = """
import sys, torch
from pathlib import Path
from faceid.models.base.wan import load_wan

def peak():
    lines = dict(line.split(":", 1) for line in open("/proc/self/status"))
    return int(lines["VmHWM"].split()[0]) * 1024

before = peak()
transformer = load_wan(Path(sys.argv[1]), ("transformer",), dtype=getattr(torch, sys.argv[2])).transformer
# Every page of a mapped file is read by this.
assert all(bool(torch.isfinite(parameter.sum())) for parameter in transformer.parameters())
print(sum(parameter.nbytes for parameter in transformer.parameters()), peak() - before)
"""


@pytest.fixture(scope="module")
def true_base(tmp_path_factory):
    folder = tmp_path_factory.mktemp("models") / "Wan-AI" / "Wan2.1-VACE-1.3B"
    write_true_base(folder)
    yield folder
    shutil.rmtree(folder)  # 5 GB


def peak_of(command: list[str]) -> float:
    """Run it; the most memory it took, in GB."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return peak_bytes_of(command, environment, REPOSITORY) / 1e9


@pytest.mark.starts_process
@pytest.mark.promise("loading VACE-1.3B at its true size", bar="<= 1.15 times the weights' bytes", proof="model")
@pytest.mark.parametrize("dtype", ["bfloat16", "float32"])
def test_loading_takes_little_more_than_the_weights(true_base, dtype, record_property):
    command = [sys.executable, "-c", LOADS, str(true_base), dtype]
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=True)
    weights, peak = map(int, done.stdout.split())
    record_property(
        "measured", f"as {dtype}: {weights / 1e9:.2f} GB of weights, {peak / weights:.2f} times that at most"
    )
    assert weights > 4.3e9 and peak <= 1.15 * weights


@pytest.mark.starts_process
@pytest.mark.promise(
    "one training step and one sampling step at the true 1.3B configuration, on the CPU in bf16",
    bar="run by train.py and sample.py; memory recorded",
    proof="model",
)
def test_a_step_of_training_and_of_sampling(true_base, toy_inputs, tmp_path, record_property):
    (tmp_path / "world.yaml").write_text(BF16_ON_CPU)
    clip = min((toy_inputs.dataset / "videos").glob("*.mp4"))
    pose = toy_inputs.dataset / "poses" / f"{clip.stem}_pose.mp4"
    for folder, file in (("videos", clip), ("poses", pose)):
        (tmp_path / folder).mkdir()
        shutil.copy(file, tmp_path / folder)
    run = tmp_path / "run"
    trained = peak_of(
        [
            *(sys.executable, "train.py", "--config", "configs/wan_vace_1_3b.yaml", *SMALLEST),
            *(
                "--accelerate_config",
                str(tmp_path / "world.yaml"),
                "--model_path",
                str(true_base),
                "--compile",
                "false",
            ),
            *("--face_embedding", str(toy_inputs.identity), "--encoder_path", "toy", "--output_dir", str(run)),
            *("--dance_videos_dir", str(tmp_path / "videos"), "--pose_videos_dir", str(tmp_path / "poses")),
            *"--num_epochs 1 --batch_size 1 --heldout_clips 0 --validate_every 0 --num_workers 0".split(),
            *"--log_every_steps 1 --tensorboard false".split(),
        ]
    )
    assert len(losses(run)) == 1
    tensors, metadata = read_adapter(run / "face_lora_final.safetensors")
    assert metadata.base_name == str(true_base) and metadata.dataset_sha256
    sampled = peak_of(
        [
            *(
                sys.executable,
                "sample.py",
                "--model_path",
                str(true_base),
                "--face_embedding",
                str(toy_inputs.identity),
            ),
            *("--face_lora_path", str(run / "face_lora_final.safetensors"), "--pose_video", str(pose)),
            *("--output", str(tmp_path / "out.mp4"), "--dtype", "bfloat16", "--num_inference_steps", "1"),
        ]
    )
    assert (tmp_path / "out.mp4").stat().st_size > 0
    parameters = sum(tensor.numel() for tensor in tensors.values()) / 1e6
    record_property(
        "measured",
        f"a training step of {parameters:.0f} M adapter parameters, {trained:.1f} GB of memory at most, preparation "
        "included; "
        f"a sampling step, {sampled:.1f} GB",
    )
