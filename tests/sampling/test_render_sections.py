"""What sample.py can be asked for, checked before anything is read."""

import pytest
from render_flags import sections_of

from faceid.errors import ConfigError

ONE = {"face_lora_path": "a.pth", "pose_video": "p.mp4", "output": "o.mp4"}
BATCH = {"face_lora_path": "a.pth", "batch": True, "pose_videos_dir": "p", "output_dir": "o"}


def test_one_video_and_a_batch_are_accepted():
    for values in (
        ONE,
        BATCH,
        {**BATCH, "identities_dir": "i"},
        {**ONE, "face_images_dir": "f"},
        {**ONE, "face_lora_path": None, "model_path": "toy"},
    ):
        assert sections_of(**values).sampling.cfg_scale == 5.0


@pytest.mark.parametrize(
    "values, message",
    [
        ({**ONE, "output": None}, "output: missing; without --batch give --pose_video and --output"),
        ({**BATCH, "output_dir": None}, "output_dir: missing; with --batch give --pose_videos_dir and --output_dir"),
        ({**ONE, "output_dir": "o"}, "output_dir: has no meaning without --batch"),
        ({**BATCH, "pose_video": "p.mp4"}, "pose_video: has no meaning with --batch"),
        ({**ONE, "face_lora_path": None}, "face_lora_path: missing; give an adapter, or --model_path"),
        ({**ONE, "face_images_dir": "f", "face_embedding": "e"}, "give one of them, not both"),
        (
            {**ONE, "face_lora_path": None, "model_path": "toy", "face_embedding": "e"},
            "face_embedding: a face is given, but no adapter to render it; give --face_lora_path",
        ),
        ({**BATCH, "context_parallel": 2}, "context_parallel=2: is for one video"),
        ({**ONE, "context_parallel": 2, "compile": True}, "compile: not together with --context_parallel"),
        ({**ONE, "offload": True, "compile": True}, "compile: not together with --offload"),
        ({**BATCH, "score": "clip:p"}, "references_dir: missing; --score compares with its photos"),
        ({**ONE, "score": "clip:p"}, "score: has no meaning without --batch"),
        ({**ONE, "identities_dir": "i"}, "identities_dir: without --batch say whom to render of it: give --identity"),
        ({**BATCH, "identities_dir": "i", "face_embedding": "e"}, "face_embedding, identities_dir: give one of them"),
        ({**BATCH, "identities_dir": "i", "face_images_dir": "f"}, "face_images_dir, identities_dir: give one of them"),
        (
            {**BATCH, "face_lora_path": None, "model_path": "toy", "identities_dir": "i"},
            "identities_dir: a face is given, but no adapter to render it; give --face_lora_path",
        ),
        ({**ONE, "output": "o.gif"}, "output=o.gif: must end with .mp4"),
        ({**ONE, "num_inference_steps": 0}, "num_inference_steps=0: Input should be greater than 0"),
        ({**ONE, "face_scale": -0.5}, "face_scale=-0.5"),
        (
            {**ONE, "pose_timing": -3},
            "pose_timing=-3: Input should be greater than or equal to 0.1; or give tempo or frames",
        ),
        ({**ONE, "pose_timing": float("nan")}, "pose_timing=nan: Input should be"),
        ({**ONE, "fit": "squeeze"}, "fit='squeeze'"),
    ],
)
def test_what_does_not_go_together_is_refused(values, message):
    with pytest.raises(ConfigError) as refusal:
        sections_of(**values)
    assert message in str(refusal.value)
