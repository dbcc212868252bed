"""Answers to the exercises of lesson 01: right in other words, and wrong in known ways."""

import math

import torch


def looped(mean, var, eps):
    rows = [m + math.sqrt(v.item()) * e for m, v, e in zip(mean, var, eps, strict=True)]
    return torch.stack(rows)


def variance_as_width(mean, var, eps):
    return torch.addcmul(mean, var.unsqueeze(1).expand_as(eps), eps)


RIGHT = {
    "01.1": [
        lambda sigma1, sigma2: torch.sqrt(sigma1 * sigma1 + sigma2 * sigma2),
        lambda a, b: torch.stack([a, b]).norm(dim=0),
        lambda a, b: (a + 1j * b).abs(),
    ],
    "01.2": [
        lambda mean, var, eps: torch.addcmul(mean, var.pow(0.5).unsqueeze(-1).expand_as(eps), eps),
        lambda mean, var, eps: mean + torch.diag(torch.sqrt(var)) @ eps,
        lambda mean, var, eps: (mean.T + var**0.5 * eps.T).T,
    ],
    "01.3": [
        lambda var, eps: 0.5 * eps * var.rsqrt(),
        lambda var, eps: eps * var**-0.5 / 2,
        lambda var, eps: eps * var.sqrt() / (var + var),
    ],
}

WRONG = {
    "01.1": [
        ("added the standard deviations", lambda a, b: torch.stack([a, b]).sum(0)),
        ("variance of the sum", lambda a, b: a * a + b * b),
        ("did not square first", lambda a, b: torch.sqrt(b + a)),
        ("averaged the two variances", lambda a, b: torch.hypot(a, b) / math.sqrt(2)),
        ("subtracted the variances", lambda a, b: ((a + b) * (a - b)).abs() ** 0.5),
    ],
    "01.2": [
        ("var is a variance", variance_as_width),
        ("Only var stands under", lambda m, v, e: m + torch.sqrt(v * e.T).T),
        ("no eps in your draw", lambda m, v, e: m + v.pow(0.5).unsqueeze(1)),
        ("divided by the standard deviation", lambda m, v, e: m + e * v.rsqrt().unsqueeze(1)),
        ("every point has variance 1", lambda m, v, e: e + m),
        ("mean is stretched", lambda m, v, e: ((m + e).T * v**0.5).T),
        ("no gradient", lambda m, v, e: looped(m.detach(), v, e)),
    ],
    "01.3": [
        ("slope by sigma", lambda v, e: e.clone()),
        ("factor 1/2", lambda v, e: e * v.rsqrt()),
        ("root is missing", lambda v, e: 0.5 * e / v),
        ("multiplied by sqrt(v)", lambda v, e: 0.5 * v.pow(0.5) * e),
        ("sign is wrong", lambda v, e: -0.5 * e * v.rsqrt()),
        ("eps is missing", lambda v, e: 0.5 * v.rsqrt()),
    ],
}
