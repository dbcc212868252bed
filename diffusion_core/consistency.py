"""One step to data: a function that is the same along a path, and the identity at its clean end."""

import math

import torch
from torch import Tensor

from .checks import check_alike, check_data, check_finite, check_kinds, check_numbers, require
from .gaussian import standard_normal
from .predictions import Model
from .process import q_sample
from .schedules import NoiseSchedule, at
from .traces import checked


def consistency_model(schedule: NoiseSchedule, network: Model, *, data_std: float = 1.0) -> Model:
    """Wrap a network(x_t, t) as an x0_model(x_t, t) that answers x_1 / sqrt(alpha_bar_1) at t = 1.

    With y = x_t / sqrt(alpha_bar_t), the noise level of row t and l that of row 1,
    x0_hat = c_skip y + c_out network(x_t, t), c_skip = data_std^2 / ((level - l)^2 + data_std^2),
    c_out = data_std (level - l) / sqrt(data_std^2 + level^2). At t = 1 they are 1 and 0: the
    boundary condition, without which every constant is consistent. x_t (B, ...), t in 1..T.
    Raises ValueError outside, or unless data_std > 0.
    Source: Song et al. (2023), Consistency models, equation 5 and appendix C.
    """
    check_kinds(schedule=schedule, network=network)
    check_numbers(0, math.inf, data_std=data_std)
    scales, stds = schedule.marginal_factors.table.unbind(1)
    levels = stds / scales
    past = levels - levels[1]
    c_skip = 1 / (1 + (past / data_std) ** 2)
    c_out = past / (1 + (levels / data_std) ** 2).sqrt()

    def x0_model(x_t: Tensor, t: Tensor | int) -> Tensor:
        check_data("x_t", x_t)
        skip, out, scale = (at(table, t, x_t, lowest=1) for table in (c_skip, c_out, scales))
        y = check_finite(x_t / scale, x_t=x_t)
        return skip * y + out * checked("network(x_t, t)", network(x_t, t), x_t)

    return x0_model


def consistency_loss(
    schedule: NoiseSchedule,
    x0_model: Model,
    x0: Tensor,
    *,
    eps_model: Model | None = None,
    target_model: Model | None = None,
    generator: torch.Generator | None = None,
) -> Tensor:
    """Return E |x0_model(x_t, t) - target_model(x_s, s)|^2 / d on one batch, s = t - 1.

    t is even over 2..T. x_s lies on the path of x_t: one step of Heun with the teacher eps_model,
    which is distillation; without a teacher x_s has the x_0 and eps of x_t, which is right on
    average. No gradient reaches the target, whose model is x0_model unless given, as an average.
    A constant has loss 0, so x0_model must keep the boundary. x0 (B, ...) -> a scalar.
    Raises ValueError where T is 1. Source: Song et al. (2023), equations 7 and 10.
    """
    target_model = x0_model if target_model is None else target_model
    check_alike(schedule=schedule, x0=x0)
    check_kinds(x0_model=x0_model, target_model=target_model, generator=generator)
    check_data("x0", x0)
    require(schedule.T > 1, "schedule", "have T of at least 2", schedule.T)
    options = {"generator": generator, "device": (generator or x0).device}
    t = torch.randint(2, schedule.T + 1, (len(x0),), **options).to(x0.device)
    eps = standard_normal(x0, generator)
    x_t = q_sample(schedule, x0, t, eps)
    answer = checked("x0_model(x_t, t)", x0_model(x_t, t), x_t)
    with torch.no_grad():
        if eps_model is None:
            x_s = q_sample(schedule, x0, t - 1, eps)
        else:
            x_s = _heun(schedule, eps_model, x_t, t)
        target = checked("target_model(x_s, s)", target_model(x_s, t - 1), x_s)
    both = {"x0_model(x_t, t)": answer, "target_model(x_s, s)": target}
    return check_finite((answer - target).square().mean(), **both)


def _heun(schedule: NoiseSchedule, eps_model: Model, x_t: Tensor, t: Tensor) -> Tensor:
    """Return x_{t-1} along the probability flow by `heun_step`, with a t for each example."""
    check_kinds(eps_model=eps_model)
    scales, stds = schedule.marginal_factors.table.unbind(1)
    (scale, level), (scale_s, level_s) = (
        (at(scales, row, x_t), at(stds / scales, row, x_t)) for row in (t, t - 1)
    )
    y, h = x_t / scale, level_s - level
    slope = checked("eps_model(x_t, t)", eps_model(x_t, t), x_t)
    ahead = eps_model(scale_s * (y + h * slope), t - 1)
    ahead = checked("eps_model(x_t, t)", ahead, x_t)
    return check_finite(
        scale_s * (y + h / 2 * (slope + ahead)), **{"eps_model(x_t, t)": slope, "x_t": x_t}
    )
