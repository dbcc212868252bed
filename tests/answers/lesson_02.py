"""Answers to the exercises of lesson 02: right in other words, and wrong in known ways."""

import math

import torch


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


def one_by_one(wish):
    betas, before = [], torch.ones((), dtype=wish.dtype, device=wish.device)
    for now in wish:
        betas.append(torch.minimum(1 - now / before, torch.full_like(now, 0.999)))
        before = now
    return torch.stack(betas)


def by_logarithms(wish):
    falls = torch.diff(torch.log(wish), prepend=torch.zeros_like(wish[:1]))
    return torch.where(-torch.expm1(falls) > 0.999, 0.999, -torch.expm1(falls))


def with_plain_numbers(wish):
    betas, before = [], 1.0
    for now in wish.tolist():
        betas.append(min(1 - now / before, 0.999))
        before = now
    return torch.tensor(betas, dtype=wish.dtype, device=wish.device)


def by_what_is_kept(wish):
    kept = wish.clone()
    kept[1:] = wish[1:] / wish[:-1]
    return 1 - kept.clamp(min=0.001)


def falls_of(wish):
    """alpha_bar before each step, and after it."""
    padded = torch.nn.functional.pad(wish, (1, 0), value=1.0)
    return padded[:-1], padded[1:]


def never_cut(wish):
    before, now = falls_of(wish)
    return (before - now).div(before)


def without_the_first(wish):
    return one_by_one(wish)[1:]


def without_the_first_of_all(wish):
    return torch.clamp(-torch.diff(wish) / wish[:-1], max=0.999)


def first_is_0(wish):
    return torch.nn.functional.pad(without_the_first_of_all(wish), (1, 0))


def with_row_0(wish):
    return torch.nn.functional.pad(one_by_one(wish), (1, 0))


def first_from_the_last(wish):
    before = torch.cat([wish[-1:], wish[:-1]])
    return torch.minimum(1 - wish / before, torch.full_like(wish, 0.999))


def cut_at_both_ends(wish):
    return torch.maximum(one_by_one(wish), torch.full_like(wish, 1e-4))


def alphas(wish):
    before, now = falls_of(wish)
    return torch.maximum(now / before, torch.tensor(0.001).to(now))


def upside_down(wish):
    before, now = falls_of(wish)
    return ((now - before) / now).clamp(max=0.999)


def the_fall(wish):
    return torch.clamp(-torch.diff(wish, prepend=torch.ones_like(wish[:1])), max=0.999)


def over_what_is_left(wish):
    before, now = falls_of(wish)
    return torch.clamp(before / now - 1, max=0.999)


def all_the_noise(wish):
    return torch.minimum(1 - wish, torch.full_like(wish, 0.999))


def small_steps(wish):
    return -torch.diff(wish.log(), prepend=torch.zeros_like(wish[:1])).clamp(min=-0.999)


def rooted(wish):
    before, now = falls_of(wish)
    return (1 - now**0.5 / before**0.5).clamp(max=0.999)


def cut_too_soon(wish):
    return never_cut(torch.maximum(wish, torch.full_like(wish, 0.001)))


def cut_at_99(wish):
    return never_cut(wish).clamp(max=0.99)


RIGHT = {
    "02.1": [walk(steps=3, start=4.0), 11 / 8, torch.tensor(1.375)],
    "02.2": [
        counted,
        lambda beta: -int(-math.log1p(-(4**-0.01)) / math.log1p(-beta) // 1),
        lambda beta: torch.tensor(counted(beta)),
    ],
    "02.3": [
        lambda snr: 1 / (1 + 1 / snr),
        lambda snr: torch.exp(-torch.log1p(torch.reciprocal(snr))),
        lambda snr: snr / snr.add(1),
    ],
    "02.4": [one_by_one, by_logarithms, by_what_is_kept, with_plain_numbers],
}

WRONG = {
    "02.1": [
        ("noise alone", 0.875),
        ("what is left of x_0", 0.5),
        ("2 is the standard", 1.125),
        ("stays 1 only if", 1),
        ("This is the standard", 1.1726),
        ("comes squared", 2.289),
        ("do not just add up", 2),
        ("x_0 itself is shrunk", 4.875),
        ("Take two more", walk(steps=1, start=4.0)),
        ("too large", 7.0),
        ("too small", -3.0),
    ],
    "02.2": [
        ("not whole", lambda beta: math.log(1 - 2**-0.02, 1 - beta)),
        ("too few", lambda beta: counted(beta) - 1),
        ("too many", lambda beta: counted(beta) + 1),
        ("in nats", lambda beta: -int(math.log(-math.expm1(-0.02)) / -math.log(1 - beta) // 1)),
        ("2 in 2 ln 2", lambda beta: -int(math.log(1 - 2**-0.01) / -math.log1p(-beta) // 1)),
        ("It is the gap", lambda beta: math.ceil(-2 / math.log10(1 - beta))),
        ("solved for beta^T", lambda beta: math.ceil(math.log(1 - 2**-0.02, beta))),
        ("A number should be", rounded),
    ],
    "02.3": [
        ("loses its digits", lambda snr: torch.ones_like(snr) - torch.reciprocal(snr + 1)),
        ("check the sign".capitalize(), lambda snr: 1 / (1 / snr - 1)),
        ("share of the noise", lambda snr: torch.sigmoid(-snr.log())),
        ("no roots in it", lambda snr: torch.sigmoid(0.5 * snr.log())),
        ("You gave it the SNR", lambda snr: 1 / (1 + torch.exp(-snr))),
        ("root of alpha_bar", lambda snr: 1 / torch.sqrt(1 + 1 / snr)),
        ("plus 1", lambda snr: 1 + snr**-1),
        ("A number should be", lambda snr: snr.clamp(max=1.0)),
    ],
    "02.4": [
        ("beta_1 is missing", without_the_first),
        ("beta_1 is missing", without_the_first_of_all),
        ("beta_1 is 0", first_is_0),
        ("not with the last", first_from_the_last),
        ("a row too many", with_row_0),
        ("Some of your betas", never_cut),
        ("Cut only at 0.999", cut_at_both_ends),
        ("keeps. A beta", alphas),
        ("upside down", upside_down),
        ("how much alpha_bar falls", the_fall),
        ("left after the step", over_what_is_left),
        ("noise of all steps", all_the_noise),
        ("Solve exactly", small_steps),
        ("root too many", rooted),
        ("cut the wished", cut_too_soon),
        ("A number should be", cut_at_99),
    ],
}
