"""Write what was trained: adapters for use, checkpoints for resuming.

All ranks call; the main one writes.
"""

from __future__ import annotations

import logging
from dataclasses import replace

from accelerate.utils import broadcast_object_list

from faceid.errors import FaceidError
from faceid.models.adapter.adapter_file import save_adapter
from faceid.training.build import Run
from faceid.training.checkpoints import checkpoint
from faceid.training.validation.best import Best
from faceid.training.world.fence import FencedError

log = logging.getLogger(__name__)

# A disk that is full for a while must not end a run. One that stays full must not go unnoticed for days.
MOST_FAILED_SAVES = 3


def save_adapter_files(run: Run, done: int, name: str, suffixes: tuple[str, ...]) -> None:
    """Write `name` with each suffix into the run folder: the averaged weights after `done` steps."""
    tensors = run.sharded.exported()
    if run.world.is_main:
        check_ours(run)
        for suffix in suffixes:
            save_adapter(run.folder / f"{name}{suffix}", tensors, replace(run.metadata, step=done))
        log.info("saved %s", ", ".join(str(run.folder / f"{name}{suffix}") for suffix in suffixes))
    run.world.accelerator.wait_for_everyone()


def check_ours(run: Run) -> None:
    """Check on the main process. Raises: FencedError when another attempt has the run folder by now."""
    if run.fence is not None:
        run.fence.check()


BEST = "best"


class CheckpointWriter:
    """Saves checkpoints of a run. Training goes on when one cannot be saved."""

    def __init__(self, run: Run, best: Best) -> None:
        """best: its state is kept in every checkpoint."""
        self.run, self.folder, self.best = run, run.folder / "checkpoints", best
        self.last_saved = run.start_step
        self.awaits_validation = False
        """Whether the saved step has a validation that is not done yet."""
        self._failed = 0

    def save(self, done: int, is_needed: bool) -> None:
        """Save the state after `done` steps, unless it is saved already.

        Raises: CheckpointError when saving fails and `is_needed` (the run ends now), or at the third failure in a row.
        """
        if self.last_saved == done:
            return
        tensors = self.run.sharded.gather()
        state = {
            "step": done,
            "updates": self.run.sharded.updates(),
            "origin": self.run.origin,
            "validation": self.best.as_saved(),
            "validated": not self.awaits_validation,
            "samples_per_epoch": self.run.training_set.length.stage1,
            "stage2_samples_per_epoch": self.run.training_set.length.stage2,
        }
        problem = None
        if self.run.world.is_main:
            try:
                path = checkpoint.save(
                    self.folder, tensors, state, self.run.sections.saving.keep_checkpoints, lambda: check_ours(self.run)
                )
                log.info("checkpoint %s", path)
            except FencedError:
                raise
            except (OSError, FaceidError) as error:
                problem = f"{self.folder}: the checkpoint of step {done} could not be saved ({error})"
        # All ranks learn of the problem, because their next action depends on it.
        (problem,) = broadcast_object_list([problem])
        if problem is None:
            self.last_saved, self._failed = done, 0
            return
        self._failed += 1
        if is_needed or self._failed >= MOST_FAILED_SAVES:
            kept = next(checkpoint.newest_first(self.folder), None)
            onwards = "nothing was saved before, so it begins anew" if kept is None else f"it goes on from {kept}"
            raise checkpoint.CheckpointError(f"{problem}; make room and run the same command: {onwards}")
        log.error("%s; training goes on, the next one is tried when it is due", problem)

    def keep_best(self, done: int) -> None:
        """Save the state after `done` steps. Keep it, and its adapter, whatever comes after."""
        self.save(done, is_needed=False)
        kept = self.folder / checkpoint.name_of(done)
        # A checkpoint that --resume named may lie elsewhere, and belongs to somebody.
        if self.last_saved == done and self.run.world.is_main and kept.is_dir():
            checkpoint.unpin(self.folder, BEST)
            checkpoint.pin(kept, BEST)
        save_adapter_files(self.run, done, "face_lora_best", (".safetensors",))
