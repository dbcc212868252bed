"""Answers to the exercises of lesson 02: right in other words, and wrong in known ways."""

import math

import torch


def looped(x0, alpha_bar_t, eps):
    rows = zip(x0, alpha_bar_t.tolist(), eps, strict=True)
    return torch.stack([math.sqrt(a) * x + math.sqrt(1 - a) * e for x, a, e in rows])


def by_einsum(x0, alpha_bar_t, eps):
    signal, noise = (
        torch.einsum("b,bd->bd", alpha_bar_t**0.5, x0),
        torch.diag((1 - alpha_bar_t) ** 0.5),
    )
    return torch.add(signal, noise @ eps)


def by_gaussian(x0, alpha_bar_t, eps):
    mean, var = torch.sqrt(alpha_bar_t).unsqueeze(-1) * x0, (1 - alpha_bar_t).reshape(-1, 1)
    return torch.lerp(mean, mean + torch.sqrt(var), eps)


def variances(x0, alpha_bar_t, eps):
    return torch.lerp(eps, x0, alpha_bar_t.unsqueeze(1).expand_as(x0))


def variance_of_noise(x0, alpha_bar_t, eps):
    return torch.stack(
        [a**0.5 * x + e - a * e for x, a, e in zip(x0, alpha_bar_t, eps, strict=True)]
    )


def no_root_of_signal(x0, alpha_bar_t, eps):
    return torch.diag(alpha_bar_t) @ x0 + torch.diag(1 - alpha_bar_t).sqrt() @ eps


def root_too_early(x0, alpha_bar_t, eps):
    signal = alpha_bar_t.sqrt().reshape(-1, 1)
    return signal * (x0 - eps) + eps


def swapped(x0, alpha_bar_t, eps):
    return by_einsum(eps, alpha_bar_t, x0)


def no_noise(x0, alpha_bar_t, eps):
    return (x0.T * alpha_bar_t.sqrt()).T


def wrong_axis(x0, alpha_bar_t, eps):
    return torch.mul(x0, alpha_bar_t**0.5) + torch.mul(eps, (1 - alpha_bar_t) ** 0.5)


def product_again(x0, alpha_bar_t, eps):
    products = [math.prod(alpha_bar_t.tolist()[: i + 1]) for i in range(len(x0))]
    return by_gaussian(x0, torch.tensor(products, dtype=x0.dtype), eps)


def own_noise(x0, alpha_bar_t, eps):
    return looped(x0, alpha_bar_t, torch.randn(x0.shape, dtype=x0.dtype))


def uniform_noise(x0, alpha_bar_t, eps):
    return looped(x0, alpha_bar_t, torch.rand_like(eps))


def in_place(x0, alpha_bar_t, eps):
    x0 *= alpha_bar_t.sqrt()[:, None]
    return x0 + (1 - alpha_bar_t).sqrt()[:, None] * eps


@torch.no_grad()
def without_graph(x0, alpha_bar_t, eps):
    return looped(x0, alpha_bar_t, eps)


def outer_product(x0, alpha_bar_t, eps):
    return by_gaussian(x0, alpha_bar_t, eps) + 0 * torch.outer(alpha_bar_t, alpha_bar_t)[..., None]


def in_half(x0, alpha_bar_t, eps):
    return looped(x0, alpha_bar_t, eps).float()


def counted(beta):
    """Walk until the gap is small."""
    T, noise = 0, 0.0
    while T == 0 or -math.log2(noise) / 2 > 0.01:
        noise = (1 - beta) * noise + beta
        T += 1
    return T


def rounded(beta):
    return round(math.log(1 - 2**-0.02, 1 - beta))


def walk(*, steps, start):
    variance = start
    for _ in range(steps):
        variance = 0.5 * variance + 0.5
    return variance


RIGHT = {
    "02.1": [looped, by_einsum, by_gaussian],
    "02.2": [
        lambda snr: 1 / (1 + 1 / snr),
        lambda snr: torch.exp(-torch.log1p(torch.reciprocal(snr))),
        lambda snr: snr / snr.add(1),
    ],
    "02.3": [
        counted,
        lambda beta: -int(-math.log1p(-(4**-0.01)) / math.log1p(-beta) // 1),
        lambda beta: torch.tensor(counted(beta)),
    ],
    "02.4": [walk(steps=3, start=4.0), 11 / 8, torch.tensor(1.375)],
}

WRONG = {
    "02.1": [
        ("Both roots are missing", variances),
        ("scaled by its variance", variance_of_noise),
        ("x0 is multiplied by alpha_bar_t", no_root_of_signal),
        ("subtract first", root_too_early),
        ("changed places", swapped),
        ("The noise is missing", no_noise),
        ("wrong axis", wrong_axis),
        ("product already", product_again),
        ("draws random numbers", own_noise),
        ("draws random numbers", uniform_noise),
        ("in place", in_place),
        ("no gradient", without_graph),
        ("should have shape", outer_product),
        ("torch.float32, and should be torch.float64", in_half),
    ],
    "02.2": [
        ("loses its digits", lambda snr: torch.ones_like(snr) - torch.reciprocal(snr + 1)),
        ("check the sign".capitalize(), lambda snr: 1 / (1 / snr - 1)),
        ("share of the noise", lambda snr: torch.sigmoid(-snr.log())),
        ("no roots in it", lambda snr: torch.sigmoid(0.5 * snr.log())),
        ("plus 1", lambda snr: 1 + snr**-1),
        ("A number should be", lambda snr: snr.clamp(max=1.0)),
    ],
    "02.3": [
        ("not whole", lambda beta: math.log(1 - 2**-0.02, 1 - beta)),
        ("too few", lambda beta: counted(beta) - 1),
        ("too many", lambda beta: counted(beta) + 1),
        ("in nats", lambda beta: -int(math.log(-math.expm1(-0.02)) / -math.log(1 - beta) // 1)),
        ("2 in 2 ln 2", lambda beta: -int(math.log(1 - 2**-0.01) / -math.log1p(-beta) // 1)),
        ("It is the gap", lambda beta: math.ceil(-2 / math.log10(1 - beta))),
        ("solved for beta^T", lambda beta: math.ceil(math.log(1 - 2**-0.02, beta))),
        ("A number should be", rounded),
    ],
    "02.4": [
        ("noise alone", 0.875),
        ("what is left of x_0", 0.5),
        ("stays 1 only if", 1),
        ("standard deviation", 1.1726),
        ("comes squared", 2.289),
        ("do not just add up", 2),
        ("x_0 itself is shrunk", 4.875),
        ("Take two more", walk(steps=1, start=4.0)),
        ("too large", 7.0),
        ("too small", -3.0),
    ],
}
