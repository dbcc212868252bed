"""Answers to the exercises of lesson 06: right in other words, and wrong in known ways."""

import math

import torch


def turned(x_t, v, alpha_bar_t):
    """Turn the pair (x_t, v) back by the angle whose cosine is sqrt(alpha_bar_t)."""
    angle = torch.atan2((1 - alpha_bar_t).sqrt(), alpha_bar_t.sqrt())
    cos, sin = angle.cos(), angle.sin()
    return torch.einsum("b,bchw->bchw", cos, x_t) - torch.einsum("b,bchw->bchw", sin, v)


def looped(x_t, v, alpha_bar_t):
    rows = zip(x_t, v, alpha_bar_t.tolist(), strict=True)
    return torch.stack([math.sqrt(a) * x - math.sqrt(1 - a) * w for x, w, a in rows])


def without_roots(x_t, v, alpha_bar_t):
    return torch.lerp(-v, x_t, alpha_bar_t.reshape(-1, 1, 1, 1).expand_as(v))


def divided(x_t, v, alpha_bar_t):
    level = (1 / alpha_bar_t - 1).sqrt()
    return torch.einsum("b,bchw->bchw", alpha_bar_t.rsqrt(), x_t) - torch.einsum(
        "b,bchw->bchw", level, v
    )


def wrong_axis(x_t, v, alpha_bar_t):
    return torch.mul(x_t, alpha_bar_t.sqrt()) - torch.mul(v, (1 - alpha_bar_t).sqrt())


def in_place(x_t, v, alpha_bar_t):
    v.neg_()
    return looped(x_t, -v, alpha_bar_t)


def fold_by_strides(x):
    return torch.cat([x[:, :, i::2, j::2] for i in (0, 1) for j in (0, 1)], dim=1)


def fold_by_chunks(x):
    rows = torch.stack([x[:, 0, ::2], x[:, 0, 1::2]], 1)
    return torch.stack([rows[..., ::2], rows[..., 1::2]], 2).flatten(1, 2)


def fold_columns_first(x):
    return torch.cat([x[:, :, i::2, j::2] for j in (0, 1) for i in (0, 1)], dim=1)


def fold_quarters(x):
    return torch.cat([part for half in x.chunk(2, 2) for part in half.chunk(2, 3)], dim=1)


def fold_in_order(x):
    return torch.stack(list(x.flatten(1).chunk(4, 1)), 1).unflatten(2, (x.shape[2] // 2, -1))


def fold_places_first(x):
    return fold_by_strides(x).movedim(1, -1).reshape(fold_by_strides(x).shape)


def fold_transposed(x):
    return fold_by_strides(x).mT.reshape(fold_by_strides(x).shape)


def step(x_t, v, keep_t, keep_s, *, state=False, unfit=False, root=0.5):
    """The step, with each of the three mistakes at will; eps_hat comes by solving for it."""
    x_t = x_t.clip(-1, 1) if state else x_t
    guess = math.sqrt(keep_t) * x_t - math.sqrt(1 - keep_t) * v
    x0_hat = guess.clip(-1, 1)
    of = guess if unfit else x0_hat
    eps_hat = (x_t - math.sqrt(keep_t) * of) / math.sqrt(1 - keep_t)
    return math.sqrt(keep_s) * x0_hat + (1 - keep_s) ** root * eps_hat


def step_by_slope(x_t, v, keep_t, keep_s):
    """x_s as a share of x_t and a share of the clipped guess."""
    guess = torch.minimum(
        torch.maximum(looped_scalar(x_t, v, keep_t), -torch.ones_like(v)), torch.ones_like(v)
    )
    share = ((1 - keep_s) / (1 - keep_t)) ** 0.5
    return share * x_t + (keep_s**0.5 - share * keep_t**0.5) * guess


def looped_scalar(x_t, v, keep):
    return looped(x_t, v, torch.full((len(x_t),), keep, dtype=torch.float64))


def variant(**mistakes):
    return lambda *case: step(*case, **mistakes)


RIGHT = {
    "06.1": [turned, looped],
    "06.2": [fold_by_strides, fold_by_chunks],
    "06.3": [lambda a, b: (9 * a + 1) * b, lambda a, b: torch.zeros(b, a, 3, 3).numel() + b],
    "06.4": [variant(), step_by_slope],
}

WRONG = {
    "06.1": [
        ("sign of v", lambda x, v, a: turned(x, -v, a)),
        ("roots are missing", without_roots),
        ("This is eps", lambda x, v, a: turned(v, -x, a)),
        ("changed places", lambda x, v, a: -turned(v, x, a)),
        ("v as eps", divided),
        ("wrong axis", wrong_axis),
        ("in place", in_place),
        ("no gradient", lambda x, v, a: looped(x.data, v.data, a)),
    ],
    "06.2": [
        ("does not make squares", fold_in_order),
        ("four quarters", fold_quarters),
        ("Rows and columns have changed", fold_columns_first),
        ("should come first", fold_places_first),
        ("transposed", fold_transposed),
        ("should have shape", lambda x: fold_by_strides(x)[:, :1]),
    ],
    "06.3": [
        ("The bias is missing", lambda a, b: torch.zeros(b, a, 3, 3).numel()),
        ("not in", lambda a, b: (9 * b + 1) * a),
        ("nine places", lambda a, b: (3 * a + 1) * b),
        ("every one of the a", lambda a, b: 10 * b),
        ("go out multiply", lambda a, b: sum([a] * 9) + 10 * b),
        ("A number should be", lambda a, b: 9 * a * b + 1),
    ],
    "06.4": [
        ("All three", variant(state=True, unfit=True, root=1)),
        ("The state x_t is clipped. Only", variant(state=True)),
        ("eps_hat does not fit the clipped guess: compute", variant(unfit=True)),
        ("fit the clipped guess, and it is multiplied", variant(unfit=True, root=1)),
        ("eps_hat does not fit the guess", variant(state=True, unfit=True)),
        ("state is clipped, and eps_hat is multiplied", variant(state=True, root=1)),
        ("One mistake is left", variant(root=1)),
        ("A number should be", lambda x, v, t, s: looped_scalar(x, v, t)),
    ],
}
