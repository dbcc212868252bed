"""The forward process q, its posterior, and the reverse step p."""

import torch
from torch import Tensor

from .checks import check_alike, check_finite, check_like, check_t
from .gaussian import Gaussian, standard_normal
from .schedules import NoiseSchedule, at, combine, factors
from .tables import reverse_vars


def q_step(schedule: NoiseSchedule, x_prev: Tensor, t: Tensor | int) -> Gaussian:
    """Return q(x_t | x_{t-1}) = N(sqrt(1 - beta_t) x_{t-1}, beta_t I), one step of the chain.

    Shapes: x_prev (B, ...), t in 1..T an integer or (B,); mean (B, ...), var broadcastable.
    Raises ValueError for t outside 1..T. Source: Ho et al. (2020), equation 2.
    """
    check_alike(schedule=schedule, x_prev=x_prev)
    beta_t = at(schedule.betas, t, x_prev, lowest=1)
    mean = at(schedule.alphas, t, x_prev).sqrt() * x_prev
    return Gaussian(check_finite(mean, x_prev=x_prev), beta_t)


def q_trajectory(
    schedule: NoiseSchedule, x0: Tensor, *, generator: torch.Generator | None = None
) -> Tensor:
    """Draw x_{0:T} from q(x_{1:T} | x_0) = prod_t q(x_t | x_{t-1}), step by step.

    Shapes: x0 (B, ...); result (T+1, B, ...), row t is x_t and row 0 is x0.
    Source: Ho et al. (2020), equation 2.
    """
    check_alike(schedule=schedule, x0=x0)
    states = [check_finite(x0, x0=x0)]
    for t in range(1, schedule.T + 1):
        states.append(q_step(schedule, states[-1], t).sample(generator=generator))
    return torch.stack(states)


def q_marginal(schedule: NoiseSchedule, x0: Tensor, t: Tensor | int) -> Gaussian:
    """Return q(x_t | x_0) = N(sqrt(alpha_bar_t) x_0, (1 - alpha_bar_t) I), all t steps at once.

    Shapes: x0 (B, ...), t in 0..T an integer or (B,); mean (B, ...), var broadcastable.
    Raises ValueError for t outside 0..T. Source: Ho et al. (2020), equation 4.
    """
    check_alike(schedule=schedule, x0=x0)
    scale, _ = factors(schedule.marginal_factors, t, x0)
    return Gaussian(check_finite(scale * x0, x0=x0), at(schedule.marginal_vars, t, x0))


def q_sample(
    schedule: NoiseSchedule,
    x0: Tensor,
    t: Tensor | int,
    eps: Tensor | None = None,
    *,
    generator: torch.Generator | None = None,
) -> Tensor:
    """Return x_t = sqrt(alpha_bar_t) x_0 + sqrt(1 - alpha_bar_t) eps; eps is drawn if not given.

    Shapes: x0 and eps (B, ...), t in 0..T an integer or (B,); result (B, ...).
    Raises ValueError for t outside 0..T or an eps of another shape.
    Source: Ho et al. (2020), equation 4 reparameterized.
    """
    check_alike(schedule=schedule, x0=x0, eps=x0 if eps is None else eps)
    scale, std = factors(schedule.marginal_factors, t, x0)
    eps = standard_normal(x0, generator) if eps is None else eps
    return check_finite(combine(scale, x0, std, eps), x0=x0, eps=eps)


def q_posterior(schedule: NoiseSchedule, x_t: Tensor, x0: Tensor, t: Tensor | int) -> Gaussian:
    """Return q(x_{t-1} | x_t, x_0), the step back when the clean data is known.

    mean = [sqrt(alpha_bar_{t-1}) beta_t x_0 + sqrt(alpha_t) (1 - alpha_bar_{t-1}) x_t]
           / (1 - alpha_bar_t), var = posterior_vars[t]. At t = 1 the mean is x_0 and var is 0.
    Shapes: x_t and x0 (B, ...), t in 1..T an integer or (B,); mean (B, ...), var broadcastable.
    Raises ValueError for t outside 1..T. Source: Ho et al. (2020), equations 6 and 7.
    """
    check_alike(schedule=schedule, x_t=x_t, x0=x0)
    of_x0, of_x_t, _ = factors(schedule.posterior_factors, t, x_t, lowest=1)
    mean = check_finite(combine(of_x0, x0, of_x_t, x_t), x_t=x_t, x0=x0)
    return Gaussian(mean, at(schedule.posterior_vars, t, x_t))


def p_step(
    schedule: NoiseSchedule,
    x_t: Tensor,
    x0_hat: Tensor,
    t: Tensor | int,
    *,
    variances: Tensor | None = None,
) -> Gaussian:
    """Return p(x_{t-1} | x_t): the posterior with an estimate x0_hat in the place of x_0.

    `variances` is the table of sigma_t^2: schedule.posterior_vars (the default) or
    schedule.betas, or any other with T + 1 rows.
    Shapes: x_t and x0_hat (B, ...), t in 1..T; mean (B, ...), var broadcastable.
    Source: Ho et al. (2020), section 3.2.
    """
    check_like("x0_hat", x0_hat, "x_t", x_t)
    mean = q_posterior(schedule, x_t, x0_hat, t).mean
    t = check_t(t, x_t, schedule.T, lowest=1)  # on the CPU, where the tables are
    return Gaussian(mean, at(reverse_vars(schedule, variances, t), t, x_t))
