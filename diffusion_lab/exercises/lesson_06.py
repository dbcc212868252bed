"""Lesson 06: x_0 from v, folding, the parameters of a convolution, a step with clipping."""

import torch
from torch import Tensor, nn

from diffusion_core import predictions, samplers, schedules

from .exercise import Exercise, draw_alpha_bars

DTYPES = (torch.float64, torch.float32)


def _x0_of(x_t: Tensor, v: Tensor, alpha_bar_t: Tensor) -> Tensor:
    schedule = schedules.schedule_from_alpha_bars(alpha_bar_t)
    return predictions.x0_from_v(schedule, x_t, v, torch.arange(1, len(x_t) + 1))


def _pictures(generator: torch.Generator) -> list[tuple]:
    cases = []
    for dtype in DTYPES:
        for shape in ((3, 1, 4, 6), (4, 1, 4, 4), (1, 1, 2, 2)):
            x_t, v = torch.randn(2, *shape, generator=generator, dtype=dtype)
            cases.append((x_t, v, draw_alpha_bars(shape[0], generator, dtype)))
    return cases


def _unfolded(generator: torch.Generator) -> list[tuple]:
    shapes = ((1, 1, 4, 4), (2, 1, 4, 6), (3, 1, 8, 2))
    cases = [torch.randn(*s, generator=generator, dtype=d) for d in DTYPES for s in shapes]
    return [(x,) for x in cases]


def _squares(x: Tensor, *order: int) -> Tensor:
    """Cut into squares of 2 x 2, and write these axes out in another order."""
    B, _, H, W = x.shape
    return x.reshape(B, H // 2, 2, W // 2, 2).permute(*order).reshape(B, 4, H // 2, W // 2)


def _quadrants(x: Tensor) -> Tensor:
    B, _, H, W = x.shape
    return x.reshape(B, 2, H // 2, 2, W // 2).permute(0, 1, 3, 2, 4).reshape(B, 4, H // 2, W // 2)


def _parameters_of(a: int, b: int) -> int:
    return sum(p.numel() for p in nn.Conv2d(a, b, 3, device="meta").parameters())


def _channels(generator: torch.Generator) -> list[tuple]:
    fresh = torch.randint(2, 100, (4, 2), generator=generator).tolist()
    return [(1, 1), (4, 32), (64, 64), *map(tuple, fresh)]


def _clipped_step(x_t: Tensor, v: Tensor, alpha_bar_t: float, alpha_bar_s: float) -> Tensor:
    kept = [bar for bar in (alpha_bar_s, alpha_bar_t) if bar < 1]  # a schedule adds row 0 itself
    schedule = schedules.schedule_from_alpha_bars(torch.tensor(kept, dtype=torch.float64))
    exact, exact_v, t = x_t.cpu().double(), v.cpu().double(), len(kept)
    eps_model = predictions.eps_model_from_v(schedule, lambda x_t, t: exact_v)
    return samplers.ddim_step(schedule, eps_model, exact, t, t - 1, clip=(-1, 1)).x_t.to(x_t)


def _jumps(generator: torch.Generator) -> list[tuple]:
    """From T, from a step between, and to clean data, where alpha_bar_s is 1."""
    cases = []
    for x_t, v, _ in _pictures(generator):
        first, between, last = draw_alpha_bars(3, generator).tolist()
        jumps = ((last, between), (between, first), (first, 1.0))
        cases += [(2 * x_t, v, *jump) for jump in jumps]
    return cases


def _wide(alpha_bar_t: Tensor) -> Tensor:
    return alpha_bar_t[:, None, None, None]


def _turn(x_t: Tensor, v: Tensor, kept: Tensor | float, power: float = 0.5) -> Tensor:
    return kept**power * x_t - (1 - kept) ** power * v


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
    "06.1": Exercise(
        truth=_x0_of,
        cases=_pictures,
        mistakes={
            "The sign of v is wrong: v holds x_0 with a minus, so v is taken away.": (
                lambda x_t, v, kept: _turn(x_t, -v, _wide(kept))
            ),
            "The roots are missing.": lambda x_t, v, kept: _turn(x_t, v, _wide(kept), 1),
            "This is eps. The two formulas have their factors swapped.": (
                lambda x_t, v, kept: _turn(x_t, -v, 1 - _wide(kept))
            ),
            "The factors have changed places: at small t, x_0 is nearly x_t.": (
                lambda x_t, v, kept: _turn(x_t, v, 1 - _wide(kept))
            ),
            "You treated v as eps: this divides by the root of alpha_bar_t. For v, nothing is "
            "divided.": lambda x_t, v, kept: (
                (x_t - (1 - _wide(kept)).sqrt() * v) / _wide(kept).sqrt()
            ),
            "The factors go along the wrong axis: alpha_bar_t has one number for each picture, so "
            "give it the shape (B, 1, 1, 1).": _turn,
        },
        hints=(
            "Section 3 has the formula below (22).",
            "alpha_bar_t[:, None, None, None] has the shape (B, 1, 1, 1), one number a picture.",
            "With keep of that shape: keep.sqrt() * x_t - (1 - keep).sqrt() * v.",
        ),
    ),
    "06.2": Exercise(
        truth=lambda x: nn.functional.pixel_unshuffle(x, 2),
        cases=_unfolded,
        mistakes={
            "Cutting the numbers into four rows in their order does not make squares: split the "
            "rows and the columns first.": lambda x: x.reshape(
                len(x), 4, x.shape[2] // 2, x.shape[3] // 2
            ),
            "These are the four quarters of the picture. H is split into H/2 pairs of rows: the "
            "2 comes after H/2.": _quadrants,
            "Rows and columns have changed places in the channels: the row within the square "
            "counts twice.": lambda x: _squares(x, 0, 4, 2, 1, 3),
            "The axes within the square should come first. permute moves them before H/2 and "
            "W/2.": lambda x: _squares(x, 0, 1, 3, 2, 4),
            "The picture is transposed: H/2 comes before W/2.": lambda x: _squares(
                x, 0, 2, 4, 3, 1
            ),
        },
        hints=(
            "reshape can split one axis into two: H becomes H/2 and 2, in this order.",
            "After the split there are five axes: B, H/2, row, W/2, column. Which order is asked?",
            "x.reshape(B, H // 2, 2, W // 2, 2).permute(0, 2, 4, 1, 3), and reshape again.",
        ),
    ),
    "06.3": Exercise(
        truth=_parameters_of,
        cases=_channels,
        mistakes={
            "The bias is missing: one number for each channel that comes out.": (
                lambda a, b: 9 * a * b
            ),
            "The bias has one number for each channel that comes out, not in.": (
                lambda a, b: 9 * a * b + a
            ),
            "A 3 × 3 window has nine places.": lambda a, b: 3 * a * b + b,
            "Every one of the b channels has weights for every one of the a channels.": (
                lambda a, b: 9 * b + b
            ),
            "Channels that come in and go out multiply.": lambda a, b: 9 * (a + b) + b,
        },
        hints=(
            "How many numbers go into one pixel of one channel that comes out?",
            "9 a weights and one bias, for each of the b channels.",
        ),
    ),
    "06.4": Exercise(
        truth=_clipped_step,
        cases=_jumps,
        mistakes={
            "All three mistakes are still there: look at what is clipped, at what eps_hat is made "
            "of, and for a variance.": (
                lambda x_t, *rest: _unfit_step(x_t.clamp(-1, 1), *rest, power=1)
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
            "Three lines are wrong. Section 10 is about one of them.",
            "One line clips what may not be clipped; one computes eps_hat too early, and not from "
            "the clipped guess; in the last one a root is missing.",
            "After clipping, solve x_t = sqrt(alpha_bar_t) x_0 + sqrt(1 - alpha_bar_t) eps for "
            "eps, with x0_hat in the place of x_0.",
        ),
    ),
}
