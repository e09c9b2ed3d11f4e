"""One call of sample.py from parsed sections to exit code: resolve, check, load once, render."""

from __future__ import annotations

import logging
from pathlib import Path

import torch

from faceid.errors import ConfigError
from faceid.faces.identity_settings import FaceSettings
from faceid.files.outputs import refuse_file, staged_file, write_output
from faceid.files.writing import json_text
from faceid.logs import Progress
from faceid.models.compute.context_parallel import join_processes
from faceid.sampling.jobs.batch import MakeJudge, run_batch
from faceid.sampling.jobs.place import place_among_workers
from faceid.sampling.one_video.like import check_like, say_what_is_read, say_whether_like, use_threads_of
from faceid.sampling.one_video.loaded_models import Models
from faceid.sampling.one_video.poses import read_pose
from faceid.sampling.one_video.renderer import Control, Renderer, check_how, check_output, choose_shape, choose_window
from faceid.sampling.one_video.sidecar import Inputs, describe_video, sidecar_of
from faceid.sampling.sampling_effects import warn_without_effect
from faceid.sampling.sampling_settings import SampleSettings
from faceid.sampling.who.given_faces import face_given
from faceid.sampling.who.rendered_identities import Face

log = logging.getLogger(__name__)


def run_sampling(settings: SampleSettings, faces: FaceSettings, make_judge: MakeJudge | None = None) -> int:
    """Render what was asked for. Exit code 0, or 1 when some videos of a batch failed. make_judge: for --score."""
    if settings.like is not None:
        say_what_is_read(Path(settings.like), settings, faces)
    models = Models.find(settings)
    warn_without_effect(settings, faces)
    if settings.batch:
        return run_batch(settings, faces, models, make_judge)
    return _run_one(settings, faces, models)


def _run_one(settings: SampleSettings, faces: FaceSettings, models: Models) -> int:
    """Everything about pose and output is refused before photos are embedded or weights loaded."""
    shape = choose_shape(settings, models.metadata, models.geometry)
    window = choose_window(settings, models.metadata, models.geometry)
    check_how(settings, window, models.transformer_config)
    _check_processes(settings)
    pose, output = Path(settings.pose_video or ""), Path(settings.output or "")
    check_output(pose, output)
    for seed in settings.seeds:
        for path in (place := _place(settings, seed), sidecar_of(place)):
            refuse_file(path, [Path(name) for name in _files_read(settings, pose)])
    read_pose(pose, shape, models.geometry, settings)
    face = face_given(settings, faces, models.metadata)
    inputs = Inputs.of(settings, models.base.exact_fingerprint, face, pose, models.adapter)
    kept = check_like(Path(settings.like), settings, inputs) if settings.like else None
    if settings.like and models.device.type == "cpu":
        use_threads_of(Path(settings.like))
    cache = models.cache(Path(settings.cache_dir)) if settings.cache_dir is not None else None
    if cache is not None:
        cache.claim(private=not faces.shared)
    texts = models.texts(cache)
    texts.prepare([settings.prompt, settings.negative_prompt])
    pipeline = models.load()
    if settings.context_parallel > 1:
        join_processes(models.device)
        pipeline.compute_together(*place_among_workers())
    renderer = Renderer(pipeline, shape, settings, window, texts)
    control = renderer.prepare_once(pose, inputs, cache)
    for seed in settings.seeds:
        path = _place(settings, seed)
        sha256 = _render(renderer, control, pose, face, path, seed, faces, inputs)
        if kept is not None and sha256:
            say_whether_like(kept, path, sha256)
    if settings.context_parallel > 1:
        torch.distributed.destroy_process_group()
    return 0


def _place(settings: SampleSettings, seed: int) -> Path:
    """Where the video of a seed goes."""
    output = Path(settings.output or "")
    suffix = f"_seed{seed}" if len(settings.seeds) > 1 else ""
    return output.with_name(f"{output.stem}{suffix}{output.suffix}")


def _files_read(settings: SampleSettings, pose: Path) -> list[str | Path]:
    """Files that no video may take the place of."""
    given = (settings.face_lora_path, settings.face_embedding, settings.like, *settings.reference_images)
    return [pose, *(name for name in given if name is not None)]


def _check_processes(settings: SampleSettings) -> None:
    """Raises: ConfigError when there are not as many processes as render a video together."""
    count, wanted = place_among_workers()[1], settings.context_parallel
    if count == wanted:
        return
    if wanted == 1:
        raise ConfigError(
            f"context_parallel=1: {count} processes for one video; give --context_parallel {count}, or --batch"
        )
    raise ConfigError(
        f"context_parallel={wanted}: but {count} process{'es' if count > 1 else ''}; start it with "
        f"accelerate launch --num_processes {wanted} sample.py"
    )


def _render(
    renderer: Renderer,
    control: Control,
    pose: Path,
    face: Face,
    output: Path,
    seed: int,
    faces: FaceSettings,
    inputs: Inputs,
) -> str:
    """Render, write the sidecar; the video's sha256, empty in a process that only helped with it."""
    is_first = place_among_workers()[0] == 0
    bar = Progress("denoising", total=renderer.settings.num_inference_steps, is_shown=is_first)
    latents = renderer.denoise(control, face, seed, lambda done, of: bar.advance())
    bar.close()
    if not is_first:
        return ""
    device = str(renderer.pipeline.wan.transformer.device)
    # Both or none: the video gets its name once its sidecar has.
    with staged_file(output, private=not faces.shared) as temporary:
        renderer.write(latents, temporary, control.num_frames)
        content = describe_video(
            temporary, output.name, renderer.settings, faces, inputs, pose, seed, device, control.pose_frames
        )
        write_output(sidecar_of(output), json_text(content))
    log.info("%s", output)
    return content["video"]["sha256"]
