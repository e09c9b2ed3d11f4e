"""The training loop: positions to samples to a loss to a step; and at epochs' ends, videos, adapters, checkpoints."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from faceid import flow
from faceid.data.order import seed_for
from faceid.data.training_set import TrainingSample, collate
from faceid.logs import Progress
from faceid.models.adapter_file import save_adapter
from faceid.models.face_tokens import face_input
from faceid.models.pipeline import Sampling
from faceid.models.wan import load_wan
from faceid.training import checkpoint
from faceid.training.build import Run, at_step
from faceid.training.drawn import Drawn
from faceid.training.metrics import Metrics
from faceid.training.preview import Preview
from faceid.training.schedule import end_of_epoch, epoch_of, is_mapper_frozen, learning_rate
from faceid.training.settings import TrainingSettings
from faceid.training.stop import STOPPED_EXIT_CODE, StopFlag, ignore_stop_signals
from faceid.training.swap_gap import pair_faces, swap_gap

log = logging.getLogger(__name__)

# Clips per group: 16 clips are 64 forward passes of two samples.
SWAP_GAP_CLIPS = 16


@dataclass
class _EpochLoss:
    """Sum of this rank's losses over an epoch, kept on the device until it is asked for."""

    total: Tensor
    count: int = 0

    def add(self, loss: Tensor) -> None:
        self.total += loss.detach()
        self.count += 1


def train(run: Run, metrics: Metrics) -> int:
    """Train from `run.start_step` to the end; returns the exit code (0, or 75 when asked to stop)."""
    world, settings = run.world, run.settings
    samples_per_epoch = len(run.training_set)
    stop = StopFlag(run.folder)
    batches = iter(_loader(run))
    epoch_loss = _new_epoch_loss(run)
    drawn = Drawn()
    progress = Progress("training", total=run.num_steps, done=run.start_step, is_shown=world.is_main)
    last_saved = run.start_step
    for step in range(run.start_step, run.num_steps):
        began = time.perf_counter()
        loss, gradient_norm, data_wait_s = _train_step(run, step, batches, drawn)
        epoch_loss.add(loss)
        done = step + 1
        progress.advance()
        is_asked, counts = stop.agreed(world.accelerator, drawn.take())
        drawn.share(counts)
        if done % settings.log_every_steps == 0 or done == run.num_steps:
            values = {"time/step_s": time.perf_counter() - began, "time/data_wait_s": data_wait_s, **drawn.metrics()}
            _log_step(run, metrics, done, loss, gradient_norm, values)
        epoch = _epoch_ending_at(done, samples_per_epoch, settings.batch_size)
        if epoch is not None:
            _end_epoch(run, metrics, epoch, done, epoch_loss)
            epoch_loss = _new_epoch_loss(run)
        is_due = settings.checkpoint_every_steps and done % settings.checkpoint_every_steps == 0
        is_last = done == run.num_steps
        if is_due or is_last or (epoch is not None and (epoch + 1) % settings.save_every == 0):
            _save_checkpoint(run, done)
            last_saved = done
        is_too_damaged = drawn.is_over(samples_per_epoch, settings.max_damaged_share)
        if (is_asked or is_too_damaged) and not is_last and last_saved != done:
            _save_checkpoint(run, done)
        if is_too_damaged:
            raise drawn.error(samples_per_epoch, settings.max_damaged_share)
        if is_asked and not is_last:
            log.warning("stopped as asked after step %d, checkpoint saved; run the same command to go on", done)
            return STOPPED_EXIT_CODE
    progress.close()
    _save_adapter(run, run.num_steps, "face_lora_final", (".safetensors", ".pth"))
    return 0


def sample_loss(run: Run, batch: TrainingSample, sigma: Tensor) -> Tensor:
    """The flow-matching loss of one micro-batch, float32 scalar. sigma: [B]."""
    transformer_dtype = run.wan.transformer.dtype
    x_t = flow.add_noise(batch.x0, batch.noise, sigma)
    # Dropout inside the mapper, by position: the same whatever the number of processes.
    torch.manual_seed(seed_for(run.settings.seed, batch.g[0], "mapper dropout"))
    prediction = run.transformer(
        hidden_states=x_t.to(transformer_dtype),
        timestep=flow.model_timestep(sigma),
        encoder_hidden_states=batch.text.to(transformer_dtype),
        encoder_hidden_states_image=face_input(batch.face),
        control_hidden_states=batch.control.to(transformer_dtype),
        return_dict=False,
    )[0]
    error = flow.flow_loss(prediction, flow.velocity_target(batch.x0, batch.noise))
    return torch.stack([reduce_error(run.settings, error[i], batch, i) for i in range(len(batch.g))]).mean()


def reduce_error(settings: TrainingSettings, error: Tensor, batch: TrainingSample, i: int) -> Tensor:
    """Mean over all cells, or with some probability over the head's alone. error: of entry i, [f, h, w]."""
    head_mask, g = batch.head_mask[i], batch.g[i]
    generator = torch.Generator().manual_seed(seed_for(settings.seed, g, "masked loss"))
    is_drawn = torch.rand(1, generator=generator).item() < settings.masked_loss_probability
    if is_drawn and batch.head_cells[i] >= settings.masked_loss_min_cells:
        return (error * head_mask).sum() / head_mask.sum()
    return error.mean()


def _train_step(run: Run, step: int, batches: Iterator[TrainingSample], drawn: Drawn) -> tuple[Tensor, Any, float]:
    """One optimizer step; (mean loss of this rank, gradient norm, seconds waited for data)."""
    accelerator, settings = run.world.accelerator, run.settings
    frozen = is_mapper_frozen(step, settings, len(run.training_set))
    run.mapper_gate.is_frozen = frozen
    rate = learning_rate(step, settings, run.num_steps)
    for number, group in enumerate(run.optimizer.param_groups):
        group["lr"] = 0.0 if number == 0 and frozen else rate
    sigmas = _sigmas(run, step)
    total = torch.zeros((), device=accelerator.device)
    gradient_norm, waited_s = None, 0.0
    for _ in range(run.world.accumulation):
        began = time.perf_counter()
        batch = next(batches).to(accelerator.device)
        waited_s += time.perf_counter() - began
        drawn.add(batch)
        slots = [g - step * settings.batch_size for g in batch.g]
        with accelerator.accumulate(run.transformer):
            loss = sample_loss(run, batch, sigmas[slots].to(accelerator.device))
            total += loss.detach()
            accelerator.backward(loss)
            if accelerator.sync_gradients:
                gradient_norm = accelerator.clip_grad_norm_(run.transformer.parameters(), settings.max_grad_norm)
            run.optimizer.step()
            run.optimizer.zero_grad()
    return total / run.world.accumulation, gradient_norm, waited_s


def _sigmas(run: Run, step: int) -> Tensor:
    """Noise levels of the whole global batch; every rank draws all and takes its own."""
    settings = run.settings
    generator = torch.Generator().manual_seed(seed_for(settings.seed, step, "sigma"))
    return flow.stratified_sigmas(settings.batch_size, settings.shift, settings.logit_normal_share, generator)


def _loader(run: Run) -> torch.utils.data.DataLoader:
    """This rank's micro-batches from the start step on. Never `accelerator.prepare`d: positions are ours."""
    positions = [m for step in range(run.start_step, run.num_steps) for m in run.world.positions(step)]
    workers = run.settings.num_workers
    return torch.utils.data.DataLoader(
        run.training_set,
        batch_sampler=positions,
        collate_fn=collate,
        num_workers=workers,
        worker_init_fn=ignore_stop_signals,
        pin_memory=run.world.accelerator.device.type == "cuda",
        prefetch_factor=4 if workers else None,
    )


def _log_step(
    run: Run, metrics: Metrics, done: int, loss: Tensor, gradient_norm: Any, others: dict[str, float]
) -> None:
    accelerator = run.world.accelerator
    values = {
        "train/loss": accelerator.reduce(loss, reduction="mean").item(),
        "train/epoch": epoch_of(done - 1, len(run.training_set), run.settings.batch_size),
        "optimizer/learning_rate": learning_rate(done - 1, run.settings, run.num_steps),
        "optimizer/mapper_is_frozen": float(run.mapper_gate.is_frozen),
        "optimizer/gradient_norm": float(gradient_norm) if gradient_norm is not None else float("nan"),
        "memory/gib": _memory_gib(accelerator.device),
        **others,
    }
    metrics.log(done, values)


def _memory_gib(device: torch.device) -> float:
    """Peak device memory, or this process's peak resident memory on a CPU."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 2**30
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


def _epoch_ending_at(done: int, samples_per_epoch: int, batch_size: int) -> int | None:
    """The last epoch (from 0) that is complete after `done` steps and was not after one fewer."""
    epoch = done * batch_size // samples_per_epoch - 1
    return epoch if epoch >= 0 and end_of_epoch(epoch, samples_per_epoch, batch_size) == done else None


def _end_epoch(run: Run, metrics: Metrics, epoch: int, done: int, epoch_loss: _EpochLoss) -> None:
    settings = run.settings
    average = run.world.accelerator.reduce(epoch_loss.total / max(epoch_loss.count, 1), reduction="mean").item()
    rate = learning_rate(done - 1, settings, run.num_steps)
    if run.world.is_main:
        # The console line users look for.
        print(f"Epoch {epoch + 1}/{settings.num_epochs} - Average Loss: {average:.4f} - LR: {rate:.2e}", flush=True)
    metrics.log(done, {"epoch/average_loss": average, "epoch/number": epoch + 1})
    if settings.validate_every and (epoch + 1) % settings.validate_every == 0:
        _validate(run, metrics, epoch, done)
    if (epoch + 1) % settings.save_every == 0:
        _save_adapter(run, done, f"face_lora_epoch_{epoch + 1}", (".safetensors",))


def _validate(run: Run, metrics: Metrics, epoch: int, done: int) -> None:
    """Render the target on a fixed pose. Under ZeRO-3 all ranks take part, else the main one while others wait."""
    if run.world.is_main or run.world.kind == "zero3":
        if run.wan.vae is None:
            run.wan.vae = load_wan(run.wan.path, ("vae",), run.world.accelerator.device, name=run.wan.name).vae
        sampling = Sampling(num_inference_steps=run.settings.validation_steps, seed=run.settings.seed)
        face, fps = run.identity.embedding, run.metadata.fps
        preview = Preview(run.wan, run.adapter, run.training_set.latents, face, fps, sampling)
        key, frames, strip = preview.render()
        gaps = _swap_gaps(run)
        if run.world.is_main:
            path = preview.write(run.folder / f"validation_epoch_{epoch + 1}", key, frames)
            metrics.log_picture("validation/pose_clip_render", strip, done)
            log.info("validation video %s", path)
            if gaps:
                metrics.log(done, gaps)
    run.world.accelerator.wait_for_everyone()


def _swap_gaps(run: Run) -> dict[str, float]:
    """The embedding-swap gap on clips of training dancers and of held-out ones, and the losses it is made of."""
    data = run.training_set
    heldout = sorted(data.heldout_dancers)
    groups = {"training_dancers": sorted(set(data.latents.dancers) - data.heldout_dancers), "heldout_dancers": heldout}
    values = {}
    transformer = run.wan.transformer
    was_training = transformer.training
    transformer.eval()
    for name, dancers in groups.items():
        pairs = pair_faces(data.latents, data.pairing.faces, dancers, SWAP_GAP_CLIPS)
        if pairs:
            gap = swap_gap(transformer, data.latents, data.statistics, pairs, run.settings.seed)
            values[f"validation/swap_gap_{name}"] = gap.gap
            values[f"validation/head_loss_{name}"] = gap.right
    transformer.train(was_training)
    return values


def _save_adapter(run: Run, done: int, name: str, suffixes: tuple[str, ...]) -> None:
    tensors = run.sharded.trainables()
    if run.world.is_main:
        for suffix in suffixes:
            save_adapter(run.folder / f"{name}{suffix}", tensors, at_step(run.metadata, done))
        log.info("saved %s", ", ".join(str(run.folder / f"{name}{suffix}") for suffix in suffixes))
    run.world.accelerator.wait_for_everyone()


def _save_checkpoint(run: Run, done: int) -> None:
    state = {"step": done, "origin": run.origin}
    folder = run.folder / "checkpoints"
    path = checkpoint.save(folder, run.sharded, state, run.settings.keep_checkpoints, run.world.is_main)
    run.world.accelerator.wait_for_everyone()
    log.info("checkpoint %s", path)


def _new_epoch_loss(run: Run) -> _EpochLoss:
    return _EpochLoss(total=torch.zeros((), device=run.world.accelerator.device))
