"""What the toy base is built from: a geometry that WanVACEPipeline takes, and words that are read back."""

from __future__ import annotations

import pytest
import torch
from diffusers import WanVACEPipeline

from faceid.models.base.initialise import initialise_base, initialise_vae_as_low_pass
from faceid.models.base.model_files import ModelFiles
from faceid.models.base.wan import load_wan
from faceid.toy.dance import dance_joints
from faceid.toy.descriptions import describe, description_phrases
from faceid.toy.people import draw_person, generator
from faceid.toy.render import drawn_head_boxes
from faceid.toy.shipped import BASE_CONFIGS, TEXT_TOKENS
from faceid.toy.worlds import person_seed
from toy_factory.base_data import BaseWorld, _draw_part, read_base_data
from toy_factory.train_text import SAYS, TextTraining, draw_description, tokenizer_of_descriptions
from toy_factory.train_transformer import Batches, Prompts, TransformerTraining, base_loss
from toy_factory.train_vae import draw_clips, reconstruction_psnr
from toy_factory.world import CLIP_FRAMES, FRAME_PX


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    folder = tmp_path_factory.mktemp("factory") / "base"
    initialise_base(folder, BASE_CONFIGS, seed=1)
    return folder


@pytest.mark.slow
def test_its_geometry_is_wans_own_and_the_pipelines(base):
    geometry = ModelFiles.find(base).geometry
    assert (geometry.spatial_factor, geometry.temporal_factor, geometry.latent_channels) == (8, 4, 16)
    wan = load_wan(base, ("vae", "transformer"))
    pipeline = WanVACEPipeline(None, None, wan.vae, None, wan.transformer)
    assert (pipeline.vae_scale_factor_spatial, pipeline.vae_scale_factor_temporal) == (8, 4)
    latents = wan.vae.encode(torch.zeros(1, 3, CLIP_FRAMES, FRAME_PX, FRAME_PX)).latent_dist.mode()
    assert latents.shape[1:] == geometry.latent_shape(CLIP_FRAMES, FRAME_PX, FRAME_PX)
    assert wan.vae.decode(latents).sample.shape == (1, 3, CLIP_FRAMES, FRAME_PX, FRAME_PX)


@pytest.mark.slow
def test_its_vae_begins_as_a_low_pass_filter(base):
    vae = load_wan(base, ("vae",)).vae
    initialise_vae_as_low_pass(vae, 1)
    assert min(reconstruction_psnr(vae, draw_clips(2, world=77).clips)) > 5


@pytest.mark.parametrize(("framing", "smallest", "largest"), [("upper", 37, 87), ("whole", 28, 42), ("far", 8, 25)])
def test_heads_have_the_sizes_that_a_framing_says(framing, smallest, largest):
    for seed in range(12):
        joints = dance_joints("HO", seed, CLIP_FRAMES, (FRAME_PX, FRAME_PX), framing)
        for x0, y0, x1, y1 in filter(None, drawn_head_boxes(joints, (FRAME_PX, FRAME_PX))):
            assert smallest <= max(x1 - x0, y1 - y0) <= largest
        # The camera stands still: a dance moves in the picture as it does when whole.
        assert len(joints) == CLIP_FRAMES


def test_a_description_says_what_can_be_seen_and_every_trait_has_its_numbers():
    people = [draw_person(seed) for seed in range(200)]
    said = {trait for person in people for trait in description_phrases(person)}
    assert said == set(SAYS)
    bald = next(person for person in people if person.headwear == "bald")
    assert "hair" not in describe(bald) and "a bald head" in describe(bald)
    assert describe(people[0]) == describe(people[0]) and len({describe(person) for person in people}) > 190


def test_every_description_fits_the_tokenizer_and_any_other_word_has_tokens():
    tokenizer = tokenizer_of_descriptions(TextTraining(corpus=500), TEXT_TOKENS)
    rng = generator(0, "test")
    texts = [draw_description(rng, draw_person(seed))[0] for seed in range(200)]
    assert max(len(tokenizer(text).input_ids) for text in texts) <= TEXT_TOKENS
    for word in ("sks", "Zürich", "舞"):
        assert tokenizer.unk_token_id not in tokenizer(word).input_ids and tokenizer(word).input_ids[-1] == 1


@pytest.mark.slow
def test_what_the_base_learns_from_is_drawn_and_every_kind_of_batch_has_a_loss(base, tmp_path):
    world = BaseWorld(num_people=2, clips_per_person=1, pictures_per_person=1, portraits_per_person=3)
    _draw_part((base, tmp_path / "part_00000.safetensors", world, 0))
    data = read_base_data(tmp_path)
    assert [len(rows) for rows in (data.clips, data.pictures, data.portraits)] == [2, 2, 6]
    side = FRAME_PX // 8
    assert data.clip_masks.any() and data.clip_poses.shape == data.clips.shape == (2, 16, 3, side, side)
    wan = load_wan(base, ("transformer", "text"))
    settings = TransformerTraining(
        tokens=64, clip_share_first=0.5, clip_share_last=0.5, without_pose=0.5, small_share=0.5
    )
    people = [draw_person(person_seed(world.seed, f"d{number:04d}")) for number in range(2)]
    batches, prompts = Batches(data, people, settings), Prompts(wan.tokenizer, wan.text_encoder)
    noise, seen, num_small = torch.Generator().manual_seed(0), set(), 0
    for _ in range(24):
        batch = batches.draw(0.5)
        text = prompts(batch.prompts)
        loss = base_loss(wan.transformer, batch, text, wan.geometry, settings, noise)
        assert torch.isfinite(loss)
        if batch.x0.shape[3] != side:
            # Half the side, a portrait; a reference of the whole side would not fit.
            assert batch.x0.shape[2:] == batch.grey.shape[2:] == (1, side // 2, side // 2)
            assert batch.pose is None and not batch.references
            num_small += 1
        seen.add((batch.x0.shape[2], batch.pose is None, len(batch.references)))
    assert {frames for frames, _, _ in seen} == {1, 3} and {count for *_, count in seen} >= {0, 1}
    assert num_small and {(1, True), (1, False), (3, False)} == {(frames, is_free) for frames, is_free, _ in seen}
