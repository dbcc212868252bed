"""A network that says which grey levels it expects; the noisy pixel adds the rest, by Bayes."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..checks import (
    check_data,
    check_finite,
    check_like,
    number,
    without_autocast,
)
from ..schedules import NoiseSchedule
from .pixels import PixelUNet, check_image, check_shapes

LEVELS = 256
FLOOR = 1e-5  # added to the curve of the grey levels, whose height is 1: no level is impossible
LOWEST = -60.0  # of an exponent: below, numbers become denormal, and slow, and add nothing
ROWS = 2048  # of pixels at once: their 256 levels stay in the processor's cache


class LevelPosterior:
    """P(x_0 = l_k | x_t) of each pixel, over the levels l_k = 2k/255 - 1, k = 0..255.

    w_k = p_k N(x_t; scale l_k, std^2) / (the sum of these over k), with the law
    p_k = p_black [k = 0] + p_white [k = 255] + (1 - p_black - p_white) g_k / sum_j g_j > 0,
    g_k = 1 - tanh^2(r (l_k - m) / 2) + 1e-5, a logistic curve. The channels of the network's answer
    (B, 4, H, W) are a, b, m, c: with q = 1 + e^a + e^b, p_black = e^a / q, p_white = e^b / q, and
    r = 1 + softplus(c).
    mean: E[x_0 | x_t] (B, 1, H, W). x_t has the same shape, scale and std are (B, 1, 1, 1).
    """

    def __init__(self, answer: Tensor, x_t: Tensor, scale: Tensor, std: Tensor) -> None:
        given = {"answer": answer, "x_t": x_t, "scale": scale, "std": std}
        check_shapes(**given)
        self.x_t, dtype = x_t, torch.promote_types(x_t.dtype, torch.float32)
        x, scale, std, answer = (z.to(dtype) for z in (x_t, scale, std, answer))
        self.x, self.scale = x / std, (scale / std).expand_as(x)
        black, white, self.m, sharpness = answer.split(1, dim=1)
        self.sharpness = 1 + F.softplus(sharpness)  # r
        rows = [z.reshape(-1) for z in (self.m, self.sharpness, self.x, self.scale)]
        with without_autocast(x_t):
            self.log_curve, log_seen, mean = (z.view_as(x) for z in _CurveSums.apply(*rows))
        self.log_p = torch.cat([black, white, torch.zeros_like(black)], 1).log_softmax(1)
        seen = [self._log_seen(-1.0), self._log_seen(1.0), log_seen - self.log_curve]
        self.log_joint = self.log_p + torch.cat(seen, 1)  # of black, white, the curve
        black, white, curve = self.log_joint.softmax(1).split(1, dim=1)
        self.mean = check_finite((white - black + curve * mean).to(x_t.dtype), **given)

    def log_prob(self, x0: Tensor) -> Tensor:
        """Return log P(x_0 | x_t) of images on the levels, (B,): the pixels' sum, in nats."""
        check_like("x0", x0, "x_t", self.x_t)
        check_levels(x0)
        x0 = x0.to(self.m.dtype)
        height = 1 - (self.sharpness * (x0 - self.m) / 2).tanh().square() + FLOOR
        curve = height.log() - self.log_curve
        log_black, log_white, log_p = (self.log_p + F.pad(curve, (0, 0, 0, 0, 2, 0))).split(1, 1)
        level = (x0 + 1) * (LEVELS - 1) / 2
        log_p = torch.where(level < 0.5, torch.logaddexp(log_p, log_black), log_p)
        log_p = torch.where(level > LEVELS - 1.5, torch.logaddexp(log_p, log_white), log_p)
        log_w = log_p + self._log_seen(x0) - self.log_joint.logsumexp(1, keepdim=True)
        return log_w.flatten(1).sum(1)

    def _log_seen(self, level: Tensor | float) -> Tensor:
        """Return log N(x_t; scale level, std^2), but for what is the same for all levels."""
        return -(self.x - self.scale * level).square() / 2


class LevelUNet(nn.Module):
    """A PixelUNet whose four numbers a pixel are read as a LevelPosterior.

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
        self.schedule, self.null_label = schedule, self.pixels.null_label

    def posterior(self, x_t: Tensor, t: Tensor, y: Tensor | None = None) -> LevelPosterior:
        """Return what is known of x_0 at each pixel."""
        answer, scale, std = self.pixels(x_t, t, y)
        return LevelPosterior(answer, x_t, scale, std)

    def forward(self, x_t: Tensor, t: Tensor, y: Tensor | None = None) -> Tensor:
        return self.posterior(x_t, t, y).mean

    def decoder(self, x0: Tensor, p: object, x_1: Tensor) -> Tensor:
        """Return log P(x_0 | x_1), (B,), in nats: a Decoder, which needs no Gaussian p."""
        check_image("x_1", x_1)
        check_data("x_1", x_1)
        return self.posterior(x_1, x_1.new_ones(len(x_1), dtype=torch.int64)).log_prob(x0)


def check_images_on_levels(name: str, x: Tensor) -> None:
    """Refuse what are no images (B, 1, H, W) of numbers on the levels."""
    check_image(name, x)
    check_data(name, x)
    check_levels(x)


def check_levels(x0: Tensor) -> None:
    """Refuse images that do not lie on the levels -1, -1 + 2/255, .., 1."""
    level = (x0 + 1) * (LEVELS - 1) / 2
    ok = ((level - level.round()).abs() < 1e-3) & (x0.abs() <= 1 + 1e-6)
    if not number(ok.all()):
        raise ValueError(f"x0 must lie on the {LEVELS} levels from -1 to 1, got other values")


class _CurveSums(torch.autograd.Function):
    """(m, r, x_t/std, scale/std), each (N,) -> log sum_k g_k, log sum_k g_k L_k, E[l_k].

    L_k = exp(-(x_t - scale l_k)^2 / 2 std^2), and E weighs with g_k L_k. The derivatives of these
    sums are other sums of the same kind, taken on the way: no (N, 256) is kept for them.
    """

    @staticmethod
    def forward(ctx, m: Tensor, sharpness: Tensor, x: Tensor, scale: Tensor) -> tuple:
        best = (x / scale).clamp(-1, 1)
        rest = (x - scale * best) ** 2 / 2  # so that the largest exponent is about 0
        rows = zip(*(z.split(ROWS) for z in (m, sharpness, x, scale, rest)), strict=True)
        sums = torch.cat([_sums(*parts) for parts in rows])
        ctx.save_for_backward(sums, m, sharpness, x, scale)
        return sums[:, 0].log(), sums[:, 3].log() - rest, sums[:, 4] / sums[:, 3]

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, d_curve: Tensor, d_seen: Tensor, d_mean: Tensor) -> tuple:
        sums, m, sharpness, x, scale = ctx.saved_tensors
        a0, a1 = (sums[:, 1:3] / sums[:, :1]).unbind(1)  # E[tanh l^j] over g
        _, e1, e2, b0, b1, b2 = (sums[:, 3:] / sums[:, 3:4]).unbind(1)  # the same over g L
        of_m = d_curve * a0 + d_seen * b0 + d_mean * (b1 - e1 * b0)
        c0, c1 = b1 - m * b0, b2 - m * b1
        of_sharpness = -d_curve * (a1 - m * a0) - d_seen * c0 - d_mean * (c1 - e1 * c0)
        of_x = d_seen * (scale * e1 - x) + d_mean * scale * (e2 - e1**2)
        return of_m * sharpness, of_sharpness, of_x, None


def _sums(m: Tensor, sharpness: Tensor, x: Tensor, scale: Tensor, rest: Tensor) -> Tensor:
    """Return for each row sum_k g l^0, sum_k g' l^(0, 1), sum_k g L l^(0, 1, 2), and of g' L."""
    levels = torch.arange(LEVELS, dtype=m.dtype, device=m.device) * 2 / (LEVELS - 1) - 1
    powers = torch.stack([torch.ones_like(levels), levels, levels**2], 1)
    tanh = torch.outer(sharpness / 2, levels).sub_((sharpness * m / 2)[:, None]).tanh_()
    seen = torch.outer(scale, levels).sub_(x[:, None]).square_().mul_(-0.5)
    seen = seen.add_(rest[:, None]).clamp_(min=LOWEST).exp_()
    curve = 1 - tanh * tanh
    slope = tanh.mul_(curve)  # -(dg/dl) / r
    curve.add_(FLOOR)
    before = [curve.sum(1, keepdim=True), slope @ powers[:, :2]]
    return torch.cat([*before, (curve * seen) @ powers, (slope * seen) @ powers], 1)
