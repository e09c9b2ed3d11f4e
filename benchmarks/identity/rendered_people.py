"""Sixteen drawn people rendered in one batch: the short way from an adapter to rank-1, for benchmarks of many adapters.

The loop is the pipeline's without guidance; a batch of people shares the pose and the noise, so that only the face
differs.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from faceid.evaluation.videos.heads import cut_head
from faceid.faces.encoders.face_encoders import FaceEncoder, load_encoder
from faceid.faces.identity_settings import FaceSettings
from faceid.faces.photos.detect import FaceDetector, crop_face, load_detector
from faceid.models.adapter.face_tokens import face_input
from faceid.models.adapter_settings import DEFAULT_PROMPT
from faceid.models.base.latent_codec import decode_latents, encode_pixels, to_frames, to_pixels
from faceid.models.base.prompts import encode_prompts
from faceid.models.base.wan import WanModel
from faceid.models.wan_vace.control import pose_control
from faceid.toy.dance import GENRES, dance_joints
from faceid.toy.people import Person, draw_person
from faceid.toy.readers import load_toy_recogniser
from faceid.toy.render import drawn_head_boxes, render_photo, render_pose
from faceid.toy.shipped import TOY_STRONG, resolve_encoder_path
from faceid.toy.toy_settings import Framing
from faceid.toy.worlds import person_seed

# Nobody in it is in a training world, nor in a demo's.
WORLD = 71
SIZE_HW = (96, 96)
# What a dance shows, in turn.
FRAMINGS: tuple[Framing, ...] = ("upper", "whole")
# The encoder that tells these people apart. By the weak one no adapter could.
ENCODER = TOY_STRONG
NUM_STEPS = 12
FEWEST_FACES = 3


@dataclass(frozen=True)
class Gallery:
    """People, and what they are to be known by.

    faces: conditioning embeddings [P, D]. references: the recogniser's, of other photos, [P, E]. joints: of each dance.
    """

    faces: Tensor
    references: Tensor
    joints: list[np.ndarray]
    recogniser: FaceEncoder


def make_gallery(num_people: int, num_poses: int) -> Gallery:
    """The first people of the world whom the detector finds in photos often enough."""
    encoder, detector = load_encoder("clip", resolve_encoder_path(ENCODER)), load_detector("haar")
    recogniser, number = load_toy_recogniser("toy_recogniser"), 0
    faces: list[Tensor] = []
    references: list[Tensor] = []
    while len(faces) < num_people:
        number += 1
        person = draw_person(person_seed(WORLD, f"d{number:02d}"))
        given, other = (cut_photos(person, 1000 * number + first, 8, detector) for first in (0, 500))
        if min(len(given), len(other)) >= FEWEST_FACES:
            faces.append(mean_face(encoder, given))
            references.append(mean_face(recogniser, other))
    joints = [unseen_dance(number) for number in range(num_poses)]
    return Gallery(torch.stack(faces), torch.stack(references), joints, recogniser)


def unseen_dance(number: int) -> np.ndarray:
    """Joints of a dance that nobody trained on, [9, 17, 2]."""
    genre, framing = list(GENRES)[number % len(GENRES)], FRAMINGS[number % len(FRAMINGS)]
    return dance_joints(genre, 700 + number, 9, SIZE_HW, framing)


def rank1_of_renders(wan: WanModel, gallery: Gallery) -> float:
    """Share of renders, without guidance, whose nearest person is the one given. wan: whole, with an adapter on."""
    shares = []
    for number, joints in enumerate(gallery.joints):
        shares.append(rank1(gallery, joints, render_people(wan, joints, gallery.faces, number)))
    return float(np.mean(shares))


def rank1(gallery: Gallery, joints: np.ndarray, renders: list[np.ndarray]) -> float:
    """Share of the renders of one dance, everybody's in order, whose nearest person is their own."""
    hits = []
    for person, frames in enumerate(renders):
        scores = (gallery.recogniser.embed(cut_heads(frames, joints)) @ gallery.references.T).mean(0)
        hits.append(int(scores.argmax()) == person)
    return float(np.mean(hits))


def cut_photos(person: Person, first_seed: int, count: int, detector: FaceDetector) -> list[np.ndarray]:
    """The faces found in `count` photos."""
    return cut_faces([render_photo(person, first_seed + view) for view in range(count)], detector)


def cut_faces(photos: Sequence[np.ndarray], detector: FaceDetector) -> list[np.ndarray]:
    """The largest face of every photo in which one is found."""
    found = [(photo, detector.detect(photo)) for photo in photos]
    return [crop_face(photo, faces[0].box_xyxy, FaceSettings.face_margin) for photo, faces in found if faces]


def cut_heads(frames: np.ndarray, joints: np.ndarray) -> list[np.ndarray]:
    """The head of every frame of a dance that shows one."""
    boxes = drawn_head_boxes(joints, SIZE_HW)
    return [
        cut_head(frame, (box[0], box[1], box[2], box[3]), FaceSettings.face_margin)
        for frame, box in zip(frames, boxes, strict=True)
        if box is not None
    ]


def mean_face(encoder: FaceEncoder, crops: list[np.ndarray]) -> Tensor:
    """The plain mean of their embeddings, [D], unit length."""
    return torch.nn.functional.normalize(encoder.embed(crops).mean(0), dim=0)


@torch.no_grad()
def render_people(wan: WanModel, joints: np.ndarray, faces: Tensor, seed: int) -> list[np.ndarray]:
    """uint8 frames [T, H, W, 3] of each face [P, D], without guidance."""
    count, statistics = len(faces), wan.statistics
    pixels = to_pixels(render_pose(joints, SIZE_HW))
    pose, grey = (statistics.normalise(encode_pixels(wan.vae, video)) for video in (pixels, torch.zeros_like(pixels)))
    control = pose_control(pose, grey, wan.geometry).expand(count, -1, -1, -1, -1)
    text = encode_prompts(wan.tokenizer, wan.text_encoder, [DEFAULT_PROMPT])[DEFAULT_PROMPT].expand(count, -1, -1)
    noise = torch.randn(pose.shape, generator=torch.Generator().manual_seed(seed))
    latents = noise.expand(count, -1, -1, -1, -1)
    wan.scheduler.set_timesteps(NUM_STEPS)
    for timestep in wan.scheduler.timesteps:
        velocity = wan.transformer(
            hidden_states=latents,
            timestep=timestep.expand(count),
            encoder_hidden_states=text,
            encoder_hidden_states_image=face_input(faces),
            control_hidden_states=control,
            return_dict=False,
        )[0]
        latents = wan.scheduler.step(velocity, timestep, latents, return_dict=False)[0]
    return [to_frames(decode_latents(wan.vae, one.unsqueeze(0))) for one in latents]
