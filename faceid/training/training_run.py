"""Do one training run from parsed sections to exit code.

The steps are: claim the folder, prepare inputs, join the world, train.
"""

from __future__ import annotations

import logging
import os
import traceback
import warnings
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from faceid.device import pick_device
from faceid.errors import USER_ERROR_EXIT_CODE, FaceidError, one_line
from faceid.faces.identities.identity import Identity
from faceid.files.outputs import RUN_FOLDER, claim_folder, write_bookkeeping
from faceid.files.provenance import write_provenance
from faceid.files.writing import make_folder
from faceid.logs import log_file, set_up_logging
from faceid.processes import number_in
from faceid.training.build import Run, build_run
from faceid.training.checkpoints import checkpoint
from faceid.training.checkpoints.run_folder import FOLDERS_WITH_FACES
from faceid.training.checks.dry_run import dry_run, print_dry_run
from faceid.training.checks.refusals import refusals, refuse_shorter
from faceid.training.checks.run_sections import RunSections
from faceid.training.checks.training_effects import warn_without_effect
from faceid.training.inputs.input_plan import InputPlan
from faceid.training.inputs.origin import StartingPoint
from faceid.training.inputs.prepare import prepare_on_main, remove_marker
from faceid.training.loop import train
from faceid.training.measuring.metrics import Metrics
from faceid.training.recipe.global_batch import said_of_batch
from faceid.training.recipe.likeness import said_of_likeness, samples_of_run
from faceid.training.validate import Validation
from faceid.training.validation.judge import Judging
from faceid.training.world.attempts import Attempts
from faceid.training.world.compile_lock import choose_extensions_folder, clear_stale_locks
from faceid.training.world.distributed import World, expected_world, join_world
from faceid.training.world.fence import Fence
from faceid.training.world.launched import Launch, leave_meeting, meet, read_launch
from faceid.training.world.watchdog import Watchdog

log = logging.getLogger(__name__)


def run_training(sections: RunSections) -> int:
    """Train and return the exit code: 0 when finished, 75 when asked to stop and checkpointed."""
    folder = Path(sections.inputs.output_dir)
    launch = read_launch(sections.execution.accelerate_config, folder)
    has_references = sections.pairing.reference_share > 0
    plan = InputPlan.of(
        sections.inputs,
        sections.adapter,
        sections.clips,
        sections.captions,
        sections.faces,
        sections.photos,
        has_references,
    )
    saved = checkpoint.state_of_newest(folder / "checkpoints", sections.saving.resume)
    if sections.execution.dry_run:
        return _dry_run(plan, sections, launch, saved) if launch.rank == 0 else 0
    asked_batch_size = sections.optimizer.batch_size
    sections = sections.with_global_batch(launch.processes, saved)
    for check in refusals(plan, sections, launch):
        check()
    with ExitStack() as stack:
        # Set up before the folder is read or written. So a refused run leaves nothing in another run's logs.
        set_up_logging(launch.rank)
        fence = stack.enter_context(Fence(folder, launch.attempt)) if launch.rank == 0 else None
        if launch.rank == 0:
            # `refusals` has checked what lies there.
            claim_folder(folder, RUN_FOLDER, is_known=True)
            for name in FOLDERS_WITH_FACES:
                make_folder(folder / name, private=not sections.faces.shared)
        set_up_logging(launch.rank, folder / "logs")
        # From here on a process may stand still, waiting for the others, a file server or a compiler.
        watchdog = Watchdog(sections.logging.watchdog_s, log_file(folder / "logs", launch.rank))
        stack.enter_context(watchdog)
        _quiet_libraries()
        batch_size = sections.optimizer.batch_size
        if said := said_of_batch(asked_batch_size, batch_size, launch.processes, saved is not None):
            log.warning("%s", said)
        warn_without_effect(sections)
        watchdog.at("preparing the inputs", may_take_long=True)
        prepared = prepare_on_main(plan, launch.rank, str(pick_device(None)))
        watchdog.at("joining the other processes")
        world = _join(sections, launch)
        if world.is_main:
            # Joining is a barrier, so everyone has seen the marker.
            remove_marker(plan)
            leave_meeting(launch)
        watchdog.at("loading the base, the data and a checkpoint")
        run = build_run(
            world, sections, prepared, StartingPoint.of(plan, asked_batch_size, sections.faces.encoder_path), fence
        )
        optimizer, saving = sections.optimizer, sections.saving
        refuse_shorter(optimizer.num_epochs, run.num_steps, run.start_step, folder)
        if run.start_step < run.num_steps:
            # Each save checks its own room, too. Here nothing has been computed yet.
            has_best = sections.validation.validate_every > 0
            checkpoint.check_room(folder / "checkpoints", _bytes_saved(run)[1], saving.keep_checkpoints, has_best)
        judging = _judging(plan, sections.validation.judge, run.identity)
        return _train(run, sections.as_yaml(), judging, Attempts(folder, launch.attempt), watchdog)


def _dry_run(plan: InputPlan, sections: RunSections, launch: Launch, saved: Mapping[str, Any] | None) -> int:
    world = expected_world(sections.optimizer.mixed_precision, launch.processes)
    is_begun = print_dry_run(*dry_run(plan, sections, launch, saved, world))
    if is_begun:
        warn_without_effect(sections)
    return 0 if is_begun else USER_ERROR_EXIT_CODE


def _join(sections: RunSections, launch: Launch) -> World:
    """Meet the other processes."""
    if os.environ.get("ACCELERATE_USE_DEEPSPEED", "false").lower() == "true":
        extensions = choose_extensions_folder()
        clear_stale_locks(extensions, may_remove=number_in(os.environ, "LOCAL_RANK", 0) == 0)
    optimizer = sections.optimizer
    return join_world(
        optimizer.batch_size,
        sections.execution.micro_batch_size,
        launch.processes,
        optimizer.max_grad_norm,
        optimizer.mixed_precision,
        meet(launch),
    )


def _train(run: Run, config_yaml: str, judging: Judging | None, attempts: Attempts, watchdog: Watchdog) -> int:
    """Record what is trained, and train."""
    world, sections = run.world, run.sections
    if world.is_main:
        write_bookkeeping(run.folder / "config.yaml", config_yaml)
        write_provenance(run.folder, run.origin)
    metrics = Metrics(run.folder, world.is_main, run.start_step, sections.logging.tensorboard, run.fence)
    metrics.log_text("config", config_yaml)
    metrics.log_settings({**sections.learnt(), "base": run.wan.name})
    _say_what_starts(run)
    try:
        return train(run, metrics, Validation(run, metrics, judging, not sections.faces.shared), attempts, watchdog)
    except BaseException as error:
        if isinstance(error, FaceidError) and not world.is_main:
            # Logged now, because the main process is about to fail for want of this one.
            log.error("%s", one_line(error))
        # The traceback keeps the reader processes alive, which ignore SIGTERM (stop.py). Leaving would wait forever.
        traceback.clear_frames(error.__traceback__)
        raise
    finally:
        metrics.close()
        world.accelerator.end_training()


def _judging(plan: InputPlan, recogniser: str | None, identity: Identity) -> Judging | None:
    if recogniser is None:
        return None
    photos = plan.inputs.face_images_dir
    return Judging(recogniser, plan.faces, identity, Path(photos) if photos else None)


def _quiet_libraries() -> None:
    """Silence what a user can do nothing about: DeepSpeed's chatter, and warnings of torch's renamed collectives."""
    logging.getLogger("DeepSpeed").setLevel(logging.WARNING)
    warnings.filterwarnings("ignore", category=FutureWarning, module=r"torch\.distributed")


def _bytes_saved(run: Run) -> tuple[int, int]:
    """Bytes of an adapter file, and of a checkpoint: weights, two moments, averages."""
    # ds_numel is used because under ZeRO-3 a parameter holds no elements between uses.
    trainable = sum(getattr(each, "ds_numel", each.numel()) for each in run.adapter.parameters().values())
    return trainable * 4, trainable * 4 * (4 if run.sections.optimizer.ema else 3)


def _say_what_starts(run: Run) -> None:
    world, size, data = run.world, run.metadata, run.training_set
    processes, device = world.accelerator.num_processes, world.accelerator.device
    num_photos, mixture = len(data.photo_names), data.mixture
    samples = samples_of_run(
        run.sections.optimizer.num_epochs, mixture.length, mixture.quotas, len(data.clip_numbers), num_photos
    )
    tokens = run.wan.geometry.tokens(size.num_frames, size.height, size.width)
    adapter_mb, checkpoint_mb = (count / 1e6 for count in _bytes_saved(run))
    for line in (
        f"world: {world.kind}, {processes} processes on {device}, precision {world.accelerator.mixed_precision}; "
        f"global batch {world.batch_size} = {processes} processes x {world.micro_batch_size} samples x "
        f"{world.accumulation} passes",
        f"data: {len(data.clip_numbers)} clips of {size.num_frames} frames at {size.width}x{size.height} ({tokens} "
        f"tokens) and {len(data.photo_names)} photos; {run.num_steps} steps in "
        f"{run.sections.optimizer.num_epochs} epochs",
        said_of_likeness(samples, num_photos, run.sections.face_paths(), run.sections.said_of_best()),
        f"training {adapter_mb / 4:.2f} M parameters ({adapter_mb:.1f} MB per adapter, {checkpoint_mb:.1f} MB per "
        f"checkpoint); run folder {run.folder}",
    ):
        log.info("%s", line)
