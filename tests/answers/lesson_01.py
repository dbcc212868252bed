"""Answers to the exercises of lesson 01: right in other words, and wrong in known ways."""

import math

import torch


def die(p, u):
    """Walk along the interval, for each number."""
    faces = []
    for number in u.tolist():
        k, edge = 0, p[0].item()
        while number > edge and k < len(p) - 1:
            k += 1
            edge += p[k].item()
        faces.append(k)
    return torch.tensor(faces)


def as_complex(p, u, centres, stds, angles, eps):
    k = (u >= p.cumsum(0)[:-1, None]).sum(0)
    stretched = torch.view_as_complex((stds[k] * eps).contiguous())
    return centres[k] + torch.view_as_real(stretched * torch.exp(1j * angles[k]))


def one_at_a_time(p, u, centres, stds, angles, eps):
    rows = []
    for i, k in enumerate(die(p, u).tolist()):
        a, b = eps[i, 0] * stds[k, 0], eps[i, 1] * stds[k, 1]
        c, s = torch.cos(angles[k]), torch.sin(angles[k])
        rows.append(torch.stack([centres[k, 0] + a * c - b * s, centres[k, 1] + a * s + b * c]))
    return torch.stack(rows)


def by_matrices(p, u, centres, stds, angles, eps, sign=1, faces=die):
    c, s = angles.cos(), sign * angles.sin()
    turns = torch.stack([c, -s, s, c], 1).view(-1, 2, 2) @ torch.diag_embed(stds)
    k = faces(p, u)
    return centres[k] + (turns[k] @ eps[:, :, None])[..., 0]


def built(change):
    """Return an answer that is by_matrices with other arguments."""

    def answer(p, u, centres, stds, angles, eps):
        given = dict(p=p, u=u, centres=centres, stds=stds, angles=angles, eps=eps)
        return by_matrices(**{**given, **change(given)})

    return answer


def shifted_first(p, u, centres, stds, angles, eps):
    k = die(p, u)
    z = torch.view_as_complex((centres[k] + stds[k] * eps).contiguous())
    return torch.view_as_real(z * torch.polar(torch.ones_like(angles[k]), angles[k]))


def turned_first(p, u, centres, stds, angles, eps):
    k = die(p, u)
    z = torch.view_as_complex(eps.contiguous())
    z = z * torch.polar(torch.ones_like(angles[k]), angles[k])
    return torch.addcmul(centres[k], stds[k], torch.view_as_real(z))


def with_rows(first, second):
    """Return an answer with two formulas for the turned coordinates of (x, y), cos and sin."""

    def answer(p, u, centres, stds, angles, eps):
        k = die(p, u)
        x, y = stds[k, 0] * eps[:, 0], stds[k, 1] * eps[:, 1]
        c, s = angles[k].cos(), angles[k].sin()
        return centres[k] + torch.stack([first(x, y, c, s), second(x, y, c, s)], dim=-1)

    return answer


def alone(p, u):
    return sum((u > share).long() for share in p[:-1])


RIGHT = {
    "01.1": [
        lambda var, eps: 0.5 * eps * var.rsqrt(),
        lambda var, eps: eps * var**-0.5 / 2,
        lambda var, eps: eps * var.sqrt() / (var + var),
    ],
    "01.2": [math.hypot(0.48, 0.6), math.sqrt(1 - 0.64**2), 0.76837, 0.768],
    "01.3": [as_complex, one_at_a_time, by_matrices],
}

WRONG = {
    "01.1": [
        ("slope in sigma", lambda v, e: e.clone()),
        ("factor 1/2", lambda v, e: e * v.rsqrt()),
        ("root is missing", lambda v, e: 0.5 * e / v),
        ("multiplied by sqrt(v)", lambda v, e: 0.5 * v.pow(0.5) * e),
        ("multiplied by 2 sqrt(v)", lambda v, e: e * (4 * v) ** 0.5),
        ("sign is wrong", lambda v, e: -0.5 * e * v.rsqrt()),
        ("eps is missing", lambda v, e: 0.5 * v.rsqrt()),
        ("less its mean", lambda v, e: e * v**0.5),
    ],
    "01.2": [
        ("Which quantity", 1.08),
        ("was not shrunk", 1.2),
        ("multiplied by 0.8, too", 0.8485),
        ("This is the variance", 0.5904),
        ("by 0.64, not by 0.8", 0.80498),
        ("comes after that", 0.67882),
        ("first noise alone", 0.48),
        ("second step alone", 0.6),
        ("Shrink the first noise, and take the root", 0.72),
        ("subtracted", 0.36),
        ("too large", 1.0),
    ],
    "01.3": [
        ("Nothing was turned", built(lambda g: {"angles": torch.zeros_like(g["angles"])})),
        ("the other way", built(lambda g: {"sign": -1})),
        ("before you turned", shifted_first),
        ("before you stretched", turned_first),
        (
            "a mirror",
            with_rows(lambda x, y, c, s: x * c + y * s, lambda x, y, c, s: x * s - y * c),
        ),
        (
            "same sign",
            with_rows(lambda x, y, c, s: x * c + y * s, lambda x, y, c, s: x * s + y * c),
        ),
        ("A turn mixes", with_rows(lambda x, y, c, s: x * c, lambda x, y, c, s: y * s)),
        ("in radians", built(lambda g: {"angles": g["angles"] * math.pi / 180})),
        ("as if it were fair", built(lambda g: {"p": torch.ones_like(g["p"]) / len(g["p"])})),
        ("most likely", built(lambda g: {"faces": lambda p, u: p.max(0).indices.repeat(len(u))})),
        ("each probability alone", built(lambda g: {"faces": alone})),
        ("counted from 0", built(lambda g: {"faces": lambda p, u: die(p, u) - 1})),
        ("no root", built(lambda g: {"stds": g["stds"].sqrt()})),
        ("by a variance", built(lambda g: {"stds": g["stds"].square()})),
        ("not stretched", built(lambda g: {"stds": torch.ones_like(g["stds"])})),
        ("the first of the two", built(lambda g: {"stds": g["stds"][:, [0, 0]]})),
        ("on one spot", built(lambda g: {"eps": torch.ones_like(g["eps"])})),
        ("not shifted", built(lambda g: {"centres": 0 * g["centres"]})),
        ("no gradient", lambda *case: by_matrices(*case).detach()),
    ],
}
