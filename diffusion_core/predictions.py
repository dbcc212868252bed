"""Names of one estimate: eps, x0, v and the score from one another, and what a model is."""

from collections.abc import Callable

from torch import Tensor

from .checks import check_data, check_like, check_t
from .schedules import NoiseSchedule, at

Model = Callable[[Tensor, Tensor], Tensor]  # eps_model(x_t, t) -> eps_hat, t (B,)


def x0_from_eps(schedule: NoiseSchedule, x_t: Tensor, eps: Tensor, t: Tensor | int) -> Tensor:
    """Return x_0 = (x_t - sqrt(1 - alpha_bar_t) eps) / sqrt(alpha_bar_t); t in 0..T."""
    scale, noise = _scales(schedule, x_t, eps, t, "eps")
    return (x_t - noise * eps) / scale


def eps_from_x0(schedule: NoiseSchedule, x_t: Tensor, x0: Tensor, t: Tensor | int) -> Tensor:
    """Return eps = (x_t - sqrt(alpha_bar_t) x_0) / sqrt(1 - alpha_bar_t); t in 1..T."""
    scale, noise = _scales(schedule, x_t, x0, t, "x0", lowest=1)
    return (x_t - scale * x0) / noise


def v_target(schedule: NoiseSchedule, x0: Tensor, eps: Tensor, t: Tensor | int) -> Tensor:
    """Return v = sqrt(alpha_bar_t) eps - sqrt(1 - alpha_bar_t) x_0; t in 0..T.

    Source: Salimans and Ho (2022), appendix D.
    """
    scale, noise = _scales(schedule, x0, eps, t, "eps", first="x0")
    return scale * eps - noise * x0


def x0_from_v(schedule: NoiseSchedule, x_t: Tensor, v: Tensor, t: Tensor | int) -> Tensor:
    """Return x_0 = sqrt(alpha_bar_t) x_t - sqrt(1 - alpha_bar_t) v; t in 0..T."""
    scale, noise = _scales(schedule, x_t, v, t, "v")
    return scale * x_t - noise * v


def eps_from_v(schedule: NoiseSchedule, x_t: Tensor, v: Tensor, t: Tensor | int) -> Tensor:
    """Return eps = sqrt(alpha_bar_t) v + sqrt(1 - alpha_bar_t) x_t; t in 0..T."""
    scale, noise = _scales(schedule, x_t, v, t, "v")
    return scale * v + noise * x_t


def score_from_eps(schedule: NoiseSchedule, eps: Tensor, t: Tensor | int) -> Tensor:
    """Return the score, grad log q(x_t) = -eps / sqrt(1 - alpha_bar_t); t in 1..T.

    With the optimal eps = E[eps | x_t] this is the score of the data's q(x_t), with the eps
    of one pair it is the score of q(x_t | x_0). Source: Song et al. (2021), section 3.
    """
    _, noise = _scales(schedule, eps, eps, t, "eps", first="eps", lowest=1)
    return -eps / noise


def eps_from_score(schedule: NoiseSchedule, score: Tensor, t: Tensor | int) -> Tensor:
    """Return eps = -sqrt(1 - alpha_bar_t) score; t in 1..T."""
    _, noise = _scales(schedule, score, score, t, "score", first="score", lowest=1)
    return -noise * score


def eps_model_from_v(schedule: NoiseSchedule, v_model: Model) -> Model:
    """Wrap a network v_model(x_t, t) -> v as an eps_model(x_t, t) -> eps_hat."""
    return lambda x_t, t: eps_from_v(schedule, x_t, v_model(x_t, t), t)


def eps_model_from_x0(schedule: NoiseSchedule, x0_model: Model) -> Model:
    """Wrap a network x0_model(x_t, t) -> x0_hat as an eps_model(x_t, t) -> eps_hat."""
    return lambda x_t, t: eps_from_x0(schedule, x_t, x0_model(x_t, t), t)


def _scales(
    schedule: NoiseSchedule,
    x: Tensor,
    other: Tensor,
    t: Tensor | int,
    name: str,
    *,
    first: str = "x_t",
    lowest: int = 0,
) -> tuple[Tensor, Tensor]:
    """Return sqrt(alpha_bar_t) and sqrt(1 - alpha_bar_t), after checking the arguments."""
    check_data(first, x)
    check_like(name, other, first, x)
    t = check_t(t, x, schedule.T, lowest=lowest)
    return at(schedule.alpha_bars.sqrt(), t, x), at(schedule.marginal_vars.sqrt(), t, x)
