"""Algorithm 1 up to the error: noise a batch, ask the network what was added."""

import torch
from torch import Tensor, nn

from .checks import check_alike, require
from .gaussian import standard_normal
from .predictions import v_target
from .process import q_sample
from .schedules import NoiseSchedule


def draw_t(schedule: NoiseSchedule, x0: Tensor, generator: torch.Generator | None = None) -> Tensor:
    """Draw t uniformly from 1..T, T included, one for each example: int64 (B,)."""
    check_alike(x0=x0)
    device = (generator or x0).device
    t = torch.randint(1, schedule.T + 1, (len(x0),), generator=generator, device=device)
    return t.to(x0.device)


def eps_loss(
    schedule: NoiseSchedule,
    model: nn.Module,
    x0: Tensor,
    *,
    generator: torch.Generator | None = None,
) -> Tensor:
    """Return L_simple = E |eps - model(x_t, t)|^2 / d on one batch: lines 2 to 5 of Algorithm 1.

    x0 (B, ...) -> a scalar. Source: Ho et al. (2020), equation 14.
    """
    t, eps = draw_t(schedule, x0, generator), standard_normal(x0, generator)
    return _mean_square(model(q_sample(schedule, x0, t, eps), t), eps)


def v_loss(
    schedule: NoiseSchedule,
    model: nn.Module,
    x0: Tensor,
    *,
    generator: torch.Generator | None = None,
) -> Tensor:
    """Return E |v - model(x_t, t)|^2 / d on one batch, for a network that predicts v.

    As |v - v_hat|^2 = |eps - eps_hat|^2 / alpha_bar_t, it is eps_loss with more weight on large t.
    x0 (B, ...) -> a scalar. Source: Salimans and Ho (2022), section 4.
    """
    t, eps = draw_t(schedule, x0, generator), standard_normal(x0, generator)
    return _mean_square(model(q_sample(schedule, x0, t, eps), t), v_target(schedule, x0, eps, t))


def _mean_square(output: Tensor, target: Tensor) -> Tensor:
    wanted = f"have shape {tuple(target.shape)}"
    fits = isinstance(output, Tensor) and output.shape == target.shape
    require(fits, "model(x_t, t)", wanted, output)
    return nn.functional.mse_loss(output, target)
