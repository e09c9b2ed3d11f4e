"""Options of the tools that were given and change nothing: each is named, once, and none that does something."""

from pathlib import Path

import pytest
from calling import call

REPOSITORY = Path(__file__).resolve().parents[1]


def named(screen: str) -> list[str]:
    lines = [line for line in screen.splitlines() if "has no effect" in line]
    return sorted(line.split(": has no effect")[0].split()[-1] for line in lines)


@pytest.mark.parametrize(
    ("words", "unused"),
    [
        (
            "--lora_format comfyui --dtype bfloat16 --name Anna --model_path /nonexistent --allow_partial",
            ["allow_partial", "dtype", "model_path", "name"],
        ),
        ("--lora_format comfyui", []),
    ],
)
def test_export_lora_names_them(tmp_path, words, unused):
    ended = call(
        "tools/export_lora.py", "--face_lora_path", "toy", *words.split(), "--output", tmp_path / "x.safetensors"
    )
    assert ended.code == 0 and named(ended.screen) == unused


# What is refused afterwards has been warned of before.
@pytest.mark.parametrize(
    ("command", "words", "unused"),
    [
        ("export_lora", "--lora absent.safetensors --lora_format merged --dtype bfloat16 --allow_partial", []),
        ("export_lora", "--lora absent.safetensors --lora_format kohya --expert high --allow_partial", ["expert"]),
        ("export_lora", "--face_lora_path absent --lora_format hub --expert high --name A", ["expert"]),
        ("render_poses", "--videos_dir . --camera c02 --fps 30 --device cuda", ["camera", "device", "fps"]),
        ("render_poses", "--keypoints_dir absent --camera c02 --fps 30", []),
        ("split_clips", "--videos_dir absent --crop none --max_unknown_share 0.2", ["max_unknown_share"]),
        ("make_shards", "--dance_videos_dir absent --pose_videos_dir absent --split_seed 3", ["split_seed"]),
        ("make_shards", "--dance_videos_dir a --pose_videos_dir a --split train --test_people 2 --split_seed 3", []),
        ("audit_dataset", "--dance_videos_dir a --pose_videos_dir a --clips_per_shard 3", ["clips_per_shard"]),
        (
            "prepare_face_embeddings",
            "--face_images_dir absent --onnx_std 2 --detector_path x",
            ["detector_path", "onnx_std"],
        ),
        ("prepare_face_embeddings", "--face_images_dir absent --aggregation median", []),
        ("build_face_bank", "--videos_dir {world} --dry_run --onnx_mean 3 --allow_few", ["allow_few", "onnx_mean"]),
        (
            "inspect_shards",
            "--shards {shards} --num_columns 3 --device cpu --shared",
            ["device", "num_columns", "shared"],
        ),
        ("inspect_shards", "--shards {shards} --keys [nokey] --num_columns 7", ["keys", "num_columns"]),
        ("inspect_shards", "--shards {shards} --model_path toy", ["model_path"]),
        ("render_poses", "--keypoints_dir absent --pose_model x.onnx", ["pose_model"]),
    ],
)
def test_the_other_tools_do(toy_inputs, tmp_path, command, words, unused):
    words = words.format(world=toy_inputs.dataset / "videos", shards=toy_inputs.shards).split()
    if command != "inspect_shards":
        words += ["--output" if command == "export_lora" else "--output_dir", tmp_path / "x"]
        words[-1] = tmp_path / "x.safetensors" if "kohya" in words else tmp_path / "x"
    ended = call(f"tools/{command}.py", *words)
    assert ended.code in (0, 2) and named(ended.screen) == unused, ended.screen


@pytest.mark.parametrize("words", ["--camera nan", "--fps 1e-300", "--fps nan"])
def test_render_poses_refuses_what_is_none(tmp_path, words):
    ended = call("tools/render_poses.py", "--videos_dir", tmp_path, "--output_dir", tmp_path / "out", *words.split())
    assert ended.code == 2 and ended.error.startswith(words.split()[0].strip("-")), ended.screen
