"""What tests of the adapter give a transformer."""

import torch

from faceid.models.adapter.adapter_file import AdapterMetadata, save_adapter
from faceid.models.adapter.face_adapter import FaceAdapter, adapter_tensors, install_adapter
from faceid.models.base.wan import load_wan
from faceid.models.wan_vace.control import control_channels
from faceid.toy.shipped import resolve_model_path

EMBEDDING_DIM = 24


def inputs(wan, batch=2, seed=0):
    generator = torch.Generator().manual_seed(seed)
    geometry, config = wan.geometry, wan.transformer.config

    def normal(*shape):
        return torch.randn(*shape, generator=generator)

    return {
        "hidden_states": normal(batch, geometry.latent_channels, 3, 8, 8),
        "timestep": torch.full((batch,), 500.0),
        "encoder_hidden_states": normal(batch, 16, config.text_dim),
        "control_hidden_states": normal(batch, control_channels(geometry), 3, 8, 8),
    }


def faces(batch=2, seed=1):
    return torch.nn.functional.normalize(
        torch.randn(batch, EMBEDDING_DIM, generator=torch.Generator().manual_seed(seed)), dim=1
    )


def forward(wan, face=None, **changes):
    return wan.transformer(**{**inputs(wan), **changes}, encoder_hidden_states_image=face, return_dict=False)[0]


def train_a_little(adapter: FaceAdapter, seed=2):
    """Move every adapter tensor, as training would."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in adapter.parameters().values():
            parameter.add_(0.05 * torch.randn(parameter.shape, generator=generator))


def write_adapter(
    path, settings, seed=2, fingerprint=None, height=32, width=48, num_frames=5, encoder_fingerprint="e" * 64
):
    """A file of a moved adapter of the toy base. fingerprint: of another base. Its path."""
    wan = load_wan(resolve_model_path("toy"), ("transformer",))
    adapter = install_adapter(wan.transformer, settings, EMBEDDING_DIM)
    train_a_little(adapter, seed)
    metadata = AdapterMetadata(
        base_name="toy",
        base_fingerprint=fingerprint or wan.fingerprint,
        face_embedding_dim=EMBEDDING_DIM,
        encoder="clip",
        encoder_fingerprint=encoder_fingerprint,
        settings=settings,
        height=height,
        width=width,
        num_frames=num_frames,
        fps=16.0,
    )
    save_adapter(path, adapter_tensors(adapter), metadata)
    return path
