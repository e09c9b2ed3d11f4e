"""Put a run together: data, base, adapter, optimizer, world, and the checkpoint to resume from.

Before the first step this code refuses to resume onto another base, other data or a changed recipe.
"""

from __future__ import annotations

import logging
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from faceid.data.stream.training_set import TrainingSample, TrainingSet
from faceid.description.description_file import read_description
from faceid.faces.identities.identity import Identity, load_identity
from faceid.models.adapter.adapter_file import AdapterMetadata, load_tensors, read_adapter
from faceid.models.adapter.face_adapter import OF_TARGET, FaceAdapter, adapter_tensors, install_adapter
from faceid.models.adapter_settings import AdapterSettings
from faceid.models.base.wan import WanModel, load_wan
from faceid.models.compute.execution import set_attention_backend, set_gradient_checkpointing
from faceid.models.costs.flops import step_flops
from faceid.models.lora.lora_formats import read_lora, start_with
from faceid.training.checkpoints import checkpoint
from faceid.training.checkpoints.sharded_state import AVERAGE, MOMENTS, TRAINABLES, ShardedState
from faceid.training.checks.run_sections import RunSections, defaults, may_change
from faceid.training.inputs.identity_loss import IdentityLoss, make_identity_loss
from faceid.training.inputs.input_plan import INIT_ADAPTER, INIT_LORA
from faceid.training.inputs.origin import StartingPoint, origin_of, refuse_incomplete, refuse_other_origin
from faceid.training.inputs.prepare import PreparedInputs
from faceid.training.inputs.training_data import build_training_set, say_stage2
from faceid.training.recipe.schedule import total_steps
from faceid.training.world.distributed import World
from faceid.training.world.fence import Fence

log = logging.getLogger(__name__)


@dataclass
class Run:
    """Everything the loop needs."""

    world: World
    sections: RunSections
    folder: Path
    wan: WanModel
    adapter: FaceAdapter
    transformer: Any
    """The prepared transformer, which training calls."""
    optimizer: Any
    sharded: ShardedState
    training_set: TrainingSet
    identity: Identity
    metadata: AdapterMetadata
    origin: dict[str, Any]
    """The facts that a checkpoint must match to be resumed."""
    gate: StageGate
    start_step: int
    num_steps: int
    saved: dict[str, Any]
    """The state of the checkpoint that is resumed; empty for a new run."""
    identity_loss: IdentityLoss | None
    """Compares faces, where that is asked for."""
    fence: Fence | None
    """Decides who may write into the folder. Set on the main process alone."""

    def work(self, batch: TrainingSample) -> tuple[int, float]:
        """Tokens of a micro-batch, as the transformer counts them, and its useful floating point operations."""
        count, _, *latent = batch.x0.shape
        tokens = math.prod(size // patch for size, patch in zip(latent, self.wan.geometry.patch_thw, strict=True))
        flops = step_flops(
            self.wan.transformer.config,
            self.adapter.settings,
            tokens,
            self.sections.execution.gradient_checkpointing,
            self.adapter.face_embedding_dim,
            batch.text.shape[1],
        )
        return count * tokens, count * flops.useful


class StageGate:
    """Zeroes the gradients of the mapper in stage 2.

    requires_grad cannot change under DDP and ZeRO once they are built. So the gradient is stopped at the tensor, and
    the learning rate of its group is 0. Its parameters then stay equal to the bit.
    """

    def __init__(self, adapter: FaceAdapter) -> None:
        self.is_stage2 = False
        for parameter in adapter.mapper_parameters().values():
            parameter.register_hook(lambda gradient: torch.zeros_like(gradient) if self.is_stage2 else gradient)


def build_run(
    world: World, sections: RunSections, prepared: PreparedInputs, start: StartingPoint, fence: Fence | None = None
) -> Run:
    """Load, install and prepare. Then restore a checkpoint if there is one; else begin with the initial adapter."""
    optimizer_settings, execution = sections.optimizer, sections.execution
    identity = load_identity(prepared.identity)
    dtype = torch.bfloat16 if world.accelerator.mixed_precision == "bf16" else torch.float32
    wan = load_wan(start.base, ("transformer",), world.accelerator.device, dtype, name=start.base_name)
    training_set = build_training_set(
        prepared, identity, wan, sections.pairing, sections.held_out, sections.stream_order()
    )
    if optimizer_settings.has_stage2:
        say_stage2(training_set)
    adapter = install_adapter(wan.transformer, sections.adapter, identity.embedding.shape[0], optimizer_settings.seed)
    if start.target_description is not None:
        adapter.begin_words_with(read_description(start.target_description).tokens)
    folder = Path(sections.inputs.output_dir)
    origin = origin_of(training_set, identity, sections.recipe(), wan, start)
    found = checkpoint.to_resume(folder / "checkpoints", sections.saving.resume)
    state = _state_of(found, origin) if found is not None else {}
    tensors = _load_resumed(adapter, found, state) if found is not None else _load_initial(adapter, start)
    if execution.attention_backend is not None:
        set_attention_backend(wan.transformer, execution.attention_backend)
    set_gradient_checkpointing(wan.transformer, execution.gradient_checkpointing, execution.compile)
    gate = StageGate(adapter)
    optimizer = build_optimizer(adapter, optimizer_settings.learning_rate, optimizer_settings.weight_decay)
    transformer, optimizer = world.accelerator.prepare(wan.transformer, optimizer)
    transformer.train()
    sharded = ShardedState(adapter.parameters(), optimizer, world.kind, optimizer_settings.ema)
    sharded.scatter(tensors, state["updates"] if state else 0)
    return Run(
        world=world,
        sections=sections,
        folder=folder,
        wan=wan,
        adapter=adapter,
        transformer=transformer,
        optimizer=optimizer,
        sharded=sharded,
        training_set=training_set,
        identity=identity,
        metadata=_metadata(training_set, identity, sections.adapter, wan, start.encoder_path),
        origin=origin,
        gate=gate,
        start_step=state["step"] if state else 0,
        num_steps=total_steps(optimizer_settings.num_epochs, training_set.length, optimizer_settings.batch_size),
        saved=state,
        identity_loss=make_identity_loss(
            sections.identity_loss, sections.faces.face_margin, identity, prepared.photos_dir, wan, world
        ),
        fence=fence,
    )


# The optimizer's groups by what they hold.
MAPPER_GROUP, OTHERS_GROUP, TARGET_GROUP = 0, 1, 2


def build_optimizer(adapter: FaceAdapter, learning_rate: float, weight_decay: float) -> torch.optim.AdamW:
    """AdamW over the adapter alone. Its groups have learning rates of their own: mapper, others, the target's."""
    mapper, own = adapter.mapper_parameters(), adapter.target_parameters()
    others = [p for name, p in adapter.parameters().items() if name not in mapper and name not in own]
    groups = [{"params": list(mapper.values())}, {"params": others}]
    if own:
        groups.append({"params": list(own.values())})
    # Fused means one kernel for all tensors. It is also able to skip an update without asking the host (sharded_state).
    return torch.optim.AdamW(groups, lr=learning_rate, weight_decay=weight_decay, betas=(0.9, 0.999), fused=True)


def _state_of(found: Path, origin: dict[str, Any]) -> dict[str, Any]:
    """A checkpoint's state, if this run may resume it. The batch size that its command asked for becomes this run's."""
    state = checkpoint.verify(found)
    refuse_incomplete(found, state)
    refuse_other_origin(found, state["origin"], origin, may_change(), defaults())
    origin["asked_batch_size"] = state["origin"]["asked_batch_size"]
    return state


def _load_resumed(adapter: FaceAdapter, found: Path, state: dict[str, Any]) -> dict[str, dict[str, Tensor]]:
    """Give the adapter a checkpoint's weights. Returns all tensors of the checkpoint."""
    tensors = checkpoint.read_tensors(found)
    load_tensors(adapter, tensors[TRAINABLES], str(found))
    log.info("resuming from %s: %d steps done", found, state["step"])
    return tensors


def _load_initial(adapter: FaceAdapter, start: StartingPoint) -> dict[str, dict[str, Tensor]]:
    """Give the adapter a new run's first weights. Returns the content that a checkpoint of step 0 would have."""
    if start.init_adapter is not None:
        # What an adapter holds for its own target says nothing of this run's, which begins anew.
        of_all = {n: t for n, t in read_adapter(start.init_adapter, INIT_ADAPTER)[0].items() if n not in OF_TARGET}
        own = {name: parameter.detach().float().cpu() for name, parameter in adapter.target_parameters().items()}
        tensors = _before_first_step({**of_all, **own})
        load_tensors(adapter, tensors[TRAINABLES], f"{INIT_ADAPTER}={start.init_adapter}")
        log.info("starting with the weights of %s", start.init_adapter)
        return tensors
    if start.init_lora is not None:
        start_with(read_lora(start.init_lora, INIT_LORA), adapter, f"{INIT_LORA}={start.init_lora}")
        log.info("starting with the LoRA of %s", start.init_lora)
    return _before_first_step(adapter_tensors(adapter))


def _before_first_step(trainables: dict[str, Tensor]) -> dict[str, dict[str, Tensor]]:
    """The content of a checkpoint of step 0, with moments of zero.

    It is restored like a checkpoint. In bf16, ZeRO makes its float32 masters of rounded weights, and only a restore
    makes them exact.
    """
    exact = {name: tensor.float() for name, tensor in trainables.items()}
    zeros = {name: torch.zeros_like(tensor) for name, tensor in exact.items()}
    return {TRAINABLES: exact, AVERAGE: exact, **dict.fromkeys(MOMENTS, zeros)}


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
        expert=wan.files.expert,
        target_name=identity.name if adapter_settings.has_own_of_target else "",
        target_sha256=identity.sha256 if adapter_settings.has_own_of_target else "",
        reference_share=training_set.pairing.settings.reference_share,
        dataset_sha256=training_set.latents.sha256,
        num_frames=clips["num_frames"],
        fps=clips["fps"],
    )
