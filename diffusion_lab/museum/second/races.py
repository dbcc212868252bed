"""What a race of two samplers is measured with: three modes in the plane, known exactly."""

from collections.abc import Callable

import torch
from torch import Tensor

from diffusion_core import metrics
from diffusion_core.mixtures import Mixture, component_log_probs, mixture

from ..readings import EXACT, Reading
from ..walks import real

CENTRES = torch.tensor([[-1.2, -0.7], [1.2, -0.7], [0.0, 1.4]], **EXACT)
VAR, POINTS, STEPS = 0.15**2, 400, 4
DATA = mixture(CENTRES, VAR)


def denoise(x: Tensor, a: float, b: float) -> Tensor:
    """Return E[x_0 | a x_0 + b eps = x], exactly."""
    total = a**2 * VAR + b**2
    noisy = Mixture(a * DATA.means, torch.full_like(DATA.vars, total), DATA.weights)
    chances = component_log_probs(noisy, x).softmax(1)
    return (a * VAR * x + b**2 * chances @ CENTRES) / total


def drawn(race: Callable, steps: int = STEPS, guess: Callable = denoise) -> Tensor:
    """Return both samplers' points (2, 400, 2) after so many steps, from the same noise."""
    rng = torch.Generator().manual_seed(0)
    eps = torch.randn(POINTS, 2, generator=rng, dtype=torch.float64)
    return race(guess, eps, torch.linspace(1, 0, steps + 1).tolist())


def floors(race: Callable, steps: int) -> list[float]:
    """Return the energy distance of each sampler's points to the same data, in floors."""
    points = drawn(race, steps)
    return [metrics.times_floor(metrics.energy_distance, [x], real(DATA)).mean for x in points]


def asked(race: Callable) -> tuple[Tensor, Tensor, list[Tensor]]:
    """Return the samples, alpha_bar (n,) of each call in rising order, and all guesses."""
    bars, guesses = [], []

    def kept(x: Tensor, a: float, b: float) -> Tensor:
        bars.append(a**2 / (a**2 + b**2))
        guesses.append(denoise(x, a, b))
        return guesses[-1]

    return drawn(race, guess=kept), torch.tensor(bars).double().sort().values, guesses


def calls(race: Callable) -> Reading:
    """Count the calls of the denoiser, by both samplers."""
    found = len(asked(race)[1])
    return Reading(
        f"Calls of the denoiser for two times {STEPS} steps", found, 2 * STEPS, 2 * STEPS
    )


def last_guess(race: Callable) -> Reading:
    """Measure how far each sampler's end is from the nearest guess that was made."""
    ends, _, guesses = asked(race)
    off = [min((end - guess).abs().max().item() for guess in guesses) for end in ends]
    return Reading("Distance of the worse end from a guess of the denoiser", max(off), high=0.001)


def many_steps(race: Callable) -> Reading:
    """Measure the worse of the two samplers after 200 steps."""
    worse = max(floors(race, 200))
    return Reading("Distance after 200 steps, in floors, of the worse sampler", worse, high=3.5)


def first_guess(race: Callable) -> Reading:
    """Measure how far the guesses at the noisiest states are from the mean of the data."""
    _, _, guesses = asked(race)
    mean = CENTRES.mean(0)
    off = sorted((guess - mean).abs().max().item() for guess in guesses)[1]
    return Reading("Distance of both first guesses from the data's mean", off, high=0.2)


def same_levels(race: Callable) -> Reading:
    """Compare the alpha_bars at which the two samplers ask, one pair after the other."""
    _, bars, _ = asked(race)
    pairs = bars[: len(bars) // 2 * 2].view(-1, 2)
    off = (pairs[:, 1] - pairs[:, 0]).abs().max().item() if len(pairs) else 1.0
    return Reading("Largest difference of alpha_bar between two calls of a pair", off, high=0.001)
