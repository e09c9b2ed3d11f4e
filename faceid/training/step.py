"""Do one optimizer step: positions to samples to a loss to an update.

The recipe's mathematics: here and in flow.py.
"""

from __future__ import annotations

import time
from collections.abc import Iterator

import torch
from torch import Tensor

from faceid import flow
from faceid.data.order import seed_for
from faceid.data.stream.training_set import TrainingSample
from faceid.models.adapter.face_tokens import face_input
from faceid.models.wan_vace.transformer import forward_inputs
from faceid.training.build import MAPPER_GROUP, OTHERS_GROUP, TARGET_GROUP, Run
from faceid.training.measuring.meter import Step
from faceid.training.measuring.sample_counts import SampleCounts
from faceid.training.recipe.recipe_settings import LossSettings
from faceid.training.recipe.schedule import is_stage2, learning_rate
from faceid.training.world.watchdog import Watchdog


def train_step(
    run: Run, step: int, batches: Iterator[TrainingSample], counts: SampleCounts, watchdog: Watchdog
) -> Step:
    """Do all micro-batches of optimizer step `step` (from 0), and the update."""
    accelerator, optimizer = run.world.accelerator, run.sections.optimizer
    _enter_stage(run, step)
    sigmas, of_photos = _sigmas(run, step)
    totals: dict[str, Tensor] = {}
    gradient_norm, waited_s, tokens, flops = None, 0.0, 0, 0.0
    samples: list[tuple[int, str]] = []
    for micro in range(run.world.accumulation):
        watchdog.at(f"step {step + 1}: waiting for data")
        began = time.perf_counter()
        batch = next(batches).to(accelerator.device)
        waited_s += time.perf_counter() - began
        watchdog.at(f"step {step + 1}: forward and backward")
        counts.add(batch, sum(is_masked(run.sections.loss, optimizer.seed, batch, i) for i in range(len(batch.g))))
        samples += zip(batch.g, batch.keys, strict=True)
        slots = [g - step * optimizer.batch_size for g in batch.g]
        micro_tokens, micro_flops = run.work(batch)
        tokens, flops = tokens + micro_tokens, flops + micro_flops
        with accelerator.accumulate(run.transformer):
            is_photo = torch.tensor([kind == "photo" for kind in batch.kinds])
            levels = torch.where(is_photo, of_photos[slots], sigmas[slots]).to(accelerator.device)
            losses = sample_losses(run, batch, levels, _any_null(run, step, micro, batch))
            for name, loss in losses.items():
                totals[name] = totals.get(name, 0.0) + loss.detach()
            accelerator.backward(losses["loss"])
            if accelerator.sync_gradients:
                gradient_norm = accelerator.clip_grad_norm_(run.transformer.parameters(), optimizer.max_grad_norm)
                run.sharded.skip_unless_finite(gradient_norm)
            run.optimizer.step()
            run.optimizer.zero_grad()
    run.sharded.average(step)
    means = {name: total / run.world.accumulation for name, total in totals.items()}
    return Step(means, gradient_norm, run.sharded.was_skipped(), waited_s, tokens, flops, samples)


def _enter_stage(run: Run, step: int) -> None:
    """Set each group's learning rate for this step. The mapper's is 0 in stage 2."""
    optimizer, length = run.sections.optimizer, run.training_set.length
    first, batch_size = optimizer.freeze_mapper_after_epochs, optimizer.batch_size
    frozen = is_stage2(step, first, length, batch_size)
    run.gate.is_stage2 = frozen
    if frozen and (step == 0 or not is_stage2(step - 1, first, length, batch_size)):
        # The mapper is frozen at the exported (averaged) weights, so that stage 2 builds on those.
        run.sharded.adopt_average(run.adapter.mapper_parameters())
    rate = learning_rate(step, optimizer.learning_rate, optimizer.warmup_steps, run.num_steps)
    rates = {
        MAPPER_GROUP: 0.0 if frozen else rate,
        OTHERS_GROUP: rate,
        TARGET_GROUP: optimizer.target_tokens_rate * rate,
    }
    for number, group in enumerate(run.optimizer.param_groups):
        group["lr"] = rates[number]


def sample_losses(run: Run, batch: TrainingSample, sigma: Tensor, with_base: bool = False) -> dict[str, Tensor]:
    """Losses of one micro-batch, float32 scalars: `loss`, which is learnt, and further terms, logged as train/NAME.

    `loss` is the flow-matching loss. sigma: [B].

    Entries of kind `null` are taught what the frozen base predicts (`null_target`). with_base: run the base, too.
    Under ZeRO-3 all ranks do so as soon as one has such an entry, since each forward gathers parameters from all.
    """
    dtype = run.wan.transformer.dtype
    x_t = flow.add_noise(batch.x0, batch.noise, sigma)
    inputs = forward_inputs(x_t.to(dtype), flow.model_timestep(sigma), batch.text.to(dtype), batch.control.to(dtype))
    target = flow.velocity_target(batch.x0, batch.noise)
    if with_base:
        with torch.no_grad(), run.adapter.off():
            base = run.wan.transformer(**inputs)[0].float()
        is_null = torch.tensor([kind == "null" for kind in batch.kinds], device=target.device)
        target = torch.where(is_null.view(-1, 1, 1, 1, 1), base, target)
    # Dropout inside the mapper follows the position. It is the same whatever the number of processes.
    torch.manual_seed(seed_for(run.sections.optimizer.seed, batch.g[0], "mapper dropout"))
    face = face_input(batch.face, target_share=batch.target_share)
    prediction = run.transformer(encoder_hidden_states_image=face, **inputs)[0]
    # Reference frames are shown, and nothing is learnt of how they are drawn.
    error = flow.flow_loss(prediction, target)[:, batch.num_references :]
    loss, seed = run.sections.loss, run.sections.optimizer.seed
    flow_loss = torch.stack([reduce_error(loss, seed, error[i], batch, i) for i in range(len(batch.g))]).mean()
    losses = {"loss": flow_loss}
    if run.identity_loss is not None:
        with torch.autocast(x_t.device.type, enabled=False):
            terms = run.identity_loss(batch, x_t, prediction, sigma)
        losses["loss"] = flow_loss + run.sections.identity_loss.identity_loss_weight * terms["identity_loss"]
        losses |= {"flow_loss": flow_loss, **terms}
    return losses


def reduce_error(settings: LossSettings, seed: int, error: Tensor, batch: TrainingSample, i: int) -> Tensor:
    """Mean over all cells, or with some probability over the head's alone. error: of entry i, [f, h, w].

    Of a body: over those outside the head.
    """
    if batch.bodies[i]:
        learnt = 1 - batch.head_mask[i]
    elif is_masked(settings, seed, batch, i):
        learnt = batch.head_mask[i]
    else:
        return error.mean()
    # A head that fills the picture leaves a body nothing.
    return (error * learnt).sum() / learnt.sum().clamp(min=1)


def is_masked(settings: LossSettings, seed: int, batch: TrainingSample, i: int) -> bool:
    """Whether entry i's loss is taken inside the head. It is drawn by position; never for heads of a few cells."""
    # A body has no head to learn. Without a face, the whole picture should stay as the base makes it.
    if batch.bodies[i] or batch.head_cells[i] < settings.masked_loss_min_cells or batch.kinds[i] == "null":
        return False
    generator = torch.Generator().manual_seed(seed_for(seed, batch.g[i], "masked loss"))
    return torch.rand(1, generator=generator).item() < settings.masked_loss_probability


def _any_null(run: Run, step: int, micro: int, batch: TrainingSample) -> bool:
    """Whether this micro-batch needs the base's prediction: for any rank under ZeRO-3, else for this rank's own."""
    if run.sections.loss.null_target != "base":
        return False
    if run.world.kind != "zero3":
        return "null" in batch.kinds
    ranks = range(run.world.accelerator.num_processes)
    mixture = run.training_set.mixture
    return any(mixture[g].kind == "null" for rank in ranks for g in run.world.positions(step, rank)[micro])


def _sigmas(run: Run, step: int) -> tuple[Tensor, Tensor]:
    """Noise levels of the whole global batch, for clips and for photos. Every rank draws all and takes its own."""
    optimizer, settings, noise = run.sections.optimizer, run.sections.noise, run.wan.files.noise

    def draw(shift: float, logit_normal_share: float) -> Tensor:
        # Of the same generator, so that photos without levels of their own have those that clips would have.
        generator = torch.Generator().manual_seed(seed_for(optimizer.seed, step, "sigma"))
        return flow.stratified_sigmas(optimizer.batch_size, shift, logit_normal_share, generator, noise)

    return draw(settings.shift, settings.logit_normal_share), draw(*settings.of_photos)
