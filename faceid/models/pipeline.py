"""Render a pose video as a person: WanVACEPipeline plus the face adapter.

The denoising loop (faceid.models.denoise) is ours because the pipeline's has no way to pass a face; everything around
it is the pipeline's own (schedule, noise, reference preparation, guidance order), so that face_scale 0 gives the
pipeline's result bit for bit.

A call is `encode_prompts`, `control`, `sample_latents` and `decode`, one after the other; who renders many videos calls
them himself and keeps what several have in common.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import torch
from diffusers import WanVACEPipeline
from diffusers.utils.torch_utils import randn_tensor
from torch import Tensor

from faceid.errors import ModelError
from faceid.models.adapter import FaceAdapter
from faceid.models.adapter_file import AdapterMetadata, check_base, load_adapter, load_tensors, read_adapter
from faceid.models.adapter_folder import find_adapter
from faceid.models.context_parallel import TokenShare, share_tokens
from faceid.models.denoise import Conditions, Sampling, denoise, make_scheduler
from faceid.models.execution import allow_variants, offload_blocks, set_attention_backend
from faceid.models.face_tokens import face_input
from faceid.models.latents import decode_latents, encode_pixels, to_frames, to_pixels
from faceid.models.model_files import ModelFiles
from faceid.models.prompts import encode_prompts
from faceid.models.settings import DEFAULT_NEGATIVE_PROMPT, DEFAULT_PROMPT
from faceid.models.wan import PARTS, WanModel, load_wan
from faceid.vace import assemble_control


class FaceIdentityPipeline:
    """A base, optionally with a face adapter, ready to render."""

    def __init__(self, wan: WanModel, adapter: FaceAdapter | None = None, metadata: AdapterMetadata | None = None):
        self.wan, self.adapter, self.metadata = wan, adapter, metadata
        self._grey: tuple[torch.Size, Tensor] | None = None
        self._texts: dict[str, Tensor] = {}
        # The VAE keeps frames between the pieces of a video, and so does one at a time; a worker decodes in a thread.
        self._vae_lock = threading.Lock()
        self._adapter_path: str | None = None
        # Whether nothing is installed on the transformer: an adapter refused half-way leaves its modules there.
        self._is_bare = adapter is None
        self._execution: tuple[str | None, bool] = (None, False)
        self._share: TokenShare | None = None
        self._offloaded_from: torch.device | None = None

    @property
    def base_pipeline(self) -> WanVACEPipeline:
        """diffusers' own pipeline over the same modules."""
        wan = self.wan
        return WanVACEPipeline(wan.tokenizer, wan.text_encoder, wan.vae, wan.scheduler, wan.transformer)

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

        parts: of the base; without `text` prompts are encoded elsewhere. is_offloaded: the transformer's blocks wait
        in the CPU's memory, and are on the device for their turn alone.
        """
        others = [part for part in parts if part != "transformer"] if is_offloaded else parts
        base = model_path if isinstance(model_path, ModelFiles) else Path(model_path)
        wan = load_wan(base, others, device, dtype, name)
        pipeline = cls(wan)
        if is_offloaded:
            pipeline._offloaded_from = torch.device(device)
            wan.transformer = load_wan(wan.files, ("transformer",), "cpu", dtype, name).transformer
        pipeline.use_adapter(face_lora_path)
        if is_offloaded:
            offload_blocks(wan.transformer, torch.device(device))
        return pipeline

    @torch.no_grad()
    def __call__(
        self,
        pose_video: np.ndarray,
        face_embedding: Tensor | None = None,
        face_scale: float = 1.0,
        prompt: str = DEFAULT_PROMPT,
        negative_prompt: str = DEFAULT_NEGATIVE_PROMPT,
        cfg_scale: float = 5.0,
        num_inference_steps: int = 50,
        seed: int = 42,
        control_scale: float = 1.0,
        reference_images: Sequence[PIL.Image.Image] = (),
        on_step: Callable[[int, int], None] | None = None,
        output_type: str = "frames",
        cfg_start: float = 0.0,
        **more: Any,
    ) -> np.ndarray | Tensor:
        """Render one video.

        pose_video: uint8 RGB frames [T, H, W, 3]; T and H, W legal for the model, and the size rendered.
        face_embedding: [D], unit length, of the encoder the adapter was trained with; None renders no particular face;
        [R + f, D] for a face that changes, one for each latent frame, those of the R reference images first.
        face_scale: 0 is the base model exactly, with the adapter loaded or not; 1 as trained.
        on_step: called with (steps done, steps in all).
        output_type: "frames" gives uint8 [T, H, W, 3], "latent" the normalised latents [1, C, f, h, w].
        cfg_start: share of the steps before guidance begins. Early steps lay out the body, late ones the face.
        more: other fields of `Sampling`: face_start, face_end, face_guidance, reference_scale, scheduler, shift and
        windows.
        Raises: ConfigError for an illegal size or scale; ModelError for an embedding of another size.
        """
        sampling = Sampling(face_scale, cfg_scale, num_inference_steps, seed, control_scale, cfg_start, **more)
        self.check_face(face_embedding, face_scale)
        control = self.control(pose_video, reference_images)
        text, negative_text = self.encode_prompts(prompt, negative_prompt)
        count = len(reference_images)
        latents = self.sample_latents(control, text, negative_text, face_embedding, sampling, on_step, count)[
            :, :, count:
        ]
        return latents if output_type == "latent" else self.decode(latents)

    def encode_prompts(self, prompt: str, negative_prompt: str) -> tuple[Tensor, Tensor]:
        """The text embeddings of both, [L, D] each."""
        new = [text for text in dict.fromkeys((prompt, negative_prompt)) if text not in self._texts]
        if new:
            self._texts |= encode_prompts(self.wan.tokenizer, self.wan.text_encoder, new)
        return self._texts[prompt], self._texts[negative_prompt]

    def set_execution(self, attention_backend: str | None = None, is_compiled: bool = False) -> None:
        """How the transformer computes, now and when it is loaded anew. Raises: ConfigError for an unknown kernel."""
        self._execution = (attention_backend, is_compiled)
        if attention_backend is not None:
            set_attention_backend(self.wan.transformer, attention_backend)
        if is_compiled:
            allow_variants()
            self.wan.transformer.compile_repeated_blocks()

    def compute_together(self, rank: int, count: int) -> None:
        """Denoise each video with the other processes of the default group, which must be asked for the same ones.

        Raises: ConfigError when the base's heads cannot be shared out among so many.
        """
        self._share = share_tokens(self.wan.transformer, rank, count)
        if self.adapter is not None:
            self.adapter.set_share(self._share)

    def use_adapter(self, path: str | Path | None) -> None:
        """Render with the adapter of this file from now on, or with none. The base stays loaded.

        One of the same sizes takes the place of the last; for another the transformer is loaded anew.
        Raises: ModelError when it is none of this base's.
        """
        path = str(find_adapter(path)) if path is not None else None
        if path == self._adapter_path and (self.adapter is not None or self._is_bare):
            return
        transformer = self.wan.transformer
        if path is not None and self.adapter is not None and self.metadata is not None:
            tensors, metadata = read_adapter(Path(path))
            check_base(Path(path), metadata, self.wan.name, self.wan.fingerprint)
            sizes = (metadata.settings, metadata.face_embedding_dim)
            if sizes == (self.metadata.settings, self.metadata.face_embedding_dim):
                load_tensors(self.adapter, tensors, str(path))
                self.metadata, self._adapter_path = metadata, path
                return
        # From here on the last adapter is gone, whatever becomes of this one.
        self.adapter = self.metadata = self._adapter_path = None
        if not self._is_bare:
            device, dtype = "cpu" if self._offloaded_from is not None else transformer.device, transformer.dtype
            self.wan.transformer = load_wan(self.wan.files, ("transformer",), device, dtype, self.wan.name).transformer
            self._is_bare = True
        if path is not None:
            self._is_bare = False
            self.adapter, self.metadata = load_adapter(Path(path), self.wan)
            for parameter in self.adapter.parameters().values():
                parameter.data = parameter.data.to(self.wan.transformer.dtype)
        if self.wan.transformer is not transformer:
            self.set_execution(*self._execution)
            if self._offloaded_from is not None:
                offload_blocks(self.wan.transformer, self._offloaded_from)
            if self._share is not None:
                self._share = share_tokens(self.wan.transformer, self._share.rank, self._share.count)
        if self.adapter is not None and self._share is not None:
            self.adapter.set_share(self._share)
        self._adapter_path = path

    def decode(self, latents: Tensor) -> np.ndarray:
        """Normalised latents [1, C, f, h, w], without reference frames, to uint8 frames [T, H, W, 3]."""
        with self._vae_lock:
            return to_frames(decode_latents(self.wan.vae, latents))

    @torch.no_grad()
    def sample_latents(
        self,
        control: Tensor,
        text: Tensor,
        negative_text: Tensor,
        face_embedding: Tensor | None,
        sampling: Sampling,
        on_step: Callable[[int, int], None] | None = None,
        num_references: int = 0,
    ) -> Tensor:
        """Noise to normalised latents [1, C, R + f, h, w], reference frames included.

        control: [1, control channels, R + f, h, w] from `control` or a cache. num_references: R. text, negative_text:
        [L, D].
        """
        embedding = self.check_face(face_embedding, sampling.face_scale)
        if embedding is not None and embedding.dim() == 3 and embedding.shape[1] != control.shape[2]:
            raise ModelError(f"face_embedding: {embedding.shape[1]} faces for {control.shape[2]} latent frames")
        conditions = self._conditions(control, text, negative_text, embedding, sampling, num_references)
        shape = (1, self.wan.geometry.latent_channels, *control.shape[2:])
        noise = randn_tensor(shape, generator=torch.Generator("cpu").manual_seed(sampling.seed), dtype=torch.float32)
        if self.adapter is not None:
            self.adapter.set_lora_strength(min(1.0, sampling.face_scale))
            if sampling.face_block_scales is not None:
                self.adapter.set_block_strengths(sampling.face_block_scales)
        scheduler = make_scheduler(self.wan.scheduler, sampling.scheduler, sampling.shift)
        try:
            return denoise(
                self.wan.transformer, scheduler, self.adapter, noise, conditions, sampling, on_step, self._share
            )
        finally:
            if self.adapter is not None:
                self.adapter.set_num_faces(1)

    def _conditions(
        self,
        control: Tensor,
        text: Tensor,
        negative_text: Tensor,
        embedding: Tensor | None,
        sampling: Sampling,
        num_references: int,
    ) -> Conditions:
        transformer = self.wan.transformer

        def ready(tensor: Tensor) -> Tensor:
            tensor = tensor.to(transformer.device, transformer.dtype)
            return tensor if self._share is None else self._share.from_first(tensor)

        face = null_face = None
        if embedding is not None:
            face = face_input(embedding, sampling.face_scale).to(transformer.device)
            null_face = face_input(torch.zeros_like(embedding), sampling.face_scale).to(transformer.device)
            if self._share is not None:
                face = self._share.from_first(face)
        return Conditions(
            text=ready(text.unsqueeze(0)),
            negative_text=ready(negative_text.unsqueeze(0)),
            face=face,
            null_face=null_face,
            control=ready(control),
            num_references=num_references,
        )

    @torch.no_grad()
    def control(self, pose_video: np.ndarray, reference_images: Sequence[PIL.Image.Image] = ()) -> Tensor:
        """The control tensor of a pose video and reference images, from pixels: [1, control channels, R + f, h, w].

        The same whoever is rendered. Raises: ConfigError for an illegal size.
        """
        with self._vae_lock:
            return self._control(pose_video, reference_images)

    def _control(self, pose_video: np.ndarray, reference_images: Sequence[PIL.Image.Image]) -> Tensor:
        wan = self.wan
        num_frames, height, width = pose_video.shape[:3]
        _, f, h, w = wan.geometry.latent_shape(num_frames, height, width)
        pixels = to_pixels(pose_video).to(wan.vae.device)
        pose, inactive = wan.statistics.normalise(encode_pixels(wan.vae, pixels)), self._inactive_half(pixels)
        references = []
        if reference_images:
            # The pipeline's own fitting: aspect kept, centred on white.
            _, _, prepared = self.base_pipeline.preprocess_conditions(
                None, None, list(reference_images), 1, height, width, num_frames, torch.float32, wan.vae.device
            )
            references = [wan.statistics.normalise(encode_pixels(wan.vae, r[None, :, None])) for r in prepared[0]]
        mask = pose.new_ones(1, wan.geometry.mask_channels, f, h, w)
        return assemble_control(inactive, pose, mask, references)

    def _inactive_half(self, pixels: Tensor) -> Tensor:
        """Normalised latents of a grey video of that size. A constant, so the newest is kept."""
        if self._grey is None or self._grey[0] != pixels.shape:
            grey = encode_pixels(self.wan.vae, torch.zeros_like(pixels))
            self._grey = (pixels.shape, self.wan.statistics.normalise(grey))
        return self._grey[1]

    def check_face(self, face_embedding: Tensor | None, face_scale: float) -> Tensor | None:
        """[1, D] or [1, F, D] float32 for the adapter, zeros when no face is given, None when it is not used."""
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
