"""Processes that share a video's tokens give what one gives: every way to condition it, even shares and uneven ones."""

import pytest
import torch
from adapter_inputs import EMBEDDING_DIM, faces
from launching import start_function

from faceid.errors import ConfigError
from faceid.models.adapter.face_adapter import install_adapter
from faceid.models.adapter_settings import AdapterSettings
from faceid.models.base.wan import load_wan
from faceid.models.compute.context_parallel import TokenShare, check_heads, share_tokens
from faceid.models.rendering.denoise import ALL_AT_ONCE, LatentWindows
from faceid.models.rendering.denoising_settings import Sampling
from faceid.models.rendering.pipeline import FaceIdentityPipeline
from faceid.models.rendering.video_inputs import VideoInputs
from faceid.models.wan_vace.control import control_channels
from faceid.toy.shipped import resolve_model_path

ADAPTER = AdapterSettings(conditioning_dim=40, mapper_hidden_dim=48, num_tokens=3, lora_rank=4, face_modulation=True)
# 5 latent frames (a reference among them) of 3 x 3 tokens: 45, odd on purpose, and shares that end within a frame.
FRAMES, SIDE = 5, 6
CASES = {
    "face, guidance, reference of another strength": (
        True,
        1,
        {"cfg_scale": 4.0, "reference_scale": 0.5, "face_guidance": 1.5},
    ),
    # Off in the first step, on in the others.
    "a face a frame": (True, FRAMES, {"cfg_scale": 2.0, "face_start": 0.2}),
    "guidance by the reference": (True, 1, {"cfg_scale": 4.0, "reference_guidance": True}),
    "windows": (True, 1, {"cfg_scale": 1.0, "windows": LatentWindows(3, 1)}),
    "step cache": (True, 1, {"cfg_scale": 2.0, "num_inference_steps": 8, "step_cache": 0.5, "reference_scale": 0.2}),
    "adapter off": (False, 1, {"cfg_scale": 2.0}),
    "half of the steps without a face": (True, 1, {"cfg_scale": 1.0, "face_start": 0.5}),
}


def make_pipeline():
    wan = load_wan(resolve_model_path("toy"))
    adapter = install_adapter(wan.transformer, ADAPTER, EMBEDDING_DIM)
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in adapter.parameters().values():
            parameter.add_(0.05 * torch.randn(parameter.shape, generator=generator))
    wan.transformer.eval()
    return FaceIdentityPipeline(wan, adapter)


def render(pipeline, case, off_by=0.0):
    """off_by: added to what is given, as where processes encode on different machines; the first's counts."""
    is_on, num_faces, choices = CASES[case]
    generator = torch.Generator().manual_seed(7)
    wan = pipeline.wan
    control = torch.randn(1, control_channels(wan.geometry), FRAMES, SIDE, SIDE, generator=generator)
    texts = torch.randn(2, 16, wan.transformer.config.text_dim, generator=generator)
    face = faces(batch=num_faces)
    control, texts, face = (tensor + off_by for tensor in (control, texts, face))
    choices = {"face_scale": float(is_on), "num_inference_steps": 3, **choices}
    windows = choices.pop("windows", ALL_AT_ONCE)
    inputs = VideoInputs(control, *texts, face[0] if num_faces == 1 else face, num_references=1)
    return pipeline.sample_latents(inputs, Sampling(**choices), windows=windows)


def together(folder, rank, count):
    """What each process runs: every case, saved."""
    torch.distributed.init_process_group("gloo", f"file://{folder}/store", rank=rank, world_size=count)
    pipeline = make_pipeline()
    pipeline.compute_together(rank, count)
    torch.save({case: render(pipeline, case, off_by=0.01 * rank) for case in CASES}, f"{folder}/rank{rank}.pt")
    torch.distributed.destroy_process_group()


@pytest.mark.starts_process
@pytest.mark.slow
def test_two_processes_give_what_one_gives(tmp_path):
    processes = [start_function(together, tmp_path, rank, 2) for rank in range(2)]
    assert [process.wait(timeout=300) for process in processes] == [0, 0]
    ranks = [torch.load(tmp_path / f"rank{rank}.pt") for rank in range(2)]
    pipeline = make_pipeline()
    for case in CASES:
        one, (first, second) = render(pipeline, case), (rank[case] for rank in ranks)
        assert torch.equal(first, second), case
        assert (first - one).abs().max().item() <= 1e-5 * one.abs().max().item(), case


def test_shares_are_runs_of_tokens_that_leave_none_out():
    for count, total in ((2, 45), (4, 46), (3, 3)):
        shares = [TokenShare(rank, count) for rank in range(count)]
        for share in shares:
            share.total = total
        tokens = torch.arange(total).view(1, -1)
        assert torch.cat([share.take(tokens) for share in shares], dim=1).equal(tokens)
        assert max(shares[0].sizes()) - min(shares[0].sizes()) <= 1


def test_heads_that_cannot_be_shared_out_are_refused(toy_wan):
    with pytest.raises(
        ConfigError, match="context_parallel=3: does not divide the base's 4 attention heads; use one of 2, 4"
    ):
        share_tokens(toy_wan.transformer, 0, 3)
    check_heads(4, 12)
