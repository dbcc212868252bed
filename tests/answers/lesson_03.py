"""Answers to the exercises of lesson 03: right in other words, and wrong in known ways."""

import torch

import diffusion_core as dc


def by_precisions(snr_before, snr):
    """1/variance = alpha_t/beta_t + 1/(1 - alpha_bar_{t-1})."""
    alpha = (1 + 1 / snr_before) / (1 + 1 / snr)
    return 1 / (alpha / (1 - alpha) + 1 + snr_before)


def by_signal(snr_before, snr):
    noise = torch.reciprocal(1 + snr_before)
    return noise - noise * snr / snr_before


def mean_by_precisions(schedule, x_t, x0, t):
    """The prior and the likelihood, each weighted by its precision; x0 itself at t = 1."""
    if t == 1:
        return x0.clone()
    prior, alpha, beta = (
        dc.q_marginal(schedule, x0, t - 1),
        schedule.alphas[t],
        schedule.betas[t],
    )
    return (prior.mean / prior.var + alpha.sqrt() * x_t / beta) / (1 / prior.var + alpha / beta)


def mean_by_eps(schedule, x_t, x0, t):
    eps = dc.eps_from_x0(schedule, x_t.double(), x0.double(), t)
    share = schedule.betas[t] * schedule.marginal_vars[t].rsqrt()
    return (schedule.alphas[t].rsqrt() * (x_t - share * eps)).to(x_t)


def colleague(schedule, x_t, x0, t):
    keep, keep_before = schedule.alpha_bars[t], schedule.alpha_bars[t - 1]
    of_x0 = keep.sqrt() * schedule.betas[t] / (1 - keep)
    of_x_t = schedule.alphas[t] * (1 - keep_before) / (1 - keep)
    return of_x0 * x0 + of_x_t * x_t


def one_root_left(schedule, x_t, x0, t):
    rooted = schedule.alphas[t] * (1 - schedule.alphas[t].sqrt())
    missing = rooted * (1 - schedule.alpha_bars[t - 1]) / (1 - schedule.alpha_bars[t])
    return dc.q_posterior(schedule, x_t, x0, t).mean - missing / schedule.alphas[t].sqrt() * x_t


def one_row_left(schedule, x_t, x0, t):
    share = dc.q_posterior(schedule, 0 * x_t, x0, t).mean
    return dc.q_posterior(schedule, x_t, 0 * x0, t).mean + schedule.alphas[t].sqrt() * share


def jump_by_covariance(alpha_bar_s, alpha_bar_t):
    """The mean of x_s less what x_t takes: sqrt(a_s) - slope sqrt(a_t)."""
    slope = (alpha_bar_t / alpha_bar_s).sqrt() * (1 - alpha_bar_s) / (1 - alpha_bar_t)
    return alpha_bar_s.sqrt() - slope * alpha_bar_t.sqrt()


def jump_slope(alpha_bar_s, alpha_bar_t):
    return torch.sqrt(alpha_bar_t / alpha_bar_s) * (alpha_bar_s - 1) / (alpha_bar_t - 1)


RIGHT = {
    "03.1": [0.21875, 7 / 32, (1 - 0.9 * 0.8) / (1 - 0.9 * 0.8 * 0.5) * 0.5],
    "03.2": [by_precisions, by_signal],
    "03.3": [mean_by_precisions, mean_by_eps],
    "03.4": [
        jump_by_covariance,
        lambda a, b: (a - b) / ((1 - b) * a**0.5),
        lambda a, b: (a.rsqrt() * a - b * a.rsqrt()) / (1 - b),
    ],
}

WRONG = {
    "03.1": [
        ("alpha in the place of alpha_bar", (1 - 0.8) / (1 - 0.5) * 0.5),
        ("variance of the step forward", 1 - 0.5),
        ("factor beta_3 is", 7 / 16),
        ("upside down", 8 / 7),
        ("standard deviation", 0.4677),
        ("posterior variance of t = 2", 0.07143),
    ],
    "03.2": [
        ("infinite", lambda a, b: (a - b) / (a + a * a)),
        ("step forward", lambda a, b: 1 - (1 + 1 / a) / (1 + 1 / b)),
        ("is not 1 - SNR_t", lambda a, b: (1 - b / a) / ((1 + a) / (1 + b))),
        ("factor 1 / (1 + SNR", lambda a, b: -torch.expm1(b.log() - a.log())),
        ("before x_t is known", lambda a, b: (1 + a) ** -1),
        ("standard deviation", lambda a, b: by_signal(a, b) ** 0.5),
    ],
    "03.3": [
        ("Both mistakes are still there", colleague),
        ("in the factor of x0", one_row_left),
        ("in the factor of x_t", one_root_left),
        ("swapped", lambda s, x_t, x0, t: mean_by_eps(s, x0, x_t, t)),
        ("one of x_t is missing", lambda s, x_t, x0, t: mean_by_eps(s, 0 * x_t, x0, t)),
    ],
    "03.4": [
        ("prior is that of x_s", lambda a, b: (1 - b / a) * b.sqrt() / (1 - b)),
        ("root of alpha_bar_s is missing", lambda a, b: (1 - a / b) / (b - 1) * b / a),
        ("without its root", lambda a, b: 1 - (1 - a) / (1 - b)),
        ("noise of the jump", lambda a, b: (a**1.5 - a**0.5 * b) / (1 - b)),
        ("weight of x_t", jump_slope),
        ("before x_t is known", lambda a, b: a**0.5),
    ],
}
