"""The face adapter on a real WanVACETransformer3DModel: exact when off, silent when new, and it all learns."""

import pytest
import torch
from adapter_inputs import EMBEDDING_DIM, faces, forward, train_a_little

from faceid.models.adapter.face_adapter import adapter_tensors, file_name, install_adapter
from faceid.models.adapter.face_tokens import FaceConditioningBlock, TokenRows, face_input
from faceid.models.adapter_settings import AdapterSettings


@pytest.fixture(params=[False, True], ids=["plain", "modulation"])
def settings(request):
    return AdapterSettings(
        conditioning_dim=40,
        mapper_hidden_dim=48,
        num_tokens=3,
        lora_rank=4,
        mapper_dropout=0.0,
        face_modulation=request.param,
    )


@pytest.mark.promise("a new adapter changes nothing", bar="torch.equal", proof="main")
@torch.no_grad()
@pytest.mark.slow
def test_a_new_adapter_changes_nothing(toy_wan, settings):
    before = forward(toy_wan)
    install_adapter(toy_wan.transformer, settings, EMBEDDING_DIM)
    assert torch.equal(forward(toy_wan, face_input(faces())), before)


@pytest.mark.promise("face_scale 0 with a trained adapter is WanVACEPipeline", bar="torch.equal", proof="main")
@torch.no_grad()
def test_a_trained_adapter_switched_off_is_the_base_bit_for_bit(toy_wan, settings):
    before = forward(toy_wan)
    adapter = install_adapter(toy_wan.transformer, settings, EMBEDDING_DIM)
    train_a_little(adapter)
    changed = forward(toy_wan, face_input(faces()))
    assert not torch.equal(changed, before)
    with adapter.off():
        assert torch.equal(forward(toy_wan), before)
    assert torch.equal(forward(toy_wan, face_input(faces())), changed)


@torch.no_grad()
def test_the_face_in_the_output_is_the_face_given(toy_wan, settings):
    adapter = install_adapter(toy_wan.transformer, settings, EMBEDDING_DIM)
    train_a_little(adapter)
    one, other, none = faces(seed=1), faces(seed=9), torch.zeros(2, EMBEDDING_DIM)
    outputs = [forward(toy_wan, face_input(face)) for face in (one, other, none)]
    assert not torch.equal(outputs[0], outputs[1]) and not torch.equal(outputs[0], outputs[2])
    # Each sample of a batch follows its own face and its own scale.
    mixed = forward(toy_wan, face_input(torch.stack([one[0], other[1]])))
    torch.testing.assert_close(mixed[0], outputs[0][0])
    torch.testing.assert_close(mixed[1], outputs[1][1])
    scaled = forward(toy_wan, face_input(one, torch.tensor([1.0, 0.5])))
    torch.testing.assert_close(scaled[0], outputs[0][0])
    assert not torch.allclose(scaled[1], outputs[0][1])


@pytest.mark.promise("every trained tensor gets a gradient within two steps", bar="all tensors", proof="main")
def test_every_adapter_tensor_learns_within_two_steps_and_nothing_else_does(toy_wan, settings, record_property):
    base = {name: p.detach().clone() for name, p in toy_wan.transformer.named_parameters()}
    adapter = install_adapter(toy_wan.transformer, settings, EMBEDDING_DIM)
    trainable = {n for n, p in toy_wan.transformer.named_parameters() if p.requires_grad}
    assert trainable == {n for n, _ in toy_wan.transformer.named_parameters() if file_name(n) is not None}
    optimizer = torch.optim.AdamW([p for p in toy_wan.transformer.parameters() if p.requires_grad], lr=1e-3)
    learned = set()
    face = torch.cat([faces(1), torch.zeros(1, EMBEDDING_DIM)])  # one face, one null
    for _ in range(2):
        optimizer.zero_grad()
        (forward(toy_wan, face_input(face)) - 1.0).pow(2).mean().backward()
        learned |= {n for n, p in adapter.parameters().items() if p.grad is not None and p.grad.abs().max() > 0}
        optimizer.step()
    record_property("measured", f"{len(learned)} of {len(adapter.parameters())} tensors")
    assert set(adapter.parameters()) - learned == set()
    for name, parameter in toy_wan.transformer.named_parameters():
        stored = name.replace(".base_layer", "")
        if stored in base:
            assert torch.equal(parameter, base[stored]), name


def test_the_vace_branch_has_no_graph_with_the_lora_on_the_base_branch(toy_wan, small_adapter_settings):
    """A slice of rows that carry gradient would give it one."""
    install_adapter(toy_wan.transformer, small_adapter_settings, EMBEDDING_DIM)
    hints = []
    for block in toy_wan.transformer.vace_blocks:
        block.register_forward_hook(lambda module, args, output: hints.extend(output))
    forward(toy_wan, face_input(faces())).mean().backward()
    assert len(hints) == 2 * len(toy_wan.transformer.vace_blocks)
    assert not any(hint.requires_grad for hint in hints)


@pytest.mark.parametrize(
    "branch, expected", [("base", {"blocks"}), ("vace", {"vace_blocks"}), ("both", {"blocks", "vace_blocks"})]
)
def test_the_lora_is_on_the_branch_asked_for(toy_wan, branch, expected):
    settings = AdapterSettings(conditioning_dim=40, mapper_hidden_dim=48, num_tokens=3, lora_rank=4, lora_branch=branch)
    adapter = install_adapter(toy_wan.transformer, settings, EMBEDDING_DIM)
    names = [name for name in adapter.parameters() if name.startswith("transformer.")]
    assert {name.split(".")[1] for name in names} == expected
    assert {name.split(".")[4] for name in names} == {"to_q", "to_k", "to_v", "to_out"}


def test_freezing_the_mapper_leaves_its_lora_and_everything_else_training(toy_wan, small_adapter_settings):
    adapter = install_adapter(toy_wan.transformer, small_adapter_settings, EMBEDDING_DIM)
    adapter.freeze_mapper()
    frozen = {name for name, p in adapter.parameters().items() if not p.requires_grad}
    assert frozen == set(adapter.mapper_parameters())
    assert "face_mapper.to_tokens.weight" in frozen and "face_mapper.lora_up.weight" not in frozen


def test_switching_off_and_on_keeps_what_trains(toy_wan, small_adapter_settings):
    adapter = install_adapter(toy_wan.transformer, small_adapter_settings, EMBEDDING_DIM)
    adapter.freeze_mapper()
    before = {name: p.requires_grad for name, p in adapter.parameters().items()}
    with adapter.off():
        assert {name: p.requires_grad for name, p in adapter.parameters().items()} == before
    assert {name: p.requires_grad for name, p in adapter.parameters().items()} == before


@torch.no_grad()
def test_lora_strength_is_linear_from_none_to_all(toy_wan, small_adapter_settings):
    adapter = install_adapter(toy_wan.transformer, small_adapter_settings, EMBEDDING_DIM)
    train_a_little(adapter)
    layer, x = (
        toy_wan.transformer.blocks[0].attn1.to_q,
        torch.randn(1, 4, toy_wan.transformer.blocks[0].attn1.inner_dim),
    )
    outputs = {}
    for strength in (0.0, 0.5, 1.0):
        adapter.set_lora_strength(strength)
        outputs[strength] = layer(x)
    torch.testing.assert_close(outputs[0.0], layer.base_layer(x))
    torch.testing.assert_close(outputs[0.5], (outputs[0.0] + outputs[1.0]) / 2)
    assert not torch.allclose(outputs[1.0], outputs[0.0])


@pytest.mark.slow
def test_the_initial_adapter_is_a_function_of_the_seed(toy_path, small_adapter_settings):
    from faceid.models.base.wan import load_wan

    def tensors(seed):
        wan = load_wan(toy_path, parts=("transformer",))
        return adapter_tensors(install_adapter(wan.transformer, small_adapter_settings, EMBEDDING_DIM, seed))

    first, again, other = tensors(1), tensors(1), tensors(2)
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert any(not torch.equal(first[name], other[name]) for name in first)


def test_on_a_bf16_base_the_whole_adapter_is_float32(toy_path, settings):
    """diffusers makes a LoRA in its base's dtype, in which small steps are lost."""
    from faceid.models.base.wan import load_wan

    transformer = load_wan(toy_path, parts=("transformer",), dtype=torch.bfloat16).transformer
    adapter = install_adapter(transformer, settings, EMBEDDING_DIM)
    assert {parameter.dtype for parameter in adapter.parameters().values()} == {torch.float32}
    assert transformer.blocks[0].attn1.to_q.base_layer.weight.dtype == torch.bfloat16


@pytest.mark.parametrize("embedding_dim", [512, 768, 1024])
def test_any_embedding_size_goes_in(embedding_dim):
    block = FaceConditioningBlock(face_embedding_dim=embedding_dim)
    tokens = block(torch.nn.functional.normalize(torch.randn(2, embedding_dim), dim=1))
    assert tokens.shape == (2, 8, 768)


def test_a_zero_embedding_selects_the_null_tokens():
    block = FaceConditioningBlock(face_embedding_dim=16, conditioning_dim=8, hidden_dim=8, num_tokens=2, lora_rank=2)
    tokens = block(torch.stack([torch.zeros(16), torch.ones(16)]))
    assert torch.equal(tokens[0], block.null_tokens) and not torch.equal(tokens[1], block.null_tokens)


@pytest.mark.parametrize("inner_dim", [8, 96, 1536])
def test_tokens_survive_packing_at_any_width(inner_dim):
    rows = TokenRows(num_tokens=3, conditioning_dim=40, inner_dim=inner_dim)
    tokens, scale = torch.randn(2, 3, 40), torch.tensor([1.0, 0.25])
    packed = rows.pack(tokens, scale)
    assert packed.shape == (2, rows.num_rows, inner_dim)
    unpacked, unpacked_scale = rows.unpack(packed)
    assert torch.equal(unpacked, tokens) and torch.equal(unpacked_scale, scale)
