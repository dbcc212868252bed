"""What training makes small: Algorithm 1 up to the error, and the bound in bits."""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from .checks import (
    check_alike,
    check_finite,
    check_kinds,
    check_t,
    require,
)
from .gaussian import standard_normal
from .nets import LevelPosterior
from .nets.levels import check_images_on_levels
from .predictions import v_target
from .process import q_sample
from .schedules import NoiseSchedule


def draw_t(schedule: NoiseSchedule, x0: Tensor, generator: torch.Generator | None = None) -> Tensor:
    """Draw t uniformly from 1..T, T included, one for each example: int64 (B,)."""
    check_alike(schedule=schedule, x0=x0)
    check_kinds(generator=generator)
    require(not x0.is_meta, "x0", "hold numbers", x0)
    device = (generator or x0).device
    t = torch.randint(1, schedule.T + 1, (len(x0),), generator=generator, device=device)
    return t.to(x0.device)


def eps_loss(
    schedule: NoiseSchedule,
    model: nn.Module,
    x0: Tensor,
    *,
    t: Tensor | int | None = None,
    generator: torch.Generator | None = None,
) -> Tensor:
    """Return L_simple = E |eps - model(x_t, t)|^2 / d on one batch: lines 2 to 5 of Algorithm 1.

    x0 (B, ...) -> a scalar. t in 1..T, (B,) or one for all; drawn by `draw_t` if not given.
    Source: Ho et al. (2020), equation 14.
    """
    check_kinds(**{"model(x_t, t)": model})
    t, eps = _steps(schedule, x0, t, generator), standard_normal(x0, generator)
    return _mean_square(model(q_sample(schedule, x0, t, eps), t), eps)


def v_loss(
    schedule: NoiseSchedule,
    model: nn.Module,
    x0: Tensor,
    *,
    t: Tensor | int | None = None,
    generator: torch.Generator | None = None,
) -> Tensor:
    """Return E |v - model(x_t, t)|^2 / d on one batch, for a network that predicts v.

    As |v - v_hat|^2 = |eps - eps_hat|^2 / alpha_bar_t, it is eps_loss with more weight on large t.
    x0 (B, ...) -> a scalar, t as in eps_loss. Source: Salimans and Ho (2022), section 4.
    """
    check_kinds(**{"model(x_t, t)": model})
    t, eps = _steps(schedule, x0, t, generator), standard_normal(x0, generator)
    return _mean_square(model(q_sample(schedule, x0, t, eps), t), v_target(schedule, x0, eps, t))


def bound_loss(
    schedule: NoiseSchedule,
    posterior: Callable[[Tensor, Tensor], LevelPosterior],
    x0: Tensor,
    *,
    generator: torch.Generator | None = None,
) -> Tensor:
    """Return an estimate of (-ELBO - L_T) / d in nats for images on grey levels, x0 (B, 1, H, W).

    L_{t-1} = (SNR_{t-1} - SNR_t) |x_0 - x0_hat|^2 / 2 for sigma_t^2 = posterior_vars_t, and
    L_0 = -log P(x_0 | x_1). t is drawn in proportion to alpha_bar_t, at evenly spaced places of
    its distribution in random order, and each term divided by its probability.
    posterior: a LevelUNet's. Source: Kingma et al. (2021), section 4.
    """
    check_alike(schedule=schedule, x0=x0)
    check_kinds(posterior=posterior, generator=generator)
    check_images_on_levels("x0", x0)
    probs = schedule.alpha_bars[1:] / schedule.alpha_bars[1:].sum()
    options = {"generator": generator, "device": (generator or probs).device}
    places = torch.randperm(len(x0), **options) + torch.rand(1, dtype=torch.float64, **options)
    t = 1 + torch.searchsorted(probs.cumsum(0), places.cpu() / len(x0)).clamp(max=schedule.T - 1)
    x_t = q_sample(schedule, x0, t, generator=generator)
    known = posterior(x_t, t.to(x0.device))
    require(isinstance(known, LevelPosterior), "posterior(x_t, t)", "be a LevelPosterior", known)
    weights = (schedule.snr[(t - 1).clamp(min=1)] - schedule.snr[t]) / 2 / probs[t - 1]
    errors = (x0 - known.mean).square().flatten(1).sum(1)
    steps = weights.to(errors) * errors  # 0 at t = 1
    last = torch.where(t == 1, 1 / probs[0], 0.0).to(errors)
    return (steps - last * known.log_prob(x0)).mean() / x0[0].numel()


def _steps(schedule: NoiseSchedule, x0: Tensor, t: Tensor | int | None, generator) -> Tensor:
    """Return the steps (B,) that are given, or as `draw_t` draws them."""
    if t is None:
        return draw_t(schedule, x0, generator)
    check_alike(schedule=schedule, x0=x0)
    t = check_t(t, x0, schedule.T, lowest=1)
    return torch.as_tensor(t, device=x0.device).expand(len(x0))


def _mean_square(output: Tensor, target: Tensor) -> Tensor:
    place = target.shape, target.device
    fits = isinstance(output, Tensor) and (output.shape, output.device) == place
    require(fits, "model(x_t, t)", f"have shape {tuple(target.shape)} on {target.device}", output)
    return check_finite(nn.functional.mse_loss(output, target), **{"model(x_t, t)": output})
