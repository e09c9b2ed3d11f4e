"""The training loop: positions to samples to a loss to a step, until the end or until it is asked to stop."""

from __future__ import annotations

import logging
import time

import torch

from faceid.data.stream.training_set import collate
from faceid.logs import Progress
from faceid.training.build import Run
from faceid.training.epochs import Epochs
from faceid.training.measuring.meter import Meter, peak_tflops
from faceid.training.measuring.metrics import Metrics
from faceid.training.measuring.sample_counts import Drawn
from faceid.training.measuring.samples import SampleLog
from faceid.training.measuring.step_result import Step
from faceid.training.recipe.schedule import epoch_of, learning_rate
from faceid.training.saving import CheckpointWriter, check_ours, save_adapter_files
from faceid.training.skips import Skips
from faceid.training.step import train_step
from faceid.training.validate import Validation
from faceid.training.world.agreement import Agreement
from faceid.training.world.attempts import FINISHED, STARTED, STOPPED, Attempts
from faceid.training.world.distributed import Positions
from faceid.training.world.stop import STOPPED_EXIT_CODE, StopFlag, ignore_stop_signals
from faceid.training.world.watchdog import Watchdog

log = logging.getLogger(__name__)


def train(run: Run, metrics: Metrics, validation: Validation, attempts: Attempts, watchdog: Watchdog) -> int:
    """Train from `run.start_step` to the end; returns the exit code (0, or 75 when asked to stop)."""
    world, settings = run.world, run.settings
    stop, agreement = StopFlag(run.folder, world.is_main), Agreement(world.accelerator)
    batches = iter(_loader(run))
    drawn, skips = Drawn(), Skips()
    samples = SampleLog(run.folder / "logs", world.rank, run.start_step, settings.log_samples)
    meter = Meter(settings.peak_tflops or peak_tflops(world.accelerator.device))
    checkpoints = CheckpointWriter(run, validation.best)
    epochs = Epochs(run, metrics, validation, checkpoints, watchdog)
    epochs.catch_up()
    progress = Progress("training", total=run.num_steps, done=run.start_step, is_shown=world.is_main)
    num_steps = run.start_step if validation.best.is_over(settings.early_stop_after) else run.num_steps
    if world.is_main:
        attempts.add(STARTED, run.start_step, {"processes": world.accelerator.num_processes})
    for step in range(run.start_step, num_steps):
        began = time.perf_counter()
        result = train_step(run, step, batches, drawn, watchdog)
        done, is_last = step + 1, step + 1 == num_steps
        if world.is_main:
            check_ours(run)
        samples.add(done, result.samples)
        progress.advance()
        is_logged = done % settings.log_every_steps == 0 or is_last
        # Of the step before, for which nothing waits; on a logging step of this one, too.
        arrived = [(step, agreement.exchange([float(stop.is_asked()), result.was_skipped, *drawn.take()]))]
        mean_loss = None
        if is_logged:
            # The device is waited for here alone, and before the clock is read: it has done what is counted.
            mean_loss = world.accelerator.reduce(result.loss, reduction="mean").item()
            arrived.append((done, agreement.read()))
        meter.add(result, time.perf_counter() - began)
        is_asked = False
        for number, sums in arrived:
            if sums is not None:
                is_asked = is_asked or sums[0] > 0
                skips.add(number, was_skipped=sums[1] > 0)
                drawn.share(sums[2:])
        if mean_loss is not None:
            speed = meter.take(world.accelerator.num_processes)
            _log_step(run, metrics, done, mean_loss, result, {**speed, **skips.metrics(), **drawn.metrics()})
        skips.check(checkpoints.folder)
        epochs.after_step(done, result.loss, is_asked and not is_last)
        is_due = settings.checkpoint_every_steps > 0 and done % settings.checkpoint_every_steps == 0
        is_too_damaged = drawn.is_over(len(run.training_set), settings.max_damaged_share)
        is_over = is_last or validation.best.is_over(settings.early_stop_after)
        if is_last:
            skips.refuse_nothing_learnt(num_steps)
        if is_due or is_over or is_asked or is_too_damaged:
            watchdog.at(f"step {done}: saving a checkpoint")
            checkpoints.save(done, is_needed=is_over or is_asked or is_too_damaged)
        if is_too_damaged:
            raise drawn.error(len(run.training_set), settings.max_damaged_share)
        if is_over:
            break
        if is_asked:
            log.warning("stopped as asked after step %d, checkpoint saved; run the same command to go on", done)
            if world.is_main:
                attempts.add(STOPPED, done, {"by": stop.by, "asked_for_s": stop.asked_for_s()})
            return STOPPED_EXIT_CODE
    progress.close()
    watchdog.close()
    if validation.best.is_over(settings.early_stop_after):
        log.info(
            "ended early: %d validations without a better %s than %.5g at step %d, kept as face_lora_best.safetensors",
            validation.best.validations_since,
            validation.best.metric,
            validation.best.value,
            validation.best.step,
        )
    save_adapter_files(run, checkpoints.last_saved, "face_lora_final", (".safetensors", ".pth"))
    if world.is_main:
        attempts.add(FINISHED, checkpoints.last_saved)
    return 0


def _loader(run: Run) -> torch.utils.data.DataLoader:
    """This rank's micro-batches from the start step on. Never `accelerator.prepare`d: positions are ours."""
    workers = run.settings.num_workers
    return torch.utils.data.DataLoader(
        run.training_set,
        batch_sampler=Positions(run.world, run.start_step, run.num_steps),
        collate_fn=collate,
        num_workers=workers,
        worker_init_fn=ignore_stop_signals,
        pin_memory=run.world.accelerator.device.type == "cuda",
        prefetch_factor=4 if workers else None,
    )


def _log_step(run: Run, metrics: Metrics, done: int, mean_loss: float, result: Step, others: dict[str, float]) -> None:
    values = {
        "train/loss": mean_loss,
        "train/epoch": epoch_of(done - 1, len(run.training_set), run.settings.batch_size),
        "optimizer/learning_rate": learning_rate(done - 1, run.settings, run.num_steps),
        "optimizer/mapper_is_frozen": float(run.mapper_gate.is_frozen),
        "optimizer/gradient_norm": float(result.gradient_norm),
        "memory/gib": _memory_gib(run.world.accelerator.device),
        **others,
    }
    metrics.log(done, values)


def _memory_gib(device: torch.device) -> float:
    """Peak device memory, or this process's peak resident memory on a CPU."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 2**30
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
