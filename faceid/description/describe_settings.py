"""Settings of how a person is described. Field names are flag names."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Literal

from pydantic import Field
from pydantic.dataclasses import dataclass

from faceid.config import Reason
from faceid.models.adapter_settings import DEFAULT_PROMPT


@dataclass(frozen=True)
class DescribeSettings:
    """Whose photos, which base, and which phrases there are."""

    face_images_dir: str
    """The photos that the identity was made from."""
    face_embedding: str
    """The identity folder: which photos count, and where the faces are."""
    model_path: str
    """The base whose language it is, as in train.py; toy for the embedded one."""
    output: str
    """The file to write, NAME.safetensors, for train.py --target_description. It is private, like the photos."""
    shared: bool = False
    """Leave the file as open as its folder and the umask make it, for a team. Default: its owner alone may read it."""
    text: str | None = None
    """Your own description, instead of one that is found: "short red hair, round glasses"."""
    phrases: str | None = None
    """YAML file of the phrases to choose from. Default: those that come with faceid."""
    prompt: str = DEFAULT_PROMPT
    """Prompt of the videos, which the description goes on. As train.py --caption."""
    photo_size: Annotated[int, Field(ge=16, le=2048)] | None = None
    """Pixels of a photo's side, as the base looks at it. Default: 480, and 96 for the embedded base."""
    most_photos: Annotated[int, Field(ge=1, le=20)] = 8
    """How many of the best photos are looked at."""
    expert: Literal["high", "low"] | None = None
    """For a base with two transformers: which one looks. That of high noise decides who somebody is."""
    vae_path: str | None = None
    """The VAE, when it is not in the model folder, as in train.py."""
    text_encoder_path: str | None = None
    """The text encoder, when it is not in the model folder, as in train.py."""
    device: str | None = None
    """cpu, cuda or cuda:N. Default: a GPU where there is one. Transformer and text encoder have to fit into it."""

    def unused(self) -> Iterator[Reason]:
        """Options that change nothing given the others."""
        if self.text is not None:
            for name in ("phrases", "photo_size", "most_photos", "expert"):
                yield name, "with --text, for which nothing is looked for"
