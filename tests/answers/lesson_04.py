"""Answers to the exercises of lesson 04: right in other words, and wrong in known ways."""

import math

import torch


def kl_by_parts(mean_p, var_p, mean_q, var_q):
    """Cross entropy minus entropy."""
    cross = torch.log(var_q) + (var_p + torch.square(mean_p - mean_q)) / var_q
    return (cross - torch.log(var_p) - 1) / 2


def kl_by_torch(mean_p, var_p, mean_q, var_q):
    normal = torch.distributions.Normal
    return torch.distributions.kl_divergence(
        normal(mean_p, var_p**0.5), normal(mean_q, torch.sqrt(var_q))
    )


def colleague(mean_p, var_p, mean_q, var_q):
    ratio = var_p / var_q
    return 0.5 * (ratio - 1 + ratio.log() + (mean_p - mean_q) ** 2 / var_q.sqrt())


def weight_of_eps(a, b):
    """Formula (16) with the posterior variance, by alpha_bar."""
    before, now = a / (1 + a), b / (1 + b)
    alpha = now / before
    beta = 1 - alpha
    return beta**2 / (2 * beta * (1 - before) / (1 - now) * alpha * (1 - now))


def weight_with_beta(a, b):
    before, now = a / (1 + a), b / (1 + b)
    return (1 - now / before) / (2 * now / before * (1 - now)) * b


def nu_by_logs(schedule, errors, t, share=None):
    beta, alpha = schedule.betas[t], 1 - schedule.betas[t]
    keep, before = schedule.alpha_bars[t], schedule.alpha_bars[t - 1]
    low = (1 - before) / (1 - keep) * beta
    best = low + (beta**2 / alpha / (1 - keep) if share is None else share) * errors
    return (torch.log(best) - torch.log(low)) / (torch.log(beta) - torch.log(low))


def nu_looped(schedule, errors, t):
    low, high = schedule.posterior_vars[t].item(), schedule.betas[t].item()
    factor = high**2 / (schedule.alphas[t] * schedule.marginal_vars[t]).item()
    rows = [math.log(1 + factor * e / low) / math.log(high / low) for e in errors.tolist()]
    return torch.tensor(rows, dtype=errors.dtype, device=errors.device)


def best_itself(schedule, errors, t):
    share = schedule.betas[t] ** 2 / schedule.alphas[t] / (1 - schedule.alpha_bars[t])
    return share * errors + schedule.posterior_vars[t]


def nu_of_variances(schedule, errors, t):
    low, high = schedule.posterior_vars[t], schedule.betas[t]
    return (best_itself(schedule, errors, t) - low) / (high - low)


RIGHT = {
    "04.1": [0.5188, (0.75 + 0.28768) / 2],
    "04.2": [kl_by_parts, kl_by_torch],
    "04.3": [lambda a, b: 0.5 * a - b / 2, lambda a, b: weight_of_eps(a, b) * b],
    "04.4": [nu_by_logs, nu_looped],
}

WRONG = {
    "04.1": [
        ("in bits", 0.51884 / 0.693147),
        ("factor 1/2", 0.75 + 0.28768),
        ("wrong sign", (0.75 - 0.28768) / 2),
        ("with its square", (0.5 - 0.25 + 0.28768) / 2),
        ("not of alpha_bar_T", (0.75 + 1.38629) / 2),
        ("logarithm is missing", 0.375),
    ],
    "04.2": [
        ("Both mistakes are still there", colleague),
        (
            "in the last part",
            lambda m, v, n, w: kl_by_parts(m, v, m, w) + (n - m) ** 2 / w**0.5 / 2,
        ),
        ("sign of the logarithm", lambda m, v, n, w: kl_by_parts(m, v, n, w) + torch.log(v / w)),
        ("KL(q || p)", lambda m, v, n, w: kl_by_torch(n, w, m, v)),
        (
            "divided by var_p",
            lambda m, v, n, w: (v / w - torch.log(v / w) + (n - m) ** 2 / v - 1) / 2,
        ),
        ("factor 1/2", lambda m, v, n, w: kl_by_torch(m, v, n, w) + kl_by_parts(m, v, n, w)),
    ],
    "04.3": [
        ("factor 1/2", lambda a, b: weight_of_eps(a, b) * b * 2),
        ("sign is wrong", lambda a, b: 0.5 * b - a / 2),
        ("weight of the error of eps", weight_of_eps),
        ("you divided by it", lambda a, b: weight_of_eps(a, b) / b),
        ("not the root", lambda a, b: weight_of_eps(a, b) * b**0.5),
        ("sigma_t^2 = beta_t", weight_with_beta),
    ],
    "04.4": [
        ("scale of the variances", nu_of_variances),
        ("1 - nu", lambda s, e, t: 1 - nu_looped(s, e, t)),
        ("needs its factor", lambda s, e, t: nu_by_logs(s, e, t, 1)),
        (
            "not alpha_bar_t",
            lambda s, e, t: nu_by_logs(
                s, e, t, s.betas[t] ** 2 / s.alpha_bars[t] / (1 - s.alpha_bars[t])
            ),
        ),
        (
            "beta_t is squared",
            lambda s, e, t: nu_by_logs(
                s, e, t, s.betas[t] / (1 - s.betas[t]) / (1 - s.alpha_bars[t])
            ),
        ),
        ("best variance itself", best_itself),
    ],
}
