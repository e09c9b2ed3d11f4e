"""Write a verification's files: report.html, verification.json and verification.png.

None of them shows a face.
"""

from __future__ import annotations

import base64
import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jinja2

from faceid.evaluation.places import VERIFICATION
from faceid.evaluation.report.plots import Plot, plot_verification
from faceid.evaluation.verification.verification_figures import VERDICTS, Figures, Pairs, roc_points
from faceid.evaluation.videos.arms import plain
from faceid.faces.identity_settings import FaceSettings
from faceid.files.outputs import staged_folder
from faceid.files.provenance import write_provenance
from faceid.files.writing import write_atomic, write_json

JSON_NAME = "verification.json"
# Fields of FaceSettings that shape an embedding.
SHAPING = ("encoder", "encoder_path", "detector", "face_margin", "onnx_mean", "onnx_std", "onnx_colour")


@dataclass(frozen=True)
class About:
    """Facts about a verification, besides its figures."""

    encoder: str
    """The encoder's name in sentences."""
    conclusion: str
    encoder_fingerprint: str
    dim: int
    """D, numbers per embedding."""
    settings: FaceSettings
    bootstrap_samples: int
    seed: int
    left_out: dict[str, str]
    """person/file to reason."""
    several_faces: list[str]
    """person/file of photos of which only the largest face counts."""
    num_given: int
    """Number of all photos in the folder."""
    photos_sha256: str
    """Hash over the hashes of all photos."""


def publish_verification(output_dir: Path, about: About, figures: Figures, pairs: Pairs) -> None:
    """Write the output folder whole, or not at all. An older one is replaced."""
    plot = plot_verification(
        pairs.genuine,
        pairs.impostor,
        roc_points(pairs.genuine, pairs.impostor),
        (figures.equal_error_rate.value, figures.equal_error_threshold),
        figures.false_accept_threshold,
    )
    with staged_folder(output_dir, VERIFICATION) as folder:
        write_json(folder / JSON_NAME, plain(_as_dict(about, figures)))
        write_atomic(folder / "verification.png", plot.light)
        write_atomic(folder / "report.html", render_verification_report(about, figures, plot))
        inputs = {"photos_sha256": about.photos_sha256, "encoder_fingerprint": about.encoder_fingerprint}
        write_provenance(folder, inputs)


def render_verification_report(about: About, figures: Figures, plot: Plot) -> str:
    """The page as HTML text."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent), autoescape=True, undefined=jinja2.StrictUndefined
    )
    return environment.get_template("verification.html.j2").render(
        about=about,
        figures=figures,
        # The smallest distance to the nearest person comes first, because an encoder fails there.
        people=sorted(figures.people, key=lambda person: _gap(person.genuine_cosine, person.nearest_cosine)),
        verdicts=VERDICTS,
        plots=[base64.b64encode(png).decode("ascii") for png in (plot.light, plot.dark)],
        finite=lambda value: value == value,
    )


def _gap(genuine: float, nearest: float) -> float:
    return genuine - nearest if genuine == genuine else float("inf")


def _as_dict(about: About, figures: Figures) -> dict[str, Any]:
    known = {field.name: getattr(figures, field.name) for field in dataclasses.fields(figures)}
    known["people"] = [vars(person) for person in figures.people]
    return {
        "conclusion": about.conclusion,
        **known,
        "num_given": about.num_given,
        "left_out": about.left_out,
        "several_faces": about.several_faces,
        "encoder_fingerprint": about.encoder_fingerprint,
        "dim": about.dim,
        **{name: getattr(about.settings, name) for name in SHAPING},
        "bootstrap_samples": about.bootstrap_samples,
        "seed": about.seed,
    }
