"""The installed diffusers computes what was stored: a tiny random WanVACETransformer3DModel's forward."""

import pytest
import torch
from diffusers import WanVACETransformer3DModel
from safetensors.torch import load_file
from torch.nn.attention import SDPBackend, sdpa_kernel

from faceid.models.adapter.face_adapter import install_adapter
from faceid.models.adapter_settings import AdapterSettings

pytestmark = pytest.mark.promise("golden forward", bar="1e-6", proof="main")

GOLDEN_CONFIG = {
    "patch_size": (1, 2, 2),
    "num_attention_heads": 4,
    "attention_head_dim": 16,
    "in_channels": 16,
    "out_channels": 16,
    "text_dim": 32,
    "freq_dim": 64,
    "ffn_dim": 128,
    "num_layers": 4,
    "cross_attn_norm": True,
    "qk_norm": "rms_norm_across_heads",
    "eps": 1e-6,
    "vace_layers": [0, 2],
    "vace_in_channels": 96,
}
# The stored float32 output is itself 9.6e-7 from a float64 forward. The plain (math) attention kernel rounds alike on
# every CPU; the fused one rounds by the CPU's vector width and was 1.1e-6 away on one machine.
TOLERANCE = 1e-6


@pytest.fixture
def golden(real_data):
    tensors = load_file(real_data / "wan" / "mlxgen_wanvace_transformer_golden.safetensors")
    model = WanVACETransformer3DModel(**GOLDEN_CONFIG)
    weights = {k.removeprefix("model."): v for k, v in tensors.items() if k.startswith("model.")}
    model.load_state_dict(weights, strict=True)
    inputs = {k.removeprefix("in."): v for k, v in tensors.items() if k.startswith("in.")}
    return model.requires_grad_(False).eval(), inputs, tensors["out.sample"]


@pytest.mark.real_data
def test_golden_forward(golden, record_property):
    model, inputs, expected = golden
    with torch.no_grad(), sdpa_kernel(SDPBackend.MATH):
        output = model(**inputs, return_dict=False)[0]
    error = (output - expected).abs().max().item()
    record_property("measured", f"largest difference {error:.2e}")
    assert error <= TOLERANCE


@pytest.mark.real_data
def test_golden_forward_with_the_adapter_off_and_untrained(golden):
    model, inputs, expected = golden
    settings = AdapterSettings(conditioning_dim=40, mapper_hidden_dim=32, num_tokens=3, lora_rank=4)
    adapter = install_adapter(model, settings, face_embedding_dim=24)
    with torch.no_grad(), adapter.off(), sdpa_kernel(SDPBackend.MATH):
        output = model(**inputs, return_dict=False)[0]
    assert (output - expected).abs().max().item() <= TOLERANCE
