"""Clips without a face are taught what the frozen base predicts for them, whatever their pixels show."""

from types import SimpleNamespace

import pytest
import torch
from adapter_inputs import EMBEDDING_DIM, faces, inputs, train_a_little
from asked_for import asked_for

from faceid import flow
from faceid.data.stream.training_set import TrainingSample
from faceid.models.adapter.face_adapter import install_adapter
from faceid.training.step import _any_null, sample_losses

SIGMA = torch.tensor([0.6, 0.6])


@pytest.fixture
def run(toy_wan, small_adapter_settings):
    adapter = install_adapter(toy_wan.transformer, small_adapter_settings, EMBEDDING_DIM)
    sections = asked_for(masked_loss_probability=0.0)
    run = {"wan": toy_wan, "adapter": adapter, "transformer": toy_wan.transformer, "sections": sections}
    return SimpleNamespace(**run, identity_loss=None)


def batch(wan, kinds):
    given = inputs(wan)
    noise = torch.randn(given["hidden_states"].shape, generator=torch.Generator().manual_seed(5))
    is_null = torch.tensor([kind == "null" for kind in kinds]).view(-1, 1)
    return TrainingSample(
        x0=given["hidden_states"],
        control=given["control_hidden_states"],
        text=given["encoder_hidden_states"],
        face=torch.where(is_null, 0.0, faces()),
        target_share=torch.zeros(2),
        head_mask=torch.ones(2, 3, 8, 8),
        noise=noise,
        head_cells=[0, 0],
        face_boxes=[(), ()],
        photos=["", ""],
        num_references=0,
        g=[0, 1],
        keys=["a", "b"],
        kinds=kinds,
        bodies=[False, False],
        choices=[],
        damages=[],
    )


def base_prediction(run, sample):
    with torch.no_grad(), run.adapter.off():
        return run.wan.transformer(
            hidden_states=flow.add_noise(sample.x0, sample.noise, SIGMA),
            timestep=flow.model_timestep(SIGMA),
            encoder_hidden_states=sample.text,
            control_hidden_states=sample.control,
            return_dict=False,
        )[0]


def test_an_adapter_that_changes_nothing_has_nothing_to_unlearn(run):
    sample = batch(run.wan, ["null", "null"])
    assert sample_losses(run, sample, SIGMA, with_base=True)["loss"].item() == 0
    assert sample_losses(run, sample, SIGMA)["loss"].item() > 0.1


def test_the_target_is_the_bases_prediction_for_null_entries_alone(run):
    train_a_little(run.adapter)
    sample = batch(run.wan, ["clip", "null"])
    found = sample_losses(run, sample, SIGMA, with_base=True)["loss"]
    found.backward()
    assert any(p.grad is not None and p.grad.abs().sum() > 0 for p in run.adapter.parameters().values())
    from faceid.models.adapter.face_tokens import face_input

    with torch.no_grad():
        prediction = run.wan.transformer(
            hidden_states=flow.add_noise(sample.x0, sample.noise, SIGMA),
            timestep=flow.model_timestep(SIGMA),
            encoder_hidden_states=sample.text,
            encoder_hidden_states_image=face_input(sample.face),
            control_hidden_states=sample.control,
            return_dict=False,
        )[0]
    data, base = flow.velocity_target(sample.x0, sample.noise), base_prediction(run, sample)
    expected = (flow.flow_loss(prediction, data)[0].mean() + flow.flow_loss(prediction, base)[1].mean()) / 2
    torch.testing.assert_close(found.detach(), expected)


def test_the_adapter_is_on_again_and_trains_after_the_base_was_asked(run):
    before = {name: p.requires_grad for name, p in run.adapter.parameters().items()}
    sample_losses(run, batch(run.wan, ["null", "null"]), SIGMA, with_base=True)
    assert {name: p.requires_grad for name, p in run.adapter.parameters().items()} == before
    assert run.adapter._is_on


def test_under_zero3_all_ranks_ask_the_base_as_soon_as_one_must(run):
    """Each forward pass gathers parameters from all of them."""
    kinds = ["clip", "clip", "clip", "null"]
    run.training_set = SimpleNamespace(mixture=[SimpleNamespace(kind=kind) for kind in kinds])
    own = batch(run.wan, ["clip", "clip"])
    positions = [[[0], [1]], [[2], [3]]]
    for kind, expected in (("zero3", [False, True]), ("zero2", [False, False])):
        accelerator = SimpleNamespace(num_processes=2)
        run.world = SimpleNamespace(kind=kind, accelerator=accelerator, positions=lambda step, rank: positions[rank])
        assert [_any_null(run, 0, micro, own) for micro in range(2)] == expected
    run.sections = asked_for(null_target="data")
    run.world.kind = "zero3"
    assert not _any_null(run, 0, 1, batch(run.wan, ["null", "null"]))
