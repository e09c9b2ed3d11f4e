"""Run one call of sample.py from parsed sections to exit code: resolve, check, load once, render."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from faceid.errors import ConfigError
from faceid.files.outputs import refuse_file, staged_file, write_output
from faceid.files.writing import json_text
from faceid.logs import Progress
from faceid.models.compute.context_parallel import join_processes
from faceid.sampling.batch import MakeJudge, run_batch
from faceid.sampling.jobs.place import place_among_workers
from faceid.sampling.like import check_like, say_what_is_read, say_whether_like, use_threads_of
from faceid.sampling.one_video.loaded_models import Models
from faceid.sampling.one_video.poses import read_pose
from faceid.sampling.one_video.render_setup import check_setup, references_of, settle
from faceid.sampling.one_video.renderer import Control, Renderer, check_video_place
from faceid.sampling.one_video.sidecar import InputHashes, describe_video, sidecar_of
from faceid.sampling.render_sections import RenderSections
from faceid.sampling.unused_render_options import warn_of_render_options
from faceid.sampling.who.given_faces import face_given
from faceid.sampling.who.rendered_identities import Face, warn_of_others
from faceid.sampling.who.shown_references import pictures_of

log = logging.getLogger(__name__)


def run_sampling(sections: RenderSections, make_judge: MakeJudge | None = None) -> int:
    """Render the requested videos. Exit code 0, or 1 when some videos of a batch failed. make_judge: for --score."""
    if sections.video.like is not None:
        say_what_is_read(Path(sections.video.like), sections.flags)
    models = Models.find(sections.models, sections.compute)
    warn_of_render_options(sections)
    if sections.batch.batch:
        return run_batch(sections, models, make_judge)
    return _run_one(sections, models)


def _run_one(sections: RenderSections, models: Models) -> int:
    """Render one video. All about pose and output is refused before photos are embedded or weights loaded."""
    setup = settle(sections.options, models.metadata, models.base.geometry)
    check_setup(setup, sections.compute.context_parallel, models.base.transformer.config)
    _check_processes(sections.compute.context_parallel)
    pose, places = Path(sections.video.pose_video or ""), _places(sections)
    _check_places(sections, pose, places)
    read_pose(pose, setup.shape, models.base.geometry, setup.pose)
    face = face_given(sections.who, sections.faces, models.metadata, setup.sampling.face_scale > 0)
    if models.metadata is not None:
        warn_of_others(str(models.adapter), models.metadata, [face])
    given = pictures_of(setup.content.reference_images)
    references = references_of(given, setup.content.own_references, face, models.metadata)
    inputs = InputHashes.of(
        models.base.exact_fingerprint, models.adapter, face, pose, [shown.sha256 for shown in references]
    )
    like = Path(sections.video.like) if sections.video.like else None
    kept = check_like(like, sections.flags, inputs) if like else None
    if like and models.device.type == "cpu":
        use_threads_of(like)
    cache = models.kept_cache(sections.cache, not sections.faces.shared)
    prompts = models.prompts(cache)
    prompts.prepare([setup.content.prompt, setup.content.negative_prompt])
    pipeline = models.load()
    if sections.compute.context_parallel > 1:
        join_processes(models.device)
        pipeline.compute_together(*place_among_workers())
    renderer = Renderer(pipeline, setup, prompts, references)
    control = renderer.prepare_once(pose, inputs, cache)
    for seed, place in places.items():
        latents = _denoise(renderer, control, face, seed)
        # Only the first process writes the video. The others only help to compute it.
        if place_among_workers()[0] == 0:
            flags = {**sections.flags, "pose_video": str(pose), "seed": seed}
            flags["own_references"] = renderer.own_references
            sha256 = _write(renderer, latents, control, place, flags, inputs)
            if kept is not None:
                say_whether_like(kept, place, sha256)
    if sections.compute.context_parallel > 1:
        torch.distributed.destroy_process_group()
    return 0


def _places(sections: RenderSections) -> dict[int, Path]:
    """The path for the video of each seed."""
    output, seeds = Path(sections.video.output or ""), sections.content.seeds
    if len(seeds) == 1:
        return {seeds[0]: output}
    return {seed: output.with_name(f"{output.stem}_seed{seed}{output.suffix}") for seed in seeds}


def _check_places(sections: RenderSections, pose: Path, places: Mapping[int, Path]) -> None:
    """Raises: DataError where a video or its sidecar would take the place of another file, or of an input."""
    check_video_place(pose, Path(sections.video.output or ""))
    given = (sections.models.face_lora_path, sections.who.face_embedding, sections.video.like)
    read = [pose, *(Path(name) for name in (*given, *sections.content.reference_images) if name is not None)]
    for place in places.values():
        for path in (place, sidecar_of(place)):
            refuse_file(path, read)


def _check_processes(wanted: int) -> None:
    """Raises: ConfigError when the number of processes differs from the number that renders a video together."""
    count = place_among_workers()[1]
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


def _denoise(renderer: Renderer, control: Control, face: Face, seed: int) -> Tensor:
    """The latents of a video, with a progress bar."""
    steps, is_first = renderer.setup.sampling.num_inference_steps, place_among_workers()[0] == 0
    bar = Progress("denoising", total=steps, is_shown=is_first)
    latents = renderer.denoise(control, face, seed, lambda done, of: bar.advance())
    bar.close()
    return latents


def _write(
    renderer: Renderer,
    latents: Tensor,
    control: Control,
    output: Path,
    flags: Mapping[str, Any],
    inputs: InputHashes,
) -> str:
    """Write the video and its sidecar. Return the video's sha256."""
    device = str(renderer.pipeline.wan.transformer.device)
    # Both files appear or none: the video gets its name after its sidecar.
    with staged_file(output, private=not flags["shared"]) as temporary:
        renderer.write(latents, temporary, control.num_frames)
        content = describe_video(temporary, output.name, flags, inputs, device, control.pose_frames)
        write_output(sidecar_of(output), json_text(content))
    log.info("%s", output)
    return content["video"]["sha256"]
