"""Load the encoders that judge identity.

None of them may be the encoder on which the renders were conditioned. A recogniser is written as on the command line:
`KIND:PATH` of an encoder, or one of the toy world's own. It keeps that name in every result.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from faceid.errors import ConfigError, ModelError
from faceid.evaluation.figures.similarity import mean_reference
from faceid.evaluation.videos.judge_settings import TOY_RECOGNISERS, RecogniserSettings
from faceid.evaluation.videos.reference_people import Reference
from faceid.faces.encoders.encoder_kinds import ENCODERS, RECOGNISERS
from faceid.faces.encoders.face_encoders import FaceEncoder, load_encoder


@dataclass(frozen=True)
class Recogniser:
    """An encoder that knows the gallery."""

    name: str
    """As written in --recognisers."""
    encoder: FaceEncoder
    references: np.ndarray
    """Mean of each person's reference embeddings, float64 [P, D], not normalised."""
    impostor_mean: np.ndarray
    """Mean cosine of other people's reference photos to each person, [P]."""
    impostor_std: np.ndarray
    """Its standard deviation over those photos, [P]; nan when there are fewer than two."""


def check_recogniser_names(names: list[str], key: str = "recognisers") -> None:
    """Check names without their files. Raises: ConfigError for an unknown name."""
    for name in names:
        kind, _, path = name.partition(":")
        spec = ENCODERS.get(kind)
        if name not in TOY_RECOGNISERS and (spec is None or bool(path) == (spec.needs == "nothing")):
            known = ", ".join([*RECOGNISERS, *TOY_RECOGNISERS])
            raise ConfigError(f"{key}: {name!r} is none; use {known}")


def load_recognisers(settings: RecogniserSettings) -> list[tuple[str, FaceEncoder]]:
    """Load every recogniser, in order.

    Raises: ConfigError for an unknown name; ModelError when one is the conditioning encoder, or cannot be loaded.
    """
    check_recogniser_names(settings.recognisers)
    forbidden, source = _conditioning_fingerprint(settings.adapter, settings.conditioning_fingerprint)
    loaded = []
    for name in settings.recognisers:
        onnx_input = {"mean": settings.onnx_mean, "std": settings.onnx_std, "colour": settings.onnx_colour}
        encoder = load_recogniser(name, settings.device, **onnx_input)
        if forbidden:
            refuse_conditioning(name, encoder, forbidden, source)
        loaded.append((name, encoder))
    return loaded


def refuse_conditioning(name: str, encoder: FaceEncoder, fingerprint: str, source: str) -> None:
    """Raises: ModelError when a recogniser is the encoder of this fingerprint, which `source` names."""
    if encoder.fingerprint == fingerprint:
        raise ModelError(
            f"recognisers: {name} is the encoder the renders were conditioned on ({source}), which would judge "
            "itself; use another one"
        )


def know_gallery(name: str, encoder: FaceEncoder, gallery: list[Reference]) -> Recogniser:
    """Embed the reference photos once."""
    counts = [len(person.crops) for person in gallery]
    embedded = encoder.embed([crop for person in gallery for crop in person.crops]).numpy().astype(np.float64)
    by_person = np.split(embedded, np.cumsum(counts)[:-1])
    references = np.stack([mean_reference(rows) for rows in by_person])
    means, stds = [], []
    for index, reference in enumerate(references):
        others = np.concatenate([rows for other, rows in enumerate(by_person) if other != index]) @ reference
        means.append(others.mean())
        stds.append(others.std() if len(others) > 1 and others.std() > 0 else np.nan)
    return Recogniser(name, encoder, references, np.array(means), np.array(stds))


def load_recogniser(name: str, device: str, **onnx_input: Any) -> FaceEncoder:
    """Load a recogniser by its name in --recognisers. onnx_input: mean, std and colour that differ from the defaults.

    Raises: ModelError when it cannot be loaded.
    """
    if name in TOY_RECOGNISERS:
        # The toy's readers are imported only when the toy is judged.
        from faceid.toy.readers import load_toy_recogniser

        return load_toy_recogniser(name)
    kind, _, path = name.partition(":")
    if ENCODERS[kind].needs != "folder":
        return load_encoder(kind, path or None, device, **onnx_input)
    from faceid.toy.shipped import resolve_encoder_path

    return load_encoder(kind, resolve_encoder_path(path), device)


def _conditioning_fingerprint(adapter: Path | None, fingerprint: str | None) -> tuple[str | None, str]:
    if adapter is not None:
        # diffusers takes seconds to import, and only an adapter needs it.
        from faceid.models.adapter.adapter_file import read_adapter

        return read_adapter(adapter)[1].encoder_fingerprint, f"adapter={adapter}"
    return fingerprint, f"conditioning_fingerprint={fingerprint}"
