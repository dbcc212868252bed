"""A small convolutional VAE for digits: a picture in 4 x 4 places, and back.

x -> pad -> 16 x 16 -> 8 x 8 -> 4 x 4 -> (mean, log_var)      encode
z -> 4 x 4 -> 8 x 8 -> 16 x 16 -> 32 x 32 -> crop -> x_hat    decode
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..checks import check_count, require
from .blocks import GROUPS, Down, Up
from .inputs import check_input
from .weights import drawn_from

SIDE = 4  # of the latents
EDGE = 2  # the encoder pads 28 x 28 pixels to 32 x 32 with background, the decoder crops its answer


class VAE(nn.Module):
    """encode(x) -> mean, log_var of q(z | x), (B, C, 4, 4); decode(z) -> x_hat (B, 1, 28, 28).

    p(x | z) = N(decode(z), sigma^2 I) over the 784 pixels and no other, log_decoder_var =
    log sigma^2, one learned number; z ~ N(0, I). forward(x) decodes the mean.
    widths: channels at 16 x 16, 8 x 8 and 4 x 4. x: (B, 1, 28, 28) in [-1, 1].
    latent_scale (C,): what `measure_latent_scale` found, stored with the weights; 0 before. encode
    and decode leave it out: `to_latents` and `from_latents` put it in.
    The weights follow from seed alone. Source: Kingma and Welling (2014); Rombach et al. (2022).
    """

    def __init__(
        self,
        latent_channels: int = 8,
        widths: tuple[int, int, int] = (16, 32, 48),
        *,
        seed: int = 0,
    ) -> None:
        super().__init__()
        check_count("latent_channels", latent_channels)
        three = isinstance(widths, tuple | list) and len(widths) == 3
        require(three, "widths", "be three numbers of channels", widths)
        for i, width in enumerate(widths):
            check_count(f"widths[{i}]", width)
            require(width % GROUPS == 0, f"widths[{i}]", f"be a multiple of {GROUPS}", width)
        fine, middle, coarse = widths
        with drawn_from(seed):
            self.encoder = nn.Sequential(
                nn.PixelUnshuffle(2),
                nn.Conv2d(4, fine, 3, padding=1),  # (B, fine, 16, 16)
                nn.SiLU(),
                Down(fine, middle),
                _Residual(middle),
                Down(middle, coarse),
                *_activated(coarse, nn.Conv2d(coarse, 2 * latent_channels, 3, padding=1)),
            )
            self.decoder = nn.Sequential(
                nn.Conv2d(latent_channels, coarse, 3, padding=1),
                _Residual(coarse),
                Up(coarse, middle),
                _Residual(middle),
                Up(middle, fine),
                _Residual(fine),
                *_activated(fine, nn.Conv2d(fine, 4, 3, padding=1)),
                nn.PixelShuffle(2),
            )
            self.log_decoder_var = nn.Parameter(torch.tensor(-2.0, device="cpu"))
            self.register_buffer("latent_scale", torch.zeros(latent_channels, device="cpu"))

    def encode(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return mean and log variance of q(z | x), each (B, C, 4, 4), without the scale."""
        check_input("x", x, self.log_decoder_var)
        require(x.shape[1:] == (1, 28, 28) and len(x), "x", "have shape (B, 1, 28, 28)", x)
        mean, log_var = self.encoder(F.pad(x, [EDGE] * 4, value=-1.0)).chunk(2, dim=1)
        return mean, log_var

    def decode(self, z: Tensor) -> Tensor:
        """Return the mean of p(x | z), (B, 1, 28, 28); z (B, C, 4, 4) is without the scale."""
        check_input("z", z, self.log_decoder_var)
        shape = (len(self.latent_scale), SIDE, SIDE)
        require(z.shape[1:] == shape and len(z), "z", f"have shape (B, {shape})", z)
        return self.decoder(z)[..., EDGE:-EDGE, EDGE:-EDGE]

    def forward(self, x: Tensor) -> Tensor:
        return self.decode(self.encode(x)[0])


class _Residual(nn.Module):
    """x + conv(SiLU(norm(conv(SiLU(norm(x)))))): x itself at first."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        first, second = (nn.Conv2d(channels, channels, 3, padding=1) for _ in range(2))
        nn.init.zeros_(second.weight)
        nn.init.zeros_(second.bias)
        self.path = nn.Sequential(*_activated(channels, first), *_activated(channels, second))

    def forward(self, x: Tensor) -> Tensor:
        return x + self.path(x)


def _activated(channels: int, layer: nn.Module) -> tuple[nn.Module, ...]:
    return nn.GroupNorm(GROUPS, channels), nn.SiLU(), layer
