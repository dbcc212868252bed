"""How much noise at which step. Row t of every table is the paper's t; row 0 is clean data."""

import math
import warnings
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from .checks import check_count, check_kinds, check_numbers, check_t, require, row, rows_at

SMALLEST_ALPHA_BAR = 1e-30
LARGEST_PRIOR_GAP = 0.01


class PriorGapWarning(UserWarning):
    """q(x_T) is too far from N(0, I), where sampling starts."""


class Factors(NamedTuple):
    """Some numbers for each step: a table (T+1, k), float64, and the same as Python numbers."""

    table: Tensor
    numbers: list[list[float]]


class NoiseSchedule:
    """Tables of a diffusion with T steps, made from betas beta_1..beta_T.

    Each is float64, on the CPU, with T + 1 rows, row 0 being clean data: betas (0 in row 0),
    alphas = 1 - betas, alpha_bars = the product of alphas up to t,
    marginal_vars = 1 - alpha_bars, summed without cancellation: v_t = alpha_t v_{t-1} + beta_t,
    posterior_vars = beta_t (1 - alpha_bar_{t-1}) / (1 - alpha_bar_t), 0 in rows 0 and 1,
    snr = alpha_bar_t / (1 - alpha_bar_t), infinite in row 0 only.
    Factors: marginal_factors, of x_0 and eps in x_t; posterior_factors, of x_0 and x_t in the mean
    of the posterior, and of the noise there: its standard deviation.
    Raises TypeError or ValueError unless every beta is in (0, 1) and alpha_bar_T >= 1e-30;
    warns (PriorGapWarning) where `prior_gap` is above 0.01 bits per dimension.
    Source: Ho et al. (2020), equations 2, 4 and 7.
    """

    @torch.inference_mode(False)  # so that its tables serve training wherever they are made
    def __init__(self, betas: Tensor) -> None:
        betas = row("betas", betas, within=(0, 1))
        self.T = len(betas)
        self.betas = torch.cat([betas.new_zeros(1), betas])
        self.alphas = 1 - self.betas
        self.alpha_bars = self.alphas.cumprod(0)
        if self.alpha_bars[-1] < SMALLEST_ALPHA_BAR:
            raise ValueError(
                f"alpha_bar_T must be at least {SMALLEST_ALPHA_BAR}, "
                f"got {self.alpha_bars[-1]:.1e}: use smaller betas or fewer steps"
            )
        self.marginal_vars = _marginal_vars(betas)
        scales, first = self.alpha_bars.sqrt(), betas.new_zeros(1)  # row 0: no step back from there
        before = self.marginal_vars[:-1] / self.marginal_vars[1:]  # of t - 1, over that of t
        of_x0 = scales[:-1] * betas / self.marginal_vars[1:]
        of_x_t = self.alphas[1:].sqrt() * before
        self.posterior_vars = torch.cat([first, betas * before])
        self.marginal_factors = _factors(scales, self.marginal_vars.sqrt())
        self.posterior_factors = _factors(
            torch.cat([first, of_x0]), torch.cat([first, of_x_t]), self.posterior_vars.sqrt()
        )
        self.snr = self.alpha_bars / self.marginal_vars
        gap = prior_gap(self)
        if gap > LARGEST_PRIOR_GAP:
            warnings.warn(
                f"this schedule leaves alpha_bar_T = {self.alpha_bars[-1]:.2g}: q(x_T) may be "
                f"{gap:.2g} bits per dimension away from N(0, I), where sampling starts",
                PriorGapWarning,
                stacklevel=4,
            )

    def __repr__(self) -> str:
        first, last = self.betas[1].item(), self.betas[-1].item()
        return f"NoiseSchedule(T={self.T}, beta_1={first:.4g}, beta_T={last:.4g})"


def _marginal_vars(betas: Tensor) -> Tensor:
    variances = [0.0]
    for beta in betas.tolist():
        variances.append((1 - beta) * variances[-1] + beta)
    return betas.new_tensor(variances)


def _factors(*columns: Tensor) -> Factors:
    table = torch.stack(columns, 1)
    return Factors(table, table.tolist())


def at(table: Tensor, t: Tensor | int, x: Tensor, *, lowest: int = 0) -> Tensor:
    """Return row t of a table, for each example of x, ready to multiply x.

    Shapes: table (T+1,), t an integer or (B,), x (B, ...), result (B, 1, ..., 1) or all ones.
    The gathered numbers are cast to x's dtype and moved to x's device; the table stays float64.
    Raises TypeError for a t that is not an integer, ValueError for one outside lowest..T.
    """
    rows = rows_at(table, t, x, lowest)
    return rows.to(x.dtype).to(x.device).reshape(-1, *[1] * (x.ndim - 1))


def factors(
    of: Factors, t: Tensor | int, x: Tensor, *, lowest: int = 0
) -> Sequence[Tensor | float]:
    """Return the numbers of step t: floats for one t, else tensors as from `at`."""
    t = check_t(t, x, len(of.table) - 1, lowest=lowest)
    if isinstance(t, int):
        return of.numbers[t]
    rows = of.table.index_select(0, t).to(x.dtype).to(x.device)
    return rows.view(*rows.shape, *[1] * (x.ndim - 1)).unbind(1)


def combine(a: Tensor | float, x: Tensor, b: Tensor | float, y: Tensor) -> Tensor:
    """Return a x + b y in two passes over the data; a and b as from `factors`."""
    return torch.add(a * x, y, alpha=b) if isinstance(b, float) else torch.addcmul(a * x, b, y)


def _times(T: int) -> Tensor:
    check_count("T", T)
    return torch.arange(T + 1, dtype=torch.float64, device="cpu") / T


def linear_schedule(T: int, beta_start: float = 1e-4, beta_end: float = 0.02) -> NoiseSchedule:
    """Return DDPM's schedule: T betas evenly spaced from beta_start to beta_end.

    The betas are not rescaled when T changes: it is meant for T near 1000.
    Source: Ho et al. (2020), section 4.
    """
    check_count("T", T)
    check_numbers(0, 1, beta_start=beta_start, beta_end=beta_end)
    return NoiseSchedule(torch.linspace(beta_start, beta_end, T, dtype=torch.float64, device="cpu"))


def vp_schedule(T: int) -> NoiseSchedule:
    """Return DDPM's curve for any T: alpha_bar(time) = exp(-0.1 time - 9.95 time^2), time = t/T.

    Source: Song et al. (2021), appendix C, beta_min = 0.1 and beta_max = 20.
    """
    time = _times(T)
    return NoiseSchedule(-torch.expm1((-0.1 * time - 9.95 * time**2).diff()))


def cosine_schedule(T: int, offset: float = 0.008, beta_max: float = 0.999) -> NoiseSchedule:
    """Return the cosine schedule: alpha_bar_t = f(t)/f(0), betas clipped at beta_max.

    f(t) = cos^2((t/T + offset) / (1 + offset) pi/2).
    Source: Nichol and Dhariwal (2021), equation 17.
    """
    check_numbers(0, math.inf, "[)", offset=offset)
    check_numbers(0, 1, beta_max=beta_max)
    time = _times(T)
    f = ((time + offset) / (1 + offset) * math.pi / 2).cos() ** 2
    return NoiseSchedule((1 - f[1:] / f[:-1]).clamp(max=beta_max))


def log_snr_schedule(T: int, highest: float = 13.0, lowest: float = -9.0) -> NoiseSchedule:
    """Return the schedule whose log SNR_t falls evenly from highest at t = 1 to lowest at t = T.

    alpha_bar_t = 1 / (1 + exp(-log SNR_t)): as many steps for each octave of noise. Raises
    ValueError unless T >= 2 and highest > lowest. Source: Kingma et al. (2021), section 3.2.
    """
    check_count("T", T, lowest=2)
    check_numbers(-math.inf, math.inf, lowest=lowest)
    check_numbers(lowest, math.inf, highest=highest)
    line = torch.linspace(highest, lowest, T, dtype=torch.float64, device="cpu")
    return schedule_from_alpha_bars(line.sigmoid())


def constant_schedule(T: int, beta: float) -> NoiseSchedule:
    """Return the schedule with beta_t = beta at each of T steps."""
    check_count("T", T)
    check_numbers(0, 1, beta=beta)
    return NoiseSchedule(torch.full((T,), beta, dtype=torch.float64, device="cpu"))


def schedule_from_alpha_bars(alpha_bars: Tensor) -> NoiseSchedule:
    """Return the schedule with given alpha_bar_1..alpha_bar_T, each below the one before and 1.

    beta_t = 1 - alpha_bar_t / alpha_bar_{t-1}. Raises ValueError where a beta leaves (0, 1).
    """
    alpha_bars = row("alpha_bars", alpha_bars)
    betas = 1 - alpha_bars / torch.cat([alpha_bars.new_ones(1), alpha_bars[:-1]])
    falls = ((betas > 0) & (betas < 1)).all()
    wanted = "fall strictly from below 1 to above 0, without row 0"
    require(falls, "alpha_bars", wanted, alpha_bars.tolist())
    return NoiseSchedule(betas)


def prior_gap(schedule: NoiseSchedule, second_moment: float = 1.0) -> float:
    """Return an upper bound on KL(q(x_T) || N(0, I)), in bits per dimension.

    gap = [alpha_bar_T (m - 1) - ln(1 - alpha_bar_T)] / (2 ln 2), m = E|x_0|^2 / d: the KL of
    q(x_T | x_0) averaged over data with second moment m. It can only shrink over a mixture of x_0.
    Raises ValueError for a negative second moment.
    """
    check_kinds(schedule=schedule)
    check_numbers(0, math.inf, "[)", second_moment=second_moment)
    alpha_bar, var = schedule.alpha_bars[-1].item(), schedule.marginal_vars[-1].item()
    return (alpha_bar * (second_moment - 1) - math.log(var)) / (2 * math.log(2))
