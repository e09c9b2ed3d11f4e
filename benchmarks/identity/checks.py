"""What prove_identity measures beside the demo; each check returns (promise, bar, measured, whether it holds)."""

from __future__ import annotations

import itertools
import json
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from scipy.stats import spearmanr
from torch import Tensor

from benchmarks import REPOSITORY
from benchmarks.identity.rendered_people import (
    ENCODER,
    NUM_STEPS,
    SIZE_HW,
    cut_faces,
    cut_heads,
    mean_face,
    unseen_dance,
)
from faceid import FaceIdentityPipeline, interpolate_face_embeddings
from faceid.faces.encoders.face_encoders import FaceEncoder, load_encoder
from faceid.faces.identities.identity import prepare_identity
from faceid.faces.identity_settings import FaceSettings
from faceid.faces.photos.detect import FaceDetector, load_detector
from faceid.models.base.wan import load_wan
from faceid.toy.people import draw_person
from faceid.toy.readers import load_toy_recogniser
from faceid.toy.render import render_photo, render_pose
from faceid.toy.shipped import WEIGHTS, resolve_adapter_path, resolve_encoder_path, resolve_model_path
from faceid.toy.worlds import person_seed
from toy_factory.train_vae import draw_clips, reconstruction_psnr

Result = tuple[str, str, str, bool]
# Nobody in them is in a training world, nor in a demo's.
WORLDS = (71, 72, 73)
UNSEEN_WORLD = 61


def embedded_models(num_clips: int = 8) -> Result:
    """The shipped VAE on clips that nobody trained on, and the size of all that is shipped."""
    vae, unseen = load_wan(resolve_model_path("toy"), ("vae",)).vae, draw_clips(num_clips, world=UNSEEN_WORLD)
    clips, poses = (reconstruction_psnr(vae, videos) for videos in (unseen.clips, unseen.poses))
    size = sum(file.stat().st_size for file in WEIGHTS.rglob("*") if file.is_file()) / 1e6
    psnr = float(np.mean(clips))
    measured = f"{psnr:.1f} dB on {len(clips)} unseen clips, {np.mean(poses):.1f} dB on skeletons; {size:.1f} MB"
    return (
        "the VAE's reconstruction, and the size of all weights",
        ">= 26 dB, <= 40 MB",
        measured,
        (psnr >= 26 and size <= 40),
    )


def real_clips_rank1(clips: Path, references: Path, output_dir: Path) -> float:
    """What the evaluation's recogniser makes of real clips, with their heads beside them: its own ceiling."""
    words = ["tools/evaluate.py", "--renders", f"[real clips={clips}]", "--real", "real clips", "--heads_dir", clips]
    words += ["--references_dir", references, "--recognisers", "[toy_recogniser]", "--output_dir", output_dir]
    subprocess.run([sys.executable, *map(str, words)], cwd=REPOSITORY, check=True)
    return json.loads((output_dir / "summary.json").read_text())["real_rank1"]


def wrong_photos(world: int = WORLDS[0], num_people: int = 16, num_photos: int = 10, num_wrong: int = 2) -> Result:
    """Two of ten photos are of somebody else: which embedding is nearer to the clean one's?"""
    encoder, detector = load_encoder("clip", resolve_encoder_path(ENCODER)), load_detector("haar")
    weighted, plain = [], []
    people, skipped = _people_seen(world, num_people + 1, detector)
    for number, stranger in itertools.pairwise(people):
        pictures = [_photo(world, number, view) for view in range(num_photos - num_wrong)]
        clean = _mean(encoder, detector, pictures)
        spoilt = pictures + [_photo(world, stranger, 500 + view) for view in range(num_wrong)]
        plain.append(float(_mean(encoder, detector, spoilt) @ clean))
        with tempfile.TemporaryDirectory() as folder:
            for view, picture in enumerate(spoilt):
                path = Path(folder) / "photos" / f"{view}.png"
                path.parent.mkdir(exist_ok=True)
                Image.fromarray(picture).save(path)
            identity = prepare_identity(path.parent, Path(folder) / "identity", "someone", encoder, FaceSettings())
        weighted.append(float(identity.embedding @ clean))
    wins = float(np.mean(np.array(weighted) > np.array(plain)))
    measured = (
        f"cosine to the clean embedding {np.mean(weighted):.3f} against {np.mean(plain):.3f}; nearer for {wins:.0%} "
        f"of {num_people} people ({skipped} passed over: the detector misses them)"
    )
    holds = float(np.mean(weighted)) > float(np.mean(plain)) and wins > 0.75
    return "weighted_mean with 20 % wrong photos beats plain mean", "nearer, for over 75 % of people", measured, holds


def blending(world: int = WORLDS[0], num_pairs: int = 4, num_steps: int = 5, num_poses: int = 2) -> Result:
    """From one face to another: the read-out of what is rendered moves the same way."""
    pipeline = FaceIdentityPipeline.from_pretrained(resolve_model_path("toy"), resolve_adapter_path(ENCODER))
    encoder, detector = load_encoder("clip", resolve_encoder_path(ENCODER)), load_detector("haar")
    readout, shares, orders = load_toy_recogniser("toy_readout"), np.linspace(0, 1, num_steps), []
    curves = []
    people, _ = _people_seen(world, 2 * num_pairs, detector)
    for pair in range(num_pairs):
        a, b = (_mean(encoder, detector, [_photo(world, people[2 * pair + k], v) for v in range(8)]) for k in (0, 1))
        read = torch.stack(
            [
                _read(pipeline, readout, interpolate_face_embeddings(a, b, float(share)), range(num_poses))
                for share in shares
            ]
        )
        way = read[-1] - read[0]
        curve = ((read - read[0]) @ way / way.pow(2).sum()).numpy()
        curves.append(curve)
        orders.append(float(spearmanr(shares, curve).statistic))
    mean = np.mean(curves, axis=0)
    is_monotone = bool((np.diff(mean) > 0).all())
    shown = ", ".join(f"{value:.2f}" for value in mean)
    measured = (
        f"mean read-out {shown} over {num_steps} blends; Spearman of each pair {', '.join(f'{o:.2f}' for o in orders)}"
    )
    return (
        "blending a to b moves the read-out from a to b",
        "monotone mean; each pair >= 0.9",
        measured,
        (is_monotone and min(orders) >= 0.9),
    )


def swap_gap_predicts(folder: Path, demo: Path | None) -> Result:
    """The embedding-swap gap against rank-1 of renders.

    Over the checkpoints of a stage-1 training from nothing; or, when a demo's folder is given, the quick version: over
    eight strengths of the shipped adapter.
    """
    command = [sys.executable, "-m", "benchmarks.identity.swap_gap", "--output_dir", str(folder)]
    if demo is not None:
        # Fewer people than in the full version: minutes are what the quick one has least of.
        command += ["--demo_dir", str(demo), "--num_poses", "1", "--num_people", "8"]
    subprocess.run(command, cwd=REPOSITORY, check=True)
    record = json.loads((folder / "checkpoints.json").read_text())
    rho, rows = record["spearman"], record["rows"]
    ranks = [row["rank1"] for row in rows]
    what = "checkpoints" if demo is None else "strengths of the shipped adapter (checkpoints: FULL=1)"
    measured = f"{rho:.2f} over {len(rows)} {what}, rank-1 from {min(ranks):.2f} to {max(ranks):.2f}"
    return (
        "the embedding-swap gap predicts rank-1: Spearman",
        ">= 0.8 over 8 or more",
        measured,
        (rho >= 0.8 and len(rows) >= 8),
    )


def _photo(world: int, number: int, view: int) -> np.ndarray:
    return render_photo(draw_person(person_seed(world, f"d{number:02d}")), 1000 * number + view)


def _people_seen(world: int, count: int, detector: FaceDetector) -> tuple[list[int], int]:
    """The first people of the world whom the detector finds in nearly every photo, and how many it passed over.

    It misses some square glasses; an identity of photos without a found face cannot be made at all.
    """
    numbers: list[int] = []
    number = 0
    while len(numbers) < count:
        if sum(bool(detector.detect(_photo(world, number, view))) for view in range(8)) >= 7:
            numbers.append(number)
        number += 1
    return numbers, number - count


def _mean(encoder: FaceEncoder, detector: FaceDetector, pictures: Sequence[np.ndarray]) -> Tensor:
    """The plain mean over every face found."""
    return mean_face(encoder, cut_faces(pictures, detector))


def _read(pipeline: FaceIdentityPipeline, readout: FaceEncoder, face: Tensor, seeds: Sequence[int]) -> Tensor:
    """The mean read-out of renders of one face, [A]."""
    embeddings = []
    for seed in seeds:
        joints = unseen_dance(seed)
        frames = pipeline(render_pose(joints, SIZE_HW), face, cfg_scale=1.0, num_inference_steps=NUM_STEPS, seed=seed)
        embeddings.append(readout.embed(cut_heads(np.asarray(frames), joints)).mean(0))
    return torch.stack(embeddings).mean(0)
