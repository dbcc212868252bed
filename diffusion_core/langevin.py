"""Langevin dynamics: samples from a score alone; annealed over falling levels of noise (NCSN).

NCSN's noisy data x_0 + noise_level eps is a schedule's x_t / sqrt(alpha_bar_t), and -noise_level
times its score is eps_hat: so its levels are rows of a schedule, and its sampler is one more step.
"""

import math
from collections import deque
from collections.abc import Iterator

import torch
from torch import Tensor

from .checks import check_count, check_data, check_finite, check_kinds, check_numbers, check_t
from .gaussian import standard_normal
from .losses import draw_t
from .predictions import Model
from .samplers import Step, ddim_step
from .schedules import NoiseSchedule, at, factors
from .score_matching import denoising_loss, score_model_from_eps
from .traces import ScoreModel, checked


def langevin_step(
    score: ScoreModel,
    x: Tensor,
    step_size: float,
    *,
    generator: torch.Generator | None = None,
) -> Tensor:
    """Return x + step_size / 2 score(x) + sqrt(step_size) eps, eps ~ N(0, I).

    Euler's step for dx = score(x) / 2 dtime + dW, which keeps the density p whose score this is.
    The step itself keeps it only as step_size -> 0: on N(0, I) it keeps the variance
    1 / (1 - step_size / 4). x (B, ...). Raises ValueError unless step_size > 0.
    Source: Song and Ermon (2019), equation 4.
    """
    check_kinds(score=score, generator=generator)
    check_data("x", x)
    check_numbers(0, math.inf, step_size=step_size)
    pull = checked("score(x)", score(x), x)
    return x + step_size / 2 * pull + math.sqrt(step_size) * standard_normal(x, generator)


def langevin_chain(
    score: ScoreModel,
    x: Tensor,
    step_size: float,
    steps: int,
    *,
    generator: torch.Generator | None = None,
) -> Iterator[Tensor]:
    """Yield the states after each of so many steps of Langevin dynamics; no gradients are kept.

    x (B, ...) holds B chains, each by itself. Raises ValueError as langevin_step does.
    """
    check_count("steps", steps)
    for _ in range(steps):
        with torch.no_grad():
            x = langevin_step(score, x, step_size, generator=generator)
        yield x


def ncsn_loss(
    schedule: NoiseSchedule,
    score_model: Model,
    x0: Tensor,
    *,
    t: Tensor | int | None = None,
    generator: torch.Generator | None = None,
) -> Tensor:
    """Return E noise_level_t^2 |score_model(x, t) + eps / noise_level_t|^2 / 2.

    x = x_0 + noise_level_t eps with noise_level_t^2 = 1 / snr_t; t in 1..T is drawn evenly unless
    given. With this weight a network that answers 0 has the loss d/2 at every level.
    x0 (B, ...) of d numbers -> a scalar, summed over coordinates.
    Raises ValueError for t outside 1..T. Source: Song and Ermon (2019), equations 5 and 6.
    """
    check_kinds(schedule=schedule, score_model=score_model, generator=generator)
    check_data("x0", x0)
    t = draw_t(schedule, x0, generator) if t is None else t
    level = at(schedule.snr, t, x0, lowest=1).rsqrt().flatten().expand(len(x0))
    steps = torch.as_tensor(t, dtype=torch.int64, device=x0.device).expand(len(x0))
    options = {"weights": level.square(), "generator": generator}
    loss = denoising_loss(lambda x: score_model(x, steps), x0, level, **options)
    return check_finite(loss, x0=x0)


def eps_model_from_ncsn(schedule: NoiseSchedule, score_model: Model) -> Model:
    """Wrap a network score_model(x, t), the score of x = x_0 + noise_level_t eps, as an eps_model.

    eps_hat = -noise_level_t score_model(x_t / sqrt(alpha_bar_t), t); t in 1..T.
    """
    check_kinds(schedule=schedule, score_model=score_model)

    def eps_model(x_t: Tensor, t: Tensor | int) -> Tensor:
        check_data("x_t", x_t)
        scale, std = factors(schedule.marginal_factors, t, x_t, lowest=1)
        x = check_finite(x_t / scale, x_t=x_t)
        answer = checked("score_model(x, t)", score_model(x, t), x_t)
        return -std / scale * answer

    return eps_model


def langevin_corrector(
    schedule: NoiseSchedule,
    eps_model: Model,
    x_t: Tensor,
    t: int,
    *,
    steps: int = 1,
    ratio: float = 0.2,
    generator: torch.Generator | None = None,
) -> Tensor:
    """Return x_t after so many Langevin steps that keep q(x_t), with the score of an eps_model.

    step_size = ratio (1 - alpha_bar_t): the same share of the noise's variance at every level.
    x_t (B, ...), t in 1..T; ratio > 0. Raises ValueError outside these.
    Source: Song et al. (2021), algorithm 5, which gets its ratio from two norms of the batch.
    """
    check_kinds(schedule=schedule, eps_model=eps_model, generator=generator)
    check_data("x_t", x_t)
    check_numbers(0, math.inf, ratio=ratio)
    check_count("t", t)
    scale, std = schedule.marginal_factors.numbers[check_t(t, x_t, schedule.T)]
    score = score_model_from_eps(schedule, eps_model, t)  # of x_t / scale
    step_size = ratio * (std / scale) ** 2
    x = check_finite(x_t / scale, x_t=x_t)
    (x,) = deque(langevin_chain(score, x, step_size, steps, generator=generator), maxlen=1)
    return scale * x


def annealed_langevin_step(
    schedule: NoiseSchedule,
    eps_model: Model,
    x_t: Tensor,
    t: int,
    s: int,
    *,
    steps: int = 100,
    ratio: float = 0.2,
    generator: torch.Generator | None = None,
) -> Step:
    """Take Langevin steps at level t, then hand x_t / sqrt(alpha_bar_t) on to level s as it is.

    At s = 0 the state is x0_hat, which has no noise: the last denoising step. A step for
    `sample_chain`, with steps + 1 calls of eps_model. x_t (B, ...), 0 <= s < t <= T.
    Raises ValueError outside these. Source: Song and Ermon (2019), algorithm 1; the last step:
    Jolicoeur-Martineau et al. (2021).
    """
    options = {"steps": steps, "ratio": ratio, "generator": generator}
    x_t = langevin_corrector(schedule, eps_model, x_t, t, **options)
    x0_hat = ddim_step(schedule, eps_model, x_t, t, s).x0_hat
    (scale_t, _), (scale_s, _) = (schedule.marginal_factors.numbers[u] for u in (t, s))
    return Step(s, x0_hat if s == 0 else scale_s / scale_t * x_t, x0_hat)
