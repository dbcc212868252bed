"""Answers to the exercises of lesson 00: right in other words, and wrong in known ways."""

import math

import torch


def looped(x0, alpha_bar_t, eps):
    pictures = zip(x0, alpha_bar_t.tolist(), eps, strict=True)
    return torch.stack([math.sqrt(a) * x + math.sqrt(1 - a) * e for x, a, e in pictures])


def by_einsum(x0, alpha_bar_t, eps):
    both, factors = torch.stack([x0, eps]), torch.stack([alpha_bar_t, 1 - alpha_bar_t]).sqrt()
    return torch.einsum("kb,kbchw->bchw", factors, both)


def by_last_axis(x0, alpha_bar_t, eps):
    signal = alpha_bar_t**0.5 * x0.movedim(0, -1)
    return (signal + eps.movedim(0, -1) * (1 - alpha_bar_t) ** 0.5).movedim(-1, 0)


def each(mix):
    """Return the answer that mixes every picture by itself; mix(x, alpha_bar, e)."""

    def answer(x0, alpha_bar_t, eps):
        return torch.stack([mix(*args) for args in zip(x0, alpha_bar_t, eps, strict=True)])

    return answer


RIGHT = {
    "00.1": [looped, by_einsum, by_last_axis],
    "00.2": [0.3, 0.6 * 0.5, math.sqrt(0.36 * 0.25)],
}

WRONG = {
    "00.1": [
        ("Both roots are missing", each(lambda x, a, e: torch.lerp(e, x, a))),
        ("noise is multiplied by 1 - alpha_bar_t", each(lambda x, a, e: a**0.5 * x + e - a * e)),
        ("digit is multiplied by alpha_bar_t", each(lambda x, a, e: x * a + e * (1 - a) ** 0.5)),
        ("subtract first", each(lambda x, a, e: a.sqrt() * (x - e) + e)),
        ("changed places", lambda x0, a, eps: by_einsum(eps, a, x0)),
        ("left whole", each(lambda x, a, e: x + torch.sqrt(1 - a) * e)),
        ("one picture", lambda x0, a, eps: torch.mul(a**0.5, x0) + torch.mul((1 - a) ** 0.5, eps)),
        ("no gradient", lambda x0, a, eps: by_last_axis(x0, a, eps).detach()),
    ],
    "00.2": [
        ("multiplied by its root", 0.18),
        ("apply it to 0.5", 0.6),
        ("factor of the noise", 0.4),
        ("You took 1 - alpha_bar_t", 0.32),
        ("variance of what is left", 0.09),
        ("as a whole", 0.8544),
    ],
}
