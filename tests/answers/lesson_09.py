"""Answers to the exercises of lesson 09: right in other words, and wrong in known ways."""

import math

import torch

FINAL = 7.0


def share_by_parts(noise_share):
    return torch.full_like(noise_share, 0.5).addcmul(noise_share, noise_share, value=0.5)


def share_by_loop(noise_share):
    rows = [0.5 * one**2 + 0.5 for one in noise_share.unbind()]
    return torch.stack(rows)


def middle(eps_at, y, sigma_t, sigma_s):
    between = math.exp((math.log(sigma_t) + math.log(sigma_s)) / 2)
    there = torch.add(y, eps_at(y, sigma_t), alpha=between - sigma_t)
    return torch.sub(y, eps_at(there, between), alpha=sigma_t - sigma_s)


def middle_by_guess(eps_at, y, sigma_t, sigma_s):
    """The half step as a part of the way to the guess of the data."""
    between = math.sqrt(sigma_t) * math.sqrt(sigma_s)
    guess = y - sigma_t * eps_at(y, sigma_t)
    there = guess + (y - guess) * (between / sigma_t)
    slope = eps_at(there, between)
    return y + sigma_s * slope - sigma_t * slope


def step_with(change):
    """The step with some of its parts changed, by name."""
    parts = {
        "between": lambda t, s: math.sqrt(t * s),
        "first": lambda t, s, m: m - t,
        "last": lambda t, s, m: s - t,
        "at": lambda t, s, m: m,
        "state": lambda y, there: there,
        "slope": lambda a, b: b,
        "from": lambda y, there: y,
    } | change

    def step(eps_at, y, t, s):
        m = parts["between"](t, s)
        slope = eps_at(y, t)
        there = torch.add(y, parts["first"](t, s, m) * slope)
        second = eps_at(parts["state"](y, there), parts["at"](t, s, m))
        return torch.add(
            parts["from"](y, there), parts["last"](t, s, m) * parts["slope"](slope, second)
        )

    return step


def two_steps(eps_at, y, sigma_t, sigma_s):
    levels = [sigma_t, math.sqrt(sigma_t * sigma_s), sigma_s]
    for k in range(2):
        y = y + eps_at(y, levels[k]) * (levels[k + 1] - levels[k])
    return y


def with_noise(eps_at, y, sigma_t, sigma_s):
    return middle(eps_at, y, sigma_t, sigma_s) + 0.01 * torch.randn_like(y)


RIGHT = {
    "09.1": [FINAL, torch.tensor(7, dtype=torch.float64)],
    "09.2": [share_by_parts, share_by_loop],
    "09.3": [middle, middle_by_guess, step_with({})],
}

WRONG = {
    "09.1": [
        ("already", 6),
        ("do not match", 1),
        ("for the whole way", 11.0),
        ("flow with the whole", math.exp(-6)),
        ("That is beta at time 1", 10),
        ("at both ends", 13),
        ("2 of beta", 5),
        ("noise adds to the variance", -5),
        ("standard deviation", 7**0.5),
        ("not half of it", 4),
        ("too large", 12.0),
    ],
    "09.2": [
        ("as its square", lambda c: c / 2 + 0.5),
        ("all the noise only", lambda c: c / c),
        ("without noise only", lambda c: 0.5 + 0 * c),
        ("here nothing is", lambda c: c * c),
        ("only the payment", lambda c: c.square() / 2),
        ("3/2", lambda c: c.pow(2) + 0.5),
        ("sign of the payment", lambda c: 0.5 - c.pow(2) / 2),
        ("twice as much", lambda c: c.square() + 1),
        ("A number should be", lambda c: c.sqrt()),
    ],
    "09.3": [
        ("Euler's step", lambda eps_at, y, t, s: y - (t - s) * eps_at(y, t)),
        (
            "Heun's step",
            step_with({"between": lambda t, s: s, "slope": lambda a, b: a / 2 + b / 2}),
        ),
        ("far end", step_with({"between": lambda t, s: s})),
        ("half of their sum", step_with({"between": lambda t, s: t / 2 + s / 2})),
        ("two Euler steps", two_steps),
        ("in the middle already", step_with({"from": lambda y, there: there})),
        ("That is y_m", lambda eps_at, y, t, s: y + (math.sqrt(t * s) - t) * eps_at(y, t)),
        ("the change only", lambda eps_at, y, t, s: middle(eps_at, y, t, s) - y),
        ("whole step went the wrong way", step_with({"last": lambda t, s, m: t - s})),
        ("moved by half", step_with({"first": lambda t, s, m: s / 2 - t / 2})),
        ("but at sigma_t", step_with({"at": lambda t, s, m: t})),
        ("but at sigma_s", step_with({"at": lambda t, s, m: s})),
        ("go half a step first", step_with({"state": lambda y, there: y})),
        ("mean of two slopes was", step_with({"slope": lambda a, b: (a + b) * 0.5})),
        ("half a step only", step_with({"last": lambda t, s, m: m - t})),
        (
            "signs are turned",
            step_with({"first": lambda t, s, m: t - m, "last": lambda t, s, m: t - s}),
        ),
        ("half step went the wrong way", step_with({"first": lambda t, s, m: t - m})),
        ("went the whole way", step_with({"first": lambda t, s, m: s - t})),
        ("draws random", with_noise),
    ],
}
