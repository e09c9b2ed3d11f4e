"""A folder of pose videos: which outputs it gets, what is computed once, and what is recorded when one fails."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from written_identities import unit_embedding

from faceid.errors import DataError
from faceid.media.video import write_video
from faceid.models.adapter import install_adapter
from faceid.models.pipeline import FaceIdentityPipeline
from faceid.sampling.batch import plan_jobs, render_folder
from faceid.sampling.identities import Face
from faceid.sampling.renderer import Renderer, VideoShape, read_pose
from faceid.sampling.settings import SampleSettings

SHAPE = VideoShape(num_frames=5, height=32, width=48, fps=16.0)
DIM = 24
ANNA_AND_BOB = {name: Face(name, unit_embedding(seed, DIM)) for seed, name in enumerate(("anna", "bob"))}


def folder_of(path: Path, *names: str) -> Path:
    path.mkdir()
    for name in names:
        (path / name).write_bytes(b"x")
    return path


def test_every_video_of_a_folder_gets_its_output_in_order(tmp_path):
    poses = folder_of(tmp_path / "poses", "b.MP4", "a.mov", ".hidden.mp4", "notes.txt")
    jobs = plan_jobs(poses, tmp_path / "out", [""], [7])
    assert [(job.pose, job.output) for job in jobs] == [(poses / "a.mov", "a.mp4"), (poses / "b.MP4", "b.mp4")]


def test_people_get_folders_of_their_own_and_jobs_of_one_pose_come_together(tmp_path):
    jobs = plan_jobs(folder_of(tmp_path / "poses", "x.mp4", "y.mp4"), tmp_path / "out", ["anna", "bob"], [7])
    assert [job.output for job in jobs] == ["anna/x.mp4", "bob/x.mp4", "anna/y.mp4", "bob/y.mp4"]


def test_several_seeds_are_in_the_names_and_one_is_not(tmp_path):
    poses = folder_of(tmp_path / "poses", "x.mp4")
    assert [job.output for job in plan_jobs(poses, tmp_path / "out", ["anna"], [3])] == ["anna/x.mp4"]
    jobs = plan_jobs(poses, tmp_path / "out", ["anna"], [3, 4])
    assert [(job.output, job.seed) for job in jobs] == [("anna/x_seed3.mp4", 3), ("anna/x_seed4.mp4", 4)]


def test_two_videos_with_one_output_are_refused(tmp_path):
    with pytest.raises(DataError, match=r"several videos named a\.\*.*rename"):
        plan_jobs(folder_of(tmp_path / "poses", "a.mp4", "a.mov"), tmp_path / "out", [""], [7])


def test_the_pose_folder_itself_is_refused_as_output(tmp_path):
    poses = folder_of(tmp_path / "poses", "a.mp4")
    (tmp_path / "link").symlink_to(poses)
    with pytest.raises(DataError, match="overwritten"):
        plan_jobs(poses, tmp_path / "link", [""], [7])


def test_the_pose_folder_is_refused_as_a_persons_output(tmp_path):
    (tmp_path / "out").mkdir()
    with pytest.raises(DataError, match="out/anna: holds the pose videos"):
        plan_jobs(folder_of(tmp_path / "out" / "anna", "a.mp4"), tmp_path / "out", ["anna", "bob"], [7])


class Refusing:
    """Stands in for a loaded model: only the bookkeeping is looked at here."""

    face_scale = 0.5

    def prepare(self, pose: Path) -> torch.Tensor:
        if pose.stem == "a":
            raise DataError("too short")
        return torch.zeros(1)

    def render(self, control, face, output: Path, seed: int) -> None:
        if output.parent.name == "bob":
            raise DataError("disk full")
        output.parent.mkdir(exist_ok=True)
        output.write_bytes(b"video")


def test_a_failed_video_is_recorded_with_its_reason_and_the_rest_goes_on(tmp_path):
    out = folder_of(tmp_path / "out")
    jobs = plan_jobs(folder_of(tmp_path / "poses", "a.mp4", "b.mp4"), out, [""], [7])
    rendered = render_folder(Refusing(), jobs, {"": Face()}, out)  # type: ignore[arg-type]
    assert [(job.pose, job.error, bool(job.sha256)) for job in rendered] == [
        ("a.mp4", "too short", False),
        ("b.mp4", "", True),
    ]
    lines = [json.loads(line) for line in (out / "jobs.jsonl").read_text().splitlines()]
    assert lines == [vars(job) for job in rendered]
    assert json.loads((out / "provenance.json").read_text())["inputs"] == {"videos": 2, "failed": 1}


def test_a_bad_pose_fails_for_everyone_and_a_bad_render_for_one(tmp_path):
    out = folder_of(tmp_path / "out")
    jobs = plan_jobs(folder_of(tmp_path / "poses", "a.mp4", "b.mp4"), out, list(ANNA_AND_BOB), [7])
    rendered = render_folder(Refusing(), jobs, ANNA_AND_BOB, out)  # type: ignore[arg-type]
    assert [(job.output, job.error) for job in rendered] == [
        ("anna/a.mp4", "too short"),
        ("bob/a.mp4", "too short"),
        ("anna/b.mp4", ""),
        ("bob/b.mp4", "disk full"),
    ]


def test_a_line_says_who_was_rendered_and_how(tmp_path):
    out = folder_of(tmp_path / "out")
    jobs = plan_jobs(folder_of(tmp_path / "poses", "b_pose.mp4"), out, ["anna"], [7])
    render_folder(Refusing(), jobs, ANNA_AND_BOB, out)  # type: ignore[arg-type]
    row = json.loads((out / "jobs.jsonl").read_text())
    assert (row["pose"], row["output"], row["identity"]) == ("b_pose.mp4", "anna/b_pose.mp4", "anna")
    assert (row["face_scale"], row["seed"], row["error"]) == (0.5, 7, "") and row["seconds"] >= 0


@pytest.fixture
def poses(tmp_path):
    """Two different pose videos."""
    folder = tmp_path / "poses"
    for seed, name in enumerate(("x", "y")):
        frames = np.random.default_rng(seed).integers(0, 256, (5, 32, 48, 3), dtype=np.uint8)
        write_video(folder / f"{name}_pose.mp4", frames, fps=16)
    return folder


@pytest.fixture
def pipeline(toy_wan, small_adapter_settings):
    """The toy with an adapter whose face shows."""
    adapter = install_adapter(toy_wan.transformer, small_adapter_settings, DIM)
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for parameter in adapter.parameters().values():
            parameter.add_(0.2 * torch.randn(parameter.shape, generator=generator))
    return FaceIdentityPipeline(toy_wan, adapter)


def settings_of(poses, out):
    return SampleSettings(
        face_lora_path="a", batch=True, pose_videos_dir=str(poses), output_dir=str(out), num_inference_steps=2, seed=7
    )


def test_a_batch_of_people_is_byte_for_byte_what_single_calls_give(pipeline, poses, tmp_path):
    settings = settings_of(poses, tmp_path / "out")
    jobs = plan_jobs(poses, tmp_path / "out", list(ANNA_AND_BOB), [7])
    rendered = render_folder(Renderer(pipeline, SHAPE, settings), jobs, ANNA_AND_BOB, tmp_path / "out")
    assert [job.error for job in rendered] == [""] * 4 and len({job.sha256 for job in rendered}) == 4
    for job in jobs:
        alone = FaceIdentityPipeline(pipeline.wan, pipeline.adapter)
        frames = alone(
            read_pose(job.pose, SHAPE, pipeline.wan.geometry, settings),
            face_embedding=ANNA_AND_BOB[job.person].embedding,
            num_inference_steps=2,
            seed=7,
        )
        write_video(tmp_path / "alone.mp4", frames, SHAPE.fps)
        assert (tmp_path / "alone.mp4").read_bytes() == (tmp_path / "out" / job.output).read_bytes()


def test_poses_are_encoded_once_for_all_people_and_prompts_and_grey_once_for_all(pipeline, poses, tmp_path):
    encoded = {"videos": 0, "prompts": 0}
    encode = pipeline.wan.vae.encode

    def counting(pixels):
        encoded["videos"] += 1
        return encode(pixels)

    pipeline.wan.vae.encode = counting
    hook = pipeline.wan.text_encoder.register_forward_hook(lambda *_: encoded.update(prompts=encoded["prompts"] + 1))
    jobs = plan_jobs(poses, tmp_path / "out", list(ANNA_AND_BOB), [7])
    renderer = Renderer(pipeline, SHAPE, settings_of(poses, tmp_path / "out"))
    assert len(render_folder(renderer, jobs, ANNA_AND_BOB, tmp_path / "out")) == 4
    hook.remove()
    # Two poses and the grey video; the prompt and the negative one.
    assert encoded == {"videos": 3, "prompts": 2}


def test_the_grey_half_follows_the_size(pipeline):
    kept = FaceIdentityPipeline(pipeline.wan, pipeline.adapter)
    for height, width in ((32, 48), (48, 32), (32, 48)):
        frames = np.full((5, height, width, 3), 90, np.uint8)
        assert torch.equal(kept.control(frames), FaceIdentityPipeline(pipeline.wan).control(frames))
