"""Exchange the numbers of each step between the processes, and log them.

They come one step late, so that no step waits for the device. Only a logging step waits, and has its own numbers.
"""

from __future__ import annotations

import time

import torch

from faceid.training.build import Run
from faceid.training.inputs.identity_loss import of_entries
from faceid.training.measuring.meter import Meter, Step, peak_tflops
from faceid.training.measuring.metrics import Metrics
from faceid.training.measuring.sample_counts import SampleCounts
from faceid.training.recipe.schedule import epoch_of, learning_rate
from faceid.training.skips import Skips
from faceid.training.world.agreement import Agreement
from faceid.training.world.stop import StopFlag


class StepNumbers:
    """Sums over the processes, the same on all of them. All ranks call."""

    def __init__(self, run: Run, metrics: Metrics, stop: StopFlag) -> None:
        self.run, self.metrics, self.stop = run, metrics, stop
        self.counts, self.skips = SampleCounts(), Skips()
        self._agreement = Agreement(run.world.accelerator)
        self._meter = Meter(run.sections.logging.peak_tflops or peak_tflops(run.world.accelerator.device))

    def after_step(self, done: int, result: Step, began: float, is_last: bool) -> bool:
        """Exchange a step's numbers and log them when due. Return whether any process was asked to stop.

        began: the clock (`time.perf_counter`) when the step began. is_last: that step is logged in any case.
        """
        own: list[float | torch.Tensor] = [float(self.stop.is_asked()), result.was_skipped, *self.counts.take()]
        # These numbers are of the step before, for which nothing waits. A logging step adds its own.
        arrived = [(done - 1, self._agreement.exchange(own))]
        mean_losses = None
        if is_last or done % self.run.sections.logging.log_every_steps == 0:
            # Only here the device is waited for, before the clock is read. So the counted work is done by then.
            reduced = self.run.world.accelerator.reduce(result.losses, reduction="mean")
            mean_losses = of_entries({name: loss.item() for name, loss in reduced.items()})
            arrived.append((done, self._agreement.read()))
        self._meter.add(result, time.perf_counter() - began)
        is_asked = False
        for number, sums in arrived:
            if sums is not None:
                is_asked = is_asked or sums[0] > 0
                self.skips.add(number, was_skipped=sums[1] > 0)
                self.counts.share(sums[2:])
        if mean_losses is not None:
            self._log(done, mean_losses, float(result.gradient_norm))
        return is_asked

    def _log(self, done: int, mean_losses: dict[str, float], gradient_norm: float) -> None:
        run, optimizer = self.run, self.run.sections.optimizer
        values = {
            **{f"train/{name}": loss for name, loss in mean_losses.items()},
            "train/epoch": epoch_of(done - 1, run.training_set.length, optimizer.batch_size),
            "optimizer/learning_rate": learning_rate(
                done - 1, optimizer.learning_rate, optimizer.warmup_steps, run.num_steps
            ),
            "optimizer/mapper_is_frozen": float(run.gate.is_stage2),
            "optimizer/gradient_norm": gradient_norm,
            "memory/gib": _memory_gib(run.world.accelerator.device),
            **self._meter.take(run.world.accelerator.num_processes),
            **self.skips.metrics(),
            **self.counts.metrics(),
        }
        self.metrics.log(done, values)


def _memory_gib(device: torch.device) -> float:
    """Peak device memory, or this process's peak resident memory on a CPU."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 2**30
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
