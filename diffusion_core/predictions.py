"""Names of one estimate: eps, x0, v, score and velocity from one another; what a model is."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from .checks import check_alike, check_finite, check_kinds, like_input
from .schedules import NoiseSchedule, factors

Model = Callable[[Tensor, Tensor], Tensor]  # eps_model(x_t, t) -> eps_hat, t (B,)
VelocityModel = Callable[[Tensor, Tensor], Tensor]  # velocity_model(x, time) -> u, time (B,)


def x0_from_eps(schedule: NoiseSchedule, x_t: Tensor, eps: Tensor, t: Tensor | int) -> Tensor:
    """Return x_0 = (x_t - sqrt(1 - alpha_bar_t) eps) / sqrt(alpha_bar_t); t in 0..T."""
    scale, std = _factors(schedule, t, x_t=x_t, eps=eps)
    return check_finite((x_t - std * eps) / scale, x_t=x_t, eps=eps)


def eps_from_x0(schedule: NoiseSchedule, x_t: Tensor, x0: Tensor, t: Tensor | int) -> Tensor:
    """Return eps = (x_t - sqrt(alpha_bar_t) x_0) / sqrt(1 - alpha_bar_t); t in 1..T."""
    scale, std = _factors(schedule, t, lowest=1, x_t=x_t, x0=x0)
    return check_finite((x_t - scale * x0) / std, x_t=x_t, x0=x0)


def v_target(schedule: NoiseSchedule, x0: Tensor, eps: Tensor, t: Tensor | int) -> Tensor:
    """Return v = sqrt(alpha_bar_t) eps - sqrt(1 - alpha_bar_t) x_0; t in 0..T.

    Source: Salimans and Ho (2022), appendix D.
    """
    scale, std = _factors(schedule, t, x0=x0, eps=eps)
    return check_finite(scale * eps - std * x0, x0=x0, eps=eps)


def x0_from_v(schedule: NoiseSchedule, x_t: Tensor, v: Tensor, t: Tensor | int) -> Tensor:
    """Return x_0 = sqrt(alpha_bar_t) x_t - sqrt(1 - alpha_bar_t) v; t in 0..T."""
    scale, std = _factors(schedule, t, x_t=x_t, v=v)
    return check_finite(scale * x_t - std * v, x_t=x_t, v=v)


def eps_from_v(schedule: NoiseSchedule, x_t: Tensor, v: Tensor, t: Tensor | int) -> Tensor:
    """Return eps = sqrt(alpha_bar_t) v + sqrt(1 - alpha_bar_t) x_t; t in 0..T."""
    scale, std = _factors(schedule, t, x_t=x_t, v=v)
    return check_finite(scale * v + std * x_t, x_t=x_t, v=v)


def velocity_target(x0: Tensor, eps: Tensor) -> Tensor:
    """Return u = eps - x_0, the velocity of the straight path x = (1 - time) x_0 + time eps.

    Source: Liu et al. (2023), equation 1, time reversed.
    """
    check_alike(x0=x0, eps=eps)
    return check_finite(eps - x0, x0=x0, eps=eps)


def x0_from_velocity(
    schedule: NoiseSchedule, x_t: Tensor, velocity: Tensor, t: Tensor | int
) -> Tensor:
    """Return x_0 = (x_t - sqrt(1 - alpha_bar_t) u) / (sqrt(alpha_bar_t) + sqrt(1 - alpha_bar_t)).

    u = eps - x_0 is the velocity of the straight path where that has the SNR of x_t; t in 0..T.
    """
    scale, std = _factors(schedule, t, x_t=x_t, velocity=velocity)
    return check_finite((x_t - std * velocity) / (scale + std), x_t=x_t, velocity=velocity)


def eps_from_velocity(
    schedule: NoiseSchedule, x_t: Tensor, velocity: Tensor, t: Tensor | int
) -> Tensor:
    """Return eps = (x_t + sqrt(alpha_bar_t) u) / (sqrt(alpha_bar_t) + sqrt(1 - alpha_bar_t)).

    u = eps - x_0 is the velocity of the straight path where that has the SNR of x_t; t in 0..T.
    """
    scale, std = _factors(schedule, t, x_t=x_t, velocity=velocity)
    return check_finite((x_t + scale * velocity) / (scale + std), x_t=x_t, velocity=velocity)


def score_from_eps(schedule: NoiseSchedule, eps: Tensor, t: Tensor | int) -> Tensor:
    """Return the score, grad log q(x_t) = -eps / sqrt(1 - alpha_bar_t); t in 1..T.

    With the optimal eps = E[eps | x_t] this is the score of the data's q(x_t), with the eps
    of one pair it is the score of q(x_t | x_0). Source: Song et al. (2021), section 3.
    """
    _, std = _factors(schedule, t, lowest=1, eps=eps)
    return check_finite(-eps / std, eps=eps)


def eps_from_score(schedule: NoiseSchedule, score: Tensor, t: Tensor | int) -> Tensor:
    """Return eps = -sqrt(1 - alpha_bar_t) score; t in 1..T."""
    _, std = _factors(schedule, t, lowest=1, score=score)
    return check_finite(-std * score, score=score)


def eps_model_from_v(schedule: NoiseSchedule, v_model: Model) -> Model:
    """Wrap a network v_model(x_t, t) -> v as an eps_model(x_t, t) -> eps_hat."""
    check_kinds(schedule=schedule, v_model=v_model)

    def eps_model(x_t: Tensor, t: Tensor | int) -> Tensor:
        check_alike(x_t=x_t)
        return eps_from_v(schedule, x_t, like_input(v_model(x_t, t), x_t), t)

    return eps_model


def eps_model_from_x0(schedule: NoiseSchedule, x0_model: Model) -> Model:
    """Wrap a network x0_model(x_t, t) -> x0_hat as an eps_model(x_t, t) -> eps_hat; t in 1..T."""
    check_kinds(schedule=schedule, x0_model=x0_model)

    def eps_model(x_t: Tensor, t: Tensor | int) -> Tensor:
        check_alike(x_t=x_t)
        return eps_from_x0(schedule, x_t, like_input(x0_model(x_t, t), x_t), t)

    return eps_model


def v_model_from_x0(schedule: NoiseSchedule, x0_model: Model) -> Model:
    """Wrap a network x0_model(x_t, t) -> x0_hat as a v_model(x_t, t) -> v_hat; t in 1..T."""
    check_kinds(schedule=schedule, x0_model=x0_model)

    def v_model(x_t: Tensor, t: Tensor | int) -> Tensor:
        check_alike(x_t=x_t)
        x0_hat = like_input(x0_model(x_t, t), x_t)
        return v_target(schedule, x0_hat, eps_from_x0(schedule, x_t, x0_hat, t), t)

    return v_model


def eps_model_from_velocity(schedule: NoiseSchedule, velocity_model: VelocityModel) -> Model:
    """Wrap a velocity_model(x, time) of the straight path as an eps_model(x_t, t) -> eps_hat.

    It is asked at the time with the SNR of step t, and at x = (1 - time) x_0 + time eps there:
    x_t / (sqrt(alpha_bar_t) + sqrt(1 - alpha_bar_t)). t in 0..T.
    """
    check_kinds(schedule=schedule, velocity_model=velocity_model)

    def eps_model(x_t: Tensor, t: Tensor | int) -> Tensor:
        scale, std = _factors(schedule, t, x_t=x_t)
        time = torch.as_tensor(std / (scale + std), dtype=x_t.dtype, device=x_t.device)
        x = check_finite(x_t / (scale + std), x_t=x_t)
        velocity = velocity_model(x, time.flatten().expand(len(x)))
        return eps_from_velocity(schedule, x_t, like_input(velocity, x_t), t)

    return eps_model


def _factors(
    schedule: NoiseSchedule, t: Tensor | int, *, lowest: int = 0, **data: Tensor
) -> Sequence[Tensor | float]:
    """Return sqrt(alpha_bar_t) and sqrt(1 - alpha_bar_t), after checking the arguments."""
    check_alike(schedule=schedule, **data)
    return factors(schedule.marginal_factors, t, next(iter(data.values())), lowest=lowest)
