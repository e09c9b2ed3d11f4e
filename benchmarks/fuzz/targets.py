"""Each file format that the product reads, for the fuzz: a whole sample of it, its mutations, and how it is read.

A sample is a folder as {file name: bytes}. Checksums that a file carries are made to fit again most of the time, as a
careful attacker would; readers go as far into what they read as the product does before it loads a model.
"""

from __future__ import annotations

import copy
import functools
import io
import json
import os
import pickle
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import torch

from benchmarks import REPOSITORY
from benchmarks.fuzz import mutations as change
from benchmarks.fuzz import shards, values
from benchmarks.fuzz.shards import Sample
from faceid.config import parse_sections, sections_as_yaml
from faceid.data.body.head_boxes import head_boxes
from faceid.data.body.keypoints import read_keypoints
from faceid.data.body.sidecars import read_heads
from faceid.data.dancers import dancers_beside
from faceid.evaluation.videos.controls import joints_of_file
from faceid.evaluation.videos.heads import known_heads
from faceid.evaluation.videos.renders import read_arm
from faceid.faces.identities.identity import load_identity
from faceid.models.adapter.adapter_file import AdapterMetadata, install_tensors, read_adapter, save_adapter
from faceid.models.adapter_settings import AdapterSettings
from faceid.models.lora.lora_formats import LoraLayer, check_fits, read_lora
from faceid.models.lora.lora_writing import LoraFormat, write_lora
from faceid.sampling.jobs.job_list import read_job_list
from faceid.sampling.like import words_like
from faceid.sampling.one_video.video_settings import ContentSettings
from faceid.sampling.render_sections import SECTIONS as RENDER_SECTIONS
from faceid.sampling.render_sections import RenderSections
from faceid.training.checkpoints import checkpoint
from faceid.training.checks.run_sections import SECTIONS
from faceid.training.measuring.metrics import cut_lines_after
from faceid.training.world.attempts import Attempt, judge_attempt
from faceid.training.world.launched import read_accelerate_config, read_launch

_ADAPTER = AdapterSettings(8, 8, lora_rank=2, num_tokens=2, mapper_dropout=0.0)


@dataclass(frozen=True)
class Target:
    """One format. make: a whole sample, in an empty folder if one is needed. mutate: some of its files anew.

    read: what the product does with the folder; it may write to the second one.
    """

    make: Callable[[Path], Sample]
    mutate: Callable[[Random, Sample], Sample]
    read: Callable[[Path, Path], Any]


def one_file(
    name: str, content: Callable[[], bytes], mutate: Callable[[Random, bytes], bytes], read: Callable[..., Any]
) -> Target:
    """A format of one file that stands alone."""
    return Target(
        lambda folder: {name: content()},
        lambda random, sample: {name: mutate(random, sample[name])},
        lambda folder, out: read(folder / name),
    )


def any_file(mutate: Callable[[Random, bytes], bytes], ending: str = "") -> Callable[[Random, Sample], Sample]:
    """Changes one of a sample's files; of those with that ending."""

    def change_one(random: Random, sample: Sample) -> Sample:
        name = random.choice([name for name in sorted(sample) if name.endswith(ending)])
        return {name: mutate(random, sample[name])}

    return change_one


# Adapters and LoRA files.
_change_safetensors = functools.partial(change.change_safetensors, inner=change.change_json)


@functools.cache
def _transformer() -> Any:
    from faceid.models.base.wan import load_wan
    from faceid.toy.shipped import resolve_model_path

    whole = load_wan(resolve_model_path("toy"), ("transformer",)).transformer
    small = {**whole.config, "num_layers": 1, "vace_layers": [0], "num_attention_heads": 2, "ffn_dim": 8}
    return type(whole).from_config(small)


def _adapter(name: str, folder: Path) -> Sample:
    from faceid.models.adapter.face_adapter import adapter_tensors, install_adapter

    adapter = install_adapter(copy.deepcopy(_transformer()), _ADAPTER, 4)
    metadata = AdapterMetadata(
        "toy", "f" * 64, 4, "clip", "e" * 64, _ADAPTER, height=32, width=48, num_frames=5, fps=16.0
    )
    save_adapter(folder / name, adapter_tensors(adapter), metadata)
    return {name: (folder / name).read_bytes()}


def _read_adapter(folder: Path, out: Path) -> None:
    path = next(path for path in folder.iterdir() if path.suffix in (".safetensors", ".pth"))
    tensors, metadata = read_adapter(path)
    install_tensors(copy.deepcopy(_transformer()), tensors, metadata, str(path))


def _change_pth(random: Random, sample: Sample) -> Sample:
    name = "face_lora_a.pth"
    tree = torch.load(io.BytesIO(sample[name]), weights_only=True)
    # Most of the tree are tensors; what they are for is what is read first.
    if random.random() < 0.4:
        tree["metadata"] = change.change_tree(random, tree["metadata"], values.PICKLED_VALUES)
        return {name: change.torch_bytes(tree)}
    return {name: change.change_torch(random, tree)}


def _lora(folder: Path) -> Sample:
    layers = ("blocks.0.attn1.to_q", "blocks.0.attn2.to_out.0", "vace_blocks.0.attn1.to_k")
    kinds: tuple[LoraFormat, ...] = ("diffusers", "comfyui", "diffsynth", "kohya")
    for kind in kinds:
        # One alpha for all is what a header of diffusers' can say.
        alphas = [2.0, 2.0, 2.0] if kind == "diffusers" else [2.0, 3.0, 4.0]
        lora = {
            layer: LoraLayer(torch.ones(2, 8), torch.ones(8, 2), alpha)
            for layer, alpha in zip(layers, alphas, strict=True)
        }
        write_lora(folder / f"{kind}.safetensors", lora, kind)
    return {f"{kind}.safetensors": (folder / f"{kind}.safetensors").read_bytes() for kind in kinds}


def _read_loras(folder: Path, out: Path) -> None:
    for path in sorted(folder.iterdir()):
        lora = read_lora(path)
        [layer.delta() for layer in lora.values() if layer.up.shape[0] * layer.down.shape[1] < 10**6]
        check_fits(lora, AdapterSettings(lora_rank=8, lora_branch="both"), str(path))


# Sidecars, job lists, configs.
def _sidecar() -> bytes:
    words = "--face_embedding /data/anna --pose_video /data/a.mp4 --output a.mp4 --face_lora_path toy".split()
    flags = RenderSections(*parse_sections("sample.py", "", RENDER_SECTIONS, words)).flags
    left = {"output", "batch", "pose_videos_dir", "output_dir", "like", "device", "context_parallel", "offload"}
    left |= {"cache_dir", "cache_gb"}
    kept = {name: value for name, value in flags.items() if name not in left}
    inputs = {"base": "b" * 64, "adapter": "", "identity": "i" * 64, "pose": "p" * 64, "references": []}
    content = {"version": 1, "video": {"name": "a.mp4", "sha256": "v" * 64}, "inputs": inputs, "device": "cpu"}
    return json.dumps({**content, "settings": kept | {"seed": 3}}, indent=1, default=str).encode()


def _read_sidecar(path: Path) -> None:
    words = words_like(["--like", str(path), "--output", "b.mp4"])
    parse_sections("sample.py", "", RENDER_SECTIONS, words, RenderSections)


def _jobs_jsonl() -> bytes:
    rows = [{"pose": "a.mp4", "seed": [1, 2], "prompt": "red hat"}, {"pose": "b.mp4", "output": "x/b.mp4"}]
    return "".join(json.dumps(row) + "\n" for row in rows).encode()


def _jobs_csv() -> bytes:
    return b'pose,identity,seed,prompt\na.mp4,anna,1,"a, b"\nb.mp4,"[""anna"", ""bob""]",2,hat\nc.mp4,,,\n'


def _read_jobs(path: Path) -> None:
    read_job_list(path, "p", ContentSettings(), None)


def _dancers() -> bytes:
    return b"clip,dancer\na.mp4,anna\nb,bob\nc.mp4,bob\n"


def _config() -> bytes:
    least = ["--face_embedding", "e", "--dance_videos_dir", "v", "--pose_videos_dir", "p", "--model_path", "toy"]
    return sections_as_yaml(parse_sections("train.py", "", SECTIONS, [*least, "--output_dir", "o"])).encode()


def _read_config(path: Path) -> None:
    sections = parse_sections("train.py", "", SECTIONS, ["--config", str(path), "--output_dir", "o"])
    sections_as_yaml(sections)


# Keypoints and heads.
def _aist() -> dict[str, Any]:
    points = np.random.default_rng(0).uniform(100, 900, (2, 5, 17, 3))
    return {"keypoints2d": points, "det_scores": np.ones((2, 5)), "timestamps": np.arange(5)}


def _change_aist(random: Random, data: bytes) -> bytes:
    return change.change_pickle(random, _aist(), values.PICKLED_VALUES + values.array_values())


def _read_film(path: Path, camera: int | None = 0) -> None:
    from fractions import Fraction

    keypoints = read_keypoints(path, camera)
    fitted = keypoints.of_film(5, Fraction(60)).in_pixels_of((720, 1280))
    head_boxes(fitted.body, (720, 1280))


def _coco(folder: Path) -> Sample:
    points = np.random.default_rng(0).uniform(100, 900, (17, 3)).round(1)
    points[:, 2] = 0.9
    flat = points.ravel().tolist()
    images = [{"id": n, "file_name": f"{n:06d}.jpg", "height": 1080, "width": 1920, "frame_id": n} for n in range(5)]
    annotations = [{"image_id": n, "category_id": 1, "keypoints": flat} for n in range(5)]
    instances = [{"keypoints": points[:, :2].tolist(), "keypoint_scores": points[:, 2].tolist()}]
    contents = {
        "ours": {**shards.joints(), "size_hw": [1080, 1920]},
        "mmpose": {"instance_info": [{"frame_id": n + 1, "instances": instances} for n in range(5)]},
        "annotations": {"images": images, "annotations": annotations},
        "results": [{**each, "image_id": f"{each['image_id']:06d}.jpg", "score": 0.9} for each in annotations],
    }
    return {f"{name}.json": json.dumps(content).encode() for name, content in contents.items()}


def _read_any_film(folder: Path, out: Path) -> None:
    for path in sorted(folder.iterdir()):
        _read_film(path)


def _heads(folder: Path) -> Sample:
    heads = {"boxes": shards.BOXES, "size_hw": list(shards.SIZE_HW)}
    return {"a.heads.json": json.dumps(heads).encode(), "a.joints.json": json.dumps(shards.joints()).encode()}


def _read_heads(folder: Path, out: Path) -> None:
    read_heads(folder / "a.heads.json", shards.SIZE_HW)
    known_heads(folder, "a", range(shards.FRAMES), shards.SIZE_HW)
    joints_of_file(folder / "a.joints.json", range(shards.FRAMES), shards.SIZE_HW)


# Runs.
def _checkpoint(folder: Path) -> Sample:
    group = {"mapper.weight": torch.ones(2, 3), "lora.weight": torch.ones(4)}
    names = (checkpoint.TRAINABLES, *checkpoint.MOMENTS)
    state = {"step": 3, "origin": {"base": "f" * 64, "seed": 1}, "best": {"epoch": 1, "score": 0.5}, "seen": [1, 2]}
    made = checkpoint.save(folder / "checkpoints", dict.fromkeys(names, group), state, keep=2)
    return {f"checkpoints/{made.name}/{path.name}": path.read_bytes() for path in made.iterdir()}


def _change_checkpoint(random: Random, sample: Sample) -> Sample:
    place = next(iter(sample)).rpartition("/")[0]
    name = random.choice(["MANIFEST.json", "state.json", "state.json", *(Path(name).name for name in sorted(sample))])
    mutate = change.change_json if name.endswith(".json") else change.change_safetensors
    data = mutate(random, sample[f"{place}/{name}"])
    changed = {f"{place}/{name}": data}
    if name != "MANIFEST.json" and random.random() < 0.9:
        manifest = json.loads(sample[f"{place}/MANIFEST.json"])
        manifest["files"][name] = {"size": len(data), "sha256": shards.sha256(data)}
        changed[f"{place}/MANIFEST.json"] = json.dumps(manifest).encode()
    return changed


def _read_checkpoint(folder: Path, out: Path) -> None:
    found = checkpoint.find_newest(folder / "checkpoints")
    if found is not None:
        checkpoint.verify(found)
        checkpoint.read_tensors(found)


def _run_logs(folder: Path) -> Sample:
    attempts = [
        {"attempt": "7.0", "event": "started", "step": 0, "time_s": 1.5},
        {"attempt": "7.0", "event": "stopped", "step": 4, "time_s": 2.5, "by": "SIGUSR1"},
        {"attempt": "7.0", "event": "ended", "step": 4, "time_s": 3.5, "gained_steps": 0, "goes_on": True},
    ]
    metrics = [{"step": step, "train/loss": 0.5 / step, "time_s": step} for step in range(1, 6)]
    logs: dict[str, list[Any]] = {"attempts.jsonl": attempts, "metrics.jsonl": metrics}
    return {name: "".join(json.dumps(line) + "\n" for line in lines).encode() for name, lines in logs.items()}


def _read_logs(folder: Path, out: Path) -> None:
    # Both write where they read: a copy, as a run's own folder is what they are given.
    for path in folder.iterdir():
        (out / path.name).write_bytes(path.read_bytes())
    judge_attempt(out, Attempt("7", 1), 1, 3)
    cut_lines_after(out / "metrics.jsonl", 3)


def _renders(folder: Path) -> Sample:
    rows = []
    for number in range(3):
        row = {"pose": "a_pose.mp4", "identity": "anna", "seed": number, "face_scale": 1.0, "output": f"{number}.mp4"}
        rows.append({**row, "sha256": shards.sha256(b"video"), "error": "", "status": "done"})
    lines = "".join(json.dumps(row) + "\n" for row in rows).encode()
    return {"jobs.jsonl": lines, **{f"{number}.mp4": b"video" for number in range(3)}}


def _accelerate() -> bytes:
    return (REPOSITORY / "launch" / "accelerate" / "zero2.yaml").read_bytes()


_VARIABLES = (
    *("RANK", "WORLD_SIZE", "LOCAL_RANK", "SLURM_PROCID", "SLURM_LOCALID", "SLURM_STEP_NUM_TASKS", "SLURM_STEP_ID"),
    *("SLURM_STEP_NUM_NODES", "SLURM_JOB_ID", "SLURM_RESTART_COUNT"),
)
_VALUES = (
    *("", " ", "0", "1", "3", "-1", "abc", "1.5"),
    *("0x1", "1_0", "9" * 50, "１", "²", "nan", "../..", "\x1b[31m", "é"),
)


def _change_environment(random: Random, sample: Sample) -> Sample:
    names = random.sample(_VARIABLES, random.randint(1, len(_VARIABLES)))
    return {"environment.json": json.dumps({name: random.choice(_VALUES) for name in names}).encode()}


def _read_environment(folder: Path, out: Path) -> None:
    from faceid.device import pick_device
    from faceid.sampling.jobs.place import place_among_workers

    said = json.loads((folder / "environment.json").read_text())
    for name in _VARIABLES:
        os.environ.pop(name, None)
    os.environ.update(said)
    place_among_workers()
    pick_device(None)
    read_launch(None, out, dict(os.environ))


TARGETS: dict[str, Target] = {
    "clip index": Target(shards.clips, shards.change_index, shards.read_clips),
    "clip shard": Target(shards.clips, shards.change_member, shards.read_clips),
    "latent index": Target(shards.latent_folder, shards.change_index, shards.read_latents),
    "latent shard": Target(shards.latent_folder, shards.change_member, shards.read_latents),
    "latent texts and constants": Target(shards.latent_folder, shards.change_shared, shards.read_latents),
    "identity folder": Target(shards.identity, shards.change_identity, lambda folder, out: load_identity(folder)),
    "adapter .safetensors": Target(
        functools.partial(_adapter, "face_lora_a.safetensors"), any_file(_change_safetensors), _read_adapter
    ),
    "adapter .pth": Target(functools.partial(_adapter, "face_lora_a.pth"), _change_pth, _read_adapter),
    "LoRA": Target(_lora, any_file(_change_safetensors), _read_loras),
    "sidecar": one_file("a.json", _sidecar, change.change_json, _read_sidecar),
    "job list .jsonl": one_file("jobs.jsonl", _jobs_jsonl, change.change_json_lines, _read_jobs),
    "job list .csv": one_file("jobs.csv", _jobs_csv, change.change_csv, _read_jobs),
    "config .yaml": one_file("a.yaml", _config, change.change_yaml, _read_config),
    "accelerate .yaml": one_file("a.yaml", _accelerate, change.change_yaml, read_accelerate_config),
    "AIST++ keypoints": one_file("a.pkl", lambda: pickle.dumps(_aist(), 2), _change_aist, _read_film),
    "COCO and MMPose keypoints": Target(_coco, any_file(change.change_json, ".json"), _read_any_film),
    "heads and joints": Target(_heads, any_file(change.change_json, ".json"), _read_heads),
    "dancers.csv": one_file(
        "dancers.csv", _dancers, change.change_csv, lambda path: dancers_beside(path.parent, {"a", "b"})
    ),
    "checkpoint": Target(_checkpoint, _change_checkpoint, _read_checkpoint),
    "attempts and metrics": Target(_run_logs, any_file(change.change_json_lines), _read_logs),
    "jobs.jsonl of renders": Target(
        _renders, any_file(change.change_json_lines, ".jsonl"), lambda folder, out: read_arm("a", [folder])
    ),
    "environment": Target(lambda folder: {"environment.json": b"{}"}, _change_environment, _read_environment),
}
