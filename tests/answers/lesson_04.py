"""Answers to the exercises of lesson 04: right in other words, and wrong in known ways."""

import math

import torch


def weight_of_eps(a, b):
    """Formula (16) with the posterior variance, by alpha_bar."""
    before, now = a / (1 + a), b / (1 + b)
    alpha = now / before
    beta = 1 - alpha
    return beta**2 / (2 * beta * (1 - before) / (1 - now) * alpha * (1 - now))


def weight_with_beta(a, b):
    before, now = a / (1 + a), b / (1 + b)
    return (1 - now / before) / (2 * now / before * (1 - now)) * b


def terms_by_bells(schedule, denoiser, x0, eps):
    """Two normal distributions of torch for each step, row by row."""
    keep, found = schedule.alpha_bars, torch.zeros(schedule.T + 2, dtype=x0.dtype)
    normal = torch.distributions.Normal
    for t in range(1, len(keep)):
        x_t = torch.sqrt(keep[t]) * x0 + torch.sqrt(1 - keep[t]) * eps[t]
        scale = schedule.betas[t] / torch.sqrt(1 - keep[t])
        means = [(x_t - scale * z) / schedule.alphas[t].sqrt() for z in (eps[t], denoiser(x_t, t))]
        pupil = normal(means[1], schedule.betas[t].sqrt().to(x0))
        if t == 1:
            found[1] = -pupil.log_prob(x0).sum() / len(x0)
            continue
        teacher = normal(means[0], schedule.posterior_vars[t].sqrt().to(x0))
        found[t] = torch.distributions.kl_divergence(teacher, pupil).sum() / len(x0)
    end = normal(keep[-1].sqrt() * x0, (1 - keep[-1]).sqrt().to(x0))
    unit = normal(torch.zeros_like(x0), torch.ones_like(x0))
    found[-1] = torch.distributions.kl_divergence(end, unit).sum() / len(x0)
    return found


def terms_in_one_go(schedule, denoiser, x0, eps, change=None):
    """All rows at once, by (16), (17) and section 7, with parts changed by name."""
    parts = {
        "below": schedule.alphas[1:],
        "half": 0.5,
        "mean": lambda e: e.sum(-1).mean(-1),
        "C": x0.shape[1] / 2,
        "turned": 1,
        "shift": 0,
        "late": 0,
        "root": torch.sqrt,
        "sigma": schedule.betas[1:],
        "const": lambda: x0.shape[1] / 2 * torch.log(2 * math.pi * schedule.betas[1]),
        "d": x0.shape[1],
        "sign": -1,
        "prior": 0.5,
    } | (change or {})
    keep, betas = schedule.alpha_bars[1:], schedule.betas[1:]
    noise = eps[1:] if not parts["shift"] else eps[:-1]
    rows = [
        parts["root"](k) * x0 + parts["root"](1 - k) * z for k, z in zip(keep, noise, strict=True)
    ]
    asked = [max(t - parts["late"], 1) for t in range(1, schedule.T + 1)]
    guesses = torch.stack([denoiser(x, t) for x, t in zip(rows, asked, strict=True)])
    errors = parts["mean"]((noise - guesses) ** 2)
    weights = parts["half"] * betas**2 / parts["below"] / (1 - keep)
    weights = weights / parts["sigma"]
    r = (schedule.posterior_vars[1:] / betas)[1:] ** parts["turned"]
    fixed = torch.cat([parts["const"]().reshape(1), parts["C"] * (r - 1 - torch.log(r))])
    square, last, d = (x0 * x0).sum() / len(x0), keep[-1], parts["d"]
    prior = parts["prior"] * (last * (square - d) + parts["sign"] * d * torch.log(1 - last))
    middle = weights * errors + fixed
    return torch.cat([0 * middle[:1], middle, prior.reshape(1)]).to(x0)


def terms_with(**change):
    return lambda schedule, denoiser, x0, eps: terms_in_one_go(schedule, denoiser, x0, eps, change)


def no_weights(schedule, denoiser, x0, eps):
    keep = schedule.alpha_bars[1:]
    return terms_with(half=1, below=schedule.betas[1:] / (1 - keep))(schedule, denoiser, x0, eps)


def by_posterior(schedule, denoiser, x0, eps):
    sigma = torch.cat([schedule.betas[1:2], schedule.posterior_vars[2:]])
    return terms_with(sigma=sigma)(schedule, denoiser, x0, eps)


def with_alpha_bar(schedule, denoiser, x0, eps):
    return terms_with(below=schedule.alpha_bars[1:])(schedule, denoiser, x0, eps)


def short_constant(schedule, denoiser, x0, eps):
    const = torch.log(2 * math.pi * schedule.betas[1]) / 2
    return terms_with(const=lambda: const)(schedule, denoiser, x0, eps)


def long_constant(schedule, denoiser, x0, eps):
    const = torch.log(2 * math.pi * schedule.betas[1]) * x0.shape[1]
    return terms_with(const=lambda: const)(schedule, denoiser, x0, eps)


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
    "04.2": [lambda a, b: 0.5 * a - b / 2, lambda a, b: weight_of_eps(a, b) * b],
    "04.3": [terms_by_bells, terms_in_one_go],
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
        ("for x_0^2 = 1", -0.5 * math.log(0.75)),
    ],
    "04.2": [
        ("factor 1/2", lambda a, b: weight_of_eps(a, b) * b * 2),
        ("sign is wrong", lambda a, b: 0.5 * b - a / 2),
        ("weight of the error of eps", weight_of_eps),
        ("you divided by it", lambda a, b: weight_of_eps(a, b) / b),
        ("not the root", lambda a, b: weight_of_eps(a, b) * b**0.5),
        ("sigma_t^2 = beta_t", weight_with_beta),
    ],
    "04.3": [
        ("lacks its constant", terms_with(const=lambda: torch.zeros(()))),
        ("for one coordinate", short_constant),
        ("beta_1 is a variance", long_constant),
        ("lack C_t", terms_with(C=0)),
        ("C_t counts once", terms_with(C=0.5)),
        ("turned over", terms_with(turned=-1)),
        ("averaged over the coordinates", terms_with(mean=lambda e: e.flatten(1).mean(1))),
        ("added up over the examples", terms_with(mean=lambda e: e.flatten(1).sum(1))),
        ("as in the simple loss", no_weights),
        ("weights lack", terms_with(half=1)),
        ("alpha_t belongs", with_alpha_bar),
        ("divides one of the two", terms_with(sigma=1)),
        ("of the posterior variance", by_posterior),
        ("without roots", terms_with(root=lambda k: k)),
        ("not in row t - 1", terms_with(shift=1)),
        ("asked at t - 1", terms_with(late=1)),
        ("L_T is missing", terms_with(prior=0)),
        ("logarithm has the wrong sign", terms_with(sign=1)),
        ("the rest must, too", terms_with(d=1)),
        ("L_T lacks", terms_with(prior=1)),
        ("one place too early", lambda *case: torch.roll(terms_by_bells(*case), -1, 0)),
        ("These are bits", lambda *case: terms_by_bells(*case) / 0.6931471805599453),
        ("All signs are turned", lambda *case: -terms_by_bells(*case)),
        ("should have shape", lambda *case: terms_by_bells(*case)[1:]),
    ],
    "04.4": [
        ("scale of the variances", nu_of_variances),
        ("1 - nu", lambda s, e, t: 1 - nu_looped(s, e, t)),
        ("Do not clamp", lambda s, e, t: nu_looped(s, e, t).clamp(max=1)),
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
