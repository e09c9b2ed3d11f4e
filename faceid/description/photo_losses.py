"""How surprising photos of a person are to the base, under one prompt or another."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from faceid import flow
from faceid.data.latents.photo_latents import FacePhoto, PhotoView, show_photo
from faceid.data.order import seed_for
from faceid.description.description_file import Description
from faceid.errors import ConfigError
from faceid.models.adapter.target_words import token_size
from faceid.models.base.latent_codec import encode_grey
from faceid.models.base.prompts import count_tokens, cut_padding, encode_prompts
from faceid.models.base.wan import WanModel
from faceid.models.prompt_phrases import join_phrases
from faceid.models.wan_vace.control import pose_control
from faceid.models.wan_vace.transformer import forward_inputs

log = logging.getLogger(__name__)

# Skin and hair show at high noise, eyes and glasses at lower. Of two levels these told most of 16 drawn people
# (docs/decisions/likeness.md); a larger base was not asked.
QUICK_LEVELS = (0.85, 0.5)
CAREFUL_LEVELS = (0.95, 0.9, 0.8, 0.75, 0.7, 0.6, 0.5, 0.4)
# Samples of one forward pass. A photo is a single frame.
AT_ONCE = 16


@dataclass
class PhotoLosses:
    """The base's loss inside the head, over photos and noise levels: what `search.find_phrases` asks for.

    x_t, target: [S, C, 1, h, w]. sigma: [S]. head_mask: [S, 1, h, w]. control: [1, channels, 1, h, w].
    """

    wan: WanModel
    x_t: Tensor
    target: Tensor
    sigma: Tensor
    head_mask: Tensor
    control: Tensor
    _texts: dict[str, Tensor] = field(default_factory=dict)

    @property
    def num_samples(self) -> int:
        """S: a sample for each photo and noise level."""
        return len(self.sigma)

    @torch.no_grad()
    def __call__(self, prompts: Sequence[str]) -> Tensor:
        """Losses [P, S] of each prompt on each sample, float32 on the CPU."""
        pairs = [(prompt, place) for prompt in prompts for place in range(self.num_samples)]
        found = [self._losses(pairs[at : at + AT_ONCE]) for at in range(0, len(pairs), AT_ONCE)]
        return torch.cat(found).view(len(prompts), self.num_samples)

    def _losses(self, pairs: Sequence[tuple[str, int]]) -> Tensor:
        transformer = self.wan.transformer
        places = torch.tensor([place for _, place in pairs], device=self.sigma.device)
        text = torch.stack([self._text(prompt) for prompt, _ in pairs]).to(transformer.dtype)
        sigma, mask = self.sigma[places], self.head_mask[places]
        control = self.control.expand(len(pairs), *self.control.shape[1:]).to(transformer.dtype)
        inputs = forward_inputs(self.x_t[places].to(transformer.dtype), flow.model_timestep(sigma), text, control)
        error = flow.flow_loss(transformer(**inputs)[0], self.target[places])
        return ((error * mask).sum((1, 2, 3)) / mask.sum((1, 2, 3))).float().cpu()

    def _text(self, prompt: str) -> Tensor:
        if prompt not in self._texts:
            self._texts |= encode_prompts(self.wan.tokenizer, self.wan.text_encoder, [prompt], is_private=True)
        return self._texts[prompt]


def photo_losses(
    wan: WanModel, photos: Sequence[FacePhoto], size: int, levels: Sequence[float], seed: int
) -> PhotoLosses:
    """Encode photos, cropped around the face, as samples of each noise level.

    wan: all parts. size: of a side, px, as `Geometry.check_size` lets it pass. levels: in (0, 1].
    """
    device, view = wan.vae.device, PhotoView("photo", size, size)
    shown = [show_photo(wan, photo, view)[:2] for photo in photos]
    inactive = wan.statistics.normalise(encode_grey(wan.vae, 1, size, size).unsqueeze(0))
    x_t: list[Tensor] = []
    target: list[Tensor] = []
    sigmas: list[Tensor] = []
    masks: list[Tensor] = []
    for level in levels:
        for photo, (latent, mask) in zip(photos, shown, strict=True):
            x0 = wan.statistics.normalise(latent.unsqueeze(0).float().to(device))
            generator = torch.Generator().manual_seed(seed_for(seed, len(sigmas), f"describe {photo.key}"))
            noise = torch.randn(x0.shape, generator=generator).to(device)
            sigma = torch.tensor([level], device=device)
            x_t.append(flow.add_noise(x0, noise, sigma))
            target.append(flow.velocity_target(x0, noise))
            sigmas.append(sigma)
            masks.append(mask.unsqueeze(0).float().to(device))
    control = pose_control(inactive, inactive, wan.geometry, [])
    return PhotoLosses(wan, torch.cat(x_t), torch.cat(target), torch.cat(sigmas), torch.cat(masks), control)


def encode_description(wan: WanModel, prompt: str, phrases: Sequence[str]) -> Description:
    """What a description adds to a prompt, in the text encoder's space. wan: its text parts. prompt: of the videos.

    Phrases at the end that the base cannot read any more are left out, with a warning that does not quote them.
    Raises: ConfigError where not even the first one can be read.
    """
    kept, most = list(phrases), wan.files.text_tokens
    while kept and count_tokens(wan.tokenizer, join_phrases(prompt, kept)) >= most:
        kept.pop()
    if not kept:
        raise ConfigError(
            f"prompt={prompt[:24]}...: with a description it has more tokens than the base reads, {most}; "
            "give a shorter prompt, or a shorter --text"
        )
    if len(kept) < len(phrases):
        left_out = len(phrases) - len(kept)
        log.warning("the base reads %d tokens: the last %d phrases are left out", most, left_out)
    full = join_phrases(prompt, kept)
    found = encode_prompts(wan.tokenizer, wan.text_encoder, [prompt, full], is_private=True)
    before, after = (cut_padding(found[told].float().cpu()) for told in (prompt, full))
    # A prompt ends in an end token. What follows the words of the shorter one is the description's.
    told = after[len(before) - 1 :]
    return Description(", ".join(kept), told / token_size(before.unsqueeze(0))[0], wan.latents_fingerprint)
