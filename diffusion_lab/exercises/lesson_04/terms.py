"""Exercise 04.3: the terms of a denoiser."""

import math
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from diffusion_core.gaussian import Gaussian, kl_divergence
from diffusion_core.predictions import x0_from_eps
from diffusion_core.process import p_step, q_marginal, q_posterior, q_sample
from diffusion_core.schedules import NoiseSchedule

from ..exercise import Exercise
from .paper import DTYPES


class Guesses(NamedTuple):
    """A denoiser whose guess is bent: denoiser(x_t, t) = slope tanh(x_t + offset t)."""

    slope: Tensor
    offset: Tensor

    def __call__(self, x_t: Tensor, t: int) -> Tensor:
        return self.slope * (x_t + self.offset * t).tanh()


def _true_terms(schedule: NoiseSchedule, denoiser: Callable, x0: Tensor, eps: Tensor) -> Tensor:
    """The divergences of the Gaussians themselves, without (16) and (17)."""
    terms = [x0.new_zeros(())]
    for t in range(1, schedule.T + 1):
        x_t = q_sample(schedule, x0, t, eps[t])
        x0_hat = x0_from_eps(schedule, x_t, denoiser(x_t, t), t)
        pupil = p_step(schedule, x_t, x0_hat, t, variances=schedule.betas)
        teacher = q_posterior(schedule, x_t, x0, t)
        each = kl_divergence(teacher, pupil) if t > 1 else -pupil.log_prob(x0)
        terms.append(each.sum(1).mean())
    standard = Gaussian(torch.zeros_like(x0), torch.ones_like(x0))
    prior = kl_divergence(q_marginal(schedule, x0, schedule.T), standard)
    return torch.stack([*terms, prior.sum(1).mean()])


def _terms(
    *,
    weight: Callable = lambda s, t: s.betas[t] / (2 * s.alphas[t] * s.marginal_vars[t]),
    ratio: Callable = lambda s, t: s.posterior_vars[t] / s.betas[t],
    times: Callable = lambda d: d,
    last: Callable = lambda s, d: d / 2 * (2 * math.pi * s.betas[1]).log(),
    prior: Callable = lambda m, keep, d: (keep * (m - d) - d * (1 - keep).log()) / 2,
    root: float = 0.5,
    row: int = 0,
    asked: int = 0,
    over: Callable = lambda squares: squares.sum(1).mean(),
) -> Callable:
    """The terms by (16), (17) and section 7, with one of their parts changed."""

    def terms(schedule: NoiseSchedule, denoiser: Callable, x0: Tensor, eps: Tensor) -> Tensor:
        s, d, found = schedule, x0.shape[1], [x0.new_zeros(())]
        for t in range(1, s.T + 1):
            keep, noise = s.alpha_bars[t], eps[t - row]
            x_t = keep**root * x0 + (1 - keep) ** root * noise
            error = over((noise - denoiser(x_t, max(t - asked, 1))).square())
            r = ratio(s, t) if t > 1 else None
            fixed = last(s, d) if t == 1 else times(d) / 2 * (r - 1 - r.log())
            found.append(weight(s, t) * error + fixed)
        found.append(prior(x0.square().sum(1).mean(), s.alpha_bars[-1], d).to(x0))
        return torch.stack(found).to(x0)

    return terms


def _moved(change: Callable[[Tensor], Tensor]) -> Callable:
    """The right terms, changed as a whole."""
    return lambda *case: change(_true_terms(*case))


def _denoisers(generator: torch.Generator) -> list[tuple]:
    cases = []
    for dtype in DTYPES:
        for size, d in ((4, 2), (2, 3)):
            T = int(torch.randint(4, 8, (1,), generator=generator))
            betas = 0.05 + 0.3 * torch.rand(T, generator=generator, dtype=torch.float64)
            slope, offset = 0.3 + torch.rand(2, d, generator=generator, dtype=dtype)
            x0 = 1.5 * torch.randn(size, d, generator=generator, dtype=dtype)
            eps = torch.randn(T + 1, size, d, generator=generator, dtype=dtype)
            cases.append((NoiseSchedule(betas), Guesses(slope, offset / 5), x0, eps))
    return cases


EXERCISES = {
    "04.3": Exercise(
        truth=_true_terms,
        cases=_denoisers,
        mistakes={
            "L_0 lacks its constant, (d/2) log(2 pi beta_1).": _terms(last=lambda s, d: 0.0),
            "The constant of L_0 stands for one coordinate; there are d.": _terms(
                last=lambda s, d: (2 * math.pi * s.betas[1]).log() / 2
            ),
            "The constant of L_0 is that of a standard deviation; beta_1 is a variance.": _terms(
                last=lambda s, d: d * (2 * math.pi * s.betas[1]).log()
            ),
            "The step terms lack C_t: the two variances differ.": _terms(times=lambda d: 0),
            "C_t counts once for each coordinate.": _terms(times=lambda d: 1),
            "In C_t the ratio is turned over: it is posterior_vars / betas.": _terms(
                ratio=lambda s, t: s.betas[t] / s.posterior_vars[t]
            ),
            "The squared errors are averaged over the coordinates; the terms add them up.": _terms(
                over=lambda squares: squares.mean()
            ),
            "The terms are added up over the examples; their mean was asked for.": _terms(
                over=lambda squares: squares.sum()
            ),
            "The weights are missing: these are errors, as in the simple loss.": _terms(
                weight=lambda s, t: 1.0
            ),
            "The weights lack the factor 1/2.": _terms(
                weight=lambda s, t: s.betas[t] / (s.alphas[t] * s.marginal_vars[t])
            ),
            "In the weights stands alpha_bar_t where alpha_t belongs.": _terms(
                weight=lambda s, t: s.betas[t] / (2 * s.alpha_bars[t] * s.marginal_vars[t])
            ),
            "The weights have beta_t^2: sigma_t^2 = beta_t divides one of the two out.": _terms(
                weight=lambda s, t: s.betas[t] ** 2 / (2 * s.alphas[t] * s.marginal_vars[t])
            ),
            "The weights are those of the posterior variance; sigma_t^2 is beta_t here.": _terms(
                weight=lambda s, t: (
                    s.betas[t]
                    / (2 * s.alphas[t] * s.marginal_vars[t])
                    * (s.betas[t] / s.posterior_vars[t] if t > 1 else 1)
                )
            ),
            "x_t is made without roots: alpha_bar_t and 1 - alpha_bar_t are variances.": _terms(
                root=1.0
            ),
            "The noise of step t is in row t of eps, not in row t - 1.": _terms(row=1),
            "The denoiser is asked at t - 1; the state is that of t.": _terms(asked=1),
            "L_T is missing.": _terms(prior=lambda m, keep, d: 0 * keep),
            "In L_T the logarithm has the wrong sign.": _terms(
                prior=lambda m, keep, d: (keep * (m - d) + d * (1 - keep).log()) / 2
            ),
            "In L_T only x_0^2 counts once for each coordinate; the rest must, too.": _terms(
                prior=lambda m, keep, d: (keep * (m - 1) - (1 - keep).log()) / 2
            ),
            "L_T lacks the factor 1/2.": _terms(
                prior=lambda m, keep, d: keep * (m - d) - d * (1 - keep).log()
            ),
            "The terms stand one place too early: L_{t-1} is at place t.": _moved(
                lambda x: x.roll(-1)
            ),
            "These are bits; nats were asked for.": _moved(lambda x: x / math.log(2)),
            "All signs are turned: these are parts of the ELBO, not of -ELBO.": _moved(
                lambda x: -x
            ),
        },
        hints=(
            "One loop over t from 1 to T makes x_t, asks the denoiser and weighs the squared "
            "error. What is added to it at t = 1, and what at all other t?",
            "For sigma_t^2 = beta_t one formula gives w_t at every t, also at t = 1.",
            "Add squares over the coordinates, then take the mean over the examples. Which "
            "constants count once for each coordinate, too?",
        ),
    ),
}
