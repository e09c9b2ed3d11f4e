"""The identity loss: of the target at low noise alone, lower for the right face, and with a gradient."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from asked_for import asked_for
from calling import call, refused
from launching import QUIET, SMALL_ADAPTER

from faceid.errors import ConfigError
from faceid.faces.encoders.face_encoders import load_encoder
from faceid.faces.photos.detect import crop_face
from faceid.models.base.latent_codec import encode_pixels, to_pixels
from faceid.toy.people import draw_person
from faceid.toy.render import render_photo
from faceid.toy.shipped import resolve_encoder_path
from faceid.training.inputs.identity_loss import IdentityLoss, of_entries
from faceid.training.measuring.metrics import read_metrics

SIZE, BOX = 96, (26, 20, 70, 76)


@pytest.fixture(scope="module")
def make_loss(toy_path):
    from faceid.models.base.wan import load_wan

    wan = load_wan(toy_path, ("vae",))
    encoder = load_encoder("clip", resolve_encoder_path("toy"))
    encoder.model.requires_grad_(False)
    crops = [crop_face(render_photo(draw_person(5), seed, SIZE), BOX, 0.3) for seed in range(4)]
    photos = {f"p{number}": embedding for number, embedding in enumerate(encoder.embed(crops))}
    return IdentityLoss(encoder, photos, wan.vae, wan.statistics, wan.geometry, 0.3, max_sigma=0.4)


def latent_of(loss, person, seed=9):
    pixels = to_pixels(render_photo(draw_person(person), seed, SIZE)[None])
    return loss.statistics.normalise(encode_pixels(loss.vae, pixels))


def batch_of(x0, kind="photo", box=BOX, photo="p0", face=1.0):
    count = len(x0)
    return SimpleNamespace(
        x0=x0,
        g=list(range(count)),
        kinds=[kind] * count,
        face_boxes=[box] * count,
        photos=[photo] * count,
        face=torch.full((count, 8), face),
    )


def measured(loss, shown, real=None, level=0.3, **changes):
    """The terms where the prediction's clean latent is `shown`."""
    noise = torch.randn(shown.shape, generator=torch.Generator().manual_seed(0))
    sigma = torch.full((len(shown),), level)
    x_t = (1 - level) * shown + level * noise
    return loss(batch_of(shown if real is None else real, **changes), x_t, noise - shown, sigma)


def test_it_is_lower_for_the_target_than_for_others(make_loss):
    own = float(measured(make_loss, latent_of(make_loss, 5))["identity_loss"])
    others = [float(measured(make_loss, latent_of(make_loss, person))["identity_loss"]) for person in range(20, 26)]
    assert own < min(others) and own < 0.5 * np.mean(others)


def test_it_has_a_gradient_to_the_prediction_where_the_face_is(make_loss):
    shown = latent_of(make_loss, 21)
    velocity = (torch.randn(shown.shape) - shown).requires_grad_()
    terms = make_loss(batch_of(shown), shown, velocity, torch.full((1,), 0.3))
    terms["identity_loss"].backward()
    gradient = velocity.grad[0, :, 0].abs().sum(0)
    px = make_loss.geometry.spatial_factor
    # All cells that the box touches.
    inside = gradient[BOX[1] // px : -(-BOX[3] // px), BOX[0] // px : -(-BOX[2] // px)]
    assert inside.min() > 0 and inside.sum() > 0.5 * gradient.sum()
    assert all(parameter.grad is None for parameter in make_loss.vae.parameters())


@pytest.mark.parametrize(
    "changes", [{"level": 0.6}, {"kind": "clip"}, {"kind": "null"}, {"box": ()}, {"face": 0.0}], ids=str
)
def test_of_what_it_is_not_taken(make_loss, changes):
    terms = measured(make_loss, latent_of(make_loss, 5), **changes)
    assert float(terms["identity_entries"]) == 0 and float(terms["identity_loss"]) == 0
    assert of_entries({"loss": 1.0, **{name: float(value) for name, value in terms.items()}}) == {"loss": 1.0}


def test_a_photo_is_compared_with_the_others_alone(make_loss):
    one = IdentityLoss(**{**vars(make_loss), "photos": {"p0": make_loss.photos["p0"]}})
    assert one.entries(batch_of(latent_of(make_loss, 5)), torch.tensor([0.1])) == []
    shown = latent_of(make_loss, 5)
    assert float(measured(make_loss, shown, photo="p1")["identity_loss"]) != float(
        measured(make_loss, shown, photo="p2")["identity_loss"]
    )


def test_a_blurred_face_is_told_by_its_edges(make_loss):
    real = latent_of(make_loss, 5)
    assert float(measured(make_loss, real)["identity_sharpness"]) == pytest.approx(1, abs=0.02)
    flat = real.mean((3, 4), keepdim=True).expand_as(real)
    assert float(measured(make_loss, flat, real)["identity_sharpness"]) < 0.6


def test_pixels_are_embedded_as_pictures_are(make_loss):
    crops = [crop_face(render_photo(draw_person(person), person, SIZE), BOX, 0.3) for person in range(3)]
    pixels = torch.stack([torch.from_numpy(crop).permute(2, 0, 1) for crop in crops]) / 255
    cosines = (make_loss.encoder.embed_pixels(pixels) * make_loss.encoder.embed(crops)).sum(1)
    assert cosines.min() > 0.995


def test_terms_are_means_over_their_entries():
    assert of_entries({"loss": 2.0, "identity_loss": 0.2, "identity_sharpness": 0.5, "identity_entries": 0.5}) == {
        "loss": 2.0,
        "identity_loss": 0.4,
        "identity_sharpness": 1.0,
    }


def test_without_a_recogniser_it_is_refused():
    with pytest.raises(ConfigError, match=r"identity_loss_weight=0\.1: needs --identity_loss_encoder"):
        asked_for(identity_loss_weight=0.1)


@pytest.mark.slow
def test_a_run_learns_with_it_and_logs_it(toy_inputs, tmp_path):
    words = [*SMALL_ADAPTER, *QUIET, *toy_inputs.prepared_flags, "--output_dir", str(tmp_path)]
    words += "--batch_size 8 --warmup_steps 0 --num_epochs 3 --validate_every 0 --identity_loss_weight 0.1".split()
    words += ["--identity_loss_max_sigma", "0.9"]
    refused(call("train.py", *words, "--identity_loss_encoder", "onnx:x.onnx"), "which have a gradient")
    assert call("train.py", *words, "--identity_loss_encoder", "clip:toy").code == 0
    rows = read_metrics(tmp_path / "metrics.jsonl")
    assert any(0 < row.get("train/identity_loss", 0) < 2 for row in rows)
    assert all("train/identity_entries" not in row for row in rows)
