"""One training run from parsed sections to exit code: claim the folder, prepare inputs, join the world, train."""

from __future__ import annotations

import logging
import os
import traceback
import warnings
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

from faceid.config import sections_as_yaml
from faceid.data.clip_settings import CaptionSettings, ClipSettings, PairingSettings
from faceid.device import pick_device
from faceid.errors import USER_ERROR_EXIT_CODE, FaceidError, one_line
from faceid.faces.identities.identity import Identity
from faceid.faces.identity_settings import FaceSettings
from faceid.files.outputs import RUN_FOLDER, claim_folder, write_bookkeeping
from faceid.files.provenance import write_provenance
from faceid.files.writing import make_folder
from faceid.logs import log_file, set_up_logging
from faceid.models.adapter_settings import AdapterSettings
from faceid.models.lora.lora_formats import lora_file
from faceid.processes import number_in
from faceid.toy.shipped import resolve_adapter_path, resolve_encoder_path, resolve_model_path
from faceid.training.build import Run, StartingPoint, build_run
from faceid.training.checkpoints import checkpoint
from faceid.training.checkpoints.run_folder import FOLDERS_WITH_FACES
from faceid.training.checks.dry_run import dry_run, print_dry_run
from faceid.training.checks.refusals import refusals, refuse_shorter
from faceid.training.checks.training_effects import warn_without_effect
from faceid.training.inputs.origin import what_is_learnt_by
from faceid.training.inputs.prepare import INIT_ADAPTER, Preparation, prepare_on_main, remove_marker
from faceid.training.loop import train
from faceid.training.measuring.metrics import Metrics
from faceid.training.recipe.global_batch import said_of_batch, with_global_batch
from faceid.training.training_settings import InputSettings, TrainingSettings
from faceid.training.validate import Validation
from faceid.training.validation.judge import NONE, Judging
from faceid.training.world.attempts import Attempts
from faceid.training.world.compile_lock import choose_extensions_folder, clear_stale_locks
from faceid.training.world.distributed import expected_world, join_world
from faceid.training.world.fence import Fence
from faceid.training.world.launched import leave_meeting, meet, read_launch
from faceid.training.world.watchdog import Watchdog

log = logging.getLogger(__name__)


def run_training(
    inputs: InputSettings,
    training: TrainingSettings,
    adapter: AdapterSettings,
    pairing: PairingSettings,
    clips: ClipSettings,
    captions: CaptionSettings,
    faces: FaceSettings,
) -> int:
    """Train and return the exit code: 0 when finished, 75 when asked to stop and checkpointed."""
    folder = Path(inputs.output_dir)
    launch = read_launch(training.accelerate_config, folder)
    rank = launch.rank
    base_path = resolve_model_path(inputs.model_path)
    given_faces, faces = faces, replace(faces, encoder_path=resolve_encoder_path(faces.encoder_path))
    init_adapter = Path(init) if (init := resolve_adapter_path(inputs.init_adapter, INIT_ADAPTER)) is not None else None
    init_lora = lora_file(Path(inputs.init_lora)) if inputs.init_lora is not None else None
    plan = Preparation(inputs, adapter, clips, captions, faces, base_path, inputs.model_path, init_adapter)
    saved, asked = checkpoint.state_of_newest(folder / "checkpoints", training.resume), training.batch_size
    if training.dry_run:
        if rank > 0:
            return 0
        kind, is_bf16 = expected_world(training, launch.processes)
        is_begun = print_dry_run(*dry_run(plan, training, pairing, launch, saved, is_bf16, kind))
        if is_begun:
            warn_without_effect(plan, training, pairing)
        return 0 if is_begun else USER_ERROR_EXIT_CODE
    training = with_global_batch(training, launch.processes, saved)
    for check in refusals(plan, training, pairing, launch):
        check()
    config_yaml = sections_as_yaml([inputs, training, adapter, pairing, clips, captions, given_faces])
    with ExitStack() as stack:
        # Before anything there is read or written. A run that is refused leaves nothing in another's logs.
        set_up_logging(rank)
        fence = stack.enter_context(Fence(folder, launch.attempt)) if rank == 0 else None
        if rank == 0:
            # What lies there was looked at by `refusals`.
            claim_folder(folder, RUN_FOLDER, is_known=True)
            for name in FOLDERS_WITH_FACES:
                make_folder(folder / name, private=not faces.shared)
        set_up_logging(rank, folder / "logs")
        # From here on a process may stand still: for want of the others, of a file server, of a compiler.
        watchdog = stack.enter_context(Watchdog(training.watchdog_s, log_file(folder / "logs", rank)))
        _quiet_libraries()
        if said := said_of_batch(asked, training.batch_size, launch.processes, saved is not None):
            log.warning("%s", said)
        warn_without_effect(plan, training, pairing)
        device = str(pick_device(None))
        watchdog.at("preparing the inputs", may_take_long=True)
        prepared = prepare_on_main(plan, rank, device)
        watchdog.at("joining the other processes")
        if os.environ.get("ACCELERATE_USE_DEEPSPEED", "false").lower() == "true":
            extensions = choose_extensions_folder()
            clear_stale_locks(extensions, may_remove=number_in(os.environ, "LOCAL_RANK", 0) == 0)
        world = join_world(training, launch.processes, meet(launch))
        if world.is_main:
            # Joining is a barrier: everyone has seen them.
            remove_marker(plan)
            leave_meeting(launch)
        watchdog.at("loading the base, the data and a checkpoint")
        start = StartingPoint(plan.base, inputs.model_path, given_faces.encoder_path, init_adapter, init_lora, asked)
        run = build_run(world, training, adapter, pairing, prepared, folder, start, fence)
        refuse_shorter(training, run.num_steps, run.start_step, folder)
        if run.start_step < run.num_steps:
            # Each save asks for its own, too; now nothing has been computed yet.
            has_best = training.validate_every > 0
            checkpoint.check_room(folder / "checkpoints", _bytes_saved(run)[1], training.keep_checkpoints, has_best)
        if world.is_main:
            write_bookkeeping(folder / "config.yaml", config_yaml)
            write_provenance(folder, run.origin)
        metrics = Metrics(folder, world.is_main, run.start_step, training.tensorboard, fence)
        metrics.log_text("config", config_yaml)
        metrics.log_settings({**what_is_learnt_by(run.origin["recipe"]), "base": run.wan.name})
        _say_what_starts(run)
        try:
            validation = Validation(run, metrics, _judging(plan, training, run.identity), not faces.shared)
            return train(run, metrics, validation, Attempts(folder, launch.attempt), watchdog)
        except BaseException as error:
            if isinstance(error, FaceidError) and not world.is_main:
                # Now: the main process is about to fail for want of this one.
                log.error("%s", one_line(error))
            # Its traceback keeps the reader processes alive, deaf to SIGTERM (stop.py): leaving would wait forever.
            traceback.clear_frames(error.__traceback__)
            raise
        finally:
            metrics.close()
            world.accelerator.end_training()


def _judging(plan: Preparation, training: TrainingSettings, identity: Identity) -> Judging | None:
    if training.validation_recogniser == NONE or not training.validate_every:
        return None
    photos = plan.inputs.face_images_dir
    return Judging(training.validation_recogniser, plan.faces, identity, Path(photos) if photos else None)


def _quiet_libraries() -> None:
    """Silence what a user can do nothing about: DeepSpeed's chatter, and torch's renamed collectives it calls."""
    logging.getLogger("DeepSpeed").setLevel(logging.WARNING)
    warnings.filterwarnings("ignore", category=FutureWarning, module=r"torch\.distributed")


def _bytes_saved(run: Run) -> tuple[int, int]:
    """Of an adapter file, and of a checkpoint: weights, two moments, averages."""
    # ds_numel: under ZeRO-3 a parameter holds no elements between uses.
    trainable = sum(getattr(each, "ds_numel", each.numel()) for each in run.adapter.parameters().values())
    return trainable * 4, trainable * 4 * (4 if run.settings.ema else 3)


def _say_what_starts(run: Run) -> None:
    world = run.world
    adapter_bytes, checkpoint_bytes = _bytes_saved(run)
    log.info(
        "world: %s, %d processes on %s, precision %s; global batch %d = %d processes x %d samples x %d passes",
        world.kind,
        world.accelerator.num_processes,
        world.accelerator.device,
        world.accelerator.mixed_precision,
        world.batch_size,
        world.accelerator.num_processes,
        world.micro_batch_size,
        world.accumulation,
    )
    size = run.metadata
    log.info(
        "data: %d clips of %d frames at %dx%d (%d tokens) and %d photos; %d steps in %d epochs",
        len(run.training_set.clip_numbers),
        size.num_frames,
        size.width,
        size.height,
        run.wan.geometry.tokens(size.num_frames, size.height, size.width),
        len(run.training_set.photo_names),
        run.num_steps,
        run.settings.num_epochs,
    )
    log.info(
        "training %.2f M parameters (%.1f MB per adapter, %.1f MB per checkpoint); run folder %s",
        adapter_bytes / 4 / 1e6,
        adapter_bytes / 1e6,
        checkpoint_bytes / 1e6,
        run.folder,
    )
