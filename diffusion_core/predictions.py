"""Names of one estimate: eps, x0, v and the score from one another, and what a model is."""

from collections.abc import Callable, Sequence

from torch import Tensor

from .checks import check_alike, check_finite, check_kinds, like_input
from .schedules import NoiseSchedule, factors

Model = Callable[[Tensor, Tensor], Tensor]  # eps_model(x_t, t) -> eps_hat, t (B,)


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
    """Wrap a network x0_model(x_t, t) -> x0_hat as an eps_model(x_t, t) -> eps_hat."""
    check_kinds(schedule=schedule, x0_model=x0_model)

    def eps_model(x_t: Tensor, t: Tensor | int) -> Tensor:
        check_alike(x_t=x_t)
        return eps_from_x0(schedule, x_t, like_input(x0_model(x_t, t), x_t), t)

    return eps_model


def _factors(
    schedule: NoiseSchedule, t: Tensor | int, *, lowest: int = 0, **data: Tensor
) -> Sequence[Tensor | float]:
    """Return sqrt(alpha_bar_t) and sqrt(1 - alpha_bar_t), after checking the arguments."""
    check_alike(schedule=schedule, **data)
    return factors(schedule.marginal_factors, t, next(iter(data.values())), lowest=lowest)
