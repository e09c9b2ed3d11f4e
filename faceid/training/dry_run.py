"""`train.py --dry_run`: what a run would be and what would be refused, without loading a weight or writing a file."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from faceid.data.buckets import make_mixture
from faceid.data.captions import read_captions
from faceid.data.held_out import NOTHING, HeldOut
from faceid.data.latent_sets import LatentSets, Size
from faceid.data.pairs import find_pairs
from faceid.data.settings import PairingSettings
from faceid.errors import FaceidError, one_line
from faceid.faces.identity import load_identity
from faceid.media import images
from faceid.models.flops import step_flops
from faceid.models.sizes import Placement, count_parameters, predicted_memory
from faceid.training import checkpoint
from faceid.training.launched import Launch
from faceid.training.meter import peak_tflops
from faceid.training.origin import refuse_other_origin
from faceid.training.prepare import Preparation, check_before_work, check_expert, photo_captions
from faceid.training.schedule import total_steps
from faceid.training.settings import TrainingSettings
from faceid.training.training_data import hold_back_of
from faceid.training.world import check_batch

# Wan pads every prompt to this many tokens.
TEXT_TOKENS = 512
# Without an identity made beforehand; of CLIP ViT-L/14.
USUAL_EMBEDDING = 768
GIB = 1 << 30


@dataclass(frozen=True)
class _Data:
    """What is known of the data without preparing it."""

    clips: list[str]
    """Keys: of the clip that each entry is a view of."""
    dancers: list[str]
    """Of each."""
    sizes: list[Size]
    """Of each clip; photos are of the first's."""
    num_photos: int
    captioned: tuple[int, int] = (0, 0)
    """Clips and photos with a caption of their own."""

    @property
    def largest(self) -> Size:
        """The size with the most pixels: what memory must hold."""
        return max(self.sizes, key=math.prod)


def dry_run(
    plan: Preparation,
    training: TrainingSettings,
    pairing: PairingSettings,
    launch: Launch,
    world_kind: str,
    is_bf16: bool,
) -> tuple[list[str], list[str]]:
    """Lines that describe the run, and what would be refused, one line each."""
    refused: list[str] = []

    def tried(check: Callable[[], Any]) -> Any:
        try:
            return check()
        except FaceidError as error:
            # Two looks may meet the same fault.
            refused.extend({one_line(error)}.difference(refused))
            return None

    tried(lambda: check_batch(training.batch_size, training.micro_batch_size, launch.processes))
    has_base = tried(lambda: plan.base) is not None
    if has_base:
        tried(lambda: check_before_work(plan))
        tried(lambda: check_expert(plan, training))
    data = tried(lambda: _data(plan))
    unit = launch.processes * training.micro_batch_size
    lines = [
        f"world: {world_kind}, {launch.processes} processes, {'bf16' if is_bf16 else 'float32'}; global batch "
        f"{training.batch_size} = {launch.processes} x {training.micro_batch_size} x "
        f"{training.batch_size / unit:g} passes"
    ]
    if data is None:
        return lines, refused
    held_out = tried(lambda: hold_back_of(data.clips, data.dancers, training)) or NOTHING
    tried(lambda: _check_checkpoints(plan, training, pairing))
    lines += _data_lines(data, held_out, training, pairing)
    if not has_base:
        return lines, refused
    lines += _size_lines(plan, training, data, launch.processes, world_kind, is_bf16)
    return lines, refused


def _data(plan: Preparation) -> _Data:
    inputs = plan.inputs
    names = [file.name for file in images.list_photos(Path(inputs.face_images_dir))] if inputs.face_images_dir else []
    photos, told = len(names), len(photo_captions(plan, names))
    if inputs.latents is not None:
        latents = LatentSets.open(inputs.latents_dirs)
        captioned = sum(one.num_captioned for one in latents.sets), told
        return _Data(latents.clips, latents.dancers, latents.sizes, photos, captioned)
    pairs = find_pairs(Path(inputs.dance_videos_dir or ""), Path(inputs.pose_videos_dir or "")).pairs
    is_read = plan.captions.caption_files == "read"
    captioned = len(read_captions({pair.key: pair.caption for pair in pairs})) if is_read else 0, told
    size = (plan.clips.num_frames, plan.clips.height, plan.clips.width)
    return _Data([pair.key for pair in pairs], [pair.dancer for pair in pairs], [size] * len(pairs), photos, captioned)


def _data_lines(data: _Data, held_out: HeldOut, training: TrainingSettings, pairing: PairingSettings) -> list[str]:
    entries = zip(data.sizes, data.clips, data.dancers, strict=True)
    sizes = [size for size, clip, dancer in entries if not held_out.has(clip, dancer)]
    clips = len(sizes)
    mixture = make_mixture(
        sizes,
        [(1, *data.sizes[0][1:])] * data.num_photos,
        pairing.stage2_shares,
        training.freeze_mapper_after_epochs,
        training.seed,
        training.micro_batch_size,
    )
    epoch = mixture.samples_per_epoch
    steps = total_steps(training, epoch) if epoch else 0
    stage2 = ", ".join(f"{count} {kind}" for kind, count in sorted(mixture.quotas.items()))
    first = min(training.freeze_mapper_after_epochs, training.num_epochs)
    return [
        f"data: {len(data.dancers)} clips of {len(set(data.dancers))} dancers; {len(data.dancers) - clips} held out, "
        f"of {len(held_out.dancers)} dancers and of {len(held_out.performances)} performances of others; "
        f"{data.num_photos} photos (before any is dropped); captions of their own: {data.captioned[0]} clips, "
        f"{data.captioned[1]} photos",
        f"mixture: an epoch is {epoch} samples; stage 1, {first} epochs: {clips} clip, {data.num_photos} photo; "
        f"stage 2, {training.num_epochs - first} epochs: {stage2}",
        f"draws: face from another clip of its dancer {pairing.other_clip_share:g}, up to {pairing.max_faces} faces; "
        f"dropped: face {pairing.face_dropout:g}, text {pairing.text_dropout:g}, both {pairing.both_dropout:g}; "
        f"loss in the head {training.masked_loss_probability:g}; logit-normal noise {training.logit_normal_share:g}",
        f"length: {steps} steps in {training.num_epochs} epochs",
    ]


def _size_lines(
    plan: Preparation,
    training: TrainingSettings,
    data: _Data,
    processes: int,
    world_kind: str,
    is_bf16: bool,
) -> list[str]:
    config = plan.base.transformer.config
    embedding = USUAL_EMBEDDING
    if plan.inputs.face_embedding is not None:
        embedding = len(load_identity(plan.inputs.face_embedding).embedding)
    parameters = count_parameters(config, plan.adapter, embedding)
    base, trained = parameters.base, parameters.trained
    num_frames, height, width = data.largest
    tokens = plan.base.geometry.tokens(num_frames, height, width)
    mode = training.checkpointing
    flops = step_flops(config, plan.adapter, tokens, mode, embedding, TEXT_TOKENS)
    kept = 4 if training.ema else 3
    lines = [
        f"sizes: {num_frames} frames at {width}x{height}: {tokens} tokens a clip; base "
        f"{base / 1e6:.1f} M parameters, frozen; trained {trained / 1e6:.2f} M",
        f"work: {training.batch_size * flops.total / 1e12:.3g} TFLOP a step of {training.batch_size} clips "
        f"({flops.total / 1e12:.3g} each: forward {flops.forward / 1e12:.3g}, again {flops.recomputed / 1e12:.3g}, "
        f"backward {flops.backward / 1e12:.3g}; gradient_checkpointing {mode})",
    ]
    peak = training.peak_tflops or (peak_tflops(torch.device("cuda")) if torch.cuda.is_available() else None)
    if peak is not None:
        least = training.batch_size / processes * flops.total / (peak * 1e12)
        lines.append(f"time: at least {least:.2f} s a step, at the device's {peak:g} TFLOP/s")
    zero_stage = int(world_kind.removeprefix("zero")) if world_kind.startswith("zero") else 0
    where = Placement(zero_stage, processes if zero_stage else 1, is_bf16, training.ema > 0, mode)
    memory = predicted_memory(config, parameters, tokens * training.micro_batch_size, where)
    parts = ", ".join(f"{name} {size / GIB:.2f}" for name, size in memory.items())
    lines.append(f"memory: about {sum(memory.values()) / GIB:.1f} GiB a device, predicted ({parts})")
    lines.append(f"disk: {trained * 4 / 1e6:.1f} MB an adapter, {trained * 4 * kept / 1e6:.1f} MB a checkpoint")
    return lines


def _check_checkpoints(plan: Preparation, training: TrainingSettings, pairing: PairingSettings) -> None:
    """Whether what is there would be gone on from; what cannot be known without preparing is taken to fit."""
    folder = Path(plan.inputs.output_dir) / "checkpoints"
    found = checkpoint.find_newest(folder) if training.resume == "auto" else None
    if training.resume not in ("auto", "none"):
        found = Path(training.resume)
    if found is None:
        return
    saved = checkpoint.verify(found)["origin"]
    known = {"base": plan.base.exact_fingerprint}
    if plan.inputs.latents is not None:
        known["latents"] = LatentSets.open(plan.inputs.latents_dirs).sha256
    recipe = {**asdict(training), **asdict(plan.adapter), **asdict(pairing)}
    refuse_other_origin(found, saved, {"chunk": saved.get("chunk", 1), **saved, **known, "recipe": recipe})


def print_dry_run(lines: Iterable[str], refused: Iterable[str]) -> bool:
    """Print both; whether the run would start."""
    for line in lines:
        print(line)
    is_refused = False
    for line in refused:
        print(f"refused: {line}")
        is_refused = True
    if not is_refused:
        print("nothing would be refused")
    return not is_refused
