"""What changes the state: functions from a step of `sample_chain` to another step."""

from collections.abc import Callable

import torch
from torch import Tensor

from .checks import check_alike, check_count, check_finite, check_kinds, check_like, kind, require
from .gaussian import standard_normal
from .guidance import LogProb, check_scale, log_p_gradient
from .predictions import Model
from .process import q_sample
from .samplers import Step
from .schedules import NoiseSchedule
from .tables import reverse_vars

StepFunction = Callable[..., Step]  # called as ddpm_step: (schedule, eps_model, x_t, t, s, ...)


def shifted(step: StepFunction, log_p: LogProb, *, guidance_scale: float = 1.0) -> StepFunction:
    """Return a step like ddpm_step whose mean is moved by guidance_scale sigma_t^2 grad log p.

    log_p(x_t, t) = log p(y | x_t), (B,); sigma_t^2 is the variance of the step: the table
    `variances`, which is handed on, or posterior_vars. `classifier_guided` moves the mean by
    beta_t / sqrt(alpha_t) grad log p, exactly; both differ by terms of order beta_t^2 in a step.
    Raises ValueError as classifier_guided does, and unless s = t - 1.
    Source: Dhariwal and Nichol (2021), algorithm 1, which takes the gradient at the mean.
    """
    check_kinds(step=step, log_p=log_p)
    check_scale(guidance_scale)

    def shifted_step(
        schedule: NoiseSchedule,
        eps_model: Model,
        x_t: Tensor,
        t: int,
        s: int,
        *,
        variances: Tensor | None = None,
        **options,
    ) -> Step:
        given = {} if variances is None else {"variances": variances}
        result = _checked(step(schedule, eps_model, x_t, t, s, **given, **options), x_t)
        require(s == t - 1, "s", f"be t - 1 = {t - 1}, as sigma_t^2 is that of one step", s)
        sigma2 = reverse_vars(schedule, variances, t)[t].item()
        times = torch.full(x_t.shape[:1], t, device=x_t.device)
        pull = guidance_scale * sigma2 * log_p_gradient(log_p, x_t, times)
        return result._replace(x_t=check_finite(result.x_t + pull, **{"log_p(x_t, t)": pull}))

    return shifted_step


def pasted(
    step: StepFunction, x0: Tensor, known: Tensor, *, generator: torch.Generator | None = None
) -> StepFunction:
    """Return a step after which the known part of the state is drawn anew from q(x_s | x_0).

    x_s = known * (sqrt(alpha_bar_s) x_0 + sqrt(1 - alpha_bar_s) eps) + (1 - known) * x_s of `step`.
    At s = 0 that part is x_0 itself: no error there, while the rest does not follow
    q(x_0 | known part), however many steps there are; `resampled` mends that.
    x0 (B, ...), of which only the known part is looked at by the result; known: a bool tensor of
    the shape of x0 or of one example. eps is drawn from `generator`, not from that which
    `sample_chain` hands to `step`. Source: Song et al. (2021), appendix I.2.
    """
    check_kinds(step=step, generator=generator)
    check_alike(x0=x0)
    fits = isinstance(known, Tensor) and known.dtype == torch.bool and known.device == x0.device
    fits = fits and known.shape in (x0.shape, x0.shape[1:])
    require(fits, "known", f"be a bool tensor {tuple(x0.shape[1:])} on {x0.device}", known)

    def pasted_step(
        schedule: NoiseSchedule, eps_model: Model, x_t: Tensor, t: int, s: int, **options
    ) -> Step:
        check_alike(schedule=schedule, x_t=x_t, x0=x0)
        result = _checked(step(schedule, eps_model, x_t, t, s, **options), x_t)
        noisy = q_sample(schedule, x0, s, generator=generator)
        return result._replace(x_t=torch.where(known, noisy, result.x_t))

    return pasted_step


def resampled(
    step: StepFunction, rounds: int, *, generator: torch.Generator | None = None
) -> StepFunction:
    """Return a step that goes to s so many times, and in between back to t by q(x_t | x_s).

    x_t = sqrt(alpha_bar_t / alpha_bar_s) x_s + sqrt(1 - alpha_bar_t / alpha_bar_s) eps. It keeps
    what `step` keeps; around `pasted`, the unknown part learns of the known one (RePaint).
    At s = 0, where nothing is left to agree on, one round. `rounds` calls of `step`, at least 1.
    eps is drawn from `generator`, not from that which `sample_chain` hands to `step`.
    Source: Lugmayr et al. (2022), algorithm 1, with jumps of one step.
    """
    check_kinds(step=step, generator=generator)
    check_count("rounds", rounds)

    def resampled_step(
        schedule: NoiseSchedule, eps_model: Model, x_t: Tensor, t: int, s: int, **options
    ) -> Step:
        result = _checked(step(schedule, eps_model, x_t, t, s, **options), x_t)
        for _ in range(rounds - 1 if s > 0 else 0):
            x_t = _renoised(schedule, result.x_t, s, t, generator)
            result = _checked(step(schedule, eps_model, x_t, t, s, **options), x_t)
        return result

    return resampled_step


def _renoised(
    schedule: NoiseSchedule, x_s: Tensor, s: int, t: int, generator: torch.Generator | None
) -> Tensor:
    """Draw x_t ~ q(x_t | x_s), s < t."""
    (scale_s, std_s), (scale_t, std_t) = (schedule.marginal_factors.numbers[u] for u in (s, t))
    kept = scale_t / scale_s
    std = max(0.0, std_t**2 - (kept * std_s) ** 2) ** 0.5
    return (kept * x_s).add_(standard_normal(x_s, generator), alpha=std)


def _checked(result: Step, x_t: Tensor) -> Step:
    """Return what a step answered; refuse what is no Step with a state like x_t."""
    if not isinstance(result, Step):
        raise TypeError(f"step must answer with a Step, got {kind(result)}")
    check_like("step(..).x_t", result.x_t, "x_t", x_t)
    return result
