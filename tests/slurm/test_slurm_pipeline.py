"""The whole chain on three nodes: films to videos, and the same result as one machine has."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest
from cluster import wait_until
from drawn_films import add_aist_keypoints, add_film
from lab import IN_PROOF_ONLY, Lab
from launching import BIN, SMALL_ADAPTER, run_command

from faceid.files.writing import write_json
from faceid.models.adapter.adapter_file import read_adapter
from faceid.sampling.jobs.job_folder import JobFolder

pytestmark = [
    pytest.mark.slurm,
    pytest.mark.slow,
    pytest.mark.xdist_group("chain"),
    pytest.mark.promise(
        "the chain on 3 nodes, films to videos, a node lost while rendering, beside one machine",
        bar="adapter <= 1e-6, videos the same bytes",
        proof="slurm",
    ),
]

SEQUENCES = ("gHO_sBM_cAll_d01_mHO0_ch01", "gHO_sBM_cAll_d02_mHO1_ch02")
TRAINING = {"num_epochs": 3, "freeze_mapper_after_epochs": 2, "batch_size": 4, "warmup_steps": 0, "num_workers": 0}
TRAINING |= {"learning_rate": 1e-3, "validate_every": 0, "log_every_steps": 1, "tensorboard": False}


def experiment(lab: Lab) -> Path:
    """What a user writes: films, keypoints, photos, and a file of flags for each stage."""
    folder = lab.folder / "my experiment"
    films, keypoints = lab.folder / "films", lab.folder / "keypoints"
    for number, sequence in enumerate(SEQUENCES):
        joints = add_film(films, sequence.replace("cAll", "c01"), seed=number + 1, num_frames=150)
        add_aist_keypoints(keypoints, sequence, joints)
    photos = str(lab.inputs.dataset / "photos" / "target")
    size = {"num_frames": 9, "height": 64, "width": 64}
    words = [word.removeprefix("--") for word in SMALL_ADAPTER]
    adapter = {name: int(v) if v.isdigit() else v for name, v in zip(words[::2], words[1::2], strict=True)}
    files = {
        "split_clips": {
            "videos_dir": str(films),
            "keypoints_dir": str(keypoints),
            "crop": "portrait",
            "stride_s": 0.6,
            **size,
        },
        "render_poses": {},
        "make_shards": {**size, "clips_per_shard": 2, "model_path": "toy"},
        "encode_latents": {"model_path": "toy"},
        "train": {**adapter, **TRAINING, "face_images_dir": photos},
        "sample": {
            "face_images_dir": photos,
            "pose_videos_dir": str(lab.inputs.dataset / "poses"),
            # Long enough for a node to be lost in the middle of it.
            "num_inference_steps": 12,
            "encoder_path": "toy",
        },
    }
    for name, flags in files.items():
        write_json(folder / f"{name}.yaml", flags)  # JSON is YAML
    return folder


def rendering(rendered: Path) -> dict[str, str]:
    """Videos that nodes are in the middle of, by node."""
    if not (rendered / ".jobs" / "claims").is_dir():
        return {}
    claims = JobFolder(rendered).claims()
    held = {path.name: claims.holder(path.name) for path in claims.folder.glob("[!.]*")}
    return {holder.worker.split("-")[0]: name for name, holder in held.items() if holder is not None}


def spared(lab: Lab, job: str) -> set[str]:
    """Nodes of the cluster that do not run the job's batch script."""
    return {"n1", "n2", "n3"} - {lab.cluster.show(job).get("BatchHost", "")}


def digests(folder: Path) -> dict[str, str]:
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in sorted(folder.glob("*.mp4"))}


@IN_PROOF_ONLY
def test_the_chain_over_three_nodes_gives_what_one_machine_gives(lab, record_property):
    given, out = experiment(lab), lab.folder / "it's out"
    said = lab.type("pipeline.sh", str(given), str(out))
    jobs = [line.split()[2] for line in said.splitlines()]
    assert len(jobs) == 4, said
    # A node is lost in the middle of a video: who is left does it. Not the node that has the batch script, whose loss
    # is the job's, which then is requeued.
    wait_until(
        lambda: rendering(out / "rendered").keys() & spared(lab, jobs[3]) or "CANCELLED" in lab.cluster.state(jobs[3]),
        400,
        lambda: "\n".join(lab.log(job)[-3000:] for job in jobs),
    )
    held = rendering(out / "rendered")
    lost = min(held.keys() & spared(lab, jobs[3]))
    lab.cluster.cut_power(lost)
    assert JobFolder(out / "rendered").done(held[lost]) is None
    # Its claim is taken for dead after two minutes without a sign.
    for job in jobs:
        lab.wait(job, timeout_s=400)

    # The same on one machine: four processes, and one that renders.
    config = ["--config", str(given / "train.yaml"), "--latents", str(out / "latents"), "--shards", str(out / "shards")]
    launcher = [str(BIN / "accelerate"), "launch", "--config_file", "launch/accelerate/cpu_zero2.yaml"]
    launcher += ["--num_processes", "4", "--main_process_port", "0", "train.py"]
    run_command([*launcher, *config, "--output_dir", str(lab.folder / "alone")])
    mine = read_adapter(out / "run" / "face_lora_final.safetensors")[0]
    theirs = read_adapter(lab.folder / "alone" / "face_lora_final.safetensors")[0]
    farthest = max(float((mine[name] - theirs[name]).abs().max()) for name in theirs)
    adapter = str(out / "run" / "face_lora_final.safetensors")
    words = ["--batch", "--config", str(given / "sample.yaml"), "--face_lora_path", adapter]
    run_command([str(BIN / "python"), "sample.py", *words, "--output_dir", str(lab.folder / "rendered alone")])
    videos, alone = digests(out / "rendered"), digests(lab.folder / "rendered alone")
    same = sum(videos.get(name) == digest for name, digest in alone.items())
    record_property(
        "measured",
        f"adapter of 2 nodes x 2 tasks from that of 4 processes: {farthest:.1e} at most; "
        f"{same} of {len(alone)} videos of 3 nodes, one of which lost power in the middle of a video, have the bytes "
        "of one process's",
    )
    assert mine.keys() == theirs.keys() and farthest <= 1e-6
    assert videos == alone and len(alone) > 1
