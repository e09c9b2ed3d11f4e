"""A skipped step runs no block and adds no hint again; what is computed is what it was without the cache."""

import pytest
import torch
from adapter_inputs import EMBEDDING_DIM, faces, forward, inputs, train_a_little

from faceid.models.adapter.face_adapter import install_adapter
from faceid.models.adapter.face_tokens import face_input
from faceid.models.rendering.step_cache import StepCache


@pytest.fixture
def wan(toy_wan, small_adapter_settings):
    adapter = install_adapter(toy_wan.transformer, small_adapter_settings, EMBEDDING_DIM)
    train_a_little(adapter)
    toy_wan.transformer.eval()
    return toy_wan


@pytest.fixture
def ran(wan):
    """Names of blocks whose attention ran."""
    names = []
    for kind in ("vace_blocks", "blocks"):
        for number, block in enumerate(getattr(wan.transformer, kind)):
            block.attn1.register_forward_hook(lambda *_, name=f"{kind}.{number}": names.append(name))
    return names


def given():
    return face_input(faces())


@pytest.mark.promise(
    "step cache on a repeated input: relative error, calls of VACE blocks on a skip", bar="<= 1e-6, 0", proof="sampling"
)
@torch.no_grad()
def test_a_repeated_input_gives_the_same_answer_without_a_block(wan, ran):
    plain = forward(wan, given())
    cache = StepCache(wan.transformer, threshold=0.05)
    for key in ("with face", "without"):
        cache.begin(key, may_skip=True)
        first = forward(wan, given())
        ran.clear()
        cache.begin(key, may_skip=True)
        again = forward(wan, given())
        assert torch.equal(first, plain) and ran == []
        assert ((again - plain).abs().max() / plain.abs().max()).item() <= 1e-6
    assert (cache.computed, cache.skipped) == (2, 2)
    cache.remove()
    assert torch.equal(forward(wan, given()), plain) and len(ran) == len(wan.transformer.blocks) + len(
        wan.transformer.vace_blocks
    )


@torch.no_grad()
def test_moves_add_up_and_a_step_that_matters_is_never_left_out(wan, ran):
    cache = StepCache(wan.transformer, threshold=0.05)
    hidden, other = (inputs(wan, seed=seed)["hidden_states"] for seed in (0, 5))

    def step(number, may_skip=True):
        ran.clear()
        cache.begin("one", may_skip)
        forward(wan, given(), hidden_states=hidden + 0.02 * number * other)
        return bool(ran)

    computed = [step(number) for number in range(12)]
    # About two per cent at a time: some are left out, and not all.
    assert computed[0] and 1 < sum(computed) < 12
    assert step(12, may_skip=False) and not step(12)
    # A large move is computed at once.
    assert step(500)


@torch.no_grad()
def test_passes_and_sizes_do_not_get_into_each_others_way(wan):
    cache = StepCache(wan.transformer, threshold=10.0)
    cache.begin("a", True)
    first = forward(wan, given())
    cache.begin("b", True)
    other = forward(wan, face_input(faces(seed=9)))
    cache.begin("a", True)
    assert torch.allclose(forward(wan, given()), first, atol=1e-5) and not torch.allclose(first, other, atol=1e-3)
    smaller = {name: value[:, :, :2] for name, value in inputs(wan).items() if value.dim() == 5}
    cache.begin("a", True)
    assert forward(wan, given(), **smaller).shape[2] == 2
    assert (cache.computed, cache.skipped) == (3, 1)


def test_another_hook_on_a_block_is_there_again_afterwards(wan):
    """Offloading puts its own over a block's forward."""
    block, called = wan.transformer.blocks[0], []
    own = block.forward
    block.forward = lambda *arguments: called.append(1) or own(*arguments)
    with torch.no_grad():
        StepCache(wan.transformer, threshold=0.0).remove()
        forward(wan, given())
    assert called == [1]


@torch.no_grad()
def test_processes_that_share_the_tokens_decide_as_one(wan):
    """What moved is counted over all of them: here the others' tokens have moved, and this one's have not."""

    class Share:
        def sum_over_all(self, sums):
            return sums + torch.tensor([1e6, 0.0])

    cache = StepCache(wan.transformer, threshold=0.05, share=Share())
    for _ in range(3):
        cache.begin("one", may_skip=True)
        forward(wan, given())
    assert (cache.computed, cache.skipped) == (3, 0)
