"""Flow matching: a straight path from data to noise, and the regression that learns its velocity.

time runs from 0, clean data, to 1, noise. A `velocity_model(x, time) -> u` guesses eps - x_0 from
x = (1 - time) x_0 + time eps; followed from 1 to 0, as an SDE without noise, it makes data.
"""

import math
from collections.abc import Callable, Sequence
from itertools import pairwise

import torch
from torch import Tensor

from .checks import (
    check_alike,
    check_count,
    check_data,
    check_finite,
    check_kinds,
    check_numbers,
    numbers,
    require,
    without_autocast,
)
from .gaussian import standard_normal
from .mixtures import Mixture, by_step, check_mixture, component_log_probs
from .predictions import Model, VelocityModel, velocity_target
from .sde import SDE, check_sde, checked_times
from .traces import checked

DrawTime = Callable[[Tensor, torch.Generator | None], Tensor]  # draw_time(like, generator) -> (B,)


def straight_path(x0: Tensor, eps: Tensor, time: Tensor | float) -> Tensor:
    """Return x = (1 - time) x_0 + time eps: data at time 0, noise at time 1.

    x0 and eps (B, ...), drawn in pairs of any joint law; time in [0, 1], a number or (B,).
    Raises ValueError outside these. Source: Liu et al. (2023), equation 1, time reversed.
    """
    check_alike(x0=x0, eps=eps)
    time = _checked_time(time, x0).reshape(-1, *[1] * (x0.ndim - 1))
    return check_finite((1 - time) * x0 + time * eps, x0=x0, eps=eps)


def uniform_time(like: Tensor, generator: torch.Generator | None = None) -> Tensor:
    """Draw a time in [0, 1) evenly for each example of `like` (B, ...): (B,), of its dtype."""
    check_alike(like=like)
    check_kinds(generator=generator)
    options = {"generator": generator, "device": (generator or like).device}
    return torch.rand(len(like), dtype=like.dtype, **options).to(like.device)


def logit_normal_time(
    like: Tensor,
    generator: torch.Generator | None = None,
    *,
    mean: float = 0.0,
    std: float = 1.0,
) -> Tensor:
    """Draw a time for each example with ln(time / (1 - time)) ~ N(mean, std^2): (B,).

    More often in the middle than at the ends; a larger mean is nearer to noise. Raises ValueError
    unless std > 0. Source: Esser et al. (2024), section 3.1.
    """
    check_alike(like=like)
    check_numbers(-math.inf, math.inf, mean=mean)
    check_numbers(0, math.inf, std=std)
    z = standard_normal(like.reshape(len(like), -1)[:, 0], generator)
    return (mean + std * z).sigmoid()


def flow_loss(
    velocity_model: VelocityModel,
    x0: Tensor,
    *,
    eps: Tensor | None = None,
    draw_time: DrawTime | None = None,
    generator: torch.Generator | None = None,
) -> Tensor:
    """Return E |eps - x_0 - velocity_model(x, time)|^2 / d on one batch, x on the straight path.

    Its best model is E[eps - x_0 | x], at every time and for every law of the times. eps is drawn
    from N(0, I) unless given, as for pairs that belong together; draw_time(x0, generator) draws
    (B,), `uniform_time` unless given. x0 and eps (B, ...) -> a scalar.
    Source: Lipman et al. (2023), equation 23; Liu et al. (2023), equation 1.
    """
    draw_time = uniform_time if draw_time is None else draw_time
    check_kinds(velocity_model=velocity_model, draw_time=draw_time, generator=generator)
    check_data("x0", x0)
    eps = standard_normal(x0, generator) if eps is None else eps
    time = _checked_time(draw_time(x0, generator), x0).expand(len(x0))
    x = straight_path(x0, eps, time)
    answer = checked("velocity_model(x, time)", velocity_model(x, time), x)
    loss = (answer - velocity_target(x0, eps)).square().mean()
    return check_finite(loss, **{"velocity_model(x, time)": answer, "x0": x0, "eps": eps})


def mixture_velocity(data: Mixture) -> VelocityModel:
    """Return the velocity of the flow for data of this mixture: E[eps - x_0 | x], exactly.

    With V_k = (1 - time)^2 v_k + time^2 component k gives
    -m_k + (time - (1 - time) v_k) / V_k (x - (1 - time) m_k), weighted by p(k | x).
    x (B, ...), time in [0, 1], a number or (B,). Raises ValueError outside, and at time 0 where
    a variance of `data` is 0.
    """
    check_mixture(data)
    dim, device = data.means.shape[1], data.means.device

    def at(x: Tensor, time: float) -> Tensor:
        keep = 1 - time
        total = keep**2 * data.vars + time**2
        parts = component_log_probs(Mixture(keep * data.means, total, data.weights), x).softmax(1)
        slopes = (time - keep * data.vars) / total
        with without_autocast(x):
            flat = x.reshape(len(x), -1).to(data.means)
            pull = (parts @ slopes)[:, None] * flat - (parts * (1 + keep * slopes)) @ data.means
        return check_finite(pull.reshape(x.shape).to(x), x=x, means=data.means)

    def velocity_model(x: Tensor, time: Tensor | float) -> Tensor:
        check_data("x", x)
        fits = x[0].numel() == dim and x.device == device
        require(fits, "x", f"hold {dim} numbers for each example, on {device}", x)
        time = _checked_time(time, x)
        return by_step(at, x, time) if time.ndim else at(x, time.item())

    return velocity_model


def velocity_model_from_steps(network: Model, T: int = 1000) -> VelocityModel:
    """Wrap a network(x, t) that reads integer steps as a velocity_model: t = T time, rounded."""
    check_kinds(network=network)
    check_count("T", T)

    def velocity_model(x: Tensor, time: Tensor | float) -> Tensor:
        check_data("x", x)
        return network(x, (T * _checked_time(time, x)).round().long().expand(len(x)))

    return velocity_model


def straight_flow(velocity_model: VelocityModel) -> SDE:
    """Return dx / dtime = velocity_model(x, time) as an SDE without noise, from noise at 1 to 0.

    For `euler_maruyama`, whose steps are then Euler's, `solve_ode` and `log_likelihood`. Its
    marginal, x = (1 - time) x_0 + time eps, serves `mixture_at`.
    """
    check_kinds(velocity_model=velocity_model)

    def drift(x: Tensor, time: float) -> Tensor:
        return velocity_model(x, torch.full((len(x),), time, dtype=x.dtype, device=x.device))

    return SDE(drift, lambda x, time: 0.0, lambda time: (1.0 - time, time))


def heun_flow(flow: SDE, times: Sequence[float] | Tensor) -> SDE:
    """Return a flow whose Euler steps along these times are Heun's steps for `flow`, an ODE.

    The drift at the start of a step is the mean of the slopes there and where Euler's step ends:
    order 2, for two calls of flow.drift; on the straight path down to time 0. (With the noise level
    for time and eps_hat for the drift it is `heun_step`.) times (n + 1,), all rising or falling;
    the drift raises ValueError for a time at which no step starts. Source: Heun (1900).
    """
    check_sde("flow", flow)
    ends = dict(pairwise(checked_times(times)))

    def drift(x: Tensor, time: float) -> Tensor:
        require(time in ends, "time", f"start a step, one of {[*ends]}", time)
        slope = checked("drift(x, time)", flow.drift(x, time), x)
        ahead = flow.drift(x + (ends[time] - time) * slope, ends[time])
        return (slope + checked("drift(x, time)", ahead, x)) / 2

    return flow._replace(drift=drift)


def _checked_time(time: Tensor | float, x: Tensor) -> Tensor:
    """Return a time in [0, 1], one number or (B,), as a tensor of x's dtype and device."""
    values = numbers("time", time)
    fits = values.shape in ((), x.shape[:1]) and not values.is_complex() and not values.is_meta
    require(fits, "time", f"be a number or have shape ({len(x)},)", values)
    require(bool(((values >= 0) & (values <= 1)).all()), "time", "be in [0, 1]", time)
    return values.to(x)
