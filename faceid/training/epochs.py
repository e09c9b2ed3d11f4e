"""Do what is due at the end of an epoch: a line, an adapter file, a checkpoint, and then a validation.

The checkpoint comes first, because a validation renders for minutes and may be killed, or fail. What it leaves undone
is done by the run that resumes that checkpoint, and is recorded once.
"""

from __future__ import annotations

import logging
import math

import torch
from accelerate.utils import broadcast_object_list
from torch import Tensor

from faceid.data.stream.stream_length import StreamLength
from faceid.training.build import Run
from faceid.training.measuring.metrics import Metrics
from faceid.training.recipe.schedule import end_of_epoch, learning_rate
from faceid.training.saving import CheckpointWriter, save_adapter_files
from faceid.training.validate import Validation
from faceid.training.world.watchdog import Watchdog

log = logging.getLogger(__name__)


class Epochs:
    """The ends of a run's epochs. All ranks call."""

    def __init__(
        self, run: Run, metrics: Metrics, validation: Validation, checkpoints: CheckpointWriter, watchdog: Watchdog
    ) -> None:
        self.run, self.metrics, self.validation, self.checkpoints = run, metrics, validation, checkpoints
        self.watchdog = watchdog
        # The sum and the number of this rank's finite losses. They stay on the device until they are needed.
        self._sums = torch.zeros(2, device=run.world.accelerator.device)

    def catch_up(self) -> None:
        """Do what the last attempt left undone: the validation of the epoch that ended where this one begins."""
        done = self.run.start_step
        epoch = self._ending_at(done)
        if epoch is None or self.run.saved["validated"] or not self._is_validated(epoch):
            return
        # metrics.jsonl knows whether the validation was done and is in no checkpoint yet, or was not done.
        (values,) = broadcast_object_list([self.metrics.validation_at(done)])
        if values is None:
            log.info("step %d: the validation of epoch %d was not done; doing it now", done, epoch + 1)
            self._validate(epoch, done)
        elif self.validation.best.update(values, done):
            self.checkpoints.keep_best(done)

    def after_step(self, done: int, loss: Tensor, is_asked_to_stop: bool) -> None:
        """Count a step's loss. Where the step completes an epoch, do what is due.

        is_asked_to_stop: whether to leave a validation to the run that resumes.
        """
        is_finite = torch.isfinite(loss)
        self._sums += torch.stack([torch.where(is_finite, loss, 0.0), is_finite.float()])
        self.checkpoints.awaits_validation = False
        epoch = self._ending_at(done)
        if epoch is None:
            return
        self.watchdog.at(f"step {done}: the end of epoch {epoch + 1}")
        self._say(epoch, done)
        is_saved, is_validated = (epoch + 1) % self.run.sections.saving.save_every == 0, self._is_validated(epoch)
        if is_saved:
            save_adapter_files(self.run, done, f"face_lora_epoch_{epoch + 1}", (".safetensors",))
        if is_saved or is_validated:
            self.watchdog.at(f"step {done}: saving a checkpoint")
            self.checkpoints.awaits_validation = is_validated
            self.checkpoints.save(done, is_needed=False)
        if is_validated and not is_asked_to_stop:
            self._validate(epoch, done)

    def _validate(self, epoch: int, done: int) -> None:
        self.watchdog.at(f"step {done}: validation")
        is_best = self.validation.validate(epoch, done)
        self.checkpoints.awaits_validation = False
        if is_best:
            self.checkpoints.keep_best(done)

    def _is_validated(self, epoch: int) -> bool:
        every = self.run.sections.validation.validate_every
        return every > 0 and (epoch + 1) % every == 0

    def _ending_at(self, done: int) -> int | None:
        return epoch_ending_at(done, self.run.training_set.length, self.run.sections.optimizer.batch_size)

    def _say(self, epoch: int, done: int) -> None:
        optimizer = self.run.sections.optimizer
        total, count = self.run.world.accelerator.reduce(self._sums, reduction="sum").tolist()
        self._sums.zero_()
        # Without any finite loss there is no average. 0 would look like a perfect one.
        average = total / count if count else math.nan
        rate = learning_rate(done - 1, optimizer.learning_rate, optimizer.warmup_steps, self.run.num_steps)
        if self.run.world.is_main:
            # The console line that users look for.
            print(
                f"Epoch {epoch + 1}/{optimizer.num_epochs} - Average Loss: {average:.4f} - LR: {rate:.2e}", flush=True
            )
        average_loss = {"epoch/average_loss": average} if count else {}
        self.metrics.log(done, {**average_loss, "epoch/number": epoch + 1})


def epoch_ending_at(done: int, length: StreamLength, batch_size: int) -> int | None:
    """The last epoch (from 0) that is complete after `done` steps and was not after one step fewer."""
    epoch = length.place(done * batch_size)[0] - 1
    return epoch if epoch >= 0 and end_of_epoch(epoch, length, batch_size) == done else None
