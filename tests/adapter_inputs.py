"""What tests of the adapter give a transformer."""

import torch

from faceid.models.adapter import FaceAdapter

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
        "control_hidden_states": normal(batch, geometry.control_channels, 3, 8, 8),
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
