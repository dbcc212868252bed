"""Lesson 09: noise with half the score, the share of the score for some noise, a middle slope."""

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from diffusion_core import sde

from .exercise import Exercise

DTYPES = (torch.float64, torch.float32)
INTEGRAL = 2 + 8 / 2  # of beta(t) = 2 + 8 t from 0 to 1


class Bent(NamedTuple):
    """A guess of the noise at a state and a level: tanh(y inner + level row)."""

    inner: Tensor
    row: Tensor

    def __call__(self, y: Tensor, level: float) -> Tensor:
        return torch.tanh(y @ self.inner + level * self.row)


def _final_variance() -> float:
    """With half the score the drift is 0 on N(0, 1): what the noise adds is -log alpha_bar."""
    scale, _ = sde.vp_sde(2.0, 10.0).marginal(1.0)
    return 1 - 2 * float(torch.tensor(scale, dtype=torch.float64, device="cpu").log())


def _score_share(noise_share: Tensor) -> Tensor:
    """From 1/2, the flow, to 1, the reverse SDE, in proportion to the variance of the noise."""
    flow = torch.full_like(noise_share, 0.5)
    return torch.lerp(flow, torch.ones_like(noise_share), noise_share.square())


def _noise_shares(generator: torch.Generator) -> list[tuple]:
    cases = []
    for dtype in DTYPES:
        for size in (5, 1):
            share = 0.15 + 1.1 * torch.rand(size, generator=generator, dtype=dtype)
            cases.append((share,))
    return cases


def _solver(
    *,
    middle: Callable = lambda t, s: (t * s) ** 0.5,
    half: Callable = lambda t, s, m: m - t,
    whole: Callable = lambda t, s, m: s - t,
    level: Callable = lambda t, s, m: m,
    ahead: bool = True,
    mean: bool = False,
    start: Callable = lambda y, y_m: y,
) -> Callable:
    """A step with another middle, other lengths, another level or state for the second slope."""

    def step(eps_at: Callable, y: Tensor, sigma_t: float, sigma_s: float) -> Tensor:
        m = middle(sigma_t, sigma_s)
        first = eps_at(y, sigma_t)
        y_m = y + half(sigma_t, sigma_s, m) * first
        slope = eps_at(y_m if ahead else y, level(sigma_t, sigma_s, m))
        slope = (first + slope) / 2 if mean else slope
        return start(y, y_m) + whole(sigma_t, sigma_s, m) * slope

    return step


def _euler(eps_at: Callable, y: Tensor, sigma_t: float, sigma_s: float) -> Tensor:
    return y + (sigma_s - sigma_t) * eps_at(y, sigma_t)


def _two_halves(eps_at: Callable, y: Tensor, sigma_t: float, sigma_s: float) -> Tensor:
    """Euler's step twice, over both halves."""
    m = (sigma_t * sigma_s) ** 0.5
    return _euler(eps_at, _euler(eps_at, y, sigma_t, m), m, sigma_s)


def _steps(generator: torch.Generator) -> list[tuple]:
    cases = []
    for dtype in DTYPES:
        for size, dim, sigma_t, sigma_s in ((4, 2, 3.0, 0.4), (2, 2, 1.5, 0.5), (1, 3, 2.0, 0.1)):
            y = 2 * torch.randn(size, dim, generator=generator, dtype=dtype)
            inner = torch.randn(dim, dim, generator=generator, dtype=dtype)
            row = 0.5 + torch.rand(dim, generator=generator, dtype=dtype)
            cases.append((Bent(inner, row), y, sigma_t, sigma_s))
    return cases


EXERCISES = {
    "09.1": Exercise(
        truth=_final_variance,
        cases=lambda generator: [()],
        mistakes={
            "That is what the noise adds. The points had a variance at time 1 already.": (
                lambda: INTEGRAL
            ),
            "That is what the right pairs keep. Here noise and share of the score do not match.": (
                lambda: 1.0
            ),
            "You took beta at time 1 for the whole way, or left the half of t^2 / 2 out.": (
                lambda: 1 + 10.0
            ),
            "That is the flow with the whole score. Asked is noise with half the score.": (
                lambda: 2.718281828459045**-INTEGRAL
            ),
            "That is beta at time 1. Asked is the start and what the noise adds on the way.": (
                lambda: 10.0
            ),
            "You added beta at both ends to the start. The noise adds the integral of beta.": (
                lambda: 1 + 2 + 10.0
            ),
            "The 2 of beta is missing in what the noise adds.": lambda: 1 + 8 / 2,
            "The sign is turned round: noise adds to the variance, backwards in time, too.": (
                lambda: 1 - INTEGRAL
            ),
            "That is the standard deviation. Asked is the variance.": (
                lambda: (1 + INTEGRAL) ** 0.5
            ),
            "The noise adds beta dt to the variance, not half of it.": lambda: 1 + INTEGRAL / 2,
        },
        hints=(
            "Which score has N(0, 1) at every time? Put it into the drift, with half of g^2.",
            "The score is -x, so the drift is -beta x / 2 + beta x / 2. What is left of the SDE?",
            "Only noise is left: each short time adds beta dt to the variance 1 of the start.",
        ),
    ),
    "09.2": Exercise(
        truth=_score_share,
        cases=_noise_shares,
        mistakes={
            "The noise acts through its variance: lambda enters as its square.": (
                lambda noise_share: (1 + noise_share) / 2
            ),
            "That is right for all the noise only. With less noise there is less to pay back.": (
                torch.ones_like
            ),
            "That is right without noise only. Noise spreads the points, and must be paid back.": (
                lambda noise_share: torch.full_like(noise_share, 0.5)
            ),
            "Without noise one half must be left, as in (37); here nothing is.": (
                lambda noise_share: noise_share**2
            ),
            "Without noise one half must be left; only the payment for the noise is here.": (
                lambda noise_share: noise_share**2 / 2
            ),
            "At lambda = 1 this is 3/2. The payment for the noise has a half, too.": (
                lambda noise_share: 0.5 + noise_share**2
            ),
            "The sign of the payment is turned round: more noise needs more of the score.": (
                lambda noise_share: (1 - noise_share**2) / 2
            ),
            "This is twice as much: at lambda = 1 it must be 1.": (
                lambda noise_share: 1 + noise_share**2
            ),
        },
        hints=(
            "Go back to section 4: how much of g^2 q'' is borrowed to be left with no noise?",
            "One half. With noise lambda g the equation shall end in + lambda^2 g^2 q'' / 2.",
            "So borrow 1/2 + lambda^2 / 2 of it, and pay it back as a drift.",
        ),
    ),
    "09.3": Exercise(
        truth=_solver(),
        cases=_steps,
        mistakes={
            "That is Euler's step. Use the slope in the middle.": _euler,
            "That is Heun's step: it asks at the end, and takes the mean of two slopes.": _solver(
                middle=lambda t, s: s, mean=True
            ),
            "The slope was asked at the far end, not in the middle.": _solver(
                middle=lambda t, s: s
            ),
            "The middle is the root of the product of the levels here, not half of their sum.": (
                _solver(middle=lambda t, s: (t + s) / 2)
            ),
            "These are two Euler steps. The whole step starts from y, not from the middle.": (
                _two_halves
            ),
            "The whole length is right, but start from y: you are in the middle already.": _solver(
                start=lambda y, y_m: y_m
            ),
            "That is y_m. Ask for the slope there, and take the whole step from y.": (
                lambda eps_at, y, t, s: _euler(eps_at, y, t, (t * s) ** 0.5)
            ),
            "That is the change only. Add it to y.": _solver(start=lambda y, y_m: 0 * y),
            "The whole step went the wrong way: sigma_s - sigma_t is below 0.": _solver(
                whole=lambda t, s, m: t - s
            ),
            "You moved by half of sigma_s - sigma_t. The step to sigma_m is longer.": (
                _solver(half=lambda t, s, m: (s - t) / 2)
            ),
            "The slope was asked with the middle's state, but at sigma_t.": _solver(
                level=lambda t, s, m: t
            ),
            "The slope was asked with the middle's state, but at sigma_s.": _solver(
                level=lambda t, s, m: s
            ),
            "The slope was asked at the middle level, but for y: go half a step first.": _solver(
                ahead=False
            ),
            "The mean of two slopes was taken. The slope in the middle is enough.": _solver(
                mean=True
            ),
            "With the middle's slope you took half a step only. Take it from sigma_t to sigma_s.": (
                _solver(whole=lambda t, s, m: m - t)
            ),
            "The signs are turned round: sigma falls, so sigma_s - sigma_t is below 0.": _solver(
                half=lambda t, s, m: t - m, whole=lambda t, s, m: t - s
            ),
            "The half step went the wrong way: sigma_m - sigma_t is below 0.": _solver(
                half=lambda t, s, m: t - m
            ),
            "The half step went the whole way. It ends at sigma_m.": _solver(
                half=lambda t, s, m: s - t
            ),
        },
        hints=(
            "Two calls of eps_at: one at y and sigma_t, one in the middle.",
            "y_m is Euler's step (39) from sigma_t to sigma_m = sqrt(sigma_t sigma_s).",
            "The whole step is Euler's again, from y and over sigma_s - sigma_t, with the slope "
            "eps_at(y_m, sigma_m).",
        ),
    ),
}
