"""Checkpointing, compiling and the choice of a kernel change time and memory, and nothing else."""

from collections import Counter

import pytest
import torch
from adapter_inputs import EMBEDDING_DIM, faces, forward, inputs, train_a_little
from diffusers.models.attention_dispatch import _AttentionBackendRegistry
from torch.utils._python_dispatch import TorchDispatchMode

from faceid.errors import ConfigError
from faceid.models.adapter.face_adapter import install_adapter
from faceid.models.adapter.face_tokens import face_input
from faceid.models.compute.execution import set_attention_backend, set_gradient_checkpointing

FLASH = "aten::_scaled_dot_product_flash_attention_for_cpu"


class CountedAttention(TorchDispatchMode):
    """Forward calls of attention that were really made, by whether queries and keys are equally many."""

    def __init__(self):
        super().__init__()
        self.calls = Counter()

    def __torch_dispatch__(self, op, types, args=(), kwargs=None):
        if op.name() == FLASH:
            self.calls["self" if args[0].shape[2] == args[1].shape[2] else "other"] += 1
        return op(*args, **(kwargs or {}))


def gradients(wan, adapter):
    forward(wan, face_input(faces())).pow(2).mean().backward()
    found = {name: parameter.grad.clone() for name, parameter in adapter.parameters().items()}
    wan.transformer.zero_grad()
    return found


@pytest.fixture
def own_backend(monkeypatch):
    """diffusers remembers the last backend for all models of the process."""
    monkeypatch.setattr(_AttentionBackendRegistry, "_active_backend", _AttentionBackendRegistry._active_backend)


@pytest.fixture
def adapter(toy_wan, small_adapter_settings):
    adapter = install_adapter(toy_wan.transformer, small_adapter_settings, EMBEDDING_DIM)
    train_a_little(adapter)
    return adapter


def test_every_mode_gives_the_same_gradients_to_the_bit(toy_wan, adapter):
    expected = gradients(toy_wan, adapter)
    for mode in ("full", "attention", "none"):
        set_gradient_checkpointing(toy_wan.transformer, mode)
        found = gradients(toy_wan, adapter)
        assert all(torch.equal(found[name], expected[name]) for name in expected), mode


def test_attention_is_kept_where_it_is_asked_for_and_only_there(toy_wan, adapter):
    blocks, vace = len(toy_wan.transformer.blocks), len(toy_wan.transformer.vace_blocks)
    made = {}
    for mode in ("none", "full", "attention"):
        set_gradient_checkpointing(toy_wan.transformer, mode)
        with CountedAttention() as counted:
            gradients(toy_wan, adapter)
        made[mode] = counted.calls
    # Each main block attends to itself, to the text and to the face; VACE blocks have no graph and are never redone.
    assert made["none"] == {"self": blocks + vace, "other": 2 * blocks + vace}
    assert made["full"] == {"self": 2 * blocks + vace, "other": 4 * blocks + vace}
    assert made["attention"] == {"self": blocks + vace, "other": 4 * blocks + vace}


def test_a_kernel_that_is_unknown_to_the_selection_is_said(toy_wan, adapter, caplog, monkeypatch):
    from faceid.models.compute import execution

    monkeypatch.setattr(execution, "_TOKENS_DIM", {})
    execution._warn_of_unknown_attention.cache_clear()
    import logging

    logging.getLogger("faceid").propagate = True
    set_gradient_checkpointing(toy_wan.transformer, "attention")
    gradients(toy_wan, adapter)
    assert f"has no effect on {FLASH}" in caplog.text


@pytest.mark.slow
@pytest.mark.parametrize("mode", ["none", "full", "attention"])
def test_compiled_blocks_give_the_same_gradients_within_rounding(toy_wan, adapter, mode, monkeypatch):
    expected = gradients(toy_wan, adapter)
    # The graphs are what could go wrong; which code they are turned into is torch's affair, and takes minutes here.
    plain = torch.compile
    monkeypatch.setattr(torch, "compile", lambda *args, **kwargs: plain(*args, **{**kwargs, "backend": "aot_eager"}))
    set_gradient_checkpointing(toy_wan.transformer, mode, is_compiled=True)
    found = gradients(toy_wan, adapter)
    for name, gradient in expected.items():
        torch.testing.assert_close(found[name], gradient, rtol=1e-4, atol=1e-6, msg=name)


@torch.no_grad()
def test_a_backend_by_its_name(toy_wan, adapter, own_backend):
    expected = forward(toy_wan, face_input(faces()))
    set_attention_backend(toy_wan.transformer, "_native_math")
    torch.testing.assert_close(forward(toy_wan, face_input(faces())), expected, rtol=1e-4, atol=1e-5)
    assert {block.attn2.processor._attention_backend.value for block in toy_wan.transformer.blocks} == {"_native_math"}


@pytest.mark.parametrize(
    ("name", "said"), [("no_such", "unknown to diffusers"), ("flash", "cannot be used here"), ("sage", "cannot be")]
)
def test_a_backend_that_cannot_be_used_is_one_line(toy_wan, adapter, name, said, own_backend):
    with pytest.raises(ConfigError, match=said) as error:
        set_attention_backend(toy_wan.transformer, name)
    assert "\n" not in str(error.value)


def test_under_autocast_the_lora_computes_in_bf16(toy_wan, adapter):
    """peft by itself lifts its input to float32 and back: half as much memory traffic again."""
    seen = set()
    layer = adapter.lora_layers()[0]
    layer.lora_A["face"].register_forward_hook(lambda module, args, out: seen.add((args[0].dtype, out.dtype)))
    toy_wan.transformer.to(torch.bfloat16)
    for parameter in adapter.parameters().values():
        parameter.data = parameter.data.float()
    half = {name: value.bfloat16() if value.ndim > 1 else value for name, value in inputs(toy_wan).items()}
    with torch.autocast("cpu", torch.bfloat16):
        forward(toy_wan, face_input(faces()), **half).float().pow(2).mean().backward()
    assert seen == {(torch.bfloat16, torch.bfloat16)}
    assert all(parameter.grad.dtype == torch.float32 for parameter in adapter.parameters().values())
