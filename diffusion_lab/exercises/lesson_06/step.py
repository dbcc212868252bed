"""A step of DDIM that clips the guess."""

import torch
from torch import Tensor

from diffusion_core import predictions, samplers, schedules

from ..exercise import Exercise, draw_alpha_bars

DTYPES = (torch.float64, torch.float32)


def _clipped_step(x_t: Tensor, v: Tensor, alpha_bar_t: float, alpha_bar_s: float) -> Tensor:
    kept = [bar for bar in (alpha_bar_s, alpha_bar_t) if bar < 1]  # a schedule adds row 0 itself
    schedule = schedules.schedule_from_alpha_bars(torch.tensor(kept, dtype=torch.float64))
    exact, exact_v, t = x_t.cpu().double(), v.cpu().double(), len(kept)
    eps_model = predictions.eps_model_from_v(schedule, lambda x_t, t: exact_v)
    return samplers.ddim_step(schedule, eps_model, exact, t, t - 1, clip=(-1, 1)).x_t.to(x_t)


def _jumps(generator: torch.Generator) -> list[tuple]:
    """From T, from a step between, and to clean data, where alpha_bar_s is 1."""
    cases = []
    for dtype in DTYPES:
        for shape in ((3, 1, 4, 6), (4, 1, 4, 4), (1, 1, 2, 2)):
            x_t, v = torch.randn(2, *shape, generator=generator, dtype=dtype)
            first, between, last = draw_alpha_bars(3, generator).tolist()
            jumps = ((last, between), (between, first), (first, 1.0))
            cases += [(2 * x_t, v, *jump) for jump in jumps]
    return cases


def _turn(x_t: Tensor, v: Tensor, kept: float) -> Tensor:
    return kept**0.5 * x_t - (1 - kept) ** 0.5 * v


def _unfit_step(
    x_t: Tensor, v: Tensor, alpha_bar_t: float, alpha_bar_s: float, power: float = 0.5
) -> Tensor:
    """A step with the eps_hat that belongs to the guess before it was clipped."""
    x0_hat, eps_hat = _turn(x_t, v, alpha_bar_t).clamp(-1, 1), _turn(x_t, -v, 1 - alpha_bar_t)
    return alpha_bar_s**0.5 * x0_hat + (1 - alpha_bar_s) ** power * eps_hat


def _step_of_variance(x_t: Tensor, v: Tensor, alpha_bar_t: float, alpha_bar_s: float) -> Tensor:
    """The right step, but for the factor of eps_hat: 1 - alpha_bar_s without its root."""
    signal = alpha_bar_s**0.5 * _turn(x_t, v, alpha_bar_t).clamp(-1, 1)
    noise = _clipped_step(x_t, v, alpha_bar_t, alpha_bar_s) - signal
    return signal + (1 - alpha_bar_s) ** 0.5 * noise


EXERCISES = {
    "06.4": Exercise(
        truth=_clipped_step,
        cases=_jumps,
        mistakes={
            "Three mistakes are still there: look at what is clipped, at what eps_hat is made "
            "of, and for a variance.": (
                lambda x_t, *rest: _unfit_step(x_t.clamp(-1, 1), *rest, power=1)
            ),
            "The guess x0_hat is not clipped.": lambda x_t, v, t, s: (
                s**0.5 * _turn(x_t, v, t) + (1 - s) ** 0.5 * _turn(x_t, -v, 1 - t)
            ),
            "The result is a state: do not clip it.": (
                lambda *case: _clipped_step(*case).clamp(-1, 1)
            ),
            "The state x_t is clipped. Only the guess may be.": (
                lambda x_t, *rest: _clipped_step(x_t.clamp(-1, 1), *rest)
            ),
            "eps_hat does not fit the clipped guess: compute it from x_t and the clipped x0_hat.": (
                _unfit_step
            ),
            "Two mistakes are left: eps_hat does not fit the clipped guess, and it is multiplied "
            "by a variance.": lambda *case: _unfit_step(*case, power=1),
            "Two mistakes are left: the state is clipped, and eps_hat does not fit the guess.": (
                lambda x_t, *rest: _unfit_step(x_t.clamp(-1, 1), *rest)
            ),
            "Two mistakes are left: the state is clipped, and eps_hat is multiplied by a "
            "variance.": lambda x_t, *rest: _step_of_variance(x_t.clamp(-1, 1), *rest),
            "One mistake is left: eps_hat is multiplied by the variance 1 - alpha_bar_s.": (
                _step_of_variance
            ),
        },
        hints=(
            "Read the lines one by one, with section 5 beside them. More than one is wrong.",
            "Put alpha_bar_s = alpha_bar_t: such a step goes nowhere, and must return x_t. "
            "Does it, with and without a pixel that is clipped?",
            "After clipping, solve x_t = sqrt(alpha_bar_t) x_0 + sqrt(1 - alpha_bar_t) eps for "
            "eps, with x0_hat in the place of x_0.",
        ),
    ),
}
