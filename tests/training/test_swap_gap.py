"""The embedding-swap gap: zero where the face is ignored, positive where it helps, the same whenever it is asked."""

from __future__ import annotations

import json
from types import SimpleNamespace

import pytest
import torch
from launching import QUIET, SMALL_ADAPTER, train

from faceid.data.dancer_faces.face_bank import FaceBank, read_face_bank, write_face_bank
from faceid.data.dancer_faces.face_sources import of_shards
from faceid.data.latents.latent_reader import LatentSet
from faceid.data.shards.index import ShardIndex
from faceid.errors import ConfigError
from faceid.faces.encoders.face_encoders import load_encoder
from faceid.faces.identity_settings import FaceSettings
from faceid.models.adapter.adapter_file import load_adapter
from faceid.models.adapter.face_adapter import install_adapter
from faceid.toy.shipped import resolve_adapter_path, resolve_encoder_path
from faceid.training.inputs.prepare import PreparedInputs
from faceid.training.inputs.training_data import build_training_set
from faceid.training.validation.losses import pair_faces, swap_gap


@pytest.fixture(scope="module")
def faces(toy_inputs, tmp_path_factory):
    encoder = load_encoder("clip", resolve_encoder_path("toy"))
    folder = tmp_path_factory.mktemp("bank") / "faces"
    write_face_bank(of_shards(ShardIndex.load(toy_inputs.shards)), folder, encoder, FaceSettings())
    return read_face_bank(folder, encoder.fingerprint)


@pytest.fixture(scope="module")
def latents(toy_inputs):
    return LatentSet.open(toy_inputs.latents)


def test_the_right_face_is_of_the_dancers_other_clips_and_the_wrong_one_of_another_dancer(latents, faces):
    pairs = pair_faces(latents, faces, range(len(latents)), limit=16)
    assert len(pairs) == 4
    for pair in pairs:
        dancer = latents.dancers[pair.number]
        others = [k for k, d in zip(latents.keys, latents.dancers, strict=True) if d == dancer]
        others.remove(latents.keys[pair.number])
        (other,) = others
        near = faces.faces_for(other, dancer)[0].mean()
        assert pair.right @ near > 0.99 and pair.wrong @ near < pair.right @ near


def test_fewer_clips_than_there_are_still_show_every_dancer():
    # Only names are asked for.
    keys = [f"{dancer}_{turn}" for dancer in "abcdefgh" for turn in range(3)]
    named = SimpleNamespace(clips=keys, dancers=[key[0] for key in keys])
    faces = {key: torch.nn.functional.normalize(torch.randn(2, 8), dim=1) for key in keys}
    bank = FaceBank.of_clips(faces, dict(zip(keys, named.dancers, strict=True)))
    pairs = pair_faces(named, bank, range(len(keys)), limit=16)
    assert len(pairs) == 16 and {named.dancers[pair.number] for pair in pairs} == set("abcdefgh")


def test_one_dancer_alone_cannot_be_swapped(latents, faces):
    own = [number for number, dancer in enumerate(latents.dancers) if dancer == "d01"]
    assert len(own) == 2 and pair_faces(latents, faces, own, limit=16) == []


@pytest.mark.slow
def test_an_adapter_that_ignores_the_face_has_no_gap(latents, faces, toy_wan, small_adapter_settings):
    # A new adapter's values are zero: whatever the face, nothing changes.
    install_adapter(toy_wan.transformer, small_adapter_settings, 64)
    toy_wan.transformer.eval()
    gap = swap_gap(
        toy_wan.transformer, latents, toy_wan.statistics, pair_faces(latents, faces, range(len(latents)), 2), 1
    )
    assert gap.gap == 0 and gap.right > 0


def test_the_shipped_adapter_has_a_gap_on_people_it_never_saw_and_it_repeats(latents, faces, toy_wan):
    from pathlib import Path

    load_adapter(Path(resolve_adapter_path("toy") or ""), toy_wan)
    toy_wan.transformer.eval()
    pairs = pair_faces(latents, faces, range(len(latents)), 4)
    first = swap_gap(toy_wan.transformer, latents, toy_wan.statistics, pairs, seed=1)
    assert first.gap > 0.02
    one, again = (swap_gap(toy_wan.transformer, latents, toy_wan.statistics, pairs[:1], seed=1) for _ in range(2))
    assert one == again


@pytest.mark.starts_process
@pytest.mark.slow
def test_held_out_clips_of_known_dancers_have_a_gap_of_their_own(toy_inputs, tmp_path):
    flags = [*QUIET, *SMALL_ADAPTER, *toy_inputs.prepared_flags, "--output_dir", str(tmp_path / "run")]
    done = train(*flags, *"--num_epochs 1 --heldout_clips 2 --validate_every 1 --validation_steps 2".split())
    rows = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    logged = {key for row in rows for key in row}
    assert {"validation/swap_gap_heldout_clips", "validation/swap_gap_training_dancers"} <= logged
    assert "held out: 2 of 4 clips, of 0 dancers and of 2 performances of others" in done.stderr
    assert "heldout_clips: 2 performances kept, fewer than 2 of each of 2 dancers" in done.stderr
    assert "best so far by swap_gap_heldout_clips" in done.stderr


@pytest.mark.parametrize("count", [1, 2, 3])
def test_a_number_of_held_out_dancers_that_cannot_be_is_refused(toy_inputs, count, toy_wan):
    from faceid.data.stream.pairing_settings import PairingSettings
    from faceid.data.stream.stream_order import StreamOrder
    from faceid.faces.identities.identity import load_identity
    from faceid.training.recipe.recipe_settings import HeldOutSettings

    prepared = PreparedInputs(toy_inputs.identity, [toy_inputs.latents], None, None)
    identity, held_out = load_identity(toy_inputs.identity), HeldOutSettings(heldout_dancers=count)
    with pytest.raises(ConfigError, match=f"heldout_dancers={count}: the clips show 2 dancers"):
        build_training_set(prepared, identity, toy_wan, PairingSettings(), held_out, StreamOrder(1))
