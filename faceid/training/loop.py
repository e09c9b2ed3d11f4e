"""Loop over training: positions to samples to a loss to a step, until the end or a request to stop."""

from __future__ import annotations

import logging
import time

import torch

from faceid.data.stream.training_set import collate
from faceid.logs import Progress
from faceid.training.build import Run
from faceid.training.epochs import Epochs
from faceid.training.measuring.metrics import Metrics
from faceid.training.measuring.samples import SampleLog
from faceid.training.saving import CheckpointWriter, check_ours, save_adapter_files
from faceid.training.step import train_step
from faceid.training.step_numbers import StepNumbers
from faceid.training.validate import Validation
from faceid.training.validation.best import Best
from faceid.training.world.attempts import FINISHED, STARTED, STOPPED, Attempts
from faceid.training.world.distributed import Positions
from faceid.training.world.stop import STOPPED_EXIT_CODE, StopFlag, ignore_stop_signals
from faceid.training.world.watchdog import Watchdog

log = logging.getLogger(__name__)


def train(run: Run, metrics: Metrics, validation: Validation, attempts: Attempts, watchdog: Watchdog) -> int:
    """Train from `run.start_step` to the end. Returns the exit code (0, or 75 when asked to stop)."""
    world, best = run.world, validation.best
    early_stop_after = run.sections.validation.early_stop_after
    stop = StopFlag(run.folder, world.is_main)
    numbers, batches = StepNumbers(run, metrics, stop), iter(_loader(run))
    samples = SampleLog(run.folder / "logs", world.rank, run.start_step, run.sections.logging.log_samples)
    checkpoints = CheckpointWriter(run, best)
    epochs = Epochs(run, metrics, validation, checkpoints, watchdog)
    epochs.catch_up()
    progress = Progress("training", total=run.num_steps, done=run.start_step, is_shown=world.is_main)
    num_steps = run.start_step if best.is_over(early_stop_after) else run.num_steps
    if world.is_main:
        attempts.add(STARTED, run.start_step, {"processes": world.accelerator.num_processes})
    for step in range(run.start_step, num_steps):
        began = time.perf_counter()
        result = train_step(run, step, batches, numbers.counts, watchdog)
        done, is_last = step + 1, step + 1 == num_steps
        if world.is_main:
            check_ours(run)
        samples.add(done, result.samples)
        progress.advance()
        is_asked = numbers.after_step(done, result, began, is_last)
        numbers.skips.check(checkpoints.folder)
        epochs.after_step(done, result.losses["loss"], is_asked and not is_last)
        is_over = is_last or best.is_over(early_stop_after)
        if is_last:
            numbers.skips.refuse_nothing_learnt(num_steps)
        _save_if_due(run, done, checkpoints, numbers, watchdog, is_ending=is_over or is_asked)
        if is_over:
            break
        if is_asked:
            log.warning("stopped as asked after step %d, checkpoint saved; run the same command to go on", done)
            if world.is_main:
                attempts.add(STOPPED, done, {"by": stop.by, "asked_for_s": stop.asked_for_s()})
            return STOPPED_EXIT_CODE
    progress.close()
    watchdog.close()
    if best.is_over(early_stop_after):
        _say_early_end(best)
    save_adapter_files(run, checkpoints.last_saved, "face_lora_final", (".safetensors", ".pth"))
    if world.is_main:
        attempts.add(FINISHED, checkpoints.last_saved)
    return 0


def _loader(run: Run) -> torch.utils.data.DataLoader:
    """This rank's micro-batches from the start step on. Never use `accelerator.prepare` here: positions are ours."""
    workers = run.sections.execution.num_workers
    return torch.utils.data.DataLoader(
        run.training_set,
        batch_sampler=Positions(run.world, run.start_step, run.num_steps),
        collate_fn=collate,
        num_workers=workers,
        worker_init_fn=ignore_stop_signals,
        pin_memory=run.world.accelerator.device.type == "cuda",
        prefetch_factor=4 if workers else None,
    )


def _save_if_due(
    run: Run, done: int, checkpoints: CheckpointWriter, numbers: StepNumbers, watchdog: Watchdog, is_ending: bool
) -> None:
    """Save a checkpoint every so many steps, and before the run ends, also when damaged clips end it.

    Raises: DataError when too many clips were damaged.
    """
    every, most_damaged = run.sections.saving.checkpoint_every_steps, run.sections.execution.max_damaged_share
    is_too_damaged = numbers.counts.is_over(len(run.training_set), most_damaged)
    is_needed = is_ending or is_too_damaged
    if is_needed or (every > 0 and done % every == 0):
        watchdog.at(f"step {done}: saving a checkpoint")
        checkpoints.save(done, is_needed=is_needed)
    if is_too_damaged:
        raise numbers.counts.error(len(run.training_set), most_damaged)


def _say_early_end(best: Best) -> None:
    log.info(
        "ended early: %d validations without a better %s than %.5g at step %d, kept as face_lora_best.safetensors",
        best.validations_since,
        best.metric,
        best.value,
        best.step,
    )
