"""Make everything the toy world ships, stage by stage.

The stages are VAE, base, face encoder, and the judges of the evaluation. Each stage leaves its result and a record
(settings, seconds, figures) in the work folder. A stage is skipped when both are there, so a killed build can continue.
Weights are rounded to half precision when a stage ends. So later stages build on the shipped values. The order matters:
latents need the VAE, and the base needs latents.
"""

from __future__ import annotations

import logging
import shutil
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch

from faceid.evaluation.figures.similarity import equal_error_rate
from faceid.evaluation.verification.verification_figures import make_pairs
from faceid.faces.encoders.face_encoders import initialise_clip, load_encoder, open_clip, save_embedding_mean
from faceid.faces.photos.detect import load_detector
from faceid.files.documents import read_json
from faceid.files.outputs import write_output
from faceid.files.provenance import describe_provenance
from faceid.files.writing import json_text, write_json
from faceid.logs import progress
from faceid.models.base.initialise import initialise_base, initialise_vae_as_low_pass
from faceid.models.base.latent_codec import through_vae
from faceid.models.base.wan import load_wan
from faceid.toy.people import APPEARANCE, appearance_vector, draw_person
from faceid.toy.pose_reader import PoseReaderNetwork, load_pose_reader
from faceid.toy.readout import calibrate_readout, save_readout
from faceid.toy.shipped import BASE_CONFIGS, ENCODER_CONFIG, RECOGNISER_CONFIG, TEXT_TOKENS
from faceid.toy.worlds import ENCODER_WORLD, EVALUATION_WORLD, person_seed
from toy_factory.base_data import BaseWorld, draw_base_data, read_base_data
from toy_factory.base_reading import read_base
from toy_factory.face_views import FaceViews, draw_views, head_in_clip, portrait_cut
from toy_factory.train_encoder import EncoderTraining, rank1, train_encoder
from toy_factory.train_pose_reader import (
    PoseReaderTraining,
    draw_frames,
    in_picture,
    save_pose_reader,
    train_pose_reader,
)
from toy_factory.train_text import TextTraining, tokenizer_of_descriptions, train_text_encoder
from toy_factory.train_transformer import Batches, Prompts, TransformerTraining, train_transformer
from toy_factory.train_vae import (
    VaeTraining,
    draw_clips,
    finish_on_whole_clips,
    latent_statistics,
    reconstruction_psnr,
    train_vae,
)
from toy_factory.work_folder import made_whole

log = logging.getLogger(f"faceid.tools.{__name__}")

SEED = 20
# People in no training set. The stages' own figures are measured on them.
TEST_WORLD = 4000
LOG_EVERY = 100
# Where the VAE is trained on: another world than before, with whole clips alone.
VAE_WORLD = 1500
VAE_FINISH = VaeTraining(
    finishing_steps=1300, finishing_rate=5e-4, head_share=0.85, pose_share=0.12, detail_weight=1.0, seed=1
)
UNSEEN = BaseWorld(num_people=40, seed=TEST_WORLD)
BASE_FINISH = TransformerTraining(
    num_steps=3000, learning_rate=1e-3, clip_share_first=0.5, clip_share_last=0.6, level_until=0.1, seed=1
)
WEAK = EncoderTraining(num_steps=100, pair_weight=0.0, caption_weight=1.0, levels=1, told_share=0.5)
STRONG = EncoderTraining(num_steps=1500, caption_weight=1.0)
RECOGNISER = EncoderTraining(num_steps=1500, seed=1)


def build_vae(work: Path) -> dict[str, Any]:
    """Make `work/base` with a trained VAE (its other parts are new)."""
    with made_whole(work / "base") as base:
        initialise_base(base, BASE_CONFIGS, SEED)
        vae = load_wan(base, ("vae",)).vae
        initialise_vae_as_low_pass(vae, SEED)
        settings, losses = VaeTraining(), _Losses()
        train_vae(vae, draw_clips(settings.num_clips), settings, losses)
        return {"settings": asdict(settings), "losses": losses.curve, **finish_vae(vae, base)}


def build_vae_finish(work: Path) -> dict[str, Any]:
    """Train the VAE of `work/base` on, on whole clips of other people than before."""
    with made_whole(work / "base", goes_on=True) as base:
        vae = load_wan(base, ("vae",)).vae
        settings, losses = VAE_FINISH, _Losses()
        drawn = draw_clips(settings.num_clips, world=VAE_WORLD)
        finish_on_whole_clips(vae, drawn, settings, lambda step, loss: losses(step - settings.num_steps, loss))
        return {"settings": asdict(settings), "losses": losses.curve, **finish_vae(vae, base)}


def finish_vae(vae: Any, base: Path) -> dict[str, Any]:
    """Round, write the latents' statistics into the config, save. Returns how well unseen clips are reconstructed."""
    vae.half().float()
    unseen = draw_clips(24, world=TEST_WORLD)
    mean, std = latent_statistics(vae, draw_clips(200))
    vae.register_to_config(latents_mean=mean, latents_std=std)
    _save_half(vae, base / "vae")
    clips, poses = (reconstruction_psnr(vae.float(), videos) for videos in (unseen.clips, unseen.poses))
    return {"psnr_db": {"clips": _mean(clips), "worst_clip": min(clips), "poses": _mean(poses)}}


def build_text(work: Path) -> dict[str, Any]:
    """Make the tokenizer and the text encoder of `work/base`."""
    settings, losses = TextTraining(), _Losses()
    with made_whole(work / "base", goes_on=True) as base:
        shutil.rmtree(base / "tokenizer")
        tokenizer = tokenizer_of_descriptions(settings, TEXT_TOKENS)
        tokenizer.save_pretrained(base / "tokenizer")
        # Or diffusers' pipelines would read it as the tokenizer of bytes that the base begins with.
        index = read_json(base / "model_index.json") | {"tokenizer": ["transformers", "PreTrainedTokenizerFast"]}
        write_json(base / "model_index.json", index)
        wan = load_wan(base, ("text",))
        train_text_encoder(wan.text_encoder, wan.tokenizer, settings, losses)
        _save_half(wan.text_encoder, base / "text_encoder")
    return {"settings": asdict(settings), "losses": losses.curve}


def build_data(work: Path) -> dict[str, Any]:
    """Draw what the base learns from, as latents of `work/base`."""
    world = BaseWorld()
    draw_base_data(work / "base", work / "base_data", world)
    draw_base_data(work / "base", work / "unseen_data", UNSEEN)
    return {"world": asdict(world)}


def build_transformer(work: Path) -> dict[str, Any]:
    """Train the base itself: the transformer of `work/base`, from what its seed says."""

    def begin(wan: Any) -> None:
        with TemporaryDirectory() as fresh:
            # What lies in `base` may be an earlier round's.
            initialise_base(Path(fresh), BASE_CONFIGS, SEED)
            wan.transformer = load_wan(Path(fresh), ("transformer",)).transformer

    return _train_base(work, TransformerTraining(), begin)


def build_transformer_finish(work: Path) -> dict[str, Any]:
    """Train the transformer of `work/base` on, from where it is: at a lower rate, and mostly on clips."""

    def go_on(wan: Any) -> None:
        wan.transformer = load_wan(work / "base", ("transformer",)).transformer

    return _train_base(work, BASE_FINISH, go_on)


def _train_base(work: Path, settings: TransformerTraining, prepare: Callable[[Any], None]) -> dict[str, Any]:
    """Train a transformer on what `data` has drawn. prepare: puts it into the loaded base."""
    world, losses = BaseWorld(), _Losses()
    people = [draw_person(person_seed(world.seed, f"d{number:04d}")) for number in range(world.num_people)]
    with made_whole(work / "base", goes_on=True) as base:
        wan = load_wan(base, ("text",))
        prepare(wan)
        prompts = Prompts(wan.tokenizer, wan.text_encoder)
        batches = Batches(read_base_data(work / "base_data"), people, settings)
        train_transformer(wan.transformer, batches, prompts, wan.geometry, settings, losses)
        _save_half(wan.transformer, base / "transformer")
        strangers = [draw_person(person_seed(UNSEEN.seed, f"d{number:04d}")) for number in range(UNSEEN.num_people)]
        reading = read_base(wan.transformer, prompts, read_base_data(work / "unseen_data"), strangers, wan.geometry)
    return {"settings": asdict(settings), "losses": losses.curve, "head_loss_of_unseen_people": reading}


def build_encoder(work: Path) -> dict[str, Any]:
    """Train the weak conditioning encoder. It is about as bad at people as CLIP is.

    As CLIP, it comes without an embedding mean. All its embeddings lie in one direction (two people at 0.6), and
    `check_one_person` knows such encoders.
    """
    views = draw_views(ENCODER_WORLD, 1500, num_photos=3, num_clips=4)
    return _build_tower(work / "encoder", ENCODER_CONFIG, views, WEAK, SEED, is_centred=False)


def build_strong_encoder(work: Path) -> dict[str, Any]:
    """Train the strong conditioning encoder, with its embedding mean. It is as good as a face recogniser."""
    views = draw_views(ENCODER_WORLD, 3000, num_photos=3, num_clips=4)
    return _build_tower(work / "strong_encoder", ENCODER_CONFIG, views, STRONG, SEED + 2)


def build_recogniser(work: Path) -> dict[str, Any]:
    """Train the evaluation's recogniser, on other people, with another size and seed, and without captions.

    It sees a clip of many people through the VAE. A judge must tell look-alikes apart in real clips, at the quality of
    renders, before renders can be asked to differ.
    """
    vae = load_wan(work / "base", ("vae",)).vae
    views = draw_views(EVALUATION_WORLD, 3000, 3, 4, as_rendered=partial(through_vae, vae), num_rendered=1500)
    return _build_tower(work / "recogniser", RECOGNISER_CONFIG, views, RECOGNISER, SEED + 1)


def build_readout(work: Path) -> dict[str, Any]:
    """Calibrate the attribute read-out on heads in clips and on portraits, because references are photos."""
    crops: list[np.ndarray] = []
    truth: list[np.ndarray] = []
    detector = load_detector("haar")
    for number in progress(range(2500), "read-out", unit="person"):
        person = draw_person(person_seed(EVALUATION_WORLD, f"r{number}"))
        portrait = portrait_cut(person, 900_000 + number, detector)
        seen = [head_in_clip(person, 900_000 + number * 8 + view) for view in range(2)]
        crops += [view.picture for view in (*seen, *([] if portrait is None else [portrait]))]
        truth += [appearance_vector(person)] * (len(crops) - len(truth))
    readout = calibrate_readout(np.array(crops), np.array(truth))
    save_readout(work / "readout.safetensors", readout)
    return {"r2": dict(zip(APPEARANCE, [round(value, 3) for value in readout.r2.tolist()], strict=True))}


def build_pose_reader(work: Path) -> dict[str, Any]:
    """Train the pose reader."""
    torch.manual_seed(SEED)
    network, settings, losses = PoseReaderNetwork(), PoseReaderTraining(), _Losses()
    train_pose_reader(network, settings, losses)
    save_pose_reader(work / "pose_reader.safetensors", network)
    frames, joints = draw_frames(TEST_WORLD, 100, 2)
    read = load_pose_reader(work / "pose_reader.safetensors").read(frames)
    error = float(np.linalg.norm(read[..., :2] - joints, axis=-1)[in_picture(joints)].mean())
    return {"settings": asdict(settings), "mean_error_px": losses.curve, "unseen_error_px": round(error, 3)}


Stage = Callable[[Path], dict[str, Any]]
STAGES: dict[str, Stage] = {
    "vae": build_vae,
    "vae_finish": build_vae_finish,
    "text": build_text,
    "data": build_data,
    "transformer": build_transformer,
    "transformer_finish": build_transformer_finish,
    "encoder": build_encoder,
    "strong_encoder": build_strong_encoder,
    "recogniser": build_recogniser,
    "readout": build_readout,
    "pose_reader": build_pose_reader,
}


def build_stage(work: Path, name: str, stages: Mapping[str, Stage]) -> dict[str, Any]:
    """Run one of `stages` unless its record is there. Returns the record, `work/<name>.json`.

    Raises: OutputError when something that no stage wrote is in its place.
    """
    record_file = work / f"{name}.json"
    if record_file.is_file():
        log.info("%s: done already (%s)", name, record_file)
        return {}
    began = time.perf_counter()
    torch.manual_seed(SEED)
    figures = stages[name](work)
    said = {**describe_provenance(), "stage": name, "seconds": round(time.perf_counter() - began, 1), **figures}
    write_output(record_file, json_text(said))
    return said


def _build_tower(
    folder: Path,
    config: dict[str, Any],
    views: FaceViews,
    settings: EncoderTraining,
    seed: int,
    is_centred: bool = True,
) -> dict[str, Any]:
    losses = _Losses()
    with made_whole(folder) as scratch:
        initialise_clip(scratch, config, seed)
        tower = open_clip(scratch)
        train_encoder(tower, views, settings, losses)
        _save_half(tower, scratch)
        if is_centred:
            save_embedding_mean(scratch, load_encoder("clip", scratch).embed(list(views.pictures[:, 0])).mean(0))
        known = _recognition(scratch)
    return {"settings": asdict(settings), "people": len(views.people), "losses": losses.curve, **known}


def _recognition(folder: Path) -> dict[str, Any]:
    """How well an encoder tells people apart who are in no training set."""
    encoder, unseen = load_encoder("clip", folder), draw_views(TEST_WORLD, 100, num_photos=3, num_clips=2)
    photo, other_photo, head, other_head = (_embed(encoder, unseen, view) for view in (0, 1, 3, 4))
    people = [str(number) for number in range(len(unseen.people))] * 2
    pairs = {
        "photos": make_pairs(torch.cat([photo, other_photo]).numpy(), people),
        "photos_and_clips": make_pairs(torch.cat([photo, head]).numpy(), people),
    }
    return {
        "equal_error_rate": {name: round(equal_error_rate(p.genuine, p.impostor), 4) for name, p in pairs.items()},
        "rank1_of": len(unseen.people),
        "rank1_photo_to_clip": rank1(photo, head),
        "rank1_clip_to_clip": rank1(other_head, head),
    }


def _embed(encoder: Any, views: FaceViews, view: int) -> torch.Tensor:
    return encoder.embed(list(views.pictures[:, view]))


def _save_half(module: Any, folder: Path) -> None:
    """Save in half precision. Loaded back as float32, the values are the same everywhere."""
    module.half().save_pretrained(folder)
    module.float()


class _Losses:
    """The mean loss of every LOG_EVERY steps, for the record and the log."""

    def __init__(self) -> None:
        self.curve: list[float] = []
        self._recent: list[float] = []

    def __call__(self, step: int, loss: float) -> None:
        self._recent.append(loss)
        if step % LOG_EVERY == 0:
            self.curve.append(round(_mean(self._recent), 4))
            log.info("step %d: loss %.4f", step, self.curve[-1])
            self._recent = []


def _mean(values: list[float]) -> float:
    return sum(values) / len(values)
