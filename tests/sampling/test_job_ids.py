"""A job's id is a hash of all that its video's bytes depend on: what is not in it is taken for done when it is not."""

from dataclasses import fields, replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from render_flags import changed
from two_poses import write_pose

from faceid.models.rendering.denoising_settings import Sampling
from faceid.sampling.jobs.job_list import RequestedJob
from faceid.sampling.jobs.plan import Job, Planner, name_outputs
from faceid.sampling.one_video.loaded_models import Models
from faceid.sampling.one_video.video_settings import FrameSettings, PoseSettings
from faceid.sampling.who.given_faces import faces_by_name
from faceid.sampling.who.rendered_identities import Face


@pytest.fixture(scope="module")
def found():
    """What was found on disk, by what names it: read once for all of this file."""
    return {}


def id_of(settings, found, dtype="torch.float32", **changes):
    key, content = settings.models.face_lora_path, settings.content
    models = found.setdefault(key, Models.find(settings.models, settings.compute))
    face_of = faces_by_name(settings.who, settings.faces, settings.sampling.face_scale > 0)
    planner = Planner(settings.options, settings.compute, models.name, models.base, face_of, dtype)
    pose = Path(settings.batch.pose_videos_dir) / "x_pose.mp4"
    job = RequestedJob(pose, "anna", 5, content.prompt, content.negative_prompt, key)
    (job,) = planner.plan([replace(job, **changes)], {})
    assert job.problem == ""
    return job.id


OTHERS = {
    "pose_timing": "frames",
    "cfg_scale": 3.0,
    "cfg_start": 0.5,
    "face_scale": 0.5,
    "face_start": 0.25,
    "face_end": 0.75,
    "face_guidance": 2.0,
    "control_scale": 0.5,
    "reference_scale": 0.5,
    "reference_guidance": True,
    "num_inference_steps": 3,
    "scheduler": "euler",
    "shift": 5.0,
    "step_cache": 0.1,
    "attention_backend": "_native_math",
    "compile": True,
    "fit": "pad",
    "height": 48,
    "width": 32,
    "num_frames": 1,
    "fps": 8.0,
    "window_frames": 0,
    "negative_prompt": "another",
    "prompt": "another",
}


@pytest.mark.fault("8")
@pytest.mark.slow
def test_whatever_changes_the_bytes_changes_the_id(settings, found, tmp_path):
    plain = id_of(settings, found)
    assert id_of(settings, found) == plain
    ids = {name: id_of(changed(settings, **{name: value}), found) for name, value in OTHERS.items()}
    blocks = found[settings.models.face_lora_path].base.transformer.config["num_layers"]
    ids["face_block_scales"] = id_of(changed(settings, face_block_scales=[0.5] * blocks), found)
    for number in range(2):
        picture = Image.fromarray(np.full((16, 16, 3), 90 + number, np.uint8))
        picture.save(tmp_path / f"{number}.png")
    pictures = [str(tmp_path / f"{number}.png") for number in range(2)]
    for name, value in {"one": pictures[0], "other": pictures[1], "both": pictures, "turned": pictures[::-1]}.items():
        ids[f"reference_image, {name}"] = id_of(changed(settings, reference_image=value), found)
    ids["seed"] = id_of(settings, found, seed=6)
    ids["identity"] = id_of(settings, found, identity="bob")
    ids["output"] = id_of(settings, found, output="named.mp4")
    ids["dtype"] = id_of(settings, found, dtype="torch.bfloat16")
    # The same name, another picture in it.
    Image.fromarray(np.full((16, 16, 3), 7, np.uint8)).save(pictures[0])
    ids["reference_image, changed"] = id_of(changed(settings, reference_image=pictures[0]), found)
    write_pose(Path(settings.batch.pose_videos_dir) / "x_pose.mp4", 9)
    ids["pose"] = id_of(settings, found)
    same = [name for name, one in ids.items() if one == plain]
    assert same == [] and len(set(ids.values())) == len(ids)


def test_without_guidance_a_negative_prompt_changes_nothing(settings, found):
    without = changed(settings, cfg_scale=1.0)
    assert id_of(without, found) == id_of(changed(without, negative_prompt="another"), found)


def test_every_option_of_sampling_is_tried_above():
    tried = {*OTHERS, "face_block_scales"}
    sections = (Sampling, PoseSettings, FrameSettings)
    assert {field.name for section in sections for field in fields(section)} <= tried
    assert {"attention_backend", "compile", "window_frames"} <= tried


def test_a_person_of_a_name_of_the_batch_s_own_is_told_before_anything_is_rendered():
    job = RequestedJob(Path("a.mp4"), "people/gallery", 1, "", "", None)
    first, second = name_outputs([Job("1", job, "", Face()), Job("2", replace(job, identity="anna"), "", Face())], {})
    assert "its video would be gallery/a.mp4, and gallery is a name of the batch's own" in first.problem
    assert (first.output, second.output, second.problem) == ("", "anna/a.mp4", "")


def test_names_tell_given_seeds_apart_and_noises_of_a_video_s_own_by_their_numbers():
    job = RequestedJob(Path("a.mp4"), "anna", 1, "", "", None)

    def names(*requests):
        return [job.output for job in name_outputs([Job(str(n), r, "", Face()) for n, r in enumerate(requests)], {})]

    assert names(job, replace(job, seed=2)) == ["anna/a_seed1.mp4", "anna/a_seed2.mp4"]
    own = replace(job, noise=0)
    assert names(own, replace(own, pose=Path("b.mp4"), seed=2)) == ["anna/a.mp4", "anna/b.mp4"]
    assert names(replace(job, noise=1), replace(job, noise=2, seed=2)) == ["anna/a_noise1.mp4", "anna/a_noise2.mp4"]
