"""A network that says how likely each pixel is black, white or between; Bayes in closed form."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..checks import check_finite
from ..schedules import NoiseSchedule
from .pixels import PixelUNet, check_shapes

NARROWEST = 0.02  # the bell's least standard deviation: 2.55 of 256 grey levels


def spike_slab_mean(answer: Tensor, x_t: Tensor, scale: Tensor, std: Tensor) -> Tensor:
    """Return x0_hat = E[x_0 | x_t] for pixels that are black (-1), white (1) or between.

    p(x_0) = p_black delta(x_0 + 1) + p_white delta(x_0 - 1) + p_bell N(x_0; m, s^2) and
    x_t ~ N(scale x_0, std^2) give, with V = scale^2 s^2 + std^2,
    x0_hat = r_white - r_black + r_bell (m + scale s^2 (x_t - scale m) / V), r in proportion to
    p_black N(x_t; -scale, std^2), p_white N(x_t; scale, std^2), p_bell N(x_t; scale m, V).
    The channels of answer (B, 4, H, W) are a, b, m, c: (p_black, p_white, p_bell) =
    softmax(a, b, 0), s = 0.02 + softplus(c - 1). x_t and the result are (B, 1, H, W), of one
    dtype, scale and std (B, 1, 1, 1), finite and above 0: else ValueError or TypeError.
    Source: Mitchell and Beauchamp (1988), spikes and a slab as a prior.
    """
    given = {"answer": answer, "x_t": x_t, "scale": scale, "std": std}
    check_shapes(**given)
    wide = torch.promote_types(x_t.dtype, torch.float32)
    x, scale, std, answer = (z.to(wide) for z in (x_t, scale, std, answer))
    black, white, m, c = answer.split(1, dim=1)
    s = NARROWEST + F.softplus(c - 1)
    total, off = (scale * s / std).square() + 1, (x - scale * m) / std  # V / std^2
    log_seen = [-((x + k * scale) / std).square() / 2 for k in (1, -1)]  # but for what all share
    log_bell = -off.square() / (2 * total) - total.log() / 2
    log_r = torch.cat([black + log_seen[0], white + log_seen[1], log_bell], 1)
    r_black, r_white, r_bell = log_r.softmax(1).split(1, dim=1)
    bell = m + scale * s.square() / std * off / total
    return check_finite((r_white - r_black + r_bell * bell).to(x_t.dtype), **given)


class SpikeSlabUNet(nn.Module):
    """A PixelUNet whose four numbers a pixel are read by `spike_slab_mean`, LevelUNet's twin.

    forward(x_t, t, y) -> x0_hat = E[x_0 | x_t], an x0_model: see `eps_model_from_x0`
    and `v_model_from_x0`.
    Arguments as a PixelUNet's.
    """

    def __init__(
        self,
        schedule: NoiseSchedule,
        widths: tuple[int, ...] = (16, 48, 128),
        patch: int = 1,
        **options,
    ) -> None:
        super().__init__()
        self.pixels = PixelUNet(schedule, widths, patch, **options)
        self.null_label = self.pixels.null_label

    def forward(self, x_t: Tensor, t: Tensor, y: Tensor | None = None) -> Tensor:
        answer, scale, std = self.pixels(x_t, t, y)
        return spike_slab_mean(answer, x_t, scale, std)
