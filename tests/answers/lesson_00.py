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
    "00.1": [0.8544, math.sqrt(0.73), math.hypot(0.6 * 0.5, 0.8), 0.854],
    "00.2": [looped, by_einsum, by_last_axis],
}

WRONG = {
    "00.1": [
        ("digit's part is added to it", 0.8),
        ("The noise is added to it", 0.3),
        ("What adds up", 1.1),
        ("This is the variance", 0.73),
        ("data of variance 1", 1),
        ("where a variance belongs", math.sqrt(0.82)),
        ("stands under them", math.hypot(0.18, 0.64)),
        ("under the roots, and added", 0.82),
        ("not shrunk", math.sqrt(0.89)),
        ("What is its factor", math.sqrt(1.09)),
        ("variance of the noise alone", 0.64),
        ("variance of the digit's part alone", 0.09),
        ("too large", 0.9),
    ],
    "00.2": [
        ("Both roots are missing", each(lambda x, a, e: torch.lerp(e, x, a))),
        ("noise is multiplied by 1 - alpha_bar_t", each(lambda x, a, e: a**0.5 * x + e - a * e)),
        ("digit is multiplied by alpha_bar_t", each(lambda x, a, e: x * a + e * (1 - a) ** 0.5)),
        ("subtract first", each(lambda x, a, e: a.sqrt() * (x - e) + e)),
        ("changed places", lambda x0, a, eps: by_einsum(eps, a, x0)),
        ("left whole", each(lambda x, a, e: x + torch.sqrt(1 - a) * e)),
        ("one picture", lambda x0, a, eps: torch.mul(a**0.5, x0) + torch.mul((1 - a) ** 0.5, eps)),
        ("no gradient", lambda x0, a, eps: by_last_axis(x0, a, eps).detach()),
    ],
}
