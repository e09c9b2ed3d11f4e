"""Make the base's tokenizer and text encoder, which read descriptions of people.

The tokenizer is byte-level BPE, so it knows every word there is. The encoder is trained to give back the traits that a
description names, by one cross-attention, which is how a transformer's block reads it. What a prompt says besides
reaches the base by the random embeddings that the encoder began with.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from faceid.logs import progress
from faceid.models.adapter_settings import DEFAULT_NEGATIVE_PROMPT, DEFAULT_PROMPT
from faceid.models.base.initialise import train_tokenizer
from faceid.models.prompt_phrases import join_phrases
from faceid.toy.descriptions import description_phrases
from faceid.toy.people import APPEARANCE, Person, appearance_vector, draw_person, generator
from toy_factory.schedule import rate_factor

# What each trait's phrase says of `appearance_vector`, by the beginnings of its names.
SAYS = {
    "skin": ("skin_",),
    "hair": ("hair_", "hat_", "headwear_"),
    "eyes": ("iris_", "eye_size"),
    "glasses": ("glasses_",),
    "face": ("face_width",),
    "spacing": ("eye_spacing",),
    "mouth": ("mouth_width",),
    "brows": ("brow",),
}
# What a picture is, before whom it shows.
CLIP_OPENINGS = (DEFAULT_PROMPT, "a person dancing", "someone dances", "a dancer", "a person", "a video of someone")
PHOTO_OPENINGS = (
    "a portrait of a person",
    "a photo of a person",
    "a person",
    "the face of a person",
    "a picture of someone",
)
NEUTRAL = (DEFAULT_PROMPT, DEFAULT_PROMPT, "", "", DEFAULT_NEGATIVE_PROMPT)


@dataclass(frozen=True)
class TextTraining:
    """How the text encoder is trained. A step is one batch of descriptions."""

    num_steps: int = 2500
    batch_size: int = 64
    learning_rate: float = 2e-3
    warmup_steps: int = 100
    vocabulary: int = 512
    corpus: int = 20000
    """Descriptions that the tokenizer learns from."""
    seed: int = 0


def tokenizer_of_descriptions(settings: TextTraining, length: int) -> Any:
    """A tokenizer whose vocabulary is that of descriptions. length: the most tokens of a prompt."""
    rng = generator(settings.seed, "tokenizer")
    texts = (draw_description(rng, draw_person(int(rng.integers(1 << 31))))[0] for _ in range(settings.corpus))
    return train_tokenizer(texts, settings.vocabulary, length)


def draw_description(
    rng: np.random.Generator, person: Person, openings: tuple[str, ...] = CLIP_OPENINGS
) -> tuple[str, list[str]]:
    """A prompt that describes a person, and the traits that it names."""
    phrases = description_phrases(person)
    share = rng.uniform(0.5, 1.3)
    named = [trait for trait in rng.permutation(list(phrases)) if rng.random() < share]
    opening = openings[rng.integers(len(openings))]
    return join_phrases(opening, [phrases[trait] for trait in named]), named


class TraitReader(nn.Module):
    """One cross-attention with a query for each trait's number. It is thrown away after training."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.queries = nn.Parameter(torch.randn(len(APPEARANCE), width) / width**0.5)
        self.attention = nn.MultiheadAttention(width, 4, batch_first=True)
        self.out = nn.Linear(width, len(APPEARANCE))

    def forward(self, text: Tensor, mask: Tensor) -> Tensor:
        """text: [B, L, D]; mask: [B, L], 1 where there is a token. Returns [B, A]."""
        queries = self.queries.expand(len(text), -1, -1)
        read, _ = self.attention(queries, text, text, key_padding_mask=mask == 0)
        return self.out(read).diagonal(dim1=1, dim2=2)


def train_text_encoder(
    encoder: Any, tokenizer: Any, settings: TextTraining, on_step: Callable[[int, float], None] | None = None
) -> None:
    """Train a UMT5EncoderModel in place. on_step: called with (steps done, loss)."""
    torch.manual_seed(settings.seed)
    rng = generator(settings.seed, "descriptions")
    reader = TraitReader(int(encoder.config.d_model))
    parameters = [*encoder.requires_grad_(True).train().parameters(), *reader.parameters()]
    optimizer = torch.optim.AdamW(parameters, settings.learning_rate, weight_decay=0.01)
    for step in progress(range(settings.num_steps), "text encoder", unit="step"):
        for group in optimizer.param_groups:
            group["lr"] = settings.learning_rate * rate_factor(step, settings.num_steps, settings.warmup_steps)
        texts, truth, told = _batch(rng, settings.batch_size)
        words = tokenizer(texts, padding="longest", truncation=True, return_tensors="pt")
        hidden = encoder(words.input_ids, words.attention_mask).last_hidden_state
        error = (reader(hidden, words.attention_mask) - truth).pow(2)
        loss = (error * told).sum() / told.sum()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        optimizer.zero_grad()
        if on_step is not None:
            on_step(step + 1, float(loss.detach()))
    encoder.requires_grad_(False).eval()


def _batch(rng: np.random.Generator, size: int) -> tuple[list[str], Tensor, Tensor]:
    """Descriptions, the truth of whom they describe [B, A], and which numbers each names [B, A]."""
    texts, truth, told = [], [], []
    for _ in range(size):
        person = draw_person(int(rng.integers(1 << 31)))
        openings = CLIP_OPENINGS if rng.random() < 0.5 else PHOTO_OPENINGS
        text, named = draw_description(rng, person, openings)
        beginnings = tuple(beginning for trait in named for beginning in SAYS[trait])
        texts.append(text)
        truth.append(appearance_vector(person))
        told.append([float(name.startswith(beginnings)) if beginnings else 0.0 for name in APPEARANCE])
    return texts, torch.from_numpy(np.stack(truth)), torch.tensor(told)
