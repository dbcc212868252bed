"""Answers to the exercises of lesson 05: right in other words, and wrong in known ways."""

import math

import torch

import diffusion_core as dc

schedule = dc.vp_schedule(200)


def guess_looped(x_t, eps_hat, alpha_bar_t):
    rows = zip(x_t, eps_hat, alpha_bar_t.tolist(), strict=True)
    return torch.stack([(x - e * math.sqrt(1 - a)) / math.sqrt(a) for x, e, a in rows])


def guess_by_noise_level(x_t, eps_hat, alpha_bar_t):
    level = torch.diag((1 / alpha_bar_t - 1) ** 0.5)
    return torch.einsum("bd,b->bd", x_t, alpha_bar_t**-0.5) - level @ eps_hat


def guess_with(x_t, eps_hat, noise, signal):
    """Row by row, with any factors of eps and x_0."""
    rows = zip(x_t, eps_hat, noise.tolist(), signal.tolist(), strict=True)
    return torch.stack([(x - n * e) / s for x, e, n, s in rows])


def guess_wrong_axis(x_t, eps_hat, alpha_bar_t):
    signal, noise = alpha_bar_t**0.5, (1 - alpha_bar_t) ** 0.5
    return torch.div(torch.sub(x_t, torch.mul(eps_hat, noise)), signal)


def guess_in_place(x_t, eps_hat, alpha_bar_t):
    eps_hat.mul_((1 - alpha_bar_t).sqrt()[:, None])
    return (x_t - eps_hat) / alpha_bar_t.sqrt()[:, None]


def mean_by_posterior(x_t, eps_hat, t):
    """Formula (8), with the estimate in the place of x_0."""
    keep, keep_before = schedule.alpha_bars[t], schedule.alpha_bars[t - 1]
    x0_hat = (x_t - (1 - keep).sqrt() * eps_hat) / keep.sqrt()
    of_x0 = keep_before.sqrt() * schedule.betas[t] / (1 - keep)
    of_x_t = schedule.alphas[t].sqrt() * (1 - keep_before) / (1 - keep)
    return of_x0 * x0_hat + of_x_t * x_t


def mean_by_score(x_t, eps_hat, t):
    """(x_t + beta_t score) / sqrt(alpha_t)."""
    score = dc.score_from_eps(schedule, eps_hat, t)
    return torch.rsqrt(schedule.alphas[t]) * torch.add(x_t, score * schedule.betas[t])


def mean_with(power_of_beta=1.0, power_of_noise=-0.5, power_of_kept=-0.5, sign=-1):
    """Formula (11) with other powers: a table of exponents in place of the formula."""

    def mean(x_t, eps_hat, t):
        beta, kept = schedule.betas[t].item(), 1 - schedule.betas[t].item()
        noise = 1 - schedule.alpha_bars[t].item()
        eps_part = sign * beta**power_of_beta * noise**power_of_noise * eps_hat
        return kept**power_of_kept * (x_t + eps_part)

    return mean


def mean_of_row_before(x_t, eps_hat, t):
    row = {name: getattr(schedule, name)[t - 1] for name in ("betas", "alphas", "alpha_bars")}
    share = row["betas"] / torch.sqrt(1 - row["alpha_bars"])
    return torch.rsqrt(row["alphas"]) * (x_t - share * eps_hat)


def mean_on_one_step_noise(x_t, eps_hat, t):
    beta = 1 - schedule.alphas[t]
    return (x_t - beta / beta**0.5 * eps_hat) / (1 - beta) ** 0.5


def mean_of_eps_alone(x_t, eps_hat, t):
    return mean_by_score(x_t, eps_hat, t).detach()


def noise_by_mask(z, t):
    return (t != 1) * torch.sqrt(1 - schedule.alphas[t]) * z


def noise_by_step(z, t):
    if t > 1:
        return dc.q_step(schedule, z, t).var ** 0.5 * z
    return 0.0


def noise_at(first, power=0.5, row=0):
    """Noise of variance beta_{t+row} from t = first on, to another power."""
    return lambda z, t: schedule.betas[t + row] ** power * z * (1.0 if t >= first else 0.0)


def noise_but_not_at_T(z, t):
    return torch.zeros_like(z) if t == schedule.T else schedule.betas[t].sqrt() * z


def noise_of_posterior(z, t):
    return dc.q_posterior(schedule, z, z, t).var.sqrt() * z


RIGHT = {
    "05.1": [guess_looped, guess_by_noise_level],
    "05.2": [mean_by_posterior, mean_by_score, mean_with()],
    "05.3": [noise_by_mask, noise_by_step, noise_at(2)],
    "05.4": [0.36, 1 - 0.8**2, torch.tensor(0.6).square()],
}

WRONG = {
    "05.1": [
        ("by the variance", lambda x, e, a: guess_with(x, e, 1 - a, a.sqrt())),
        ("divided by alpha_bar_t", lambda x, e, a: guess_with(x, e, (1 - a).sqrt(), a)),
        ("Both roots", lambda x, e, a: guess_with(x, e, 1 - a, a)),
        ("still shrunk", lambda x, e, a: guess_with(x, e, (1 - a) ** 0.5, a**0)),
        ("is not scaled", lambda x, e, a: guess_looped(x - e, 0 * e, a)),
        ("added once more", lambda x, e, a: guess_looped(x, -e, a)),
        ("wrong axis", guess_wrong_axis),
        ("in place", guess_in_place),
        ("-1 times", lambda x, e, a: -guess_looped(x, e, a)),
        ("no gradient", lambda x, e, a: guess_looped(x.detach(), e.detach(), a)),
    ],
    "05.2": [
        ("root of 1 - alpha_bar_t is missing", mean_with(power_of_noise=-1)),
        ("has beta_t itself", mean_with(power_of_beta=0.5)),
        (
            "as for x_0",
            lambda x, e, t: mean_with(power_of_kept=0)(x, e, t) / schedule.alpha_bars[t] ** 0.5,
        ),
        ("divided by alpha_t", mean_with(power_of_kept=-1)),
        ("1 / sqrt(alpha_t) is missing", mean_with(power_of_kept=0)),
        (
            "all the way back",
            lambda x, e, t: guess_looped(x, e, schedule.alpha_bars[t].repeat(len(x))),
        ),
        ("You used 1 - alpha_t", mean_on_one_step_noise),
        ("Off by one", mean_of_row_before),
        ("added once more", mean_with(sign=1)),
        ("no gradient", mean_of_eps_alone),
    ],
    "05.3": [
        ("both mistakes".capitalize(), noise_at(1, power=1)),
        ("multiplied by the variance", noise_at(2, power=1)),
        ("still adds noise", noise_at(1)),
        ("the other choice", noise_of_posterior),
        ("Off by one", noise_at(1, row=-1)),
        ("wrong end", noise_but_not_at_T),
        ("t = 2 either", noise_at(3)),
    ],
    "05.4": [
        ("not even".capitalize(), 0.0),
        ("always 0", 1.0),
        ("variance of the best guess", 0.64),
        ("factor of x_t", 0.8),
        ("a standard deviation", 0.6),
        ("too large", 0.5),
    ],
}
