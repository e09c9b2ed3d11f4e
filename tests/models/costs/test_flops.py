"""The bill of operations against torch's own counter, at the sizes of the real models: shapes only, no weights."""

import gc
import json
from pathlib import Path

import pytest
import torch
from diffusers import WanVACETransformer3DModel
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode
from torch.utils.flop_counter import FlopCounterMode, sdpa_backward_flop_count, sdpa_flop_count

from faceid.models.adapter.face_adapter import install_adapter
from faceid.models.adapter.face_tokens import face_input
from faceid.models.adapter_settings import AdapterSettings
from faceid.models.compute.execution import set_gradient_checkpointing
from faceid.models.costs.flops import step_flops

pytestmark = pytest.mark.promise(
    "operations at the true sizes, counted by torch on the meta device, beside the ledger",
    bar="<= 1.02 times",
    proof="model",
)

# Of Wan-AI/Wan2.1-VACE-1.3B-diffusers and -14B-diffusers (transformer/config.json): facts, not files.
COMMON = {"attention_head_dim": 128, "in_channels": 16, "out_channels": 16, "text_dim": 4096, "freq_dim": 256}
COMMON |= {"patch_size": (1, 2, 2), "qk_norm": "rms_norm_across_heads", "cross_attn_norm": True, "eps": 1e-6}
COMMON |= {"vace_in_channels": 96}
SIZES = {
    "1.3B": COMMON
    | {"num_attention_heads": 12, "ffn_dim": 8960, "num_layers": 30, "vace_layers": list(range(0, 30, 2))},
    "14B": COMMON
    | {"num_attention_heads": 40, "ffn_dim": 13824, "num_layers": 40, "vace_layers": list(range(0, 40, 5))},
}
FACE = 768
# 65 frames at 480x832.
LATENT = (17, 60, 104)
TOKENS = 17 * 30 * 52
DATA = Path(__file__).resolve().parents[4] / "shared" / "data" / "wan"


def shapes_only(config, settings, dtype=torch.float32):
    """A transformer with its adapter whose tensors hold nothing and say they are on the CPU, for use in a fake mode.

    On the meta device itself attention would be made of plain products, of which nothing can be kept or told apart.
    """
    with torch.device("meta"):
        transformer = WanVACETransformer3DModel(**config)
    adapter = install_adapter(transformer, settings, FACE)
    mode = FakeTensorMode()
    with mode:
        for module in transformer.modules():
            for name, tensor in module._parameters.items():
                if tensor is not None:
                    fake = torch.empty(tensor.shape, dtype=dtype)
                    module._parameters[name] = torch.nn.Parameter(fake, requires_grad=tensor.requires_grad)
            for name, tensor in module._buffers.items():
                module._buffers[name] = torch.empty(tensor.shape, dtype=tensor.dtype)
    return transformer, adapter, mode


def counted_step(size, settings, mode, **changes):
    """Operations of a forward and backward pass by torch's counter, on tensors without values."""
    aten = torch.ops.aten
    # The counter knows flash attention by its names on a GPU.
    kernels = {
        aten._scaled_dot_product_flash_attention_for_cpu: lambda q, k, v, *_, **__: sdpa_flop_count(q, k, v),
        aten._scaled_dot_product_flash_attention_for_cpu_backward: lambda gradient, q, k, v, *_, **__: (
            sdpa_backward_flop_count(gradient, q, k, v)
        ),
    }
    transformer, _, fake = shapes_only(SIZES[size] | changes, settings)
    set_gradient_checkpointing(transformer, mode)
    transformer.train()
    with fake:
        counter = FlopCounterMode(display=False, custom_mapping=kernels)
        with counter:
            out = transformer(
                hidden_states=torch.randn(1, 16, *LATENT),
                timestep=torch.tensor([500.0]),
                encoder_hidden_states=torch.randn(1, 512, 4096),
                encoder_hidden_states_image=face_input(torch.randn(1, FACE)),
                control_hidden_states=torch.randn(1, 96, *LATENT),
                return_dict=False,
            )[0]
            out.pow(2).mean().backward()
    return counter.get_total_flops(), transformer.config


IN_PROOF_ONLY = pytest.mark.proof_only("half a minute", proof="training")


@pytest.mark.promise(
    "operations of a step by the analytic least, at the true 1.3B, with FULL=1 at 14B, too",
    bar="<= 1.02",
    proof="training",
)
@pytest.mark.parametrize(
    ("size", "mode"),
    [
        ("1.3B", "attention"),
        *(pytest.param("1.3B", mode, marks=IN_PROOF_ONLY) for mode in ("none", "full")),
        pytest.param("14B", "full", marks=pytest.mark.proof_only("half a minute", proof="training", full=True)),
    ],
)
@pytest.mark.slow
def test_a_step_computes_what_it_must_and_at_most_two_percent_more(size, mode, record_property):
    settings = AdapterSettings()
    counted, config = counted_step(size, settings, mode)
    least = step_flops(config, settings, TOKENS, mode, FACE).total
    record_property(
        "measured", f"{size} {mode} {counted / 1e12:.1f} / {least / 1e12:.1f} TFLOP = {counted / least:.6f}"
    )
    assert 0.999 < counted / least <= 1.02


@pytest.mark.parametrize(
    "settings",
    [
        AdapterSettings(lora_branch="both"),
        AdapterSettings(lora_branch="vace", face_attention_every=2),
        AdapterSettings(face_modulation=True, num_mapper_layers=3, lora_rank=16),
        AdapterSettings(lora_branch="both", lora_layers="linear"),
        AdapterSettings(lora_layers="linear"),
    ],
    ids=["both branches", "vace branch", "modulation", "all linear layers", "feed-forward too"],
)
@pytest.mark.slow
def test_the_bill_follows_the_settings(settings):
    # Two VACE blocks and four main ones: what differs between them is in there.
    counted, config = counted_step("1.3B", settings, "full", num_layers=4, vace_layers=[0, 2])
    assert 0.999 < counted / step_flops(config, settings, TOKENS, "full", FACE).total <= 1.02


@pytest.mark.promise("trained parameters at the true sizes", bar="as designed", proof="training")
@pytest.mark.slow
def test_trainable_parameters_at_the_real_sizes(record_property):
    """rank 64 on q, k, v, o of both attentions; 8 face tokens of 768; keys and values of every block."""
    for size, lora, face in (("1.3B", 47.2, 70.8), ("14B", 209.7, 314.6)):
        _, adapter, _ = shapes_only(SIZES[size], AdapterSettings())
        trained = {name: parameter.numel() for name, parameter in adapter.parameters().items()}
        by_part = {
            part: sum(count for name, count in trained.items() if name.startswith(part)) / 1e6
            for part in ("transformer.", "face_attention.", "face_mapper.")
        }
        record_property("measured", f"{size} {sum(by_part.values()):.1f} M")
        assert by_part["transformer."] == pytest.approx(lora, abs=0.05)
        assert by_part["face_attention."] == pytest.approx(face, abs=0.05)
        assert by_part["face_mapper."] == pytest.approx(7.6, abs=0.1)


def test_the_sizes_are_the_real_models():
    if not DATA.is_dir():
        pytest.skip("../shared/data/wan is not there")
    published = json.loads((DATA / "wan21_vace_1.3b_transformer_config.json").read_text())
    assert {key: SIZES["1.3B"][key] for key in published if key in SIZES["1.3B"] and key != "patch_size"} == {
        key: value for key, value in published.items() if key in SIZES["1.3B"] and key != "patch_size"
    }


@pytest.mark.promise(
    "activations a block holds for the backward pass, at the true 1.3B", bar="1 full, 2 attention", proof="training"
)
@pytest.mark.parametrize("mode", ["none", "full", "attention"])
@pytest.mark.slow
def test_bytes_held_for_the_backward_pass_by_block(mode, record_property):
    """In units of one activation, N x d bf16: inputs alone, and one more where attention is kept."""
    config = SIZES["1.3B"] | {"num_layers": 3, "vace_layers": [0]}
    held = {}
    for num_layers in (2, 3):
        transformer, _, fake = shapes_only(config | {"num_layers": num_layers}, AdapterSettings(), torch.bfloat16)
        set_gradient_checkpointing(transformer, mode)
        with fake:
            held[num_layers] = _held_bytes(transformer, fake)
    unit = TOKENS * 1536 * 2
    per_block = (held[3] - held[2]) / unit
    record_property("measured", f"{mode} {per_block:.2f} x {unit / 2**20:.1f} MiB")
    low, high = {"full": (0.9, 1.1), "attention": (1.9, 2.2), "none": (20, 40)}[mode]
    assert low < per_block < high


def _held_bytes(transformer, mode):
    """Of all tensors that are alive after a forward pass, weights aside: what autograd and the selection hold.

    mode: whose tensors count; a compiler that ran before in this process has fakes of its own.
    """
    weights = {tensor.untyped_storage()._cdata for tensor in (*transformer.parameters(), *transformer.buffers())}
    inputs = {
        "hidden_states": torch.randn(1, 16, *LATENT, dtype=torch.bfloat16),
        "encoder_hidden_states": torch.randn(1, 512, 4096, dtype=torch.bfloat16),
        "control_hidden_states": torch.randn(1, 96, *LATENT, dtype=torch.bfloat16),
    }
    face = face_input(torch.randn(1, FACE))
    timestep = torch.tensor([500.0])
    out = transformer(timestep=timestep, encoder_hidden_states_image=face, return_dict=False, **inputs)[0]
    gc.collect()
    alive = {}
    for found in gc.get_objects():
        if isinstance(found, FakeTensor) and found.fake_mode is mode:
            storage = found.untyped_storage()
            alive[storage._cdata] = storage.nbytes()
    assert out.requires_grad
    return sum(size for key, size in alive.items() if key not in weights)
