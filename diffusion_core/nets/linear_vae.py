"""A VAE whose two halves are linear: its best ELBO is known in closed form."""

import torch
from torch import Tensor, nn

from ..checks import check_count, require
from .inputs import check_input
from .weights import drawn_from


class LinearVAE(nn.Module):
    """encode(x) -> V x + c and log s^2, the same for all x; decode(z) -> W z + m.

    q(z | x) = N(V x + c, diag s^2), p(x | z) = N(W z + m, sigma^2 I), log_decoder_var =
    log sigma^2. x: (B, dim), z: (B, latent_dim). Raises ValueError for other shapes.
    `optimal_linear_vae` makes the one whose ELBO is log p(x). The weights follow from seed alone.
    Source: Lucas et al. (2019), section 3.
    """

    def __init__(self, dim: int, latent_dim: int, *, seed: int = 0) -> None:
        super().__init__()
        check_count("dim", dim)
        check_count("latent_dim", latent_dim)
        with drawn_from(seed):
            self.encoder = nn.Linear(dim, latent_dim)
            self.decoder = nn.Linear(latent_dim, dim)
            self.log_var = nn.Parameter(torch.zeros(latent_dim, device="cpu"))
            self.log_decoder_var = nn.Parameter(torch.zeros((), device="cpu"))

    def encode(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return mean and log variance of q(z | x), each (B, latent_dim)."""
        _check_rows("x", x, self.encoder)
        mean = self.encoder(x)
        return mean, self.log_var.expand_as(mean)

    def decode(self, z: Tensor) -> Tensor:
        """Return the mean of p(x | z), (B, dim)."""
        _check_rows("z", z, self.decoder)
        return self.decoder(z)

    def forward(self, x: Tensor) -> Tensor:
        return self.decode(self.encode(x)[0])


def _check_rows(name: str, x: Tensor, layer: nn.Linear) -> None:
    check_input(name, x, layer.weight)
    fits = x.ndim == 2 and len(x) and x.shape[1] == layer.in_features
    require(fits, name, f"have shape (B, {layer.in_features})", x)
