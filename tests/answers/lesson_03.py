"""Answers to the exercises of lesson 03: right in other words, and wrong in known ways."""

import torch

import diffusion_core as dc


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


def no_root_beside_x0(schedule, x_t, x0, t):
    of_x0 = dc.q_posterior(schedule, 0 * x_t, x0, t).mean
    of_x_t = dc.q_posterior(schedule, x_t, 0 * x0, t).mean
    return of_x_t + schedule.alpha_bars[t - 1] ** 0.5 * of_x0


def root_of_beta(schedule, x_t, x0, t):
    of_x0 = dc.q_posterior(schedule, 0 * x_t, x0, t).mean / schedule.betas[t] ** 0.5
    return of_x0 + dc.q_posterior(schedule, x_t, 0 * x0, t).mean


def upside_down(schedule, x_t, x0, t):
    of_x_t = (1 - schedule.betas[t]) ** 0.5 * (1 - schedule.alpha_bars[t]) * x_t
    of_x0 = dc.q_posterior(schedule, 0 * x_t, x0, t).mean
    return of_x0 + of_x_t / (1 - schedule.alpha_bars[t - 1])


def without_the_prior(schedule, x_t, x0, t):
    of_x0 = dc.q_posterior(schedule, torch.zeros_like(x_t), x0, t).mean
    return of_x0 + (1 - schedule.betas[t]) ** 0.5 * x_t


def jump_by_covariance(alpha_bar_s, alpha_bar_t):
    """The mean of x_s less what x_t takes: sqrt(a_s) - slope sqrt(a_t)."""
    slope = (alpha_bar_t / alpha_bar_s).sqrt() * (1 - alpha_bar_s) / (1 - alpha_bar_t)
    return alpha_bar_s.sqrt() - slope * alpha_bar_t.sqrt()


def jump_slope(alpha_bar_s, alpha_bar_t):
    return torch.sqrt(alpha_bar_t / alpha_bar_s) * (alpha_bar_s - 1) / (alpha_bar_t - 1)


def row_of_before(schedule, x_t, x0, t):
    """alpha_{t-1} beside x_t."""
    right = dc.q_posterior(schedule, x_t, x0, t).mean
    mine = dc.q_posterior(schedule, x_t, 0 * x0, t).mean
    return right - mine + mine * (schedule.alphas[t - 1] / schedule.alphas[t]).sqrt()


def by_loops(schedule, points, x_t, t):
    """One state and one point at a time, the largest logarithm taken off."""
    rows = []
    for state in x_t:
        logs = torch.stack(
            [dc.q_marginal(schedule, point, t).log_prob(state).sum() for point in points]
        )
        shares = torch.exp(logs - logs.max())
        weighted = [share * point for share, point in zip(shares, points, strict=True)]
        rows.append(sum(weighted) / shares.sum())
    return torch.stack(rows)


def by_products(schedule, points, x_t, t):
    """Without differences: |x_t|^2 is the same for all points."""
    scale, var = schedule.alpha_bars[t].sqrt(), schedule.marginal_vars[t]
    logs = (scale * x_t @ points.T - scale**2 * points.pow(2).sum(1) / 2) / var
    return torch.einsum("bn,nd->bd", torch.softmax(logs, -1), points)


def by_eps(schedule, points, x_t, t):
    eps_hat = dc.mixture_eps_model(schedule, dc.mixture(points.double()))(x_t.double(), t)
    return dc.x0_from_eps(schedule, x_t.double(), eps_hat, t).to(x_t)


def listed(scale=None, var=None, power=2.0, dim=-1, sign=-1.0, per_coordinate=False):
    """A function that makes one of the known mistakes, by distances."""

    def mean(schedule, points, x_t, t):
        a = schedule.alpha_bars[t] ** 0.5 if scale is None else scale(schedule, t)
        v = 1 - schedule.alpha_bars[t] if var is None else var(schedule, t)
        if t == 1 and var is None:
            v = schedule.betas[1]
        apart = torch.linalg.vector_norm(x_t.unsqueeze(1) - a * points.unsqueeze(0), dim=2)
        apart = apart**power / (points.shape[1] if per_coordinate else 1)
        return torch.einsum("bn,nd->bd", torch.softmax(sign * apart / (v + v), dim), points)

    return mean


def by_densities(schedule, points, x_t, t):
    scale, var = schedule.alpha_bars[t].sqrt(), schedule.marginal_vars[t]
    heights = torch.exp(-0.5 * (x_t[:, None] - scale * points[None]).pow(2).sum(-1) / var)
    return (heights[..., None] * points).sum(1) / heights.sum(1)[:, None]


def most_likely(schedule, points, x_t, t):
    return points[torch.cdist(x_t, schedule.alpha_bars[t].sqrt() * points).argmin(1)]


RIGHT = {
    "03.1": [mean_by_precisions, mean_by_eps],
    "03.2": [
        jump_by_covariance,
        lambda a, b: (a - b) / ((1 - b) * a**0.5),
        lambda a, b: (a.rsqrt() * a - b * a.rsqrt()) / (1 - b),
    ],
    "03.3": [by_loops, by_products, by_eps],
}

WRONG = {
    "03.1": [
        ("Both mistakes are still there", colleague),
        ("in the factor of x0", one_row_left),
        ("in the factor of x_t: what", one_root_left),
        ("lost its root", no_root_beside_x0),
        ("root of beta_t. In (8)", root_of_beta),
        ("upside down", upside_down),
        ("alpha of row t - 1", row_of_before),
        ("how wide the prior is", without_the_prior),
        ("swapped", lambda s, x_t, x0, t: mean_by_eps(s, x0, x_t, t)),
        ("one of x_t is missing", lambda s, x_t, x0, t: mean_by_eps(s, 0 * x_t, x0, t)),
    ],
    "03.2": [
        ("prior is that of x_s", lambda a, b: (1 - b / a) * b.sqrt() / (1 - b)),
        ("root of alpha_bar_s is missing", lambda a, b: (1 - a / b) / (b - 1) * b / a),
        ("without its root", lambda a, b: 1 - (1 - a) / (1 - b)),
        ("noise of the jump", lambda a, b: (a**1.5 - a**0.5 * b) / (1 - b)),
        ("weight of x_t", jump_slope),
        ("before x_t is known", lambda a, b: a**0.5),
        ("what the jump keeps", lambda a, b: b * a.rsqrt() / (1 - b)),
        ("factor of x0 in H", lambda a, b: a**0.5 / (b * 0 + 1 - a)),
        ("Below the line", lambda a, b: (a - b) * a.rsqrt() / (1 - a)),
        ("divisor is missing", lambda a, b: (a - b) * a.rsqrt()),
    ],
    "03.3": [
        ("too small for a number", by_densities),
        ("points themselves", listed(scale=lambda s, t: 1)),
        ("has its root", listed(scale=lambda s, t: s.alpha_bars[t])),
        ("of one step. t steps keep", listed(scale=lambda s, t: (1 - s.betas[t]) ** 0.5)),
        ("with a factor 2", listed(var=lambda s, t: (1 - s.alpha_bars[t]) / 2)),
        ("Divided by the standard", listed(var=lambda s, t: (1 - s.alpha_bars[t]) ** 0.5)),
        ("that of one step, beta_t", listed(var=lambda s, t: 1 - s.alphas[t])),
        (
            "alpha_bar of t - 1",
            listed(lambda s, t: s.alpha_bars[t - 1] ** 0.5, lambda s, t: 1 - s.alpha_bars[t - 1]),
        ),
        ("farthest point", listed(sign=1.0)),
        ("not squared", listed(power=1.0)),
        ("over the coordinates", listed(per_coordinate=True)),
        ("over the states", listed(dim=0)),
        ("most likely point", most_likely),
        (
            "scaled points",
            lambda s, points, x_t, t: s.alpha_bars[t].sqrt() * by_products(s, points, x_t, t),
        ),
        ("mean of the list", lambda s, points, x_t, t: points.mean(0) + 0 * x_t),
    ],
}
