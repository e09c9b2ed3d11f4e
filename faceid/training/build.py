"""Put a run together: data, base, adapter, optimizer, world, and where it goes on from.

Refuses, before the first step, to resume onto another base, other data or a changed recipe.
"""

from __future__ import annotations

import logging
import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from faceid.data.face_bank import FaceBank, read_face_bank
from faceid.data.latent_sets import LatentSets
from faceid.data.order import hold_out
from faceid.data.pairing import Pairing, PairingSettings
from faceid.data.photo_latents import read_photo_latents
from faceid.data.training_set import TrainingSample, TrainingSet
from faceid.errors import ConfigError
from faceid.faces.identity import Identity, load_identity
from faceid.models.adapter import FaceAdapter, adapter_tensors, install_adapter
from faceid.models.adapter_file import AdapterMetadata, load_tensors, read_adapter
from faceid.models.execution import set_attention_backend, set_gradient_checkpointing
from faceid.models.flops import step_flops
from faceid.models.settings import AdapterSettings
from faceid.models.wan import WanModel, load_wan
from faceid.provenance import sha256_file, sha256_json
from faceid.training import checkpoint
from faceid.training.prepare import INIT_ADAPTER, PreparedInputs
from faceid.training.schedule import total_steps
from faceid.training.settings import TrainingSettings
from faceid.training.sharded_state import AVERAGE, MOMENTS, TRAINABLES, ShardedState
from faceid.training.world import World

log = logging.getLogger(__name__)

# What may differ between the run that saved a checkpoint and the one that goes on: nothing here changes what is learnt,
# but for num_epochs, which stretches the learning rate and is warned about.
MAY_CHANGE = {
    "num_epochs",
    "micro_batch_size",
    "gradient_checkpointing",
    "compile",
    "attention_backend",
    "peak_tflops",
    "accelerate_config",
    "dry_run",
    "validation_videos",
    "validation_people",
    "validation_recogniser",
    "best_metric",
    "early_stop_after",
    "validate_every",
    "validation_steps",
    "save_every",
    "checkpoint_every_steps",
    "keep_checkpoints",
    "resume",
    "log_every_steps",
    "max_damaged_share",
    "watchdog_s",
    "log_samples",
    "num_workers",
    "tensorboard",
}

# What runs did before there was a setting for it, so that their checkpoints go on as they began.
BEFORE_IT_WAS_A_SETTING: dict[str, Any] = {"ema": 0.0, "null_target": "data"}


@dataclass(frozen=True)
class StartingPoint:
    """The models a new run starts from."""

    base: Path
    base_name: str
    """As the user named it."""
    encoder_path: str | None
    """As the user named it."""
    init_adapter: Path | None
    """The adapter whose weights it begins with; None for fresh ones."""


@dataclass
class Run:
    """Everything the loop needs."""

    world: World
    settings: TrainingSettings
    folder: Path
    wan: WanModel
    adapter: FaceAdapter
    transformer: Any
    """The prepared transformer: what is called in training."""
    optimizer: Any
    sharded: ShardedState
    training_set: TrainingSet
    identity: Identity
    metadata: AdapterMetadata
    origin: dict[str, Any]
    """What a checkpoint must match to be resumed."""
    mapper_gate: MapperGate
    start_step: int
    num_steps: int
    saved: dict[str, Any]
    """The state of the checkpoint it goes on from; empty for a new run."""

    def work(self, batch: TrainingSample) -> tuple[int, float]:
        """Tokens of a micro-batch, as the transformer counts them, and its useful floating point operations."""
        count, _, *latent = batch.x0.shape
        tokens = math.prod(size // patch for size, patch in zip(latent, self.wan.geometry.patch_thw, strict=True))
        flops = step_flops(
            self.wan.transformer.config,
            self.adapter.settings,
            tokens,
            self.settings.checkpointing,
            self.adapter.face_embedding_dim,
            batch.text.shape[1],
        )
        return count * tokens, count * flops.useful


class MapperGate:
    """Lets gradients of the mapper through, or zeroes them in stage 2.

    requires_grad cannot change under DDP and ZeRO once they are built, so the gradient is stopped at the tensor and the
    mapper's learning rate is 0: its parameters then stay equal to the bit.
    """

    def __init__(self, adapter: FaceAdapter) -> None:
        self.is_frozen = False
        for parameter in adapter.mapper_parameters().values():
            parameter.register_hook(lambda gradient: torch.zeros_like(gradient) if self.is_frozen else gradient)


def build_run(
    world: World,
    settings: TrainingSettings,
    adapter_settings: AdapterSettings,
    pairing_settings: PairingSettings,
    prepared: PreparedInputs,
    folder: Path,
    start: StartingPoint,
) -> Run:
    """Load, install, prepare and, when there is a checkpoint, restore it; else begin with the initial adapter."""
    identity = load_identity(prepared.identity)
    device = world.accelerator.device
    dtype = torch.bfloat16 if world.accelerator.mixed_precision == "bf16" else torch.float32
    wan = load_wan(start.base, parts=("transformer",), device=device, dtype=dtype, name=start.base_name)
    training_set = build_training_set(prepared, identity, pairing_settings, wan, settings)
    adapter = install_adapter(wan.transformer, adapter_settings, identity.embedding.shape[0], settings.seed)
    recipe = {**asdict(settings), **asdict(adapter_settings), **asdict(pairing_settings)}
    origin = _origin(training_set, identity, recipe, wan, start.init_adapter)
    found = _checkpoint_to_resume(folder / "checkpoints", settings.resume)
    start_step = updates = 0
    state: dict[str, Any] = {}
    if found is not None:
        state = checkpoint.verify(found)
        refuse_other_origin(found, state["origin"], origin)
        start_step, tensors = state["step"], checkpoint.read_tensors(found)
        updates = state.get("updates", start_step)  # from before steps could be skipped
        load_tensors(adapter, tensors[TRAINABLES], str(found))
        log.info("resuming from %s: %d steps done", found, start_step)
    elif start.init_adapter is not None:
        tensors = _before_first_step(read_adapter(start.init_adapter, INIT_ADAPTER)[0])
        load_tensors(adapter, tensors[TRAINABLES], f"{INIT_ADAPTER}={start.init_adapter}")
        log.info("starting with the weights of %s", start.init_adapter)
    else:
        tensors = _before_first_step(adapter_tensors(adapter))
    if settings.attention_backend is not None:
        set_attention_backend(wan.transformer, settings.attention_backend)
    set_gradient_checkpointing(wan.transformer, settings.checkpointing, settings.compile)
    mapper_gate = MapperGate(adapter)
    optimizer = build_optimizer(adapter, settings)
    transformer, optimizer = world.accelerator.prepare(wan.transformer, optimizer)
    transformer.train()
    sharded = ShardedState(adapter.parameters(), optimizer, world.kind, settings.ema)
    sharded.scatter(tensors, updates)
    return Run(
        world=world,
        settings=settings,
        folder=folder,
        wan=wan,
        adapter=adapter,
        transformer=transformer,
        optimizer=optimizer,
        sharded=sharded,
        training_set=training_set,
        identity=identity,
        metadata=_metadata(training_set, identity, adapter_settings, wan, start.encoder_path),
        origin=origin,
        mapper_gate=mapper_gate,
        start_step=start_step,
        num_steps=total_steps(settings, len(training_set)),
        saved=state,
    )


def build_training_set(
    prepared: PreparedInputs,
    identity: Identity,
    pairing_settings: PairingSettings,
    wan: WanModel,
    settings: TrainingSettings,
) -> TrainingSet:
    """Latents, photos and faces as one stream. Raises: ConfigError when no dancer would be left to train on."""
    latents = LatentSets.open(prepared.latents)
    faces = read_face_bank(prepared.faces, identity.encoder_fingerprint) if prepared.faces else FaceBank()
    if not faces and pairing_settings.pairing == "own":
        log.warning("no dancer's face is known: every clip is trained with the null face, only photos carry identity")
    photos = read_photo_latents(prepared.photos, wan.latents_fingerprint) if prepared.photos else {}
    if not photos:
        log.warning("no photos of the target: only the clips' dancers teach the face; give --face_images_dir")
    dancer_of = dict(zip(latents.clips, latents.dancers, strict=True))
    _warn_of_faceless(faces, dancer_of, pairing_settings)
    seed = settings.seed
    pairing = Pairing(pairing_settings, seed, identity, faces, dancer_of)
    check_heldout(latents.dancers, settings.heldout_dancers)
    heldout = hold_out(latents.dancers, settings.heldout_dancers, seed)
    first = settings.freeze_mapper_after_epochs
    size = settings.micro_batch_size
    training_set = TrainingSet(latents, photos, pairing, wan.statistics, seed, heldout, first, size)
    _say_sizes(latents, size)
    if first < settings.num_epochs:
        _say_mixture(training_set)
    return training_set


def _say_sizes(latents: LatentSets, micro_batch_size: int) -> None:
    sizes = Counter(latents.sizes)
    if len(sizes) > 1:
        listed = ", ".join(f"{count} of {f} frames at {w}x{h}" for (f, h, w), count in sizes.items())
        log.info("clips of several sizes, %d to a micro-batch of one size: %s", micro_batch_size, listed)


def check_heldout(dancers: Sequence[str], heldout_dancers: int) -> None:
    """Raises: ConfigError unless enough dancers are left on both sides. dancers: of each clip."""
    num_dancers = len(set(dancers))
    if heldout_dancers and not 2 <= heldout_dancers < num_dancers:
        legal = f"0, or 2 to {num_dancers - 1}" if num_dancers > 2 else "0"
        raise ConfigError(
            f"heldout_dancers={heldout_dancers}: the clips show {num_dancers} dancers, a swap needs two and "
            f"training one; use {legal}"
        )


def _warn_of_faceless(faces: FaceBank, dancer_of: dict[str, str], pairing: PairingSettings) -> None:
    """Clips of dancers without a known face are trained with the null face: say how many, and whose."""
    faceless = [key for key, dancer in dancer_of.items() if not faces.knows(key, dancer)]
    if faceless and len(faces) and pairing.pairing == "own":
        dancers = sorted({dancer_of[key] for key in faceless})
        log.warning(
            "no face is known of %d of %d clips, of %d dancers such as %s: they are trained with the null face",
            len(faceless),
            len(dancer_of),
            len(dancers),
            dancers[0],
        )


def _say_mixture(training_set: TrainingSet) -> None:
    mixture = training_set.mixture
    quotas = ", ".join(f"{count} {kind}" for kind, count in sorted(mixture.quotas.items()))
    log.info("stage 2 from epoch %d: of %d samples %s", mixture.stage2_from_epoch + 1, len(training_set), quotas)
    missing = [kind for kind, share in training_set.pairing.settings.stage2_shares.items() if share]
    missing = [kind for kind in missing if not mixture.quotas.get(kind)]
    if missing:
        log.warning(
            "stage 2: no %s samples, although a share is set: there are none, or an epoch is too small for it",
            ", ".join(missing),
        )


def build_optimizer(adapter: FaceAdapter, settings: TrainingSettings) -> torch.optim.AdamW:
    """AdamW over the adapter alone, the mapper in a group of its own (the first), so that stage 2 can hold it still."""
    mapper = adapter.mapper_parameters()
    others = [p for name, p in adapter.parameters().items() if name not in mapper]
    groups = [{"params": list(mapper.values())}, {"params": others}]
    # Fused: one kernel for all tensors, and the one that can skip an update without asking the host (sharded_state).
    return torch.optim.AdamW(
        groups, lr=settings.learning_rate, weight_decay=settings.weight_decay, betas=(0.9, 0.999), fused=True
    )


def _checkpoint_to_resume(folder: Path, resume: str) -> Path | None:
    if resume == "auto":
        return checkpoint.find_newest(folder)
    if resume == "none":
        return None  # that there are none was checked before any work (run.py)
    checkpoint.verify(Path(resume))
    return Path(resume)


def _before_first_step(trainables: dict[str, Tensor]) -> dict[str, dict[str, Tensor]]:
    """As a checkpoint of step 0 would hold them, with moments of zero.

    Restored like one: in bf16 ZeRO makes its float32 masters of rounded weights, and only a restore makes them exact.
    """
    exact = {name: tensor.float() for name, tensor in trainables.items()}
    zeros = {name: torch.zeros_like(tensor) for name, tensor in exact.items()}
    return {TRAINABLES: exact, AVERAGE: exact, **dict.fromkeys(MOMENTS, zeros)}


def _origin(
    training_set: TrainingSet, identity: Identity, recipe: dict[str, Any], wan: WanModel, init_adapter: Path | None
) -> dict[str, Any]:
    """What a resumed run must share with the one that saved; hashes, never faces."""
    return {
        "base": wan.fingerprint,
        "latents": training_set.latents.sha256,
        "photos": sha256_json(training_set.photo_names),
        "identity": sha256_json(identity.embedding.tolist()),
        # Checkpoints from before this key had fresh weights, as None says.
        "init_adapter": {"path": str(init_adapter), "sha256": sha256_file(init_adapter)} if init_adapter else None,
        # Samples of one size in a row: another order of the stream. Checkpoints of before had 1.
        "chunk": training_set.mixture.chunk,
        "recipe": recipe,
    }


def refuse_other_origin(found: Path, saved: dict[str, Any], origin: dict[str, Any]) -> None:
    """Raises: CheckpointError when a checkpoint's origin differs in what may not change."""
    for name, what in (
        ("base", "another base model"),
        ("latents", "other clips"),
        ("photos", "other photos"),
        ("identity", "another identity"),
    ):
        if saved[name] != origin[name]:
            raise checkpoint.CheckpointError(
                f"{found}: was trained with {what}; choose another output_dir, or give the same inputs"
            )
    before, now = saved.get("chunk", 1), origin["chunk"]
    if before != now:
        raise checkpoint.CheckpointError(
            f"{found}: clips of several sizes were grouped by micro_batch_size {before}, now {now}; resume with "
            f"--micro_batch_size {before}, or choose another output_dir"
        )
    before, now = saved.get(INIT_ADAPTER) or {}, origin[INIT_ADAPTER] or {}
    if before.get("sha256") != now.get("sha256"):
        was, given = (f"{each['path']} ({each['sha256'][:12]})" if each else "none" for each in (before, now))
        raise checkpoint.CheckpointError(
            f"{found}: init_adapter was {was}, now {given}; give the same one, or choose another output_dir"
        )
    for key in sorted(set(saved["recipe"]) | set(origin["recipe"])):
        before, now = saved["recipe"].get(key, BEFORE_IT_WAS_A_SETTING.get(key)), origin["recipe"].get(key)
        if before != now and key not in MAY_CHANGE:
            raise checkpoint.CheckpointError(
                f"{found}: {key} was {before}, now {now}; resume with --{key} {before}, or choose another output_dir"
            )
        if before != now and key == "num_epochs":
            log.warning("num_epochs was %s, now %s: the learning rate follows the new length from here on", before, now)


def _metadata(
    training_set: TrainingSet,
    identity: Identity,
    adapter_settings: AdapterSettings,
    wan: WanModel,
    encoder_path: str | None,
) -> AdapterMetadata:
    clips = training_set.latents.settings
    return AdapterMetadata(
        base_name=wan.name,
        base_fingerprint=wan.fingerprint,
        face_embedding_dim=identity.embedding.shape[0],
        encoder=identity.encoder,
        encoder_fingerprint=identity.encoder_fingerprint,
        settings=adapter_settings,
        encoder_path=encoder_path,
        height=clips["height"],
        width=clips["width"],
        num_frames=clips["num_frames"],
        fps=clips["fps"],
    )


def at_step(metadata: AdapterMetadata, step: int) -> AdapterMetadata:
    """The metadata of an adapter saved after `step` optimizer steps."""
    return replace(metadata, step=step)
