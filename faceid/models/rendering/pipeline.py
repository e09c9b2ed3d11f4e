"""Render a pose video as a person: WanVACEPipeline plus the face adapter.

The denoising loop (`denoise`) is ours because the pipeline's has no way to pass a face. Everything around it is the
pipeline's own (schedule, noise, reference preparation, guidance order). So face_scale 0 gives the pipeline's result bit
for bit.

A call runs `encode_prompts`, `control`, `sample_latents` and `decode`, one after the other. A caller with many videos
calls these itself and keeps what several videos have in common.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Collection, Sequence
from contextlib import ExitStack
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import torch
from diffusers.utils.torch_utils import randn_tensor
from torch import Tensor

from faceid.errors import ModelError
from faceid.models.adapter.adapter_file import AdapterMetadata, check_base, expert_tensors, read_adapter
from faceid.models.adapter.adapter_folder import find_adapter
from faceid.models.adapter.face_adapter import FaceAdapter
from faceid.models.adapter.face_tokens import face_input
from faceid.models.adapter_settings import DEFAULT_NEGATIVE_PROMPT, DEFAULT_PROMPT
from faceid.models.base.latent_codec import decode_latents, encode_pixels, to_frames, to_pixels
from faceid.models.base.model_files import ModelFiles
from faceid.models.base.prompts import cut_padding, encode_prompts
from faceid.models.base.reference_frames import encode_reference
from faceid.models.base.wan import PARTS, WanModel, load_wan
from faceid.models.rendering.denoise import (
    ALL_AT_ONCE,
    Conditions,
    LatentWindows,
    OnStep,
    Predictor,
    denoise,
)
from faceid.models.rendering.denoiser import Denoiser
from faceid.models.rendering.denoising_settings import Sampling
from faceid.models.rendering.rendering_state import rendering
from faceid.models.rendering.schedulers import make_scheduler
from faceid.models.rendering.video_inputs import CallOptions, VideoInputs
from faceid.models.wan_vace.control import assemble_control, mask_channels, prepend_references
from faceid.models.wan_vace.transformer import PIPELINE

log = logging.getLogger(__name__)

# Added to a seed, bit by bit, for the noise of reference frames.
REFERENCE_SEED = 0x5EED


def draw_noise(shape: Sequence[int], num_references: int, seed: int) -> Tensor:
    """The noise that a render begins with, [1, C, R + f, h, w], float32. Without references it is WanVACEPipeline's.

    The references' noise is drawn apart. So a video begins with the same noise whether it has references or not, and
    the two can be compared.
    """
    batch, channels, frames, height, width = shape
    of_video, of_references = (torch.Generator("cpu").manual_seed(number) for number in (seed, seed ^ REFERENCE_SEED))
    size = (batch, channels, frames - num_references, height, width)
    noise = randn_tensor(size, generator=of_video, dtype=torch.float32)
    if not num_references:
        return noise
    size = (batch, channels, num_references, height, width)
    return torch.cat([randn_tensor(size, generator=of_references, dtype=torch.float32), noise], dim=2)


class FaceIdentityPipeline:
    """A base, optionally with a face adapter, ready to render."""

    def __init__(
        self,
        wan: WanModel,
        adapter: FaceAdapter | None = None,
        metadata: AdapterMetadata | None = None,
        files: ModelFiles | None = None,
    ) -> None:
        """files: the whole base where `wan` has one of its two transformers; `from_pretrained` then adds `low`."""
        self.wan, self.files = wan, files or wan.files
        self.denoiser = Denoiser(wan, adapter, metadata)
        self.low: Denoiser | None = None
        self._grey: tuple[torch.Size, Tensor] | None = None
        self._texts: dict[str, Tensor] = {}
        # The VAE keeps frames between the pieces of a video, so it decodes one video at a time. A worker decodes in a
        # thread.
        self._vae_lock = threading.Lock()
        self._adapter_path: str | None = None

    @property
    def adapter(self) -> FaceAdapter | None:
        """The face adapter; for a base with two transformers, that of the high-noise one."""
        return self.denoiser.adapter

    @property
    def metadata(self) -> AdapterMetadata | None:
        """The description of what the adapter was made for."""
        return self.denoiser.metadata

    @property
    def base_pipeline(self) -> Any:
        """diffusers' own pipeline over the same modules."""
        wan = self.wan
        return PIPELINE(wan.tokenizer, wan.text_encoder, wan.vae, wan.scheduler, wan.transformer)

    @classmethod
    def from_pretrained(
        cls,
        model_path: str | Path | ModelFiles,
        face_lora_path: str | Path | None = None,
        device: str = "cpu",
        dtype: torch.dtype = torch.float32,
        name: str | None = None,
        parts: Collection[str] = PARTS,
        is_offloaded: bool = False,
    ) -> FaceIdentityPipeline:
        """Load a base folder and, when given, an adapter file. Raises: ModelError when they do not fit.

        parts: parts of the base; without `text`, prompts are encoded elsewhere. is_offloaded: the transformer's blocks
        wait in the CPU's memory, and are on the device for their turn alone.
        """
        files = model_path if isinstance(model_path, ModelFiles) else ModelFiles.find(Path(model_path))
        experts = files.experts
        first = files if experts is None else files.of_expert("high")
        at = torch.device(device)
        others = [part for part in parts if part != "transformer"] if is_offloaded else parts
        pipeline = cls(load_wan(first, others, at, dtype, name), files=files)
        if is_offloaded:
            pipeline.denoiser = Denoiser.load_offloaded(pipeline.wan, at, dtype)
        if experts is not None:
            low = load_wan(files.of_expert("low"), () if is_offloaded else ("transformer",), at, dtype, name)
            pipeline.low = Denoiser.load_offloaded(low, at, dtype) if is_offloaded else Denoiser(low)
        pipeline.use_adapter(face_lora_path)
        for denoiser in pipeline.denoisers:
            denoiser.place_blocks()
        return pipeline

    @property
    def denoisers(self) -> list[Denoiser]:
        """One denoiser; for a base with two transformers that of high noise and that of low noise."""
        return [self.denoiser] if self.low is None else [self.denoiser, self.low]

    @torch.no_grad()
    def __call__(
        self,
        pose_video: np.ndarray,
        face_embedding: Tensor | None = None,
        face_scale: float = 1.0,
        prompt: str = DEFAULT_PROMPT,
        negative_prompt: str = DEFAULT_NEGATIVE_PROMPT,
        seed: int = 42,
        **more: Any,
    ) -> np.ndarray | Tensor:
        """Render one video: uint8 frames [T, H, W, 3], or normalised latents [1, C, f, h, w] on request.

        pose_video: uint8 RGB frames [T, H, W, 3]. T, H and W must be legal for the model. Its size is the rendered
        size.
        face_embedding: [D], unit length, from the encoder that the adapter was trained with. None renders no particular
        face. [R + f, D] is a changing face, one for each latent frame, with those of the R reference images first.
        face_scale: 0 is the base model exactly, with the adapter loaded or not. 1 is as trained.
        more: fields of `CallOptions` (reference_images, on_step, output_type, window, overlap, target_share) and the
        other fields of `Sampling` (cfg_scale, num_inference_steps, control_scale, scheduler and so on), by name.
        Raises: ConfigError for an illegal size or scale; ModelError for an embedding of another size.
        """
        own = {field.name for field in fields(CallOptions)} & more.keys()
        options = CallOptions(**{name: more[name] for name in own})
        sampling = Sampling(face_scale, **{name: value for name, value in more.items() if name not in own})
        windows = LatentWindows(options.window, options.overlap)
        self.check_face(face_embedding, face_scale)
        control = self.control(pose_video, options.reference_images)
        text, negative_text = self.encode_prompts(prompt, negative_prompt)
        count = len(options.reference_images)
        inputs = VideoInputs(control, text, negative_text, face_embedding, count, options.target_share)
        latents = self.sample_latents(inputs, sampling, seed, windows, options.on_step)[:, :, count:]
        return latents if options.output_type == "latent" else self.decode(latents)

    def encode_prompts(self, prompt: str, negative_prompt: str) -> tuple[Tensor, Tensor]:
        """The text embeddings of both, [L, D] each."""
        new = [text for text in dict.fromkeys((prompt, negative_prompt)) if text not in self._texts]
        if new:
            self._texts |= encode_prompts(self.wan.tokenizer, self.wan.text_encoder, new)
            if prompt in new:
                self._warn_of_words(prompt)
        return self._texts[prompt], self._texts[negative_prompt]

    def _warn_of_words(self, prompt: str) -> None:
        """Say where a prompt is so long that the target's own words, which are the last tokens, lie over its end."""
        words = self.adapter.settings.target_words if self.adapter is not None else 0
        read = len(self._texts[prompt])
        told = len(cut_padding(self._texts[prompt]))
        if words and told > read - words:
            log.warning(
                "prompt=%s...: has %d tokens, and the adapter's own words (target_words) begin after %d: its end is "
                "blurred; give a shorter prompt",
                *(prompt[:24], told, read - words),
            )

    def set_execution(self, attention_backend: str | None = None, is_compiled: bool = False) -> None:
        """Set how the transformer computes, now and after it is loaded anew.

        Raises: ConfigError for an unknown kernel.
        """
        for denoiser in self.denoisers:
            denoiser.set_execution(attention_backend, is_compiled)

    def compute_together(self, rank: int, count: int) -> None:
        """Denoise each video with the other processes of the default group. All must be given the same videos.

        Raises: ConfigError when the base's heads cannot be shared out among so many.
        """
        for denoiser in self.denoisers:
            denoiser.compute_together(rank, count)

    def use_adapter(self, given: str | Path | None) -> None:
        """Render with the adapter of this file, folder or hub id from now on, or with none. The base stays loaded.

        Raises: ModelError when the adapter does not belong to this base.
        """
        path = find_adapter(given) if given is not None else None
        if str(path) == self._adapter_path or (path is None and all(each.is_bare for each in self.denoisers)):
            return
        tensors, metadata = read_adapter(path) if path is not None else ({}, None)
        if path is not None and metadata is not None:
            check_base(path, metadata, self.wan.name, self.files)
        self._adapter_path = None
        if self.low is None:
            self.denoiser.set_adapter(tensors, metadata, path)
        else:
            self.denoiser.set_adapter(expert_tensors(tensors, "high"), metadata, path)
            self.low.set_adapter(expert_tensors(tensors, "low"), metadata, path)
        self._adapter_path = str(path) if path is not None else None

    def decode(self, latents: Tensor) -> np.ndarray:
        """Decode normalised latents [1, C, f, h, w], without reference frames, to uint8 frames [T, H, W, 3]."""
        with self._vae_lock:
            return to_frames(decode_latents(self.wan.vae, latents))

    @torch.no_grad()
    def sample_latents(
        self,
        inputs: VideoInputs,
        sampling: Sampling,
        seed: int = 42,
        windows: LatentWindows = ALL_AT_ONCE,
        on_step: OnStep | None = None,
    ) -> Tensor:
        """Sample normalised latents [1, C, R + f, h, w], reference frames included. Leaves the model unchanged."""
        embedding, control = self.check_face(inputs.face, sampling.face_scale), inputs.control
        if embedding is not None and embedding.dim() == 3 and embedding.shape[1] != control.shape[2]:
            raise ModelError(f"face_embedding: {embedding.shape[1]} faces for {control.shape[2]} latent frames")
        conditions = self._conditions(inputs, embedding, sampling.face_scale)
        shape = (1, self.wan.geometry.latent_channels, *control.shape[2:])
        noise = draw_noise(shape, inputs.num_references, seed)
        scheduler = make_scheduler(self.wan.scheduler, sampling.scheduler, sampling.shift)
        with ExitStack() as stack:
            for denoiser in self.denoisers:
                adapter = denoiser.adapter
                stack.enter_context(rendering(denoiser.wan.transformer, adapter))
                if adapter is not None:
                    adapter.set_lora_strength(min(1.0, sampling.face_scale))
                    if sampling.face_block_scales is not None:
                        adapter.set_block_strengths(sampling.face_block_scales)
            return denoise(self._predictor(), scheduler, noise, conditions, sampling, windows, on_step)

    def _predictor(self) -> Predictor:
        first, low, experts = self.denoiser, self.low, self.files.experts
        if low is None or experts is None:
            return Predictor(first.wan.transformer, first.adapter, first.share)
        low_noise = Predictor(low.wan.transformer, low.adapter, low.share)
        return Predictor(first.wan.transformer, first.adapter, first.share, low_noise, experts.boundary)

    def _conditions(self, inputs: VideoInputs, embedding: Tensor | None, face_scale: float) -> Conditions:
        share = self.denoiser.share
        # diffusers looks through all modules for each of them.
        device, dtype = self.wan.transformer.device, self.wan.transformer.dtype

        def ready(tensor: Tensor) -> Tensor:
            tensor = tensor.to(device, dtype)
            return tensor if share is None else share.from_first(tensor)

        face = null_face = None
        if embedding is not None:
            face = face_input(embedding, face_scale, inputs.target_share).to(device)
            null_face = face_input(torch.zeros_like(embedding), face_scale, 0.0).to(device)
            if share is not None:
                face = share.from_first(face)
        return Conditions(
            text=ready(inputs.text.unsqueeze(0)),
            negative_text=ready(inputs.negative_text.unsqueeze(0)),
            face=face,
            null_face=null_face,
            control=ready(inputs.control),
            num_references=inputs.num_references,
        )

    @torch.no_grad()
    def control(self, pose_video: np.ndarray, reference_images: Sequence[PIL.Image.Image] = ()) -> Tensor:
        """Make the control tensor of pose video and reference images: [1, control channels, R + f, h, w].

        It is the same for every person. Raises: ConfigError for an illegal size.
        """
        with self._vae_lock:
            control = self._control(pose_video)
        return self.with_references(control, reference_images)

    @torch.no_grad()
    def with_references(self, control: Tensor, pictures: Sequence[PIL.Image.Image]) -> Tensor:
        """Put pictures before a control of no references, as frames that the base looks at."""
        if not pictures:
            # Without one, this video need not wait until another is decoded.
            return control
        wan = self.wan
        size_hw = [side * wan.geometry.spatial_factor for side in control.shape[-2:]]
        with self._vae_lock:
            references = [
                wan.statistics.normalise(encode_reference(wan.vae, picture, *size_hw)) for picture in pictures
            ]
        return prepend_references(control, references)

    def _control(self, pose_video: np.ndarray) -> Tensor:
        wan = self.wan
        num_frames, height, width = pose_video.shape[:3]
        _, f, h, w = wan.geometry.latent_shape(num_frames, height, width)
        pixels = to_pixels(pose_video).to(wan.vae.device)
        pose, inactive = wan.statistics.normalise(encode_pixels(wan.vae, pixels)), self._inactive_half(pixels)
        mask = pose.new_ones(1, mask_channels(wan.geometry), f, h, w)
        return assemble_control(inactive, pose, mask)

    def _inactive_half(self, pixels: Tensor) -> Tensor:
        """Normalised latents of a grey video of that size. They are constant, so the newest is kept."""
        if self._grey is None or self._grey[0] != pixels.shape:
            grey = encode_pixels(self.wan.vae, torch.zeros_like(pixels))
            self._grey = (pixels.shape, self.wan.statistics.normalise(grey))
        return self._grey[1]

    def check_face(self, face_embedding: Tensor | None, face_scale: float) -> Tensor | None:
        """[1, D] or [1, F, D] float32 for the adapter; zeros when no face is given; None when it is not used."""
        if self.adapter is None:
            if face_embedding is not None and face_scale != 0:
                raise ModelError("face_embedding: given, but no adapter is loaded; give --face_lora_path")
            return None
        if face_scale == 0:
            return None
        size = self.adapter.face_embedding_dim
        if face_embedding is None:
            return torch.zeros(1, size)
        if face_embedding.dim() not in (1, 2) or face_embedding.shape[-1] != size:
            raise ModelError(
                f"face_embedding: shape {list(face_embedding.shape)}, the adapter was trained with [{size}]; "
                "make the identity with the encoder the adapter was trained with"
            )
        return face_embedding.float().unsqueeze(0)
