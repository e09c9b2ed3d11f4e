"""Every command that writes, and what becomes of what is in the place of its output. For test_nothing_lost.py."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from adapter_inputs import EMBEDDING_DIM, write_adapter
from calling import call
from launching import REPOSITORY, ToyInputs
from written_identities import write_identity

from faceid.models.adapter_settings import AdapterSettings

SIZE = "--num_frames 9 --height 64 --width 64".split()
REPLACED = "replaced"


@dataclass(frozen=True)
class World:
    """Small inputs of every command, which a test may spoil. other_*: of the same kind, with other contents."""

    folder: Path
    dataset: Path
    other_dataset: Path
    shards: Path
    latents: Path
    identity: Path
    adapter: Path
    other_adapter: Path
    known: Path
    few_poses: Path
    rendered: Path
    summary: Path
    other_summary: Path

    def photos(self, other: bool = False) -> Path:
        """The folder of one person's photos."""
        return (self.other_dataset if other else self.dataset) / "photos" / "target"

    def videos(self, other: bool = False) -> Path:
        """The folder of clips."""
        return (self.other_dataset if other else self.dataset) / "videos"

    def poses(self, other: bool = False) -> Path:
        """The folder of pose videos."""
        return (self.other_dataset if other else self.dataset) / "poses"


Words = Callable[[World, Path, bool], Sequence[object]]


@dataclass(frozen=True)
class Command:
    """One row of the table. words: its flags for an output; with True, for other inputs.

    older: what becomes of a result of other inputs: REPLACED, or words of the refusal. suffix: of the file it writes;
    empty for a folder. reads: an input its output could be taken for. not_run: why it is not run to its end here.
    """

    name: str
    script: str
    words: Words
    older: str
    suffix: str = ""
    reads: Callable[[World], Path] | None = None
    not_run: str = ""


def _prepare(w: World, out: Path, other: bool) -> Sequence[object]:
    return [
        "--face_images_dir",
        w.photos(other),
        "--output_dir",
        out,
        "--encoder_path",
        "toy",
        "--identity_name",
        "anna",
    ]


def _people(w: World, out: Path, other: bool) -> Sequence[object]:
    people = (w.other_dataset if other else w.dataset) / "photos"
    return ["--people_dir", people, "--output_dir", out, "--encoder_path", "toy"]


def _verify(w: World, out: Path, other: bool) -> Sequence[object]:
    faces = (w.other_dataset if other else w.dataset) / "photos"
    return ["--faces_dir", faces, "--output_dir", out, "--encoder_path", "toy", "--bootstrap_samples", "100"]


def _split(w: World, out: Path, other: bool) -> Sequence[object]:
    words = ["--videos_dir", w.videos(other), "--output_dir", out, "--crop", "none", "--num_frames", "5"]
    return [*words, "--stride_s", "5", "--height", "64", "--width", "64"]


def _poses(w: World, out: Path, other: bool) -> Sequence[object]:
    return ["--videos_dir", w.videos(other), "--keypoints_dir", w.poses(other), "--output_dir", out]


def _shards(w: World, out: Path, other: bool) -> Sequence[object]:
    return ["--dance_videos_dir", w.videos(other), "--pose_videos_dir", w.poses(other), "--output_dir", out, *SIZE]


def _latents(w: World, out: Path, other: bool) -> Sequence[object]:
    views = ["--flips", "true"] if other else []
    return ["--shards", w.shards, "--model_path", "toy", "--output_dir", out, *views]


def _bank(w: World, out: Path, other: bool) -> Sequence[object]:
    return ["--videos_dir", w.videos(other), "--output_dir", out, "--encoder_path", "toy"]


def _audit(w: World, out: Path, other: bool) -> Sequence[object]:
    return ["--dance_videos_dir", w.videos(other), "--pose_videos_dir", w.poses(other), "--output_dir", out, *SIZE]


def _toy(w: World, out: Path, other: bool) -> Sequence[object]:
    words = ["--output_dir", out, "--seed", 7 if other else 1, "--num_people", 1, "--clips_per_person", 1]
    return [*words, "--photos_per_person", 1, "--num_frames", 5]


def _evaluate(w: World, out: Path, other: bool) -> Sequence[object]:
    name = "theirs" if other else "real"
    words = ["--renders", f"[{name}={w.videos()}]", "--real", name, "--references_dir", w.dataset / "references"]
    return [*words, "--recognisers", "[toy_recogniser]", "--output_dir", out, "--bootstrap_samples", "100"]


def _lora(w: World, out: Path, other: bool) -> Sequence[object]:
    adapter = w.other_adapter if other else w.adapter
    return ["--face_lora_path", adapter, "--output", out, "--lora_format", "diffusers"]


def _hub(w: World, out: Path, other: bool) -> Sequence[object]:
    return ["--face_lora_path", w.other_adapter if other else w.adapter, "--output", out, "--lora_format", "hub"]


def _merged(w: World, out: Path, other: bool) -> Sequence[object]:
    words = ["--face_lora_path", w.other_adapter if other else w.adapter, "--output", out, "--lora_format", "merged"]
    return [*words, "--model_path", "toy"]


def _convert(w: World, out: Path, other: bool) -> Sequence[object]:
    return ["--model_path", w.folder / "base", "--output_dir", out]


def _join(w: World, out: Path, other: bool) -> Sequence[object]:
    return ["--high", w.adapter, "--low", w.other_adapter, "--model_path", "toy", "--output", out]


def _sheet(w: World, out: Path, other: bool) -> Sequence[object]:
    words = ["--dance_videos_dir", w.videos(), "--pose_videos_dir", w.poses(), "--rendered_dir", w.rendered]
    return [*words, "--output", out, "--num_columns", 3 if other else 2]


def _inspect(w: World, out: Path, other: bool) -> Sequence[object]:
    return ["--shards", w.shards, "--sheet", out, "--num_columns", 3 if other else 2]


def _merge(w: World, out: Path, other: bool) -> Sequence[object]:
    return ["--summaries", f"[{w.other_summary if other else w.summary}]", "--output", out]


def _video(w: World, out: Path, other: bool) -> Sequence[object]:
    pose = sorted(w.poses().glob("*.mp4"))[int(other)]
    words = ["--face_embedding", w.known, "--face_lora_path", w.adapter, "--pose_video", pose, "--output", out]
    return [*words, *RENDERED]


def _batch(w: World, out: Path, other: bool) -> Sequence[object]:
    words = ["--batch", "--face_embedding", w.known, "--face_lora_path", w.adapter, "--output_dir", out]
    return [*words, "--pose_videos_dir", w.few_poses, *RENDERED, "--seed", 2 if other else 1]


def _describe(w: World, out: Path, other: bool) -> Sequence[object]:
    words = ["--face_images_dir", w.photos(), "--face_embedding", w.identity, "--model_path", "toy", "--output", out]
    return [*words, "--text", "green hair" if other else "red hair"]


def _train(w: World, out: Path, other: bool) -> Sequence[object]:
    return ["--face_embedding", w.identity, "--latents", w.latents, "--output_dir", out, "--model_path", "toy"]


def _toy_base(w: World, out: Path, other: bool) -> Sequence[object]:
    return ["--work_dir", out, "--stages", "[]"]


RENDERED = "--num_inference_steps 1 --cfg_scale 1 --device cpu".split()
NO_CLIPS_LOST = "would lose them; name a new folder, or give --replace"
COMMANDS = (
    Command("identity", "tools/prepare_face_embeddings.py", _prepare, REPLACED, reads=lambda w: w.photos()),
    Command("people", "tools/prepare_face_embeddings.py", _people, REPLACED, reads=lambda w: w.dataset / "photos"),
    Command("verification", "tools/verify_encoder.py", _verify, REPLACED, reads=lambda w: w.dataset / "photos"),
    Command("split", "tools/split_clips.py", _split, NO_CLIPS_LOST, reads=lambda w: w.videos()),
    Command("poses", "tools/render_poses.py", _poses, REPLACED, reads=lambda w: w.videos()),
    Command("shards", "tools/make_shards.py", _shards, NO_CLIPS_LOST, reads=lambda w: w.videos()),
    Command("latents", "tools/encode_latents.py", _latents, "holds latents of other views", reads=lambda w: w.shards),
    Command("face bank", "tools/build_face_bank.py", _bank, NO_CLIPS_LOST, reads=lambda w: w.videos()),
    Command("audit", "tools/audit_dataset.py", _audit, REPLACED, reads=lambda w: w.videos()),
    Command("toy dataset", "tools/make_toy_dataset.py", _toy, REPLACED),
    Command("evaluation", "tools/evaluate.py", _evaluate, REPLACED, reads=lambda w: w.videos()),
    Command("LoRA", "tools/export_lora.py", _lora, REPLACED, ".safetensors", reads=lambda w: w.adapter),
    Command("hub", "tools/export_lora.py", _hub, REPLACED, reads=lambda w: w.photos()),
    Command("merged", "tools/export_lora.py", _merged, "exists; name a new folder"),
    Command(
        "converted",
        "tools/convert_model.py",
        _convert,
        "exists; name a new folder",
        reads=lambda w: w.folder / "base",
        not_run="tests/models/test_model_tools.py makes bases of that layout",
    ),
    Command(
        "joined",
        "tools/join_experts.py",
        _join,
        REPLACED,
        ".safetensors",
        reads=lambda w: w.adapter,
        not_run="tests/models/rendering/test_experts.py makes a base of two transformers",
    ),
    Command("contact sheet", "tools/make_contact_sheet.py", _sheet, REPLACED, ".png"),
    Command("shards' sheet", "tools/inspect_shards.py", _inspect, REPLACED, ".png"),
    Command("video", "sample.py", _video, REPLACED, ".mp4"),
    Command("batch", "sample.py", _batch, REPLACED, reads=lambda w: w.few_poses),
    Command(
        "run",
        "train.py",
        _train,
        "resume=none",
        reads=lambda w: w.latents,
        not_run="tests/training has it killed, resumed and out of room (test_resume, test_checkpoint, test_metrics)",
    ),
    Command("description", "tools/describe_person.py", _describe, REPLACED, ".safetensors"),
    Command(
        "toy base",
        "tools/train_toy_base.py",
        _toy_base,
        REPLACED,
        not_run="it takes hours; tests/toy/test_work_folder.py has small stages",
    ),
    Command("summary", "tools/merge_summaries.py", _merge, REPLACED, ".json", reads=lambda w: w.summary),
)


def make_world(folder: Path, toy: ToyInputs, settings: AdapterSettings) -> World:
    """Copies of the shared toy inputs, and what the later stages read."""
    world = World(
        folder,
        Path(shutil.copytree(toy.dataset, folder / "dataset")),
        folder / "other_dataset",
        Path(shutil.copytree(toy.shards, folder / "shards")),
        Path(shutil.copytree(toy.latents, folder / "latents")),
        Path(shutil.copytree(toy.identity, folder / "identity")),
        write_adapter(folder / "adapter.safetensors", settings, 2),
        write_adapter(folder / "other.safetensors", settings, 3),
        write_identity(folder / "known", size=EMBEDDING_DIM),
        folder / "few_poses",
        folder / "rendered",
        *(folder / f"{name}.json" for name in ("summary", "other_summary")),
    )
    # Other clips of one dancer; another person's photos.
    for kind in ("videos", "poses"):
        (world.other_dataset / kind).mkdir(parents=True)
        for file in (world.dataset / kind).glob("*_d01_*"):
            shutil.copy(file, world.other_dataset / kind / file.name.replace("_ch0", "_ch2"))
    shutil.copytree(world.dataset / "photos" / "d01", world.other_dataset / "photos" / "target")
    shutil.copytree(world.dataset / "photos" / "d02", world.other_dataset / "photos" / "d02")
    world.few_poses.mkdir()
    shutil.copy(min(world.poses().glob("*.mp4")), world.few_poses)
    world.rendered.mkdir()
    for clip in world.videos().glob("*.mp4"):
        shutil.copy(clip, world.rendered / f"{clip.stem}_pose.mp4")
    for file, value in ((world.summary, 1.0), (world.other_summary, 2.0)):
        file.write_text(json.dumps({"primary_recogniser": "x", "wall_s": value}))
    (folder / "base").mkdir()
    return world


def run_until_flush(script: str, words: Sequence[object], moment: int) -> None:
    """Run a command in this process, which ends without a word, as by SIGKILL, at its n-th flush to disk."""
    left = [moment]

    def fsync(descriptor: int) -> None:
        left[0] -= 1
        if left[0] <= 0:
            os._exit(9)

    os.fsync = fsync
    # A process of its own, in the repository as the tests are.
    os.chdir(REPOSITORY)
    call(script, *words)
    os._exit(0)
