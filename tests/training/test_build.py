"""What a run is put together from."""

import pytest
import torch

from faceid.errors import ConfigError
from faceid.models.adapter.face_adapter import install_adapter
from faceid.training.build import StageGate, build_optimizer
from faceid.training.inputs.input_settings import InputSettings


@pytest.mark.promise("only the adapter is in the optimizer", bar="no base tensor", proof="main")
def test_only_adapter_parameters_are_in_the_optimizer(toy_wan, small_adapter_settings, record_property):
    adapter = install_adapter(toy_wan.transformer, small_adapter_settings, face_embedding_dim=24)
    optimizer = build_optimizer(adapter, learning_rate=1e-4, weight_decay=0.01)
    optimized = [id(parameter) for group in optimizer.param_groups for parameter in group["params"]]
    record_property("measured", f"{len(optimized)} tensors, {len(list(toy_wan.transformer.parameters()))} in the model")
    assert sorted(optimized) == sorted(id(parameter) for parameter in adapter.parameters().values())
    assert {id(p) for p in optimizer.param_groups[0]["params"]} == {id(p) for p in adapter.mapper_parameters().values()}


def test_the_gate_stops_the_mappers_gradient_and_nothing_elses(toy_wan, small_adapter_settings):
    adapter = install_adapter(toy_wan.transformer, small_adapter_settings, face_embedding_dim=24)
    gate = StageGate(adapter)
    for frozen in (True, False):
        gate.is_stage2 = frozen
        toy_wan.transformer.zero_grad()
        adapter.mapper(torch.nn.functional.normalize(torch.ones(1, 24), dim=1)).square().sum().mul(3).backward()
        mapper, lora = adapter.mapper.layers[0].weight.grad, adapter.mapper.lora_up.weight.grad
        assert (mapper.abs().max().item() == 0) == frozen
        assert lora.abs().max().item() > 0


@pytest.mark.parametrize(
    "changes, key",
    [
        ({}, "face_images_dir"),
        ({"face_embedding": "f"}, "dance_videos_dir"),
        ({"face_embedding": "f", "dance_videos_dir": "v"}, "pose_videos_dir"),
        ({"face_embedding": "f", "latents": "l", "dance_videos_dir": "v"}, "latents"),
        ({"face_embedding": "f", "dance_videos_dir": "v", "pose_videos_dir": "p", "shards": "s"}, "shards"),
    ],
)
def test_inputs_that_are_missing_or_contradict_are_named(changes, key):
    with pytest.raises(ConfigError, match=key):
        InputSettings(model_path="toy", output_dir="o", **changes)
