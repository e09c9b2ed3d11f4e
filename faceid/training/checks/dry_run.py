"""Do `train.py --dry_run`: describe the run and every refusal.

No weight is loaded, and no file is written.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch

from faceid.data.latents.latent_sets import Size
from faceid.data.stream.held_out import NOTHING, HeldOut
from faceid.errors import FaceidError, one_line
from faceid.faces.identities.identity import load_identity
from faceid.models.costs.flops import step_flops
from faceid.models.costs.sizes import Placement, count_parameters, predicted_memory
from faceid.training.checks.refusals import refusals
from faceid.training.checks.run_sections import RunSections
from faceid.training.inputs.input_plan import InputPlan
from faceid.training.inputs.known_data import KnownData
from faceid.training.inputs.training_data import hold_back_of
from faceid.training.measuring.meter import peak_tflops
from faceid.training.recipe.global_batch import said_of_batch
from faceid.training.recipe.likeness import said_of_likeness, samples_of_run
from faceid.training.recipe.schedule import total_steps
from faceid.training.world.distributed import ExpectedWorld
from faceid.training.world.launched import Launch

# Wan pads every prompt to this many tokens.
TEXT_TOKENS = 512
# The embedding size of CLIP ViT-L/14, used when no identity was made beforehand.
USUAL_EMBEDDING = 768
GIB = 1 << 30


def dry_run(
    plan: InputPlan, sections: RunSections, launch: Launch, saved: Mapping[str, Any] | None, world: ExpectedWorld
) -> tuple[list[str], list[str]]:
    """Lines that describe the run, and every refusal, one line each.

    sections: as given. saved: state of the checkpoint that would be resumed; None for a new run.
    """
    refused: list[str] = []

    def tried(check: Callable[[], Any]) -> Any:
        try:
            return check()
        except FaceidError as error:
            # Two checks may find the same fault.
            refused.extend({one_line(error)}.difference(refused))
            return None

    asked, processes = sections.optimizer.batch_size, launch.processes
    resolved = tried(lambda: sections.with_global_batch(processes, saved))
    sections = resolved or sections.with_batch_size(asked or processes)
    for check in refusals(plan, sections, launch):
        tried(check)
    has_base = tried(lambda: plan.base) is not None
    data = tried(lambda: KnownData.of(plan))
    batch_size, size = sections.optimizer.batch_size, sections.execution.micro_batch_size
    lines = [
        f"world: {world.kind}, {processes} processes, {'bf16' if world.is_bf16 else 'float32'}; global batch "
        f"{batch_size} = {processes} x {size} x {batch_size / (processes * size):g} passes"
    ]
    if said := said_of_batch(asked, batch_size, processes, saved is not None):
        lines.append(said)
    if data is not None and data.clips:
        held_out = tried(lambda: _held_out_of(data, sections)) or NOTHING
        lines += _data_lines(data, held_out, sections)
        if has_base:
            lines += tried(lambda: _size_lines(plan, sections, data.largest, world)) or []
    # When one check needs the result of another, both report its fault. It is shown once.
    return lines, list(dict.fromkeys(refused))


def _held_out_of(data: KnownData, sections: RunSections) -> HeldOut:
    return hold_back_of(data.clips, data.dancers, sections.held_out, sections.optimizer.seed)


def _data_lines(data: KnownData, held_out: HeldOut, sections: RunSections) -> list[str]:
    optimizer, pairing = sections.optimizer, sections.pairing
    clips = len(data.trained_on(held_out))
    mixture = data.mixture(held_out, sections.held_out.heldout_photos, pairing.stage2_shares, sections.stream_order())
    epoch, length = mixture.length.stage1, mixture.length
    steps = total_steps(optimizer.num_epochs, length, optimizer.batch_size) if epoch else 0
    stage2 = ", ".join(f"{count} {kind}" for kind, count in sorted(mixture.quotas.items()))
    first = min(optimizer.freeze_mapper_after_epochs, optimizer.num_epochs)
    return [
        f"data: {len(data.dancers)} clips of {len(set(data.dancers))} dancers; {len(data.dancers) - clips} held out, "
        f"of {len(held_out.dancers)} dancers and of {len(held_out.performances)} performances of others; "
        f"{data.num_photos} photos (before any is dropped); captions of their own: {data.captioned[0]} clips, "
        f"{data.captioned[1]} photos",
        f"mixture: an epoch is {epoch} samples; stage 1, {first} epochs: {clips} clip, {data.num_photos} photo; "
        f"stage 2, {optimizer.num_epochs - first} epochs: {stage2}",
        f"draws: face from another clip of its dancer {pairing.other_clip_share:g}, up to {pairing.max_faces} faces; "
        f"dropped: face {pairing.face_dropout:g}, text {pairing.text_dropout:g}, both {pairing.both_dropout:g}; "
        f"loss in the head {sections.loss.masked_loss_probability:g}; "
        f"logit-normal noise {sections.noise.logit_normal_share:g}",
        f"length: {steps} steps in {optimizer.num_epochs} epochs",
        said_of_likeness(
            samples_of_run(optimizer.num_epochs, length, mixture.quotas, clips, epoch - clips),
            epoch - clips,
            sections.face_paths(),
            sections.said_of_best(),
        ),
    ]


def _size_lines(plan: InputPlan, sections: RunSections, largest: Size, world: ExpectedWorld) -> list[str]:
    optimizer = sections.optimizer
    config = plan.base.transformer.config
    embedding = USUAL_EMBEDDING
    if plan.inputs.face_embedding is not None:
        embedding = len(load_identity(plan.inputs.face_embedding).embedding)
    parameters = count_parameters(config, plan.adapter, embedding)
    base, trained = parameters.base, parameters.trained
    num_frames, height, width = largest
    tokens = plan.base.geometry.tokens(num_frames, height, width)
    mode = sections.execution.gradient_checkpointing
    flops = step_flops(config, plan.adapter, tokens, mode, embedding, TEXT_TOKENS)
    kept = 4 if optimizer.ema else 3
    lines = [
        f"sizes: {num_frames} frames at {width}x{height}: {tokens} tokens a clip; base "
        f"{base / 1e6:.1f} M parameters, frozen; trained {trained / 1e6:.2f} M",
        f"work: {optimizer.batch_size * flops.total / 1e12:.3g} TFLOP a step of {optimizer.batch_size} clips "
        f"({flops.total / 1e12:.3g} each: forward {flops.forward / 1e12:.3g}, again {flops.recomputed / 1e12:.3g}, "
        f"backward {flops.backward / 1e12:.3g}; gradient_checkpointing {mode})",
    ]
    peak = sections.logging.peak_tflops or (peak_tflops(torch.device("cuda")) if torch.cuda.is_available() else None)
    if peak is not None:
        least = optimizer.batch_size / world.processes * flops.total / (peak * 1e12)
        lines.append(f"time: at least {least:.2f} s a step, at the device's {peak:g} TFLOP/s")
    shards = world.processes if world.zero_stage else 1
    where = Placement(world.zero_stage, shards, world.is_bf16, optimizer.ema > 0, mode)
    memory = predicted_memory(config, parameters, tokens * sections.execution.micro_batch_size, where)
    parts = ", ".join(f"{name} {size / GIB:.2f}" for name, size in memory.items())
    lines.append(f"memory: about {sum(memory.values()) / GIB:.1f} GiB a device, predicted ({parts})")
    lines.append(f"disk: {trained * 4 / 1e6:.1f} MB an adapter, {trained * 4 * kept / 1e6:.1f} MB a checkpoint")
    return lines


def print_dry_run(lines: Sequence[str], refused: Sequence[str]) -> bool:
    """Print both. Return whether the run would start."""
    print(*lines, *(f"refused: {line}" for line in refused), sep="\n")
    if not refused:
        print("nothing would be refused")
    return not refused
